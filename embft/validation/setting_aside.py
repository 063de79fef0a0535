"""Rows that break a critical row-level rule: out of the table, into quarantine with every rule, and counted."""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from embft.validation.verdicts import Excess, Verdict

QUARANTINE = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("suite", pa.string()),
        ("rules", pa.list_(pa.string())),
        ("raw", pa.string()),
    ]
)


def without(table: pa.Table, broken: Mapping[int, list[str]]) -> pa.Table:
    """Give the rows that may go on.

    Args:
        table: Any table.
        broken: Position of a row → the rules that it breaks.

    Returns:
        The other rows, in order.
    """
    if not broken:
        return table
    keep = np.ones(table.num_rows, dtype=bool)
    keep[list(broken)] = False
    return table.filter(pa.array(keep))


def set_aside(
    suite: str, table: pa.Table, id_column: str, broken: Mapping[int, list[str]], *, first_row: int
) -> pa.Table:
    """Give the rows that may not go on, as quarantine keeps them.

    Args:
        suite: The suite that they break.
        table: A partition.
        id_column: Column that names a row.
        broken: Position of a row in the partition → the rules that it breaks.
        first_row: Rows before the partition.

    Returns:
        Columns as in `QUARANTINE`: position, id, suite, names of rules, the row as JSON.
    """
    rows = list(broken)
    raw = table.take(pa.array(rows, pa.int64())).to_pylist()
    return pa.table(
        {
            "row": [first_row + row for row in rows],
            "id": [row[id_column] for row in raw],
            "suite": [suite] * len(rows),
            "rules": list(broken.values()),
            "raw": [json.dumps(row, ensure_ascii=False, default=str) for row in raw],
        },
        schema=QUARANTINE,
    )


def too_many(verdict: Verdict, rows_of: str, n_broken: int, n_rows: int, limit: float) -> list[Excess]:
    """Say whether more was set aside than may be, and by which rule most of it.

    Args:
        verdict: Of the suite that the rows break.
        rows_of: What the rows are, such as `items`.
        n_broken: Rows set aside.
        n_rows: Rows that were examined.
        limit: Share that may be, 0 … 1.

    Returns:
        One excess, or none.
    """
    if not n_rows or n_broken / n_rows <= limit:
        return []
    worst = max(
        (rule for rule in verdict.rules if rule.kind == "row" and rule.severity == "critical"),
        key=lambda rule: rule.broken_rows,
    )
    return [Excess(rows_of=rows_of, n_broken=n_broken, rows=n_rows, limit=limit, worst=worst)]
