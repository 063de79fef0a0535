"""A learning curve as inline SVG: no script, no network, readable in print."""

from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH, _HEIGHT, _MARGIN = 640, 180, 44


def curve_svg(points: Sequence[tuple[int, float]]) -> Markup:
    """Draw validation loss against optimiser steps.

    Args:
        points: Step and loss, in order of steps.

    Returns:
        SVG markup; empty for fewer than two points.
    """
    if len(points) < 2:
        return Markup("")
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    low, high = min(losses), max(losses)
    spread = (high - low) or 1.0
    xs = [_MARGIN + (_WIDTH - 2 * _MARGIN) * step / (steps[-1] or 1) for step in steps]
    ys = [_HEIGHT - _MARGIN / 2 - (_HEIGHT - _MARGIN) * (loss - low) / spread for loss in losses]
    best = losses.index(low)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    title = escape(f"Validation loss from {losses[0]:.4f} before training to {low:.4f} at step {steps[best]}")
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f'<polyline class="curve" points="{line}"/>'
        + "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in zip(xs, ys, strict=True))
        + f'<circle class="best" cx="{xs[best]:.1f}" cy="{ys[best]:.1f}" r="5"/>'
        f'<text x="{xs[0] + 6:.1f}" y="{ys[0] + 4:.1f}">{losses[0]:.4f}</text>'
        f'<text x="{xs[best]:.1f}" y="{ys[best] - 9:.1f}" text-anchor="end">best {low:.4f}</text>'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 2}" text-anchor="middle">optimiser steps (0 to {steps[-1]})</text></svg>'
    )
