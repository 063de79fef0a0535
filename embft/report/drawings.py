"""Drawings as inline SVG: no script, no network, readable in print. Colours come from the page's style sheet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

Points = Sequence[tuple[int, float]]

_DIGIT = 8  # width of a digit
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 400, 230, 40, 10, 26, 40


def curve_svg(validation: Points, training: Points = ()) -> Markup:
    """Draw the loss against optimiser steps, and mark the lowest validation loss.

    Args:
        validation: Step and loss, in order of steps; all finite.
        training: The same for the training loss; may be empty.

    Returns:
        SVG; empty for fewer than two validation points.
    """
    if len(validation) < 2:
        return Markup("")
    plot = _Plot.over([*validation, *training])
    best_step, best = min(validation, key=lambda point: point[1])
    parts = [plot.line("training", training), plot.line("validation", validation), plot.dots(validation)]
    title = f"Validation loss {validation[0][1]:.4f} before training, lowest {best:.4f} at step {best_step}"
    return plot.svg(title, f"lowest {best:.4f} at step {best_step}", (best_step, best), parts)


def trials_svg(curves: Sequence[Points], best: Points) -> Markup:
    """Draw the validation loss of every trial of a search, and that of the best one bold.

    A trial whose loss ran away would press the others into a line: the picture ends at the highest loss that any
    trial began with or the best one had, and what lies above runs along its edge.

    Args:
        curves: Step and loss of each other trial, in order of steps; all finite.
        best: Of the best one; at least two points.

    Returns:
        SVG.
    """
    began = [curve[0][1] for curve in curves if curve]
    low = [min(loss for _, loss in curve) for curve in curves if curve]
    shown = [*best, *((step, 0.0) for curve in curves for step, _ in curve)]
    losses = [*(loss for _, loss in best), *began, *low]
    plot = _Plot.of(max(step for step, _ in shown), min(losses), max(losses))
    best_step, lowest = min(best, key=lambda point: point[1])
    parts = [*(plot.line("trial", it) for it in curves), plot.line("validation", best), plot.dots(best)]
    title = f"Validation loss of {len(curves) + 1} trials; the best one has {lowest:.4f} at step {best_step}"
    return plot.svg(title, f"best trial {lowest:.4f} at step {best_step}", (best_step, lowest), parts)


@dataclass(frozen=True)
class _Plot:
    """Losses against optimiser steps.

    Args:
        last: The last step, > 0.
        ticks: Of the loss.
    """

    last: int
    ticks: list[float]

    @classmethod
    def over(cls, points: Points) -> "_Plot":
        losses = [loss for _, loss in points]
        return cls.of(max(step for step, _ in points), min(losses), max(losses))

    @classmethod
    def of(cls, last: int, low: float, high: float) -> "_Plot":
        return cls(last or 1, _ticks(low, high))

    def x(self, step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.last

    def y(self, loss: float) -> float:
        share = min(1.0, (loss - self.ticks[0]) / (self.ticks[-1] - self.ticks[0]))
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    def line(self, name: str, points: Points) -> str:
        places = " ".join(f"{self.x(step):.1f},{self.y(loss):.1f}" for step, loss in points)
        return f'<polyline class="{name}" points="{places}"/>'

    def dots(self, points: Points) -> str:
        return "".join(
            f'<circle class="dot" cx="{self.x(step):.1f}" cy="{self.y(loss):.1f}" r="2.5"/>' for step, loss in points
        )

    def svg(self, title: str, told: str, best: tuple[int, float], parts: Sequence[str]) -> Markup:
        """Put the axes below the parts, and a mark at the best point above them."""
        head = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        mark = f'<circle class="best" cx="{self.x(best[0]):.1f}" cy="{self.y(best[1]):.1f}" r="5"/></svg>'
        return Markup(
            "".join([head, f'<text class="good" x="{_LEFT}" y="14">{told}</text>', *self._axes(best[0]), *parts, mark])
        )

    def _axes(self, best_step: int) -> Iterator[str]:
        for tick in self.ticks:
            yield f'<path class="grid" d="M{_LEFT} {self.y(tick):.1f}H{_WIDTH - _RIGHT}"/>'
            yield f'<text x="{_LEFT - 6}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for step in sorted({0, best_step, self.last}):
            # The best step's figure is left out where it would run into an end's.
            if step in (0, self.last) or 24 < self.x(best_step) - _LEFT < self.x(self.last) - _LEFT - 24:
                within = min(self.x(step), _WIDTH - _DIGIT / 2 * len(str(step)))
                yield f'<text x="{within:.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{step}</text>'
        yield f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle">optimiser step</text>'


def share_svg(part: float, whole: float) -> Markup:
    """Draw a part of a whole as a bar.

    Args:
        part: 0 … `whole`.
        whole: What the full width stands for.

    Returns:
        SVG for the eye alone.
    """
    width = 100 * part / whole if whole else 0.0
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="share" y="2" width="{max(width, 0.6 if part else 0):.1f}" height="6"/></svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round figures from at or below `low` to at or above `high`, about four of them; at least two."""
    spread = (high - low) or abs(high) or 1.0
    rough = spread / 3
    unit = 10.0 ** floor(log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first, last = floor(low / step), ceil(high / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]
