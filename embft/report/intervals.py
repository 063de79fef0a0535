"""Figures with their intervals as inline SVG. Places are shares of the width, so that nothing is stretched or cut."""

from math import floor, log10
from statistics import median
from typing import NamedTuple

from markupsafe import Markup

_HEIGHT, _MIDDLE = 28, 14


class Interval(NamedTuple):
    """A figure and how sure it is; an end is None where the interval has none."""

    figure: float
    low: float | None = None
    high: float | None = None

    @property
    def is_sure(self) -> bool:
        """Whether there were enough queries for an interval."""
        return self.low is not None or self.high is not None

    @property
    def known(self) -> list[float]:
        """The figures that there are."""
        return [it for it in self if it is not None]


def rule_svg(found: Interval, limit: float, *, is_ceiling: bool, passed: bool) -> Markup:
    """Draw what a rule found, with its interval as a whisker; the side of the limit that passes is tinted.

    Args:
        found: What was found.
        limit: What is allowed.
        is_ceiling: The figure must not be above the limit; else not below it.
        passed: Colours the figure.

    Returns:
        SVG for the eye alone: the figures stand beside it.
    """
    first, last = min(*found.known, limit), max(*found.known, limit)
    pad = 0.12 * ((last - first) or 1.0)
    axis = first - pad, last + pad
    at = _place(limit, axis)
    left, width = (0.0, at) if is_ceiling else (at, 100 - at)
    return _svg(
        f'<rect class="band" x="{left:.2f}%" width="{width:.2f}%" height="{_HEIGHT}"/>'
        f'<line class="limit" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="{_HEIGHT}"/>'
        f"{_whisker(found, axis, 'good' if passed else 'bad', is_filled=True)}"
    )


def gain_svg(gain: Interval, reach: float, tone: str, *, is_shown: bool) -> Markup:
    """Draw a gain with its interval around 0, on an axis from -`reach` to `reach`.

    Args:
        gain: Left of the line worse, right of it better; what lies beyond the axis ends in an arrow.
        reach: Of the axis, above 0.
        tone: Class of its colour.
        is_shown: That there is a difference; the figure is a filled point, else a hollow one.

    Returns:
        SVG for the eye alone.
    """
    # The line is longer than its row is high: those of all rows read as one.
    zero = f'<line class="zero" x1="50%" x2="50%" y1="-8" y2="{_HEIGHT + 8}"/>'
    return _svg(f"{zero}{_whisker(gain, (-reach, reach), tone, is_filled=is_shown)}")


def axis_svg(reach: float) -> Markup:
    """Write an axis from -`reach` to `reach` for `gain_svg`."""
    places = [("0", "start", -reach), ("50", "middle", 0.0), ("100", "end", reach)]
    return _svg(
        "".join(
            f'<text x="{x}%" y="{_MIDDLE + 4}" text-anchor="{anchor}">{f"{it:+,.6g}%" if it else "0"}</text>'
            for x, anchor, it in ((x, anchor, 100 * it) for x, anchor, it in places)
        )
    )


def reach_of(gains: list[Interval]) -> float:
    """Choose how far an axis goes from 0: over all gains, but three times the usual one at most.

    One set of few queries would else press every other one into a point.

    Args:
        gains: To be drawn on it.

    Returns:
        A round share above 0.
    """
    ends = [max(map(abs, it.known)) for it in gains]
    farthest = min(max(ends, default=0.0), 3 * median(ends or [0.0])) or max(ends, default=0.0) or 0.01
    unit: float = 10.0 ** floor(log10(farthest))
    return next(factor * unit for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if factor * unit >= farthest * 0.9999)


def _whisker(found: Interval, axis: tuple[float, float], tone: str, *, is_filled: bool) -> str:
    parts = []
    if found.is_sure:
        # An interval without an end runs out of the picture.
        low = axis[0] - 1 if found.low is None else found.low
        high = axis[1] + 1 if found.high is None else found.high
        x1, x2 = _place(low, axis), _place(high, axis)
        parts += [f'<line class="whisker" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{_MIDDLE}" y2="{_MIDDLE}"/>']
        parts += [_end(x1, low < axis[0], 1), _end(x2, high > axis[1], -1)]
    figure = _place(found.figure, axis)
    if axis[0] <= found.figure <= axis[1]:
        shape = "point" if is_filled else "point hollow"
        parts += [f'<circle class="{shape}" cx="{figure:.2f}%" cy="{_MIDDLE}" r="4.5"/>']
    elif not found.is_sure:
        parts += [_end(figure, True, 1 if found.figure < axis[0] else -1)]
    return f'<g class="{tone}">{"".join(parts)}</g>'


def _end(x: float, is_beyond: bool, inward: int) -> str:
    """An end of a whisker: a cap, or an arrow where it goes on beyond the axis."""
    form = f"M{7 * inward} -5L{inward} 0L{7 * inward} 5" if is_beyond else "M0 -5V5"
    return f'<svg class="end" x="{x:.2f}%" y="{_MIDDLE}"><path class="whisker" d="{form}"/></svg>'


def _place(value: float, axis: tuple[float, float]) -> float:
    first, last = axis
    return min(100.0, max(0.0, 100 * (value - first) / (last - first)))


def _svg(content: str) -> Markup:
    return Markup(f'<svg class="interval" height="{_HEIGHT}" aria-hidden="true">{content}</svg>')
