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
    leaves: str | None = Field(description="Version that it replaces, as its writer saw it; None: there was none.")
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
        return version_of(self.before) != version_of(self.after)


@dataclass(frozen=True)
class History:
    """All changes of a model's champion.

    - A promotion takes effect unless the champion learned from a newer day or has other weights of the same day, or the
      very weights were rolled back before; `forced` overrides all of that.
    - A rollback takes effect if the weights that it leaves are the champion's; it was asked for because of those. The
      version that it goes to serves again, and those that came after it are forgotten as predecessors. The weights
      that it leaves are unwanted from then on, also where others came to serve meanwhile.

    Args:
        changes: In the order of their keys.
    """

    changes: Sequence[Change]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every change with what it came to, the oldest first."""
        return self._replayed.steps

    @property
    def champion(self) -> Champion | None:
        """Who serves; None before the first promotion."""
        return self._replayed.champion

    @property
    def previous(self) -> Champion | None:
        """Whom a rollback goes back to: the last predecessor with other weights that nobody rolled back."""
        replayed = self._replayed
        champion = replayed.champion
        if champion is None:
            return None
        unwanted = {champion.digest, *replayed.left}
        return next((it for it in reversed(replayed.line[:-1]) if it.digest not in unwanted), None)

    def champion_before(self, day: date) -> Champion | None:
        """Give whom a night is measured against: the champion, had no model learned from that day or a later one.

        So a re-run, or a backfill of an old day, has the opponent that the night itself had.

        Args:
            day: The night's day.

        Returns:
            The champion; None before the first promotion.
        """
        return _Replay([it for it in self.changes if it.to.day < day]).champion

    def serving_on(self, moment: datetime) -> Champion | None:
        """Give who served at a moment: what followed from the entries that there were.

        Args:
            moment: With its zone.

        Returns:
            The champion of then; None where nobody served yet.
        """
        return _Replay([it for it in self.changes if it.at_utc <= moment]).champion

    def step_of(self, request: str, version: str | None = None) -> Step | None:
        """Give what a request (for that version) came to; None where it made no change yet."""
        of_request = (it for it in reversed(self.steps) if it.change.request == request)
        return next((it for it in of_request if version in (None, it.change.to.version)), None)

    def known(self, version: str) -> Champion | None:
        """Give what the history last said about a version; None where it never named it."""
        return next((it.to for it in reversed(self.changes) if it.to.version == version), None)

    def rolled_back(self, digest: str) -> Change | None:
        """Give the latest rollback that left these weights, unless somebody chose them again since.

        Args:
            digest: Of the weights, see `weights_digest`.

        Returns:
            The rollback; None where the weights may be promoted.
        """
        return self._replayed.left.get(digest)

    @cached_property
    def _replayed(self) -> "_Replay":
        return _Replay(self.changes)


class _Replay:
    """The changes one after the other: who serves, who came before, and which weights are unwanted.

    Args:
        changes: In their order.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self.champion: Champion | None = None
        self.line: list[Champion] = []  # the champion and its predecessors, the oldest first
        self.left: dict[str, Change] = {}  # digest of unwanted weights → the rollback that left them
        self._seen: dict[str, Champion] = {}
        self.steps = tuple(self._step(it) for it in changes)

    def _step(self, change: Change) -> Step:
        before = self.champion
        if change.kind == "promotion":
            self._promote(change)
        else:
            self._roll_back(change)
        self._seen[change.to.version] = change.to
        return Step(change, before, self.champion)

    def _promote(self, change: Change) -> None:
        champion, to = self.champion, change.to
        if not change.forced and (to.digest in self.left or not _is_newer(to, champion)):
            return
        if version_of(champion) != to.version:
            self.line.append(to)
        self._let_serve(to)

    def _roll_back(self, change: Change) -> None:
        left, to = self._seen.get(change.leaves or ""), change.to
        if change.leaves is None and self.champion is None:
            self.line.append(to)
            self._let_serve(to)
        if left is None:
            return
        if left.digest != to.digest:
            self.left[left.digest] = change
        if self.champion is None or self.champion.digest != left.digest:
            return
        places = [place for place, it in enumerate(self.line) if it.version == to.version]
        # A version that never served before takes the place of the one that it was chosen over.
        self.line = [*self.line[: places[-1] if places else -1], to]
        self._let_serve(to)

    def _let_serve(self, champion: Champion) -> None:
        self.champion = champion
        self.left.pop(champion.digest, None)


def _is_newer(to: Champion, champion: Champion | None) -> bool:
    """Whether a model learned from a newer day; of one day, the first stays: its night never compared the two."""
    return champion is None or to.day > champion.day or (to.day == champion.day and to.digest == champion.digest)


def version_of(champion: Champion | None) -> str | None:
    """Name a champion's version; None where there is no champion."""
    return None if champion is None else champion.version
