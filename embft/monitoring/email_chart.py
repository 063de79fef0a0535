"""A chart as cells of a table: what every mail program draws, with the limit as a line."""

from itertools import pairwise
from typing import Any, NamedTuple

from embft.monitoring.message import Chart
from embft.monitoring.text import chart_words, day_name, figure, no_formula, plain

_HEIGHT_PX = 72
_USUAL_COLOUR = "#8fa8cc"
_NO_FIGURE_COLOUR = "#9aa0a6"


class Bar(NamedTuple):
    """Part of a day's bar within a band."""

    height_px: int
    colour: str


class Band(NamedTuple):
    """All bars between two figures; the line below it is the limit, or the ground."""

    height_px: int
    bars: list[Bar]
    label: str | None


def drawing(chart: Chart, colour: str) -> dict[str, Any] | None:
    """Prepare a chart for the template.

    Args:
        chart: The figures.
        colour: Of the newest bar.

    Returns:
        Bands from the top, and words; None where there is nothing to draw.
    """
    known = [it for it in chart.figures if it is not None]
    if not known or len(chart.figures) != len(chart.days):
        return None
    marks = [*known, *([] if chart.limit is None else [chart.limit])]
    span = (max(marks) - min(marks)) or abs(max(marks)) or 1.0
    # Small changes are what a chart is for: the ground is below the lowest figure, and the caption says where.
    ground, top = min(marks) - 0.3 * span, max(marks) + 0.05 * span
    edges = [top, ground] if chart.limit is None else [top, chart.limit, ground]
    bands = [_band(chart, colour, (low, high), top - ground) for high, low in pairwise(edges)]
    if chart.limit is not None:
        bands[0] = bands[0]._replace(label=f"limit {figure(chart.limit)}")
    return {
        "label": no_formula(plain(chart.label, 150)),
        "bands": bands,
        "first": day_name(chart.days[0]),
        "last": day_name(chart.days[-1]),
        "words": chart_words(chart),
        "scale": f"bars from {figure(ground)} to {figure(top)}",
        "figures": ", ".join(
            f"{day_name(day)} {figure(it)}" for day, it in zip(chart.days, chart.figures, strict=True)
        ),
    }


def _band(chart: Chart, colour: str, between: tuple[float, float], whole: float) -> Band:
    low, high = between
    height_px = max(1, round((high - low) / whole * _HEIGHT_PX))
    bars = []
    for place, value in enumerate(chart.figures):
        is_newest = place == len(chart.figures) - 1
        if value is None:
            bars.append(Bar(0, _NO_FIGURE_COLOUR))
        else:
            share = min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)
            bars.append(Bar(round(share * height_px), colour if is_newest else _USUAL_COLOUR))
    return Band(height_px, bars, None)
