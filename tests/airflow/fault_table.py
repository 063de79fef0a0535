"""The table of faults in docs/pods.md, made from what the runs came to: `python -m tests.airflow.fault_table`."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.airflow.fault_runs import counted, run_faults
from tests.airflow.faults import FAULTS
from tests.airflow.project import REPO
from tests.airflow.standalone_faults import FAULTS as STANDALONE_FAULTS
from tests.airflow.standalone_faults import run_standalone_faults

PAGE = REPO / "docs" / "pods.md"
BEGIN = "<!-- made by `python -m tests.airflow.fault_table` -->"
END = "<!-- end of what is made -->"
HEAD = [
    "| what happens | task | outcome | tries | pods created | pods left | steps done twice |",
    "|---|---|---|---|---|---|---|",
]
Counts = Mapping[str, Mapping[str, Mapping[str, Any]]]


def lines(names: Sequence[str], counts: Counts) -> list[str]:
    """Rows of the table: one for both modes where they came to the same."""
    made = []
    for name in names:
        by_mode = {mode: each[name] for mode, each in counts.items() if name in each}
        same = len(by_mode) > 1 and len({tuple(it.values()) for it in by_mode.values()}) == 1
        rows = {"both": next(iter(by_mode.values()))} if same else by_mode
        made += [f"| {name} | {mode} | {' | '.join(map(str, it.values()))} |" for mode, it in rows.items()]
    return made


def committed() -> list[str]:
    """Rows of the table as the page has them."""
    inside = PAGE.read_text().split(BEGIN)[1].split(END)[0].strip().splitlines()
    assert inside[: len(HEAD)] == HEAD
    return inside[len(HEAD) :]


def rows_by_dag_test(root: Path) -> list[str]:
    nights = run_faults(root)
    return lines(
        [it["name"] for it in FAULTS],
        {mode: {name: counted(night) for name, night in each.items()} for mode, each in nights.items()},
    )


def rows_by_standalone(root: Path) -> list[str]:
    return lines(list(STANDALONE_FAULTS), run_standalone_faults(root))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="embft-faults-") as folder:
        rows = [*rows_by_dag_test(Path(folder)), *rows_by_standalone(Path(folder))]
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text("\n".join([before + BEGIN, *HEAD, *rows, END + after]))
    print(f"{PAGE}: {len(rows)} rows")


if __name__ == "__main__":
    main()
