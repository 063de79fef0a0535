"""How long both validations take, against the same rules written by hand in pandas; and in what memory.

Fourteen days of sessions are drawn from the real clicks, with five results shown and a hundredth of them broken. Ours
and the baseline take turns on the same files, each in a process of its own that does nothing else; imports do not
count. The figure is the ratio of the medians.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.figures import print_figure
from benchmarks.validation_data import N_DAYS, N_SHOWN, lay_out
from tests import realdata


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help="ours or by_hand, and a folder: for this program itself")
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(_measured(options.measure[0], Path(options.measure[1]))))
        return 0
    if not realdata.CLICKS.exists():
        print(f"validation: no real clicks in {realdata.CLICKS}; set EMBFT_DATA", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(options.sessions, folder)
        rounds = [{who: _in_a_process(who, folder) for who in ("ours", "by_hand")} for _ in range(options.rounds)]
    _check_same(rounds[-1])
    _report(rounds, options.sessions)
    return 0


def _report(rounds: Sequence[dict[str, dict[str, Any]]], n_sessions: int) -> None:
    n_items = rounds[0]["ours"]["n_items"]
    data = f"{n_sessions} sessions drawn from Best Buy clicks, {N_DAYS} days, {N_SHOWN} shown, {n_items} items"

    def median(who: str, what: str) -> float:
        return statistics.median(it[who][what] for it in rounds)

    for name, what in (("", "seconds"), (".sessions", "sessions_s"), (".ranks", "ranks_s")):
        ours, by_hand = median("ours", what), median("by_hand", what)
        print_figure(f"validation.seconds{name}", round(ours, 2), "s", baseline=None, n=len(rounds), data=data)
        print_figure(
            f"validation.vs_pandas{name}",
            round(ours / by_hand, 3),
            "1",
            baseline="the same rules in pandas, without Great Expectations and its pages",
            n=len(rounds),
            data=f"{data}; by hand {by_hand:.2f} s",
        )
    for who, name in (("ours", "validation.peak_memory"), ("by_hand", "validation.peak_memory.by_hand")):
        print_figure(name, round(median(who, "peak_mib")), "MiB", baseline=None, n=len(rounds), data=data)


def _check_same(results: dict[str, dict[str, Any]]) -> None:
    """See that both came to the same: against a baseline that leaves out work a ratio says nothing.

    Raises:
        AssertionError: A figure, or what was set aside, differs.
    """
    ours, by_hand = (results[who] for who in ("ours", "by_hand"))
    if ours["aside"] != by_hand["aside"]:
        raise AssertionError(f"set aside: {ours['aside']} by ours, {by_hand['aside']} by hand")
    for name, value in by_hand["figures"].items():
        if not np.isclose(value, ours["figures"][name], rtol=1e-6, atol=1e-9):
            raise AssertionError(f"{name}: {ours['figures'][name]} by ours, {value} by hand")


def _in_a_process(who: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.validation", "--measure", who, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    seconds = f"{measured['sessions_s']:.1f} s + {measured['ranks_s']:.1f} s, {measured['cpu_s']:.1f} s of CPU"
    print(f"validation: {who}: {seconds}", file=sys.stderr)
    return measured


def _measured(who: str, folder: Path) -> dict[str, Any]:
    if who == "ours":
        from benchmarks.validation_ours import sessions_and_ranks
    else:
        from benchmarks.validation_by_hand import sessions_and_ranks
    out = folder / who
    out.mkdir(exist_ok=True)
    check_sessions, check_ranks = sessions_and_ranks(folder, out)
    began, cpu_began = perf_counter(), process_time()
    of_sessions = check_sessions()
    sessions_s = perf_counter() - began
    of_ranks = check_ranks()
    seconds = perf_counter() - began
    return {
        "seconds": seconds,
        "sessions_s": sessions_s,
        "ranks_s": seconds - sessions_s,
        "cpu_s": process_time() - cpu_began,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "n_items": pq.read_metadata(folder / "items.parquet").num_rows,
        "aside": of_sessions.pop("aside"),
        "figures": {**of_sessions, **of_ranks},
    }


if __name__ == "__main__":
    sys.exit(main())
