"""The history of champions: an append-only list of changes, and what follows from it. Reads no clock, disk or network.

Who serves is nowhere written down but here: it follows from the changes, in their order, by the rules of `History`.
MLflow's aliases and the pointer to the vectors are made to agree with it, by whoever comes last, so that two changes at
once, or one that was killed half-way, end in the same state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Literal

from pydantic import Field

from embft.results import Champion, Record


class Change(Record):
    """One entry of the history: somebody wanted another version to serve."""

    number: int = Field(ge=1, description="One more than the highest that its writer saw; ties are ordered by key.")
    kind: Literal["promotion", "rollback"]
    to: Champion
    leaves: str | None = Field(description="Version that served when it was written; None: there was none.")
    forced: bool = Field(False, description="A promotion that may put an older day's model before a newer one's.")
    request: str = Field(description="What asked for it, such as an Airflow run: asked again, it is the same change.")
    who: str
    at_utc: datetime
    why: str


@dataclass(frozen=True)
class Step:
    """A change, and what it came to.

    Args:
        change: The entry.
        before: Who served before it; None: nobody.
        after: Who served after it.
    """

    change: Change
    before: Champion | None
    after: Champion | None

    @property
    def took_effect(self) -> bool:
        """Whether another version served after it."""
        return self.before != self.after


@dataclass(frozen=True)
class History:
    """All changes of a model's champion.

    - A promotion takes effect unless the champion learned from a newer day (`forced` overrides that), or the very
      weights were rolled back before (`forced` overrides that, too).
    - A rollback takes effect if the version that it leaves is the champion; it was asked for because of that one. The
      version that it goes to serves again, and those that came after it are forgotten as predecessors.

    Args:
        changes: In the order of their keys.
    """

    changes: Sequence[Change]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every change with what it came to, the oldest first."""
        return self._steps(None)

    @property
    def champion(self) -> Champion | None:
        """Who serves; None before the first promotion."""
        return self.steps[-1].after if self.steps else None

    @property
    def previous(self) -> Champion | None:
        """Whom a rollback goes back to; None where nobody came before the champion."""
        line = self._line(self.steps)
        return line[-2] if len(line) > 1 else None

    def champion_before(self, day: date) -> Champion | None:
        """Give whom a night is measured against: the champion, had no model learned from that day or a later one.

        So a re-run, or a backfill of an old day, has the opponent that the night itself had.

        Args:
            day: The night's day.

        Returns:
            The champion; None before the first promotion.
        """
        steps = self._steps(day)
        return steps[-1].after if steps else None

    def serving_on(self, moment: datetime) -> Champion | None:
        """Give who served at a moment.

        Args:
            moment: With its zone.

        Returns:
            The champion of then; None where nobody served yet.
        """
        past = [step for step in self.steps if step.change.at_utc <= moment]
        return past[-1].after if past else None

    def promotion_of(self, version: str) -> Change | None:
        """Give the first promotion of a version; None where it never came to one."""
        return next((it for it in self.changes if it.kind == "promotion" and it.to.version == version), None)

    def rolled_back(self, digest: str) -> Change | None:
        """Give the latest rollback that left these weights, unless somebody chose them again since.

        Args:
            digest: Of the weights, see `weights_digest`.

        Returns:
            The rollback; None where the weights may be promoted.
        """
        return _left(self.steps, digest)

    def _steps(self, before_day: date | None) -> tuple[Step, ...]:
        steps: list[Step] = []
        for change in self.changes:
            if before_day is not None and change.to.day >= before_day:
                continue
            champion = steps[-1].after if steps else None
            takes_effect = (
                _promotes(change, champion, steps) if change.kind == "promotion" else _leaves(change, champion)
            )
            steps.append(Step(change, champion, change.to if takes_effect else champion))
        return tuple(steps)

    @staticmethod
    def _line(steps: Sequence[Step]) -> list[Champion]:
        """Give the champion and its predecessors, the oldest first; a rollback forgets those that it leaves."""
        line: list[Champion] = []
        for step in steps:
            if not step.took_effect or step.after is None:
                continue
            versions = [it.version for it in line]
            if step.change.kind == "rollback" and step.after.version in versions:
                line = line[: versions.index(step.after.version) + 1]
            else:
                line.append(step.after)
        return line


def _promotes(change: Change, champion: Champion | None, steps: Sequence[Step]) -> bool:
    if change.forced or champion is None:
        return True
    return change.to.day >= champion.day and _left(steps, change.to.digest) is None


def _leaves(change: Change, champion: Champion | None) -> bool:
    return champion is not None and champion.version == change.leaves


def _left(steps: Sequence[Step], digest: str) -> Change | None:
    left: Change | None = None
    for step in steps:
        if not step.took_effect:
            continue
        if step.after is not None and step.after.digest == digest:
            left = None
        elif step.change.kind == "rollback" and step.before is not None and step.before.digest == digest:
            left = step.change
    return left
