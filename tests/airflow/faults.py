"""Everything that may go wrong with a pod, each as a scenario: what the stage does, and what the cluster does to it."""

from typing import Any

# Twelve steps with a checkpoint after every fifth: whoever is stopped at step 7 without warning does three steps twice.
TRAINS: dict[str, Any] = {"steps": 12}
# Stands still at step 7 until the fault has come; then it goes on, if it still can.
PAUSES = {**TRAINS, "pauses_at": 7, "pause_s": 6}
AT = "step 7"
REJECTED = {**TRAINS, "exit": 3, "status": "rejected", "reason": "val_loss is NaN after epoch 1"}


def fault(name: str, *tries: dict[str, Any], **cluster: Any) -> dict[str, Any]:
    faults = [cluster] if cluster else []
    return {"name": name, "stages": {"fine_tune": list(tries)}, "faults": faults}


FAULTS = [
    fault("none: the stage ends with exit code 0", TRAINS),
    fault("exit code 2: config or command line wrong", {**TRAINS, "fails_at": 0, "exit": 2}),
    fault("exit code 3: data or model rejected", REJECTED),
    fault("exit code 75: S3 or MLflow away", {**TRAINS, "fails_at": 7, "exit": 75}, TRAINS),
    fault("any other exit code: a bug", {**TRAINS, "fails_at": 7, "exit": 1}),
    fault("out of memory at the pod's own limit (OOMKilled)", PAUSES, do="oom_now", at=AT),
    fault("killed from outside (exit code 137, not OOMKilled)", PAUSES, TRAINS, do="kill", at=AT),
    fault("evicted, container status known", PAUSES, TRAINS, do="evict", at=AT),
    fault("evicted, no container status", PAUSES, TRAINS, do="evict_without_status", at=AT),
    fault("pre-empted: SIGTERM, checkpoint, exit code 75", PAUSES, TRAINS, do="preempt", at=AT),
    fault("pre-empted: SIGTERM, exit code 0", {**PAUSES, "on_sigterm": 0}, TRAINS, do="preempt", at=AT),
    fault("pod's active deadline exceeded", PAUSES, TRAINS, do="deadline", at=AT),
    fault("pod removed in the middle", PAUSES, TRAINS, do="remove", at=AT),
    fault("pod gone just after its stage has finished", TRAINS, do="vanish"),
    fault("pod says success, but wrote no result", {**TRAINS, "prints": False}, TRAINS),
    fault("cluster's API refuses connections for 25 s", PAUSES, do="refuse", at=AT, seconds=25),
    fault("API answers 500 twice when the pod is created", TRAINS, do="answer", status=500, times=2),
    fault("API answers 429 with Retry-After", TRAINS, do="answer", status=429, times=1, retry_after=2),
    fault("answer to the pod's creation lost", TRAINS, do="lose_answer"),
    fault("log stream cut", PAUSES, do="cut_log", at=AT),
    fault("never scheduled: the cluster is full", TRAINS, do="never_scheduled"),
    fault("image cannot be pulled", TRAINS, do="no_image"),
]

# Longer than this test's task has patience: the try fails. Not in the table, since how many tries it takes is chance.
OUTAGES = [
    fault("API away for longer than the task waits", PAUSES, do="refuse", at=AT, seconds=20) | {"patience_s": 8},
    fault("the same, and the pod is being stopped when the retry comes", {**PAUSES, "saves_for_s": 22}, TRAINS)
    | {
        "patience_s": 8,
        "faults": [{"do": "preempt", "at": AT, "grace_s": 40}, {"do": "refuse", "at": AT, "seconds": 18}],
    },
]
