"""Sessions a day and an hour as inline SVG: no script, no network, readable in print. The page's style sheet colours.

What is usual is a line, so that a part of a day that is missing is seen before any figure is read.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta

from markupsafe import Markup

from embft.validation.wording import figure

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 360, 150, 18, 18


def days_svg(n_sessions: Mapping[str, int], usual: Mapping[str, float], bad: Collection[str]) -> Markup:
    """Draw the good sessions of each log day.

    Args:
        n_sessions: Day (ISO) → sessions; at least one day. A day without a log is a gap.
        usual: Day → sessions that are usual.
        bad: Days to mark.

    Returns:
        SVG.
    """
    first, last = date.fromisoformat(min(n_sessions)), date.fromisoformat(max(n_sessions))
    days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    bars = [n_sessions.get(day) for day in days]
    lines = [usual.get(day) for day in days]
    spoken = [f"{day}: {figure(n_sessions[day])}" for day in days if day in bad and day in n_sessions]
    if lines[-1] is not None:
        spoken.append(f"usual for {days[-1]}: {figure(lines[-1])}")
    return _svg(
        f"Good sessions of {days[0]} to {days[-1]}",
        spoken,
        bars,
        lines,
        marked=[day in bad for day in days],
        ends=(days[0], days[-1]),
        now=f"{figure(bars[-1] or 0)}{f', usually {figure(lines[-1])}' if lines[-1] is not None else ''}",
    )


def hours_svg(day: str, hours: Sequence[int], usual: Sequence[float]) -> Markup:
    """Draw the good sessions of each hour of a day.

    Args:
        day: The day (ISO).
        hours: Sessions in each of its 24 hours.
        usual: What other days have in each hour.

    Returns:
        SVG.
    """
    busy = [hour for hour, count in enumerate(hours) if count]
    spoken = [f"the first in hour {busy[0]}, the last in hour {busy[-1]}"] if busy else ["none"]
    title, ends = f"Good sessions of {day} by hour", ("0 h", "24 h")
    return _svg(title, spoken, hours, usual, marked=[False] * len(hours), ends=ends, key="other days")


def _svg(
    title: str,
    spoken: Sequence[str],
    bars: Sequence[int | None],
    lines: Sequence[float | None],
    *,
    marked: Sequence[bool],
    ends: tuple[str, str],
    key: str = "usual",
    now: str = "",
) -> Markup:
    top = max([1, *(it for it in (*bars, *lines) if it is not None)])
    step, floor = _WIDTH / len(bars), _HEIGHT - _BOTTOM

    def y(count: float) -> float:
        return floor - (floor - _TOP) * count / top

    parts = [f'<path class="axis" d="M0 {floor}H{_WIDTH}"/>']
    for at, (count, is_marked) in enumerate(zip(bars, marked, strict=True)):
        left, width = (at + 0.12) * step, 0.76 * step
        # A day with few sessions keeps a sliver, and a day that is marked a tinted column, however low it is.
        height = max(floor - y(count), 1.5 if count else 0) if count is not None else 0
        if is_marked:
            parts.append(
                f'<rect class="mark" x="{at * step:.1f}" y="{_TOP}" width="{step:.1f}" height="{floor - _TOP}"/>'
            )
        parts.append(
            f'<rect class="{"bar bad" if is_marked else "bar"}" x="{left:.1f}" y="{floor - height:.1f}"'
            f' width="{width:.1f}" height="{height:.1f}"/>'
        )
    known = [(at, count) for at, count in enumerate(lines) if count is not None]
    parts += [f'<path class="usual" d="M{at * step:.1f} {y(count):.1f}h{step:.1f}"/>' for at, count in known]
    parts += [
        f'<text x="0" y="12">{figure(top)}</text>',
        f'<text class="now" x="{_WIDTH}" y="12" text-anchor="end">{now}</text>',
        f'<text x="0" y="{_HEIGHT - 4}">{ends[0]}</text>',
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{ends[1]}</text>',
    ]
    label = "; ".join([title, *spoken])
    legend = f' <span class="key"></span> {key}' if known else ""
    return Markup(
        f'<figure><figcaption>{title}{legend}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{label}">{"".join(parts)}</svg></figure>'
    )
