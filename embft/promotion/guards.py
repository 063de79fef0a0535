"""Guard sets: judgement lists on which no new model may be worse, whatever the clicks say."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from embft.errors import ConfigError, DataRejected
from embft.promotion.query_tables import read_query_table
from embft.promotion_config import Guard

_COLUMNS = ("query", "item", "grade")
_EXAMPLES = 3


@dataclass(frozen=True)
class GuardSet:
    """A judgement list, cut to what can be measured.

    Args:
        name: As the config calls it.
        cases: Query → its known items' grades; each has a relevant item.
        relevant_from: Grade from which an item is relevant.
        notes: What was left out, in sentences.
    """

    name: str
    cases: dict[str, dict[str, float]]
    relevant_from: float
    notes: tuple[str, ...]


def read_guard(path: Path, guard: Guard, known_items: frozenset[str]) -> GuardSet:
    """Read a judgement list. Of two grades for one query and item the later one counts.

    Args:
        path: The downloaded object.
        guard: What the config says of it.
        known_items: Ids of the items that are ranked: the guard's own, or the catalogue's.

    Returns:
        The judgements of known items. Catalogues change, so unknown items are left out, and told.

    Raises:
        ConfigError: The list cannot be read, or a grade is no number of 0 or more.
        DataRejected: None of its queries has a relevant item that is known.
    """
    table = read_query_table(path, guard.uri, _COLUMNS)
    judged: dict[str, dict[str, float]] = {}
    unknown: dict[str, None] = {}
    for row, (query, item, grade) in enumerate(zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True), 1):
        if item in known_items:
            judged.setdefault(query, {})[item] = _grade(grade, guard, row)
        else:
            unknown[str(item)] = None
            judged.setdefault(query, {})
    cases = {
        query: grades for query, grades in judged.items() if any(it >= guard.relevant_from for it in grades.values())
    }
    notes = []
    if unknown:
        notes.append(
            f"{len(unknown)} of its items are not in {guard.items or 'the catalogue'} and were left out, such as "
            f"{', '.join(map(repr, list(unknown)[:_EXAMPLES]))}"
        )
    if n_left_out := len(judged) - len(cases):
        notes.append(f"{n_left_out} of its {len(judged)} queries have no item of grade {guard.relevant_from:g} or more")
    if not cases:
        raise DataRejected(
            f"guard {guard.name!r} ({guard.uri}) cannot be measured: {'; '.join(notes)}; correct the list, or take it "
            "out of evaluation.guards"
        )
    return GuardSet(guard.name, cases, guard.relevant_from, tuple(notes))


def _grade(text: str | None, guard: Guard, row: int) -> float:
    try:
        grade = float(text or "")
    except ValueError:
        grade = -1.0
    if not isfinite(grade) or grade < 0:
        raise ConfigError(f"{guard.uri}: the grade of its judgement {row} is {text!r}; expected a number of 0 or more")
    return grade
