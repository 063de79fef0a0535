"""Where in an object's key the day stands, and the templates for `logs.uri` that name many keys."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple

_MAX_TEMPLATES = 6

_DAY_FORMS = (
    (re.compile(r"(?<![a-zA-Z])(y(?:ear)?=)(\d{4})/(m(?:onth)?=)(\d{1,2})/(d(?:ay)?=)(\d{1,2})(?!\d)"), None),
    (re.compile(r"(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)"), "{day}"),
    (re.compile(r"(?<!\d)(\d{4})/(\d\d)/(\d\d)(?!\d)"), "{day:%Y/%m/%d}"),
    (re.compile(r"(?<!\d)(\d{4})_(\d\d)_(\d\d)(?!\d)"), "{day:%Y_%m_%d}"),
    (re.compile(r"(?<!\d)(\d{4})\.(\d\d)\.(\d\d)(?!\d)"), "{day:%Y.%m.%d}"),
    (re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)(?!\d)"), "{day:%Y%m%d}"),
)
_HOUR_FOLDER = re.compile(r"/((?:hour|hh|hr|h)=|)([01]?\d|2[0-3])(?=/)")
_HOUR_IN_NAME = re.compile(r"([-_T.]|)([01]\d|2[0-3])(?=[-_.]|$)")
_CHANGING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+|[0-9a-f]{12,}")


class Placed(NamedTuple):
    """A key's day, and the key with placeholders, without what follows the folder that holds them."""

    day: date
    template: str


def place(key: str) -> Placed | None:
    """Find the day that stands first in a key or path; None where there is none."""
    found = []
    for pattern, placeholder in _DAY_FORMS:
        for match in pattern.finditer(key):
            year, month, day = (int(it) for it in match.groups() if it.isdigit())
            try:
                found.append((match.start(), date(year, month, day), match, placeholder or _hive(match)))
            except ValueError:
                continue
    if not found:
        return None
    start, day_of, match, placeholder = min(found, key=lambda it: it[0])
    rest = key[match.end() :]
    if hour := _HOUR_FOLDER.match(rest):
        return Placed(day_of, f"{key[:start]}{placeholder}/{hour[1]}{{hour}}")
    if "/" in rest:
        return Placed(day_of, key[:start] + placeholder + rest[: rest.index("/")])
    if hour := _HOUR_IN_NAME.match(rest):
        placeholder, rest = f"{placeholder}{hour[1]}{{hour}}", rest[hour.end() :]
    return Placed(day_of, key[:start] + placeholder + _CHANGING.sub("*", rest))


def _hive(match: re.Match[str]) -> str:
    parts = zip(match.groups()[::2], ("Y", "m", "d"), match.groups()[1::2], strict=True)
    return "/".join(f"{name}{{day:%{'-' if len(digits) == 1 else ''}{letter}}}" for name, letter, digits in parts)


def templates_of(placed: Iterable[Placed]) -> list[str]:
    """Give the templates with most keys; if they are many, what changes from one to the next becomes a star."""
    templates = [it.template for it in placed]
    for padded in ("{day:%m}", "{day:%d}"):  # 12 is written alike with and without a leading zero
        bare = padded.replace("%", "%-")
        if any(bare in it for it in templates):
            templates = [it.replace(padded, bare) for it in templates]
    if len(set(templates)) > _MAX_TEMPLATES:
        parts = (it.partition("{") for it in templates)
        templates = [_CHANGING.sub("*", head) + brace + tail for head, brace, tail in parts]
    return sorted(it for it, _ in Counter(templates).most_common(_MAX_TEMPLATES))


def newest_day(days: Iterable[date], today: date) -> date | None:
    """Give the newest day that is over; today's where there is no other, as its objects may still grow."""
    several = set(days)
    return max((it for it in several if it < today), default=max(several, default=None))


def missing_days(days: set[date]) -> list[date]:
    """Give the days that are missing between the first and the last of some."""
    n_days = (max(days) - min(days)).days if days else 0
    every = (min(days) + timedelta(days=n) for n in range(n_days))
    return [it for it in every if it not in days]
