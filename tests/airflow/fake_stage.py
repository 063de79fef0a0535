"""Stands in for `python -m embft <stage> …`: prints a result, or fails, as `behaviour.json` beside it says.

Standard library only; it is copied into a test's folder and made executable, so that it can be `runtime.python`, or
the `python` of an emulated pod. A stage's entry is a list, one element for each time it runs; the last one repeats.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    stage = sys.argv[3].replace("-", "_")
    options = dict(zip(sys.argv[4::1], sys.argv[5::1], strict=False))
    explain = "--explain" in sys.argv
    with (HERE / "calls.jsonl").open("a") as calls:
        record = {"argv": sys.argv[1:], "include": os.environ.get("EMBFT_INCLUDE"), "folder": os.getcwd()}
        calls.write(json.dumps({"stage": stage, "explain": explain, **record}) + "\n")
    if explain:
        print("val_loss 0.7 > 0.6: broken\nthe challenger is worse than the champion")
        return 0
    behaviour = next_behaviour(stage)
    for line in behaviour.get("says", [f"12:00:00 INFO embft.{stage}: at work"]):
        print(line, file=sys.stderr, flush=True)
    if behaviour.get("spawns"):
        subprocess.Popen(["sleep", "300"])
    if "sleep_s" in behaviour:
        (HERE / "started").write_text(str(os.getpid()))
        time.sleep(behaviour["sleep_s"])
    if behaviour.get("prints", True):
        finish(stage, options, behaviour)
    if "dies_by" in behaviour:
        os.kill(os.getpid(), behaviour["dies_by"])
    return int(behaviour.get("exit", 0))


def next_behaviour(stage: str) -> dict:
    entries = json.loads((HERE / "behaviour.json").read_text()).get(stage, [{}])
    counter = HERE / f"times.{stage}"
    times = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(times + 1))
    return entries[min(times, len(entries) - 1)]


def finish(stage: str, options: dict, behaviour: dict) -> None:
    day, model = options["--day"], options["--model"]
    where = f"models/{model}/runs/{day}/{stage}/result.json"
    if "--log-day" in options:
        where = f"models/{model}/sessions/{options['--log-day']}/abc/result.json"
    now = datetime.now(UTC).isoformat()
    result = {
        "stage": stage,
        "model": model,
        "day": day,
        "uri": f"s3://bucket/{where}",
        "attempt": behaviour.get("attempt", now),
        "status": behaviour.get("status", "done"),
        "reason": behaviour.get("reason"),
        "inputs": {},
        "settings_digest": "0" * 64,
        "code_version": "test",
        "outputs": {},
        "figures": behaviour.get("figures", {}),
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
        # The test's S3 looks at who asks, not at the signature.
        put.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request")
        urllib.request.urlopen(put).close()
    if behaviour.get("prints_result", True):
        print(json.dumps(result, indent=2), flush=True)


if __name__ == "__main__":
    sys.exit(main())
