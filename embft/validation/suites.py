"""`run_suite`: row-level rules first, then the rules on the set, on the rows that are left.

A row-level rule judges each row by itself. Broken and critical, it puts exactly those rows aside (or, where the caller
says `reject`, stops the run); broken and a warning, it is told and the rows stay. Every other rule judges the set:
aggregates, the table, figures, and row-level types with `mostly` below 1, which speak of a share. Rules on the set
see only the rows that stay, since that is what the next stage gets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from embft.config import Expectation
from embft.errors import ConfigError
from embft.validation.docs import write_suite_page
from embft.validation.engine import Finding, build, find, judges_rows
from embft.validation.masking import Private
from embft.validation.verdicts import RuleOutcome, Verdict
from embft.validation.wording import (
    columns_of,
    examples_in_words,
    figure,
    in_words,
    observation,
    percent,
    quoted,
)

_MAX_EXAMPLES = 3
_MAX_OBSERVED = 20
NO_POSITIONS: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Figures:
    """Figures about the whole set, computed before the suite runs; rules name them as columns.

    Args:
        values: Figure → value, None where unknown.
        unknown: Figure → why it is unknown; rules on it are reported as not judged.
    """

    values: Mapping[str, float | None] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


def run_suite(
    name: str,
    frame: pd.DataFrame,
    rules: Sequence[Expectation],
    *,
    id_column: str,
    docs_folder: Path,
    critical_rows: Literal["set_aside", "reject"] = "set_aside",
    figures: Figures | None = None,
    examples: Mapping[str, str] | None = None,
    private: Private | None = None,
) -> Verdict:
    """Run one suite on a frame, and write its Data Docs.

    Args:
        name: The suite's name.
        frame: Rows to judge.
        rules: The suite's rules.
        id_column: Column that names a row to people.
        docs_folder: Folder for `<name>.html`.
        critical_rows: What a broken critical row-level rule does.
        figures: Figures that rules may name like columns.
        examples: Column of a row-level rule → column whose values to show as examples, instead of the row's id.
        private: Column of which only some texts may be shown, here and in Data Docs; verdicts and rows stay the same.

    Returns:
        The verdict.

    Raises:
        ConfigError: A rule has an unknown type, a wrong argument, or an unknown column, or compares a column with a
            figure.
    """
    figures = figures or Figures()
    expectations = build(name, rules, [*frame.columns, *figures.values])
    _refuse_mixed(name, rules, figures)
    on_figures = [i for i, rule in enumerate(rules) if figures.values and set(columns_of(rule)) & set(figures.values)]
    skipped = {i: figures.unknown[c] for i in on_figures for c in columns_of(rules[i]) if c in figures.unknown}
    on_rows = [i for i, rule in enumerate(rules) if i not in on_figures and judges_rows(rule)]
    on_set = [i for i in range(len(rules)) if i not in on_figures and i not in on_rows]

    found = _find(name, frame, expectations, on_rows)
    broken = _broken_rows(rules, found)
    left = frame if critical_rows == "reject" or not broken else frame.drop(index=frame.index[sorted(broken)])
    found |= _find(name, left, expectations, on_set)
    found |= _find(name, _one_row(figures), expectations, [i for i in on_figures if i not in skipped])

    if private:
        found = {i: private.masked(rules[i], finding) for i, finding in found.items()}
    shown = {column: (examples or {}).get(column, id_column) for column in frame.columns}
    outcomes = [
        _outcome(rule, found.get(i), "row" if i in on_rows else "set", skipped.get(i), frame, shown, figures)
        for i, rule in enumerate(rules)
    ]
    verdict = Verdict(
        suite=name,
        rows=len(frame),
        success=all(outcome.success is not False for outcome in outcomes),
        critical_rows=critical_rows,
        rules=outcomes,
        broken=broken,
        rejections=_rejections(rules, outcomes, len(frame), critical_rows),
        warnings=_warnings(rules, outcomes, len(frame)),
        notes=[f"{it.rule}: not judged, {it.skipped}" for it in outcomes if it.skipped],
    )
    write_suite_page(docs_folder, name, [found[i].result for i in sorted(found)])
    return verdict


def _refuse_mixed(suite: str, rules: Sequence[Expectation], figures: Figures) -> None:
    for index, rule in enumerate(rules):
        columns = columns_of(rule)
        of_figures = [column for column in columns if column in figures.values]
        if of_figures and len(of_figures) < len(columns):
            raise ConfigError(
                f"suite {suite}, rule {index + 1}, {rule.type}: {' and '.join(columns)} cannot be judged together, for "
                f"{' and '.join(of_figures)} is one figure of the whole set; name columns alone, or figures alone"
            )


def _find(name: str, frame: pd.DataFrame, expectations: Sequence[Any], chosen: Sequence[int]) -> dict[int, Finding]:
    return dict(zip(chosen, find(name, frame, [expectations[i] for i in chosen]), strict=True))


def _one_row(figures: Figures) -> pd.DataFrame:
    return pd.DataFrame({name: [value] for name, value in figures.values.items()}, dtype="float64")


def _broken_rows(rules: Sequence[Expectation], found: Mapping[int, Finding]) -> dict[int, list[str]]:
    broken: dict[int, list[str]] = {}
    for i, finding in found.items():
        if rules[i].severity == "critical":
            words = in_words(rules[i])
            for position in finding.positions.tolist():
                broken.setdefault(position, []).append(words)
    return dict(sorted(broken.items()))


def _outcome(
    rule: Expectation,
    finding: Finding | None,
    kind: Literal["row", "set"],
    skipped: str | None,
    frame: pd.DataFrame,
    shown: Mapping[str, str],
    figures: Figures,
) -> RuleOutcome:
    columns = columns_of(rule)
    positions = finding.positions if finding and kind == "row" else NO_POSITIONS
    observed = figures.values[columns[0]] if set(columns) & set(figures.values) else finding and finding.observed
    offending = frame[shown[columns[0]]].iloc[positions[:1000]] if len(positions) else pd.Series(dtype=object)
    return RuleOutcome(
        type=rule.type,
        column=", ".join(columns) or None,
        kind=kind,
        severity=rule.severity,
        rule=in_words(rule),
        why=rule.why,
        success=None if skipped else bool(finding and finding.success),
        observed=_jsonable(observed),
        broken_rows=len(positions),
        examples=[quoted(value) for value in offending.drop_duplicates()[:_MAX_EXAMPLES]],
        error=finding.error if finding else None,
        skipped=skipped,
    )


def _rejections(
    rules: Sequence[Expectation], outcomes: Sequence[RuleOutcome], rows: int, critical_rows: str
) -> list[str]:
    sentences = []
    for rule, it in zip(rules, outcomes, strict=True):
        if it.error:
            sentences.append(f"the rule “{it.rule}” could not be checked: {quoted(it.error, 300)} ({rule.why})")
        elif it.success is False and it.severity == "critical":
            if it.kind == "set":
                sentences.append(_set_sentence(rule, it))
            elif critical_rows == "reject":
                sentences.append(_row_sentence(it, rows))
    return sentences


def _warnings(rules: Sequence[Expectation], outcomes: Sequence[RuleOutcome], rows: int) -> list[str]:
    return [
        _set_sentence(rule, it) if it.kind == "set" else _row_sentence(it, rows)
        for rule, it in zip(rules, outcomes, strict=True)
        if it.success is False and it.severity == "warning" and not it.error
    ]


def _set_sentence(rule: Expectation, it: RuleOutcome) -> str:
    return f"{observation(rule, it.observed)}: {it.why}"


def _row_sentence(it: RuleOutcome, rows: int) -> str:
    share = percent(it.broken_rows / rows) if rows else "none"
    examples = examples_in_words(it.examples)
    return f"{figure(it.broken_rows)} of {figure(rows)} rows ({share}) break “{it.rule}”{examples}: {it.why}"


def _jsonable(value: Any) -> Any:
    """Give an observed value a JSON form: NumPy scalars unpacked, NaN as text, long lists and texts cut."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _jsonable(part) for key, part in list(value.items())[:_MAX_OBSERVED]}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_jsonable(part) for part in list(value)[:_MAX_OBSERVED]]
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)[:200]
