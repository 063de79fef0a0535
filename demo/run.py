"""`make demo`: a made-up shop's clicks, three nights of the DAG through Airflow, and a table of what came out.

All clicks are simulated (position-biased click model, words that the catalogue does not use). One of the three
nights has a damaged log file.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.airflow_api import AirflowApi
from demo.stack import BUCKET, HOME, stack
from embft.clickstream.delivery import deliver
from embft.clickstream.privacy import ClientHash
from embft.clickstream.simulator import load_shop, simulate
from embft.config import include_folder
from embft.results import StageResult
from embft.stages.log_days import sessions_of_day
from embft.stages.stage import open_model

MODEL = "demo"
FIRST_NIGHT = date(2026, 3, 8)
NIGHTS = [FIRST_NIGHT + timedelta(days=number) for number in range(3)]
BROKEN_DAY = NIGHTS[1]
FIRST_LOG_DAY = date(2026, 3, 1)
SESSIONS_PER_DAY = 600
SEED = 7
STUCK_AFTER_S = 600

console = Console()
if not console.is_terminal:
    console = Console(width=100)  # a log has no width of its own
began = time.monotonic()


@dataclass(frozen=True)
class Night:
    """What one night left in S3."""

    day: date
    pulled: StageResult | None
    validated: StageResult | None
    evaluated: StageResult | None
    gated: StageResult | None
    registered: StageResult | None

    @property
    def promoted(self) -> bool:
        return self.outcome == "promoted"

    @property
    def outcome(self) -> str:
        if self.gated is None or self.gated.status == "rejected":
            return "rejected"
        return "promoted" if self.registered and self.registered.figures["promoted"] else "not registered"


def main() -> int:
    say("starting S3, MLflow and Airflow below .demo (about a minute)")
    with stack(keep_airflow=False) as running:
        say(f"Airflow {running.airflow}   MLflow {running.mlflow}   S3 {running.s3}")
        write_logs()
        run_nights(AirflowApi(running.airflow))
        nights = [read_night(day) for day in NIGHTS]
        print_table(nights)
        serves = champion_serves() if any(night.promoted for night in nights) else no_champion()
    print_where_to_look(nights)
    n_promoted = sum(night.promoted for night in nights)
    accounted = broken_file_is_accounted(nights[NIGHTS.index(BROKEN_DAY)].pulled)
    print(f"demo: {len(nights)} nights, {n_promoted} promoted, {len(nights) - n_promoted} rejected")
    return 0 if serves and accounted else 1


def say(what: str) -> None:
    console.print(f"[dim]{time.monotonic() - began:5.0f} s[/]  {what}", highlight=False, soft_wrap=True)


def write_logs() -> None:
    days = (NIGHTS[-1] - FIRST_LOG_DAY).days + 1
    objects = simulate(
        load_shop(include_folder() / "demo"),
        first_day=FIRST_LOG_DAY,
        days=days,
        sessions_per_day=SESSIONS_PER_DAY,
        seed=SEED,
        broken_day=BROKEN_DAY,
    )
    written = list(deliver(objects, f"s3://{BUCKET}/shop"))
    say(f"simulated {days} days of clicks of a made-up shop: {len(written)} objects; {BROKEN_DAY} has a damaged file")


def run_nights(api: AirflowApi) -> None:
    dag_id = f"retrain_{MODEL}"
    api.wait_for_dag(dag_id)
    # A backfill registers and promotes nothing, unless it is forced: these nights are to be as if they were tonight's.
    api.backfill(dag_id, f"{NIGHTS[0]}T00:00:00Z", f"{NIGHTS[-1]}T23:59:59Z", promote="force")
    api.unpause(dag_id)  # afterwards, so that no night of its own is at work while the backfill is made
    say(f"backfilling {len(NIGHTS)} nights of {dag_id}, {NIGHTS[0]} to {NIGHTS[-1]}")
    seen: dict[tuple[str, str, int], str] = {}
    n_seen, progressed = 0, time.monotonic()
    while True:
        runs = api.runs(dag_id)
        for run in runs:
            if run["state"] in ("running", "success", "failed"):
                tell_progress(run, api.tasks(dag_id, run["dag_run_id"]), seen)
        if len(runs) >= len(NIGHTS) and all(run["state"] in ("success", "failed") for run in runs):
            return
        if len(seen) > n_seen:
            n_seen, progressed = len(seen), time.monotonic()
        elif time.monotonic() - progressed > STUCK_AFTER_S:
            raise RuntimeError(f"no task has ended for {STUCK_AFTER_S} s; see {HOME / 'logs' / 'airflow.log'}")
        time.sleep(2)


def tell_progress(
    run: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], seen: dict[tuple[str, str, int], str]
) -> None:
    night = run["logical_date"][:10]
    for task in sorted(tasks, key=lambda it: it["end_date"] or "~"):
        state = task["state"]
        key = (run["dag_run_id"], task["task_id"], task["map_index"])
        if state in ("success", "failed", "skipped", "upstream_failed") and seen.get(key) != state:
            seen[key] = state
            mapped = f" [{task['map_index']}]" if task["map_index"] >= 0 else ""
            seconds = f" in {task['duration']:.0f} s" if task["duration"] else ""
            say(f"night {night}: {task['task_id']}{mapped.replace('[', '(').replace(']', ')')} {state}{seconds}")


def read_night(day: date) -> Night:
    config, storage, paths = open_model(MODEL, include_folder())
    return Night(
        day=day,
        pulled=storage.read_result(sessions_of_day(paths, config, ClientHash.from_environment().fingerprint, day)),
        validated=storage.read_result(paths.stage(day, "validate_sessions")),
        evaluated=storage.read_result(paths.stage(day, "evaluate")),
        gated=storage.read_result(paths.stage(day, "gate")),
        registered=storage.read_result(paths.stage(day, "register")),
    )


def print_table(nights: Sequence[Night]) -> None:
    table = Table("night", "lines", "quarantined", "model", "val. loss", "nDCG@10", "decision")
    for night in nights:
        lines = [str(night.pulled.figures[key]) if night.pulled else "–" for key in ("lines", "quarantined")]
        models = night.evaluated.figures["models"] if night.evaluated else {}
        for number, (name, it) in enumerate(models.items()):
            left = [night.day.isoformat(), *lines] if number == 0 else ["", "", ""]
            is_last = number == len(models) - 1
            loss = f"{it['val_loss']:.4f}" if "val_loss" in it else "–"  # a look-up table has none
            right = night.outcome if is_last else ""
            table.add_row(*left, name, loss, f"{it['ndcg_at_10']:.3f}", right, end_section=is_last)
        if not models:
            table.add_row(night.day.isoformat(), *lines, "", "", "", "no challenger")
    console.print("Three nights on synthetic clicks; the figures are of the day that each night held out:")
    console.print(table)
    for night in nights:
        reason = night.gated.reason if night.gated else "stopped before it was evaluated; see the red task in Airflow"
        console.print(f"{night.day} {reason}", highlight=False, soft_wrap=True)


def champion_serves() -> bool:
    """Load the champion as anybody would, and embed a query."""
    import mlflow

    vectors = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion").predict(["comfy couch"])
    console.print(f'models:/{MODEL}@champion serves: predict(["comfy couch"]) gives {len(vectors[0])} dimensions')
    return len(vectors[0]) > 0


def no_champion() -> bool:
    console.print(f"no night was promoted, so models:/{MODEL} has no champion; the reasons stand above")
    return False


def broken_file_is_accounted(pulled: StageResult | None) -> bool:
    if pulled is None:
        console.print(f"{BROKEN_DAY}, the damaged file: not pulled; see the red task in Airflow")
        return False
    figures = pulled.figures
    parts = figures["used"] + figures["duplicates"] + sum(figures["filtered"].values()) + figures["quarantined"]
    console.print(
        f"{BROKEN_DAY}, the damaged file: {figures['lines']} lines = {figures['sessions']} sessions + "
        f"{figures['duplicates']} duplicates + {sum(figures['filtered'].values())} filtered + "
        f"{figures['quarantined']} quarantined ({figures['quarantined_by_reason']})",
        highlight=False,
        soft_wrap=True,
    )
    return bool(parts == figures["lines"] and figures["quarantined"] > 0)


def print_where_to_look(nights: Sequence[Night]) -> None:
    console.print("Where to look:")
    for night in nights:
        if night.gated:
            console.print(f"  report {night.day}: {on_disk(night.gated.outputs['report.html'].uri)}", soft_wrap=True)
    if last := nights[-1].validated:
        console.print(f"  Data Docs {NIGHTS[-1]}: {on_disk(last.pages['docs/index.html'].uri)}", soft_wrap=True)
    console.print("  Airflow and MLflow, with these nights in them: make ui")


def on_disk(uri: str) -> Path:
    return HOME / "s3" / uri.removeprefix("s3://")


if __name__ == "__main__":
    sys.exit(main())
