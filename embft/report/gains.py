"""The candidate's gains on every set of queries, as the rows of a forest plot."""

from dataclasses import dataclass

from markupsafe import Markup

from embft.promotion.evaluation_record import Comparison, Evaluation, QuerySet
from embft.promotion_config import MAIN_CUTOFF
from embft.report.intervals import Interval, axis_svg, gain_svg, reach_of
from embft.report.model_table import is_better, is_shown
from embft.report.wording import interval, percent

# What the plot shows of each set.
MEASURES = (f"ndcg_at_{MAIN_CUTOFF}", "val_loss")


@dataclass(frozen=True)
class Gain:
    """The candidate's gain by one measure on one set of queries.

    Args:
        figure: Share; both figures where the opponent's is 0; a word where there is nothing to compare.
        interval: Of the share; empty where it has none.
        drawing: Of both; empty where there is no share.
        verdict: What is shown.
        tone: Class of its colour.
    """

    figure: str
    interval: str = ""
    drawing: Markup | str = ""
    verdict: str = ""
    tone: str = "soft"


@dataclass(frozen=True)
class SetRow:
    """A set of queries: its name, how many they are, a gain for each of `MEASURES`, and what to know of it."""

    label: str
    is_guard: bool
    counts: str
    gains: list[Gain]
    notes: tuple[str, ...]


def set_rows(evaluation: Evaluation) -> tuple[list[Markup], list[SetRow]]:
    """Lay out the plot.

    Args:
        evaluation: Of the night.

    Returns:
        The axis of each of `MEASURES`, and a row for each set of queries.
    """
    compared = {(it.kind, it.of, it.measure): it for it in evaluation.comparisons}
    reaches = {
        measure: reach_of([_interval(it) for it in compared.values() if it.measure == measure and it.gain is not None])
        for measure in MEASURES
    }
    rows = [
        SetRow(
            label=it.label,
            is_guard=it.kind == "guard",
            counts=_counts(it),
            gains=[
                _gain(it, measure, compared.get((it.kind, it.name, measure)), reaches[measure], evaluation.confidence)
                for measure in MEASURES
            ],
            notes=it.notes,
        )
        for it in evaluation.sets
    ]
    return [axis_svg(it) for it in reaches.values()], rows


def _counts(queries: QuerySet) -> str:
    n, sessions = queries.n_queries, queries.n_sessions
    told = f"{n:,} {'query' if n == 1 else 'queries'}"
    return told if queries.kind == "guard" else f"{told}, {sessions:,} {'session' if sessions == 1 else 'sessions'}"


def _gain(queries: QuerySet, measure: str, comparison: Comparison | None, reach: float, confidence: float) -> Gain:
    if comparison is None:
        if not queries.n_queries:
            return Gain("no query")
        return Gain("no figure" if any(measure in it for it in queries.models.values()) else "not measured")
    verdict, tone = _verdict(comparison, confidence)
    if comparison.gain is None:
        return Gain(f"{comparison.figure:.4f}, was {comparison.opposed:.4f}", verdict=verdict, tone=tone)
    found = _interval(comparison)
    ends = [None if it is None else percent(it) for it in (comparison.low, comparison.high)]
    return Gain(
        percent(comparison.gain),
        interval(*ends),
        gain_svg(found, reach, tone, is_shown=is_shown(comparison, confidence)),
        verdict,
        tone,
    )


def _verdict(comparison: Comparison, confidence: float) -> tuple[str, str]:
    if comparison.p_adjusted is None:
        return "too few queries", "soft"
    if not is_shown(comparison, confidence):
        return "no difference shown", "plain"
    return ("better", "good") if is_better(comparison) else ("worse", "bad")


def _interval(comparison: Comparison) -> Interval:
    assert comparison.gain is not None  # those without a share have no place on the axis
    return Interval(comparison.gain, comparison.low, comparison.high)
