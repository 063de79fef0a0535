"""From the rules' verdicts to news: when a regression is told, when it got much worse, and when it is over.

All rules that look at the same queries tell one story, whatever their measures: one incident for each slice. A slice
that falls while all queries do is no second story. Reads no clock, disk or network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from embft.monitoring.day import MonitoredDay
from embft.monitoring.message import Severity
from embft.monitoring.rules import NEW_USUAL_AFTER, Verdict, verdicts
from embft.monitoring_config import MonitorRule

KEPT_DAYS = 2
"""Judged days in a row on which every rule is kept, after which a regression is over."""

_ALL = "all"
_MUCH_WORSE = 2.0
_SURELY = 3.0  # deviations
# What users see is told first, what explains it after.
_KINDS = ("trailing", "limit", "promotion", "same_clicks", "decline")


@dataclass(frozen=True)
class Standing:
    """How it stands with one slice's queries on one day.

    Args:
        day: Place of the day in the history.
        slice: Whose queries.
        is_on: Whether there is a regression; None where the day cannot tell.
        verdicts: Of all rules that look at the slice.
        since: Day on which the regression began; None where there is none, and never was.
        severity: The worst of the rules that broke in it.
        depth: How often it has got much worse since, counted from 1.
        told: What is said first: of a regression the worst verdict; of its end that of the same rule.
        first: Of an end: what was told first when it began.
    """

    day: int
    slice: str
    is_on: bool | None
    verdicts: tuple[Verdict, ...]
    since: date | None = None
    severity: Severity = "warning"
    depth: int = 1
    told: Verdict | None = None
    first: Verdict | None = None

    @property
    def cause(self) -> str:
        """What differs once the regression has got much worse, and never else."""
        return f"{self.severity}_{self.depth}"

    @property
    def incident(self) -> str:
        """Its name."""
        return f"regression_{self.slice}"


@dataclass
class _Regression:
    since: date
    told: Verdict
    severity: Severity
    drop: float
    depth: int = 1
    kept: int = 0
    rules: set[str] = field(default_factory=set)


def standings(days: Sequence[MonitoredDay], rules: Sequence[MonitorRule]) -> list[list[Standing]]:
    """Go through the history, and say of each day how it stood then.

    A regression begins on the day that a rule is broken. It is over after KEPT_DAYS days in a row that show it to
    be: no rule is broken, one that broke in it could be judged, and is worse by half of what was told at most. A day
    that tells nothing neither begins nor ends one. It has got much worse where the drop is twice the one told before,
    by more than three deviations of chance, or where a critical rule breaks beside those that only warn.

    Args:
        days: The oldest first.
        rules: Of the config.

    Returns:
        For each day a standing of each slice that a rule looks at, all queries first.
    """
    slices = sorted({it.slice for it in rules}, key=lambda it: (it != _ALL, it))
    columns = {rule.name: verdicts(rule, days) for rule in rules}
    open_: dict[str, _Regression] = {}
    found = []
    for number, day in enumerate(days):
        row = []
        for name in slices:
            said = tuple(columns[rule.name][number] for rule in rules if rule.slice == name)
            is_folded = name != _ALL and _ALL in open_ and name not in open_
            row.append(_standing(number, day.day, name, said, open_, is_folded=is_folded))
        found.append(row)
    return found


def _standing(
    number: int,
    day: date,
    name: str,
    said: tuple[Verdict, ...],
    open_: dict[str, _Regression],
    *,
    is_folded: bool,
) -> Standing:
    broken = sorted((it for it in said if it.state == "broken"), key=_first_told)
    before = open_.get(name)
    if broken and is_folded:
        return Standing(number, name, None, said)
    if broken:
        now = open_[name] = _worsened(before, broken, day)
        return Standing(number, name, True, said, now.since, now.severity, now.depth, broken[0])
    if before is None:
        return Standing(number, name, False if any(it.is_judged for it in said) else None, said)
    if not _tells_of_the_end(before, said, day):
        return Standing(number, name, None, said, before.since, before.severity, before.depth)
    before.kept += 1
    if before.kept < KEPT_DAYS:
        return Standing(number, name, None, said, before.since, before.severity, before.depth)
    del open_[name]
    same = next((it for it in said if it.rule == before.told.rule), None)
    return Standing(number, name, False, said, before.since, before.severity, before.depth, same, before.told)


def _tells_of_the_end(regression: _Regression, said: Sequence[Verdict], day: date) -> bool:
    judged = [it for it in said if it.is_judged]
    of_it = [it for it in judged if it.rule in regression.rules]
    if not of_it:
        # A rule may never be judged again, such as a promise that is not known of the next champion.
        return bool(judged) and (day - regression.since).days > NEW_USUAL_AFTER
    # Few clicks let a rule be kept by a figure that is as low as ever.
    return all((it.drop or 0.0) <= regression.drop / 2 for it in of_it)


def _first_told(verdict: Verdict) -> tuple[bool, int, float]:
    return verdict.severity != "critical", _KINDS.index(verdict.kind), -(verdict.drop or 0.0)


def _worsened(before: _Regression | None, broken: Sequence[Verdict], day: date) -> _Regression:
    deepest = max(broken, key=lambda it: it.drop or 0.0)
    drop = deepest.drop or 0.0
    severity = broken[0].severity
    names = {it.rule for it in broken}
    if before is None:
        return _Regression(day, broken[0], severity, drop, rules=names)
    before.kept = 0
    before.rules |= names
    if severity == "critical":
        before.severity = severity
    if drop >= _MUCH_WORSE * before.drop and drop - before.drop > _SURELY * (deepest.noise or 0.0):
        before.depth += 1
        before.drop = drop
    return before
