"""A night on real clicks: seconds of each stage, lines read per second, memory, and what the models show.

Each stage is a process of its own, as Airflow runs it, so its seconds hold its imports. Figures of speed are medians
over three nights of one machine; they are for comparing stages with each other, not machines.
"""

import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.figures import print_figure
from demo import services
from embft.config import STAGES, include_folder
from embft.paths import stage_command
from embft.stages.night import run_named
from tests import realdata
from tests.buckets import Bucket, new_bucket

NIGHTS = [date(2011, 10, 17) + timedelta(days=number) for number in range(3)]
BIG_DAY = date(2011, 12, 1)
DATA = "Best Buy Xbox clicks, 14-day window, 2 days held out"


def main() -> int:
    """Run the nights and print the figures."""
    if not (realdata.CLICKS / "clicks_train.jsonl.gz").exists():
        print(f"night: no real clicks in {realdata.CLICKS}; set EMBFT_DATA", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), services.free_port()
        os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "GX_ANALYTICS_ENABLED": "false"})
        with services.s3_server(home / "s3", port, home / "s3.log") as endpoint:
            os.environ.update(services.s3_environment(endpoint))
            bucket = new_bucket(endpoint)
            realdata.lay_out(bucket)
            include = realdata.make_include(
                home, bucket=bucket.name, endpoint=endpoint, mlflow=f"sqlite:///{home}/mlflow.db"
            )
            os.environ["EMBFT_INCLUDE"] = str(include)
            report([run_night(day) for day in NIGHTS])
            report_pull_rate(bucket)
    return 0


def run_night(day: date) -> dict[str, tuple[float, dict[str, Any]]]:
    """Run a night's stages one after another; give each one's seconds and result. A rejection ends it."""
    measured: dict[str, tuple[float, dict[str, Any]]] = {}
    for stage in STAGES:
        seconds, result = run_stage(stage, day)
        if stage == "plan":
            # The night before left all days but the newest; on the first night they are pulled and not measured.
            for log_day in result["figures"]["days_to_pull"][:-1]:
                run_named("pull", "xbox", day, include=include_folder(), log_day=date.fromisoformat(log_day))
        measured[stage] = seconds, result
        if result["status"] == "rejected":
            break
    return measured


def run_stage(stage: str, day: date) -> tuple[float, dict[str, Any]]:
    """Run one stage as a process; give its seconds and its result.

    Args:
        stage: The stage.
        day: The night's day.

    Returns:
        Seconds of the process, imports and all, and `result.json`.

    Raises:
        RuntimeError: The stage failed.
    """
    command = [sys.executable, "-m", "embft", stage_command(stage), "--model", "xbox", "--day", str(day), "--json"]
    began = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = perf_counter() - began
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds, json.loads(done.stdout)


def report(nights: list[dict[str, tuple[float, dict[str, Any]]]]) -> None:
    """Print every figure of the nights."""
    for stage in STAGES:
        seconds = [night[stage][0] for night in nights if stage in night]
        if seconds:
            median = round(statistics.median(seconds), 2)
            print_figure(f"night.seconds.{stage}", median, "s", baseline=None, n=len(seconds), data=DATA)
    # ru_maxrss of the children is that of the largest one, in KiB.
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print_figure("night.peak_rss_mb", round(peak_mb), "MiB", baseline=None, n=1, data=f"{DATA}; largest process")
    last = nights[-1]["evaluate"][1]["figures"]
    for model, measures in last["models"].items():
        on = f"{DATA}; held out {last['test_from']} to {last['day']}"
        for measure in ("ndcg_at_10", "val_loss"):
            print_figure(
                f"night.{measure}.{model}",
                round(measures[measure], 4),
                "nats" if measure == "val_loss" else "1",
                baseline=None,
                n=last["n_sessions"],
                data=on,
            )


def report_pull_rate(bucket: Bucket) -> None:
    """Print the lines per second of pulling one big day: a day of this log is small, and pulls in a blink."""
    with gzip.open(realdata.CLICKS / "clicks_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        clicks = [json.loads(line) for line in lines]
    redated = "".join(json.dumps({**it, "time": f"{BIG_DAY}{it['time'][10:]}"}) + "\n" for it in clicks)
    bucket.put(f"logs/dt={BIG_DAY}/clicks.jsonl.gz", gzip.compress(redated.encode(), mtime=0))
    run_stage("plan", BIG_DAY)
    rates = []
    for _ in range(3):
        result = run_named("pull", "xbox", BIG_DAY, include=include_folder(), force=True)
        seconds = (result.finished_utc - result.started_utc).total_seconds()
        rates.append(result.figures["lines"] / seconds)
    data = f"{len(clicks)} Best Buy Xbox clicks in one gzipped object, dated as one day; S3 included, imports not"
    print_figure(
        "night.pull.lines_per_s", round(statistics.median(rates)), "lines/s", baseline=None, n=len(rates), data=data
    )


if __name__ == "__main__":
    sys.exit(main())
