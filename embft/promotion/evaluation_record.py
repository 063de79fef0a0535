"""What an evaluation says, readable without torch: the gate, the report and MLflow's tags need no more than that."""

from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import Field

from embft.results import Record

MOST_CLICKED = "most_clicked"
"""The look-up table of past clicks, which stands among the models though it is none."""

Figures = Mapping[str, float | None]
"""Measure → figure; None where it is not a number, or there is nothing to measure."""


class QuerySet(Record):
    """Queries that models are compared on: a slice of the held-out clicks, or a guard set."""

    kind: Literal["slice", "guard"]
    name: str
    n_queries: int = Field(description="Distinct ones; they are what the bootstrap draws.")
    n_sessions: int = Field(description="Clicked sessions that the means are over; of a guard set its queries.")
    models: dict[str, dict[str, float | None]] = Field(
        description="Model → measure → mean; `most_clicked`, which is no model, has retrieval measures alone."
    )
    notes: tuple[str, ...] = Field((), description="What a person should know, such as items that are not known.")

    @property
    def label(self) -> str:
        """What people read: `all queries`, `tail queries`, `guard staples`."""
        return f"guard {self.name}" if self.kind == "guard" else f"{self.name} queries"


class Comparison(Record):
    """One measure of the candidate against its opponent's on one set of queries."""

    kind: Literal["slice", "guard"]
    of: str = Field(description="Name of the slice or guard.")
    measure: str
    n_queries: int
    figure: float
    opposed: float
    gain: float | None = Field(description="Share by which the candidate is better; below 0 it is worse.")
    low: float | None = Field(description="Lower end of the gain's interval; None where there are too few queries.")
    high: float | None
    p_adjusted: float | None = Field(description="That there is no difference, corrected over all slices (Holm).")
    detectable: float | None = Field(description="Smallest true gain that such a night finds in 8 of 10 cases.")


class Costs(Record):
    """What serving a model costs."""

    model_mb: float = Field(description="Size of its weights in 10⁶ bytes.")
    encode_ms: float = Field(description="Median time to encode one query by itself, where the evaluation ran.")


class Evaluation(Record):
    """`evaluation.json`: every model's measures on one frozen set."""

    model: str
    day: date
    test_from: date
    inputs_sha256: str = Field(description="Digest of the held-out inputs; figures of two digests do not compare.")
    loss_func: str
    n_items: int
    candidate: Literal["challenger", "interpolation"] = Field(
        description="The model that the gate judges; `interpolation` in old records, when `evaluate` mixed weights."
    )
    opponent: Literal["champion", "base"] = Field(description="The one it would replace; `base` before the first.")
    new_share: float | None = Field(
        description="Of trained weights in the candidate, mixed with the base's; None where nothing was mixed."
    )
    sets: tuple[QuerySet, ...] = Field(description="Slices, `all` first, then guard sets.")
    costs: dict[str, Costs]
    confidence: float
    resamples: int
    comparisons: tuple[Comparison, ...]
    against_most_clicked: tuple[Comparison, ...] = Field(
        (), description="The candidate against the look-up table of past clicks; empty in an evaluation without it."
    )

    def of(self, kind: Literal["slice", "guard"], name: str) -> QuerySet:
        """Give one set of queries; KeyError where there is none of the name."""
        return {(it.kind, it.name): it for it in self.sets}[kind, name]

    @property
    def models(self) -> dict[str, dict[str, float | None]]:
        """Model → measure → mean over all held-out sessions."""
        return self.of("slice", "all").models
