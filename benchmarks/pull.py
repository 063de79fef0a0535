"""How fast a day's log is read, against a loop by hand and against the mere reading of its bytes; and in what memory.

Ours and the baselines take turns on the same files, in one process; the figure is the median of the rounds' ratios.
Peak memory is that of a process of its own for each size.
"""

import argparse
import gzip
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from benchmarks import json_loops
from benchmarks.figures import print_figure
from embft.clickstream.privacy import ClientHash
from embft.clickstream.reader import DayReader, LogObject
from embft.clickstream.sessions import read_sessions
from embft.clickstream.shop import Shop, load_shop
from embft.clickstream.simulator import simulate
from embft.log_config import Logs

DAY = date(2026, 3, 10)
KEY = ClientHash("of a benchmark alone")
COMPARED = ("session_id", "time", "client", "query", "shown", "positions", "actions")
_SEARCHES = {"sessions": 60_000, "events": 12_000, "ubi": 12_000, "parquet": 60_000}
_OBJECTS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pull", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the searches that are read")
    parser.add_argument("--millions", type=int, nargs=2, default=[1, 10], help="lines of the two days of memory")
    parser.add_argument("--read", type=Path, help="read a folder, and print its peak memory: for this program itself")
    options = parser.parse_args(arguments)
    if options.read:
        _read(sorted(options.read.iterdir()), Logs(uri="s3://shop/{day}"), options.read.parent / "out")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return 0
    shop = load_shop(Path("include/demo"))
    with tempfile.TemporaryDirectory() as folder:
        for name, n_searches in _SEARCHES.items():
            _report_speed(name, shop, round(n_searches * options.scale), options.rounds, Path(folder) / name)
        _report_memory(shop, options.millions, Path(folder))
    return 0


def _report_speed(name: str, shop: Shop, n_searches: int, rounds: int, folder: Path) -> None:
    log_format = "sessions" if name == "parquet" else name
    paths = _lay_out(shop, log_format, n_searches, folder / "objects")
    logs = Logs(uri="s3://shop/{day}", format=log_format)
    if name == "sessions":
        loop: Callable[..., None] = json_loops.read_sessions
    else:
        loop = partial(json_loops.read_events, is_ubi=name == "ubi")
    floor: Callable[[], object] = partial(_read_json, paths)
    by_hand: Callable[[], object] | None = partial(loop, paths, DAY, KEY, folder / "by-hand.parquet")
    if name == "parquet":
        paths = [_as_parquet(path) for path in paths]
        floor, by_hand = partial(_read_parquet, paths), None
    ours = partial(_read, paths, logs, folder / "ours")
    n_lines = ours()
    if by_hand:
        by_hand()
        _check_same(folder / "ours" / "sessions.parquet", folder / "by-hand.parquet")
    seconds: dict[str, list[float]] = {"ours": [], "loop": [], "floor": []}
    for _ in range(rounds):
        for what, call in (("ours", ours), ("loop", by_hand), ("floor", floor)):
            if call:
                began = perf_counter()
                call()
                seconds[what].append(perf_counter() - began)
    data = f"{n_lines} lines of a simulated day ({name}), {len(paths)} objects, no S3"
    median = statistics.median(seconds["ours"])
    print_figure(f"pull.{name}.lines_per_s", round(n_lines / median), "lines/s", baseline=None, n=rounds, data=data)
    for what, baseline in (("loop", "json.loads, a line at a time"), ("floor", "pyarrow's bare read of the bytes")):
        if seconds[what]:
            ratio = statistics.median(b / a for a, b in zip(seconds["ours"], seconds[what], strict=True))
            print_figure(
                f"pull.{name}.vs_{'json_loop' if what == 'loop' else 'floor'}",
                round(ratio, 3),
                "1",
                baseline=baseline,
                n=rounds,
                data=data,
            )


def _lay_out(shop: Shop, log_format: str, n_searches: int, folder: Path) -> list[Path]:
    """Write a day of one format, plain, over some objects."""
    folder.mkdir(parents=True)
    options = {"first_day": DAY, "days": 1, "sessions_per_day": n_searches, "seed": 3, "log_format": log_format}
    lines = [
        line
        for key, content in simulate(shop, **options)
        if key.startswith("logs/")
        for line in gzip.decompress(content).splitlines(keepends=True)
    ]
    paths = [folder / f"part-{number}.jsonl" for number in range(_OBJECTS)]
    for number, path in enumerate(paths):
        path.write_bytes(b"".join(lines[number::_OBJECTS]))
    return paths


