"""Stands in for `python -m embft <stage> …`: prints a result, or fails, as `behaviour.json` beside it says.

Where the behaviour has `steps`, it trains: each step is a line in `steps.<model>.jsonl`, every few steps there is a
checkpoint, and a later run goes on from the last one, as the real training does. A step that is there twice was lost.
A finished training is not repeated: its result is printed as reused.

Where the behaviours say `keeps`, it keeps a registry: each night's choice, decision and version, and who was promoted.

Messages it does not write: `alerts tell` is a line in `told.jsonl`. Where the behaviour says `tells_by`, the real
command follows.

Standard library only; it is copied into a test's folder and made executable, so that it can be `runtime.python`, or
the `python` of an emulated pod. A stage's entry is a list, one element for each time it runs; the last one repeats.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
# What a stage's figures are where the behaviour does not say.
FIGURES = {"publish": {"version": "3", "published": True, "items": 4, "catalogue_of": "2026-11-10"}}
# The test's S3 looks at who asks, not at the signature.
CREDENTIALS = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request"


def main() -> int:
    stage = sys.argv[3].replace("-", "_")
    options = dict(zip(sys.argv[4::1], sys.argv[5::1], strict=False))
    if stage == "alerts":
        return tell(options)
    explain = "--explain" in sys.argv
    with (HERE / "calls.jsonl").open("a") as calls:
        record = {"argv": sys.argv[1:], "include": os.environ.get("EMBFT_INCLUDE"), "folder": os.getcwd()}
        record["actor"] = os.environ.get("EMBFT_ACTOR")
        calls.write(json.dumps({"stage": stage, "explain": explain, **record}) + "\n")
    if explain:
        rules = "val_loss 0.7 > 0.6: broken\nthe challenger is worse than the champion"
        print(behaviours().get("summary", ["**Better** on {{ ti }}."])[0] if "--markdown" in sys.argv else rules)
        return 0
    behaviour = next_behaviour(stage, options)
    work(stage, options, behaviour)
    if "steps" in behaviour:
        code = train(options, behaviour)
        if code is not None:
            return code
    if behaviour.get("prints", True):
        finish(stage, options, behaviour)
    if "dies_by" in behaviour:
        os.kill(os.getpid(), behaviour["dies_by"])
    return int(behaviour.get("exit", 0))


def tell(options: dict) -> int:
    """Keep what people are to be told; then let the interpreter that `tells_by` may name run the real command."""
    behaviour = next_behaviour("tell", options)
    facts = json.loads(Path(options["--run"]).read_text()) if "--run" in options else None
    connections = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
    told = {
        "model": options["--model"],
        "run": facts,
        "connections": connections,
        "include": os.environ["EMBFT_INCLUDE"],
    }
    with (HERE / "told.jsonl").open("a") as file:
        file.write(json.dumps({**told, "argv": sys.argv[1:]}) + "\n")
    if "tells_by" in behaviour:
        os.execv(behaviour["tells_by"], [behaviour["tells_by"], *sys.argv[1:]])
    for line in behaviour.get("says", []):
        print(line, file=sys.stderr, flush=True)
    if behaviour.get("prints", True):
        calls = behaviour.get("calls", [])
        print(
            json.dumps(
                {"model": told["model"], "messages": [], "deliveries": [], "calls": calls, "gauges": []}, indent=2
            ),
            flush=True,
        )
    return int(behaviour.get("exit", 0))


def work(stage: str, options: dict, behaviour: dict) -> None:
    for line in behaviour.get("says", [f"12:00:00 INFO embft.{stage}: at work"]):
        print(line, file=sys.stderr, flush=True)
    if behaviour.get("spawns"):
        subprocess.Popen(["sleep", "300"])
    if "sleep_s" in behaviour:
        (HERE / "started").write_text(str(os.getpid()))
        time.sleep(behaviour["sleep_s"])
    if "awaits" in behaviour:
        pause(behaviour["awaits_s"], HERE / behaviour["awaits"])
    if behaviours().get("keeps") and "--day" in options:
        keep(stage, options)


def behaviours() -> dict:
    return json.loads((HERE / "behaviour.json").read_text())


def keep(stage: str, options: dict) -> None:
    """Do on disk what the real stages do in S3 and MLflow; two trainings at once are written down."""
    day, shelf = options["--day"], HERE / f"registry.{options['--model']}"
    shelf.mkdir(exist_ok=True)
    if stage == "fine_tune":
        with (HERE / "gpu").open("w") as gpu:
            try:
                fcntl.flock(gpu, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                (HERE / "two_at_once").touch()
            time.sleep(1)
    with (HERE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        night, past = shelf / day, shelf / "history.jsonl"
        kept = json.loads(night.read_text()) if night.exists() else {}
        if stage == "plan":
            kept["promote"] = options["--promote"]
        if stage == "gate":
            kept["decision"] = "promote"
        if stage == "register":
            kept["version"] = sum('"version"' in it.read_text() for it in shelf.iterdir()) + 1
            days = [json.loads(it)["day"] for it in past.read_text().splitlines()] if past.exists() else []
            if kept["promote"] == "force" or (kept["promote"] == "auto" and days[-1:] <= [day]):
                with past.open("a") as history:
                    history.write(json.dumps({"day": day, "who": os.environ["EMBFT_ACTOR"]}) + "\n")
        night.write_text(json.dumps(kept))


def next_behaviour(stage: str, options: dict) -> dict:
    model, known = options["--model"], behaviours()
    names = (f"{model}/{stage}/{options.get('--day')}", f"{model}/{stage}", stage)
    entries = next((known[name] for name in names if name in known), [{}])
    counter = HERE / f"times.{model}.{stage}"
    times = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(times + 1))
    return entries[min(times, len(entries) - 1)]


def train(options: dict, behaviour: dict) -> int | None:
    """Give the exit code of a training that was stopped; None where it went to its end."""
    checkpoint = HERE / f"checkpoint.{options['--model']}"
    stored = standing(options)
    if stored:
        print(json.dumps({**stored, "reused": True}, indent=2), flush=True)
        return 0
    stop = behaviour.get("on_sigterm", 75)
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    done = first

    def end(*_: object) -> None:
        time.sleep(behaviour.get("saves_for_s", 0))
        if stop == 75:
            checkpoint.write_text(str(done))
        os._exit(stop)

    signal.signal(signal.SIGTERM, end)
    for step in range(first, behaviour["steps"]):
        with (HERE / f"steps.{options['--model']}.jsonl").open("a") as steps:
            steps.write(f"{step}\n")
        done = step + 1
        print(f"step {step}", flush=True)
        if step == behaviour.get("fails_at"):
            print(behaviour.get("error", "error: told to fail"), file=sys.stderr, flush=True)
            return int(behaviour["exit"])
        if done % 5 == 0:
            checkpoint.write_text(str(done))
        if step == behaviour.get("pauses_at"):
            pause(behaviour["pause_s"], HERE / f"go.{options['--model']}")
        time.sleep(0.05)
    return None


def pause(limit_s: float, go: Path) -> None:
    """Give a fault time to come at this step and at no other."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until and not go.exists():
        time.sleep(0.05)


