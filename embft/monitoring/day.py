"""What the champion showed on one day's clicks: an entry of the history that regression rules read. Free of torch."""

from datetime import date
from typing import Literal

from pydantic import Field

from embft.promotion.evaluation_record import Figures, QuerySet
from embft.results import Record

CHAMPION, BASE = "champion", "base"


class Traffic(Record):
    """What the day's log and the catalogue looked like: what a fall is explained with."""

    lines: int = Field(description="Lines of the day's log.")
    quarantined: int = Field(description="Those that could not be read.")
    sessions: int = Field(description="Searches.")
    clicked_sessions: int = Field(description="Those with a click; they are what is measured.")
    lost_sessions: int = Field(
        description="Of the clicked ones: no clicked item is in what is ranked. Each counts as a miss."
    )
    unseen_share: float | None = Field(
        description="Share of the clicked ones whose query had no click on the window's days before it; None where "
        "there was no click at all."
    )
    items: int = Field(description="Of the catalogue.")
    items_added: int | None = Field(description="Since the day monitored before; None where there is none.")
    items_removed: int | None
    warnings: tuple[str, ...] = Field(
        (), description="Of the night's validation, where there was one, and of the measuring."
    )


class Shown(Record):
    """A model's figures on one set of queries."""

    n_queries: int
    figures: dict[str, float | None] = Field(description="Measure → mean.")
    errors: dict[str, float | None] = Field(
        description="Measure → standard error of that mean over queries; None where there are too few."
    )


class QueryFigure(Record):
    """How a query that may be shown was served on a day."""

    query: str
    n_sessions: int = Field(description="Clicked ones; the means are over them.")
    ndcg: float = Field(description="The champion's nDCG@10.")
    base_ndcg: float | None = Field(description="The base model's; None where it has none.")


class Pair(Record):
    """The same clicks, ranked twice."""

    n_queries: int
    before: dict[str, float | None] = Field(description="Measure → the champion's mean on their own day.")
    now: dict[str, float | None] = Field(description="Measure → the mean with what is ranked now.")
    errors: dict[str, float | None] = Field(
        description="Measure → standard error over queries of the mean difference; 0 where no rank has moved."
    )


class SameClicks(Record):
    """The clicks of the day monitored before, ranked again: what moves them is no traffic."""

    day: date = Field(description="Whose clicks they are.")
    slices: dict[str, Pair] = Field(description="Slice of that day → its figures then and now.")


class MonitoredDay(Record):
    """One day of the monitoring history."""

    model: str
    day: date
    status: Literal["measured", "no_champion", "no_clicks"]
    reason: str | None = Field(None, description="Why it was not measured, in a sentence.")
    champion: str | None = Field(description="The version that was measured: no model had learned from the day yet.")
    champion_day: date | None = Field(description="The night it comes from.")
    vectors: Literal["published", "encoded"] | None = Field(
        description="What was ranked: the vectors that serve, or, where those are of another version, its own."
    )
    sets: tuple[QuerySet, ...] = Field((), description="Slices, `all` first; models `champion` and `base`.")
    errors: dict[str, dict[str, float | None]] = Field(
        default_factory=dict, description="Slice → measure → standard error of the champion's mean over queries."
    )
    promised: dict[str, Shown] = Field(
        default_factory=dict, description="Slice → what the champion showed on the night that it was promoted."
    )
    examples: tuple[QueryFigure, ...] = Field(
        (),
        description="Queries that lost most, sessions × (1 - nDCG@10); those alone that `logs.privacy.min_clients` "
        "clients searched for.",
    )
    same_clicks: SameClicks | None = Field(
        None,
        description="What this day's champion, vectors and catalogue make of the day before's clicks.",
    )
    traffic: Traffic
    mlflow_run_id: str | None = Field(None, description="Run that has the figures, too; None until it has them.")
    mlflow_url: str | None = None

    def shown(self, slice_name: str) -> Shown | None:
        """Give the champion's figures on a slice; None where it was not measured."""
        found = next((it for it in self.sets if it.name == slice_name), None)
        if found is None or CHAMPION not in found.models:
            return None
        figures: Figures = found.models[CHAMPION]
        return Shown(n_queries=found.n_queries, figures=dict(figures), errors=self.errors.get(slice_name, {}))

    def base(self, slice_name: str) -> Figures:
        """Give the base model's figures on a slice; empty where it was not measured."""
        found = next((it for it in self.sets if it.name == slice_name), None)
        return {} if found is None else found.models.get(BASE, {})
