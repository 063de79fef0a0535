"""Accounting: each line that was read is in exactly one place, and the sums say so."""

from pydantic import BaseModel, ConfigDict, Field


class _Counted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: int = Field(ge=0, description="Lines read; an object or a rest that cannot be read counts as one.")
    duplicates: int = Field(
        ge=0, description="Repetitions of a line's content, or of an event's id, wherever they were delivered."
    )
    quarantined: int = Field(ge=0)
    quarantined_by_reason: dict[str, int]

    def _check(self, used: int, what: str) -> None:
        placed = used + self.duplicates + self.quarantined
        if self.lines != placed or self.quarantined != sum(self.quarantined_by_reason.values()):
            raise AssertionError(f"a bug in embft: {self.lines} lines read, {placed} accounted for as {what}: {self!r}")


class Accounting(_Counted):
    """Where one day's log lines went."""

    used: int = Field(ge=0, description="Lines that sessions were made of: one each, or all events of a search.")
    sessions: int = Field(ge=0)
    filtered: dict[str, int] = Field(description="Lines left out, by the rule's name.")

    def check(self) -> None:
        """Make sure that lines = used + duplicates + filtered + quarantined.

        Raises:
            AssertionError: They do not: a bug of ours.
        """
        self._check(self.used + sum(self.filtered.values()), "used, duplicates, filtered and quarantined")


class CatalogueAccounting(_Counted):
    """Where a catalogue's lines went."""

    items: int = Field(ge=0)

    def check(self) -> None:
        """Make sure that lines = items + duplicates + quarantined.

        Raises:
            AssertionError: They do not: a bug of ours.
        """
        self._check(self.items, "items, duplicates and quarantined")
