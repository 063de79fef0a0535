"""A message as plain text, and what every channel has in common: no hidden characters, no endless texts, web links.

What people typed into a search box may stand in any text of a message. `plain` takes the tricks out that work
everywhere; each channel adds its own escaping.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import date
from urllib.parse import urlsplit

from embft.monitoring.message import Chart, Message

TEXT_CHARS = 2_000
TITLE_CHARS = 300
_URL_CHARS = 2_000
# Cells of a copied table, and rows of a file that is made of JSON, are formulas where they begin so.
_FORMULA = re.compile(r"^\s*(=|[+\-@](?!\s*\d))")
# Of a name that stands alone: `nDCG@10` and an address of e-mail are none.
_MENTION = re.compile(r"(?<!\w)@(?=\w)")
_BARS = "▁▂▃▄▅▆▇█"
_FEW_DAYS = 16  # up to so many, bars stand apart, and the whole still fits a phone
_STATES = {"opened": "new", "changed": "changed", "happened": ""}


def plain(text: str, limit: int = TEXT_CHARS) -> str:
    """Give a text on one line in which every character can be seen, cut to a length.

    Args:
        text: Any.
        limit: Characters at most; `…` ends what was cut.

    Returns:
        Blanks for line ends, ␀ for a NUL, [U+202E] for a character that turns the writing direction.
    """
    # 100 KB are not looked at: one character becomes eight at most.
    shown = "".join(map(_visible, text[: limit + 1]))
    return cut(shown.strip(), limit)


def cut(text: str, limit: int) -> str:
    """Cut a text to a length; `…` ends what was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def no_formula(text: str) -> str:
    """Keep a text from being a formula where a spreadsheet takes it over: an apostrophe before `=`, `+`, `-` or `@`."""
    return f"'{text}" if _FORMULA.match(text) else text


def no_mention(text: str) -> str:
    """Keep a text from calling anybody in a chat: `@here`, written with a sign that looks alike."""
    return _MENTION.sub("＠", text)


def title_of(message: Message, limit: int = TITLE_CHARS) -> str:
    """Give the first line; simulated clicks are named as such."""
    made_up = "[simulated clicks] " if message.synthetic else ""
    return plain(f"{made_up}{message.words.title}", limit)


def standing(message: Message) -> str:
    """Say in a few words how bad it is and since when: `critical · new · shop · 2026-03-10`."""
    days = message.day.isoformat()
    if message.state in ("changed", "recovered") and message.since != message.day:
        days = f"{days}, since {message.since}"
    is_over = message.state == "recovered"
    first = ("recovered", f"was {message.severity}") if is_over else (message.severity, _STATES[message.state])
    kind = "test" if message.kind == "test" else ""
    return " · ".join(filter(None, (*first, kind, plain(message.model, 100), days)))


def links_of(message: Message) -> list[tuple[str, str]]:
    """Give names and addresses of the message's links; only those that a browser opens as a web page."""
    links = ((plain(name, 60), address.strip()) for name, address in message.words.links.items())
    return [(name or "link", address) for name, address in links if _is_web(address)]


def figure(value: float | None) -> str:
    """Write a figure for people: three significant digits or more, `–` for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.3f}"


def day_name(day: date) -> str:
    """Write a day of a chart: `10 Mar`."""
    return f"{day.day} {day:%b}"


def sparkline(chart: Chart) -> str:
    """Draw figures as bars of text, `·` where there is none; the lowest is one eighth high."""
    known = [it for it in chart.figures if it is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = (high - low) or 1.0
    last = len(_BARS) - 1
    bars = ["·" if it is None else _BARS[round((it - low) / span * last)] for it in chart.figures]
    return (" " if len(bars) <= _FEW_DAYS else "").join(bars)


def chart_lines(chart: Chart) -> list[str]:
    """Draw a chart for letters of one width: bars, the first and the last day below them, and the figures in words."""
    if not chart.days or len(chart.days) != len(chart.figures):
        return []
    bars = sparkline(chart)
    first, last = day_name(chart.days[0]), day_name(chart.days[-1])
    between = max(len(bars) - len(first) - len(last), 3)
    days = first if len(chart.days) == 1 else f"{first}{' ' * between}{last}"
    return [bars, days, chart_words(chart)]


def chart_words(chart: Chart) -> str:
    """Say the figures that matter: the newest, its limit, and between what they lay before."""
    known = [it for it in chart.figures[:-1] if it is not None]
    said = [f"newest {figure(chart.figures[-1] if chart.figures else None)}"]
    if chart.limit is not None:
        said.append(f"limit {figure(chart.limit)}")
    if known:
        said.append(f"before {figure(min(known))} to {figure(max(known))}")
    return ", ".join(said)


def text_of(message: Message) -> str:
    """Write the whole message as plain text: what mail programs without HTML show, and `text` of a webhook.

    Args:
        message: The message.

    Returns:
        Lines; none of them begins as a formula does.
    """
    words = message.words
    blocks = [[title_of(message), standing(message)], [plain(it) for it in words.details]]
    if words.causes:
        causes = (f"{plain(it.what, 200)}: {plain(it.evidence)}" for it in words.causes)
        blocks.append(["Likely causes:", *(f"* {it}" for it in causes)])
    if words.chart is not None:
        blocks.append([plain(words.chart.label, 150), *chart_lines(words.chart), *_figures(words.chart)])
    blocks.append([f"{name}: {address}" for name, address in links_of(message)])
    if words.command:
        blocks.append(["To run:", f"    {plain(words.command)}"])
    return "\n\n".join("\n".join(map(no_formula, lines)) for lines in blocks if lines)


def _figures(chart: Chart) -> Iterable[str]:
    return (f"    {day}  {figure(value)}" for day, value in zip(chart.days, chart.figures, strict=False))


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\r\t\v\f\x85\u2028\u2029":
        return " "
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    # Joiners are part of emoji and of several scripts; tags are part of some flags.
    is_hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co") and character not in "\u200c\u200d"
    return f"[U+{code:04X}]" if is_hidden and not 0xE0020 <= code <= 0xE007F else character


def _is_web(address: str) -> bool:
    if len(address) > _URL_CHARS or re.search(r"[\s\x00-\x1f\x7f<>\"'`|\\^{}]", address) or plain(address) != address:
        return False
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
