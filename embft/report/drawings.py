"""Drawings as inline SVG: no script, no network, readable in print. Colours come from the page's style sheet."""

from collections.abc import Sequence
from math import ceil, floor, log10

from markupsafe import Markup

Points = Sequence[tuple[int, float]]

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
    points = (*validation, *training)
    last = max(step for step, _ in points) or 1
    ticks = _ticks(min(loss for _, loss in points), max(loss for _, loss in points))
    best_step, best = min(validation, key=lambda point: point[1])

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y(loss: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (loss - ticks[0]) / (ticks[-1] - ticks[0])

    def line(name: str, points: Points) -> str:
        places = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
        return f'<polyline class="{name}" points="{places}"/>'

    title = f"Validation loss {validation[0][1]:.4f} before training, lowest {best:.4f} at step {best_step}"
    parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">']
    parts += [f'<text class="good" x="{_LEFT}" y="14">lowest {best:.4f} at step {best_step}</text>']
    for tick in ticks:
        parts += [f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}"/>']
        parts += [f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>']
    for step in sorted({0, best_step, last}):
        # The best step's figure is left out where it would run into an end's.
        if step in (0, last) or 24 < x(best_step) - _LEFT < x(last) - _LEFT - 24:
            parts += [f'<text x="{x(step):.1f}" y="{_HEIGHT - 22}" text-anchor="middle">{step}</text>']
    parts += [f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle">optimiser step</text>']
    parts += [line("training", training), line("validation", validation)]
    parts += [f'<circle class="dot" cx="{x(step):.1f}" cy="{y(loss):.1f}" r="2.5"/>' for step, loss in validation]
    parts += [f'<circle class="best" cx="{x(best_step):.1f}" cy="{y(best):.1f}" r="5"/></svg>']
    return Markup("".join(parts))


def share_svg(part: int, whole: int) -> Markup:
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
