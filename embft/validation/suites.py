"""A suite's run: row-level rules on one partition after the other, then the rules on the set, then those on figures.

A row-level rule judges each row by itself. Broken and critical, it puts exactly those rows aside (or, where the caller
says `reject`, stops the run); broken and a warning, it is told and the rows stay. A rule on figures judges each row of
the figures: the one of the whole set, or one for each log day. Every other rule judges the set: aggregates, the table,
row-level types with `mostly` below 1, which speak of a share, and those that compare rows with one another. Rules on
the set see only the rows that stay, since that is what the next stage gets.

Memory is bounded by a partition: of the rows before it, only the columns stay that a rule on the set names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from embft.errors import ConfigError
from embft.validation.docs import write_suite_page
from embft.validation.engine import Finding, build, find, judges_rows, merged
from embft.validation.masking import Private
from embft.validation.outcomes import Judged, outcome_of, verdict_of
from embft.validation.verdicts import Verdict
from embft.validation.wording import columns_of, quoted
from embft.validation_config import Expectation

_MAX_EXAMPLES = 3
_ROW = "row"  # a column of every frame: with it a frame keeps its length


@dataclass(frozen=True)
class Figures:
    """Figures about the whole set or about each of its days, computed beside the suite; rules name them as columns.

    Args:
        frame: One row, or one for each log day with the day (ISO) as its label; null where a figure is unknown.
        unknown: Figure → why it is unknown; a rule on a figure that is null in every row is reported as not judged.
        context: Figure → label → what to say beside it, such as what is usual.
    """

    frame: pd.DataFrame = field(default_factory=pd.DataFrame)
    unknown: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of_set(cls, values: Mapping[str, float | None], unknown: Mapping[str, str] | None = None) -> "Figures":
        """Make figures about the whole set.

        Args:
            values: Figure → value, None where unknown.
            unknown: Figure → why it is unknown.

        Returns:
            One row of them.
        """
        return cls(pd.DataFrame({name: [value] for name, value in values.items()}, dtype="float64"), unknown or {})


class SuiteRun:
    """One suite on a table that comes in partitions: `judge` each of them, then ask for the `verdict`.

    Args:
        name: The suite's name.
        rules: The suite's rules.
        columns: Columns of the partitions.
        figures: Columns of the figures.
        id_column: Column that names a row to people.
        critical_rows: What a broken critical row-level rule does.
        examples: Column of a row-level rule → column whose values to show beside the row's id.
        private: Column of which only some texts may be shown, here and in Data Docs; verdicts and rows stay the same.

    Raises:
        ConfigError: A rule has an unknown type, a wrong argument, or an unknown column, or compares a column with a
            figure.
    """

    def __init__(
        self,
        name: str,
        rules: Sequence[Expectation],
        *,
        columns: Sequence[str],
        figures: Sequence[str] = (),
        id_column: str,
        critical_rows: Literal["set_aside", "reject"] = "set_aside",
        examples: Mapping[str, str] | None = None,
        private: Private | None = None,
    ) -> None:
        self._name, self._rules = name, rules
        self._expectations = build(name, rules, [*columns, *figures])
        _refuse_mixed(rules, figures)
        self._on_figures = [i for i, rule in enumerate(rules) if set(columns_of(rule)) & set(figures)]
        self._on_rows = [i for i, rule in enumerate(rules) if i not in self._on_figures and judges_rows(rule)]
        self._on_set = [i for i in range(len(rules)) if i not in self._on_figures and i not in self._on_rows]
        self._kept_columns = [it for it in columns if it == _ROW or any(_needs(rules[i], it) for i in self._on_set)]
        self._id_column, self._examples, self._private = id_column, examples or {}, private
        self._critical_rows = critical_rows
        self._judged: dict[int, Judged] = {}
        self._kept: list[pd.DataFrame] = []
        self._n_rows = self._n_broken = 0

    def judge(self, frame: pd.DataFrame) -> dict[int, list[str]]:
        """Judge the rows of one partition.

        Args:
            frame: Rows with the suite's columns; the first partition comes even where there are no rows at all.

        Returns:
            Position of a row in the frame → the name of every critical row-level rule that it breaks.
        """
        found = self._find(frame, self._on_rows)
        broken = self._broken_rows(found)
        for i, finding in found.items():
            tally = Judged(self._shown(i, finding), len(finding.positions), self._examples_of(i, finding, frame))
            self._judged[i] = _together(self._judged[i], tally) if i in self._judged else tally
        stays = np.ones(len(frame), dtype=bool)
        stays[[] if self._critical_rows == "reject" else list(broken)] = False
        self._kept.append(frame.loc[stays, self._kept_columns])
        self._n_rows += len(frame)
        self._n_broken += len(broken)
        return broken

    def verdict(self, docs_folder: Path, figures: Figures | None = None) -> Verdict:
        """Judge what is left as a set, and the figures; write the suite's page of Data Docs.

        Args:
            docs_folder: Folder for `<name>.html`.
            figures: With the columns that were announced.

        Returns:
            The verdict.
        """
        figures = figures or Figures()
        on_set = self._find(pd.concat(self._kept, ignore_index=True), self._on_set)
        judged = self._judged | {i: Judged(self._shown(i, finding)) for i, finding in on_set.items()}
        known = [i for i in self._on_figures if not self._unknown(i, figures)]
        judged |= {i: Judged(finding) for i, finding in self._find(figures.frame, known).items()}
        outcomes = [
            outcome_of(rule, judged.get(i), self._kind(i, figures), figures, self._unknown(i, figures), self._n_rows)
            for i, rule in enumerate(self._rules)
        ]
        write_suite_page(docs_folder, self._name, [judged[i].finding.result for i in sorted(judged)])
        return verdict_of(self._name, outcomes, self._n_rows, self._n_broken, self._critical_rows)

    def _find(self, frame: pd.DataFrame, chosen: Sequence[int]) -> dict[int, Finding]:
        return dict(zip(chosen, find(self._name, frame, [self._expectations[i] for i in chosen]), strict=True))

    def _broken_rows(self, found: Mapping[int, Finding]) -> dict[int, list[str]]:
        broken: dict[int, list[str]] = {}
        for i, finding in found.items():
            if self._rules[i].severity == "critical":
                for position in finding.positions.tolist():
                    broken.setdefault(position, []).append(self._rules[i].name)
        return dict(sorted(broken.items()))

    def _shown(self, i: int, finding: Finding) -> Finding:
        return self._private.masked(self._rules[i], finding) if self._private else finding

    def _examples_of(self, i: int, finding: Finding, frame: pd.DataFrame) -> list[str]:
        rows = frame.iloc[finding.positions[:1000]]
        value = next((self._examples[it] for it in columns_of(self._rules[i]) if it in self._examples), None)
        if value is None:
            return [quoted(id_) for id_ in rows[self._id_column].drop_duplicates()[:_MAX_EXAMPLES]]
        rows = rows.drop_duplicates(value)[:_MAX_EXAMPLES]
        return [f"{quoted(it)} in {quoted(id_)}" for it, id_ in zip(rows[value], rows[self._id_column], strict=True)]

    def _kind(self, i: int, figures: Figures) -> Literal["row", "day", "set"]:
        if i in self._on_rows:
            return "row"
        return "day" if i in self._on_figures and figures.frame.index.name == "day" else "set"

    def _unknown(self, i: int, figures: Figures) -> str | None:
        if i not in self._on_figures:
            return None
        empty = [it for it in columns_of(self._rules[i]) if figures.frame[it].isna().all()]
        return next((figures.unknown[it] for it in empty if it in figures.unknown), None)


def _together(first: Judged, second: Judged) -> Judged:
    """Put what two partitions showed together."""
    examples = list(dict.fromkeys([*first.examples, *second.examples]))[:_MAX_EXAMPLES]
    return Judged(merged(first.finding, second.finding), first.n_broken + second.n_broken, examples)


def _needs(rule: Expectation, column: str) -> bool:
    """Whether a rule on the set has to do with a column: a `row_condition` may name one, and so may a rule on all."""
    if rule.type.startswith("expect_table_column") or rule.type == "expect_column_to_exist":
        return True
    return re.search(rf"\b{re.escape(column)}\b", repr(rule.kwargs)) is not None


def _refuse_mixed(rules: Sequence[Expectation], figures: Sequence[str]) -> None:
    for rule in rules:
        columns = columns_of(rule)
        of_figures = [column for column in columns if column in figures]
        if of_figures and len(of_figures) < len(columns):
            raise ConfigError(
                f"{rule.where or rule.name}: kwargs: {' and '.join(columns)} cannot be judged together, for "
                f"{' and '.join(of_figures)} is no column of single rows; name such columns alone, or figures alone"
            )