def standing(options: dict) -> dict | None:
    request = urllib.request.Request(f"{os.environ['FAKE_S3']}/bucket/{place(options)}")
    request.add_header("Authorization", CREDENTIALS)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None


def place(options: dict) -> str:
    if sys.argv[3] == "monitor":
        return f"models/{options['--model']}/monitoring/{options['--day']}/result.json"
    if "--log-day" in options:
        return f"models/{options['--model']}/sessions/{options['--log-day']}/abc/result.json"
    stage = sys.argv[3].replace("-", "_")
    return f"models/{options['--model']}/runs/{options['--day']}/{stage}/result.json"


def finish(stage: str, options: dict, behaviour: dict) -> None:
    if stage == "rollback":
        to = options.get("--to", "2")
        said = {"said": f"version {to} serves again, in place of version 3", "pointer": to}
        print(json.dumps({"number": 4, "to": to, **said, **behaviour}, indent=2), flush=True)
        return
    if stage == "search":
        done = {"worker": int(options["--worker"]), "is_over": False, "trained": [{}], "search": {"trials": 3}}
        print(json.dumps({**done, **behaviour}, indent=2))
        return
    day, model = options["--day"], options["--model"]
    where = place(options)
    now = datetime.now(UTC).isoformat()
    result = {
        "stage": stage,
        "model": model,
        "day": day,
        "uri": f"s3://bucket/{where}",
        "attempt": behaviour.get("attempt", now),
        "status": behaviour.get("status", "done"),
        "reason": behaviour.get("reason"),
        "inputs": behaviour.get("inputs", {}),
        "settings_digest": "0" * 64,
        "code_version": "test",
        "outputs": behaviour.get("outputs", {}),
        "figures": behaviour.get("figures", FIGURES.get(stage, {})),
        "links": behaviour.get("links", {}),
        "started_utc": behaviour.get("started_utc", now),
        "finished_utc": now,
        "reused": behaviour.get("reused", False),
    }
    endpoint = os.environ.get("FAKE_S3")
    if endpoint and behaviour.get("writes", True):
        body = json.dumps({**result, "reused": False}, indent=2).encode()
        put = urllib.request.Request(f"{endpoint}/bucket/{where}", data=body, method="PUT")
        put.add_header("Content-Type", "application/json")
        put.add_header("Authorization", CREDENTIALS)
        urllib.request.urlopen(put).close()
    if behaviour.get("prints_result", True):
        print(json.dumps(result, indent=2), flush=True)


if __name__ == "__main__":
    sys.exit(main())
