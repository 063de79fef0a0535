"""Everything that may go wrong with a pod, on the worker and deferred: what it costs, and what the task's log says."""

from typing import Any

import pytest

from tests.airflow.fault_runs import counted, run_faults
from tests.airflow.fault_table import committed, lines
from tests.airflow.faults import FAULTS, OUTAGES
from tests.airflow.process import Night

pytestmark = [pytest.mark.airflow, pytest.mark.faults]

NAMES = [it["name"] for it in FAULTS]
MESSAGES = {
    "exit code 2: config or command line wrong": "AirflowFailException: told to fail",
    "exit code 3: data or model rejected": "AirflowFailException: val_loss is NaN after epoch 1",
    "exit code 75: S3 or MLflow away": "AirflowException: told to fail",
    "any other exit code: a bug": "the stage ended with exit code 1: a bug",
    "out of memory at the pod's own limit (OOMKilled)": "OOMKilled at 16Gi): raise runtime.kubernetes.memory",
    "killed from outside (exit code 137, not OOMKilled)": "the stage was killed (SIGKILL); most often the machine ran",
    "evicted, container status known": "the node evicted the pod (Evicted: The node was low on resource: memory.)",
    "evicted, no container status": "the node evicted the pod (Evicted: The node was low on resource: memory.)",
    "pre-empted: SIGTERM, checkpoint, exit code 75": "took the pod away before its stage had a result (Preemption",
    "pre-empted: SIGTERM, exit code 0": "took the pod away before its stage had a result (Preemption",
    "pod's active deadline exceeded": "(DeadlineExceeded); if its stage needs longer, raise runtime.timeout_s",
    "pod removed in the middle": "somebody or the cluster removed it while it ran",
    "pod says success, but wrote no result": "the pod succeeded, but its stage left no result of this run",
    "pod gone just after its stage has finished": "but its result is there and whole",
    "never scheduled: the cluster is full": "schedule_timeout_s, which is 3: 0/3 nodes are available: 3 Insufficient",
    "image cannot be pulled": "cannot be pulled (ErrImagePull: failed to resolve reference: not found); check that",
}


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Night]]:
    return run_faults(tmp_path_factory.mktemp("faults"))


def test_the_table_in_the_docs_is_what_happens(nights: dict[str, dict[str, Night]]) -> None:
    counts: dict[str, dict[str, dict[str, Any]]] = {
        mode: {name: counted(night) for name, night in each.items()} for mode, each in nights.items()
    }
    made = lines(NAMES, counts)
    assert committed()[: len(made)] == made


@pytest.mark.parametrize("mode", ["sync", "deferrable"])
@pytest.mark.parametrize("name", NAMES)
def test_no_pod_is_left_and_the_training_is_done_once(
    nights: dict[str, dict[str, Night]], mode: str, name: str
) -> None:
    night, counts = nights[mode][name], counted(nights[mode][name])
    assert counts["left"] == 0
    # Steps 5, 6 and 7 at most: those since the last checkpoint.
    assert counts["lost"] <= 3
    if counts["outcome"] == "success":
        assert set(night["steps"]) == set(range(12))


@pytest.mark.parametrize("mode", ["sync", "deferrable"])
@pytest.mark.parametrize(("name", "message"), MESSAGES.items())
def test_the_log_says_what_happened_and_what_to_change(
    nights: dict[str, dict[str, Night]], mode: str, name: str, message: str
) -> None:
    assert message in nights[mode][name]["log"]


@pytest.mark.parametrize(("name", "pods"), [(OUTAGES[0]["name"], 1), (OUTAGES[1]["name"], 2)])
def test_a_retry_after_an_outage_goes_on_with_what_the_pod_has_done(
    nights: dict[str, dict[str, Night]], name: str, pods: int
) -> None:
    night, counts = nights["sync"][name], counted(nights["sync"][name])
    assert "a pod that runs is left running, and the retry goes on with it" in night["log"]
    assert (counts["outcome"], counts["pods"], counts["left"], counts["lost"]) == ("success", pods, 0, 0)


def test_pods_carry_the_try_but_are_found_without_it(nights: dict[str, dict[str, Night]]) -> None:
    created = [it for it in nights["sync"]["pod removed in the middle"]["pods"] if it["event"] == "created"]
    assert [it["body"]["metadata"]["labels"]["embft-attempt"] for it in created] == ["1", "2"]
    log = nights["sync"][OUTAGES[0]["name"]]["log"]
    assert "of an earlier try ended while nobody watched" in log or "Reusing existing pod" in log
