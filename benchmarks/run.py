"""`make bench`: run every benchmark, and rewrite RESULTS.md from what they print."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
NO_BENCHMARKS = {
    "__init__.py",
    "run.py",
    "figures.py",
    "alert_days.py",
    "clicks.py",
    "measures.py",
    "baselines.py",
    "training.py",
    "loops.py",
    "json_loops.py",
    "corruption_lines.py",
    "corruption_shown.py",
    "corruption_catalogue.py",
    "corruption_ranks.py",
    "corruption_nights.py",
    "corruption_results.py",
    "validation_data.py",
    "validation_ours.py",
    "validation_by_hand.py",
}


def main() -> int:
    """Run every benchmark of this folder."""
    figures: list[dict[str, Any]] = []
    for path in sorted(set(FOLDER.glob("*.py")) - {FOLDER / name for name in NO_BENCHMARKS}):
        print(f"bench: {path.stem}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{path.stem}"]
        done = subprocess.run(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True, check=True)
        sys.stdout.write(done.stdout)
        figures += [json.loads(line) for line in done.stdout.splitlines()]
    (FOLDER / "RESULTS.md").write_text(page(figures), encoding="utf-8")
    print(f"bench: wrote {FOLDER.name}/RESULTS.md with {len(figures)} figures", file=sys.stderr)
    return 0


def page(figures: list[dict[str, Any]]) -> str:
    """Lay the figures out as Markdown."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=FOLDER, capture_output=True, text=True).stdout
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rows = [
        f"| `{it['name']}` | {it['value']:g} | {it['unit']} | {it['baseline'] or ''} | {it['n']} | {it['data']} |"
        for it in figures
    ]
    return "\n".join(
        [
            "# Benchmark results",
            "",
            "Written by `make bench`. One machine, one day, shared with other work: compare figures of one run with",
            "each other, not with those of another.",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.strip() or 'unknown'}, {os.cpu_count()} cores, "
            f"{memory_gb:.0f} GiB, Python {platform.python_version()}, no GPU",
            "",
            "| figure | value | unit | baseline | n | data |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