def _read(paths: Sequence[Path], logs: Logs, to: Path) -> int:
    """Read a day as `pull` does, from files."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to) as scratch:
        objects = [LogObject(f"s3://shop/{path.name}") for path in paths]
        with DayReader(DAY, logs, KEY, objects, Path(scratch)) as reader:
            of_uri = {item.uri: path for item, path in zip(objects, paths, strict=True)}
            reader.read(range(len(objects)), lambda item, _path, _stop: of_uri[item.uri])
            accounting = reader.build(to / "sessions.parquet", to / "quarantine.parquet")
    accounting.check()
    return accounting.lines


def _check_same(ours: Path, by_hand: Path) -> None:
    """Make sure that both make the same sessions; clicks of one moment may come in any order."""
    mine, theirs = read_sessions(ours).to_pylist(), pq.read_table(by_hand).to_pylist()
    assert len(mine) == len(theirs), (len(mine), len(theirs))
    for row, other in zip(mine, theirs, strict=True):
        assert all(row[name] == other[name] for name in COMPARED if name != "actions"), (row, other)
        assert set(row["clicked"]) == set(other["clicked"]), (row, other)


def _read_json(paths: Sequence[Path]) -> list[pa.Table]:
    return [pj.read_json(path) for path in paths]


def _read_parquet(paths: Sequence[Path]) -> list[pa.Table]:
    return [pq.read_table(path) for path in paths]


def _as_parquet(path: Path) -> Path:
    target = path.with_suffix(".parquet")
    pq.write_table(pj.read_json(path), target)
    path.unlink()
    return target


def _report_memory(shop: Shop, millions: Sequence[int], folder: Path) -> None:
    peaks = []
    for number in millions:
        objects = folder / f"{number}-million" / "objects"
        _write_many(shop, number * 1_000_000, objects)
        command = [sys.executable, "-m", "benchmarks.pull", "--read", str(objects)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks.append(int(done.stdout))
        data = f"{number} million lines of a simulated day (sessions), gzipped"
        print_figure(f"pull.peak_rss_mb_{number}m", round(peaks[-1] / 1024), "MiB", baseline=None, n=1, data=data)
        for path in objects.iterdir():
            path.unlink()
    name = f"pull.peak_rss_ratio_{millions[1]}m_to_{millions[0]}m"
    data = f"{millions[1]} against {millions[0]} million simulated lines"
    print_figure(name, round(peaks[1] / peaks[0], 3), "1", baseline="the smaller day", n=1, data=data)


def _write_many(shop: Shop, n_lines: int, folder: Path) -> None:
    """Write a simulated day again and again, each session under an id, a client and a time of its own."""
    folder.mkdir(parents=True)
    drawn = simulate(shop, first_day=DAY, days=1, sessions_per_day=20_000, seed=3)
    pool = [line for key, content in drawn if key.startswith("logs/") for line in gzip.decompress(content).splitlines()]
    chance = random.Random(1)
    per_object = 500_000
    for first in range(0, n_lines, per_object):
        with gzip.open(folder / f"part-{first:09d}.jsonl.gz", "wb", compresslevel=1) as file:
            file.writelines(_renamed(pool, range(first, min(first + per_object, n_lines)), n_lines, chance))


def _renamed(pool: list[bytes], numbers: range, n_lines: int, chance: random.Random) -> Iterator[bytes]:
    midnight = datetime(DAY.year, DAY.month, DAY.day)
    for number in numbers:
        head, _, rest = chance.choice(pool).partition(b'"time": "')
        middle = rest[rest.index(b'"') : rest.index(b'"session_id"')]
        time = (midnight + timedelta(milliseconds=chance.randrange(86_400_000))).isoformat(timespec="milliseconds")
        client = chance.randrange(n_lines * 6 // 10)
        tail = f'"session_id": "{number:016x}", "client": "c-{client:016x}", "synthetic": true}}\n'
        yield head + b'"time": "' + time.encode() + b"Z" + middle + tail.encode()


if __name__ == "__main__":
    sys.exit(main())
