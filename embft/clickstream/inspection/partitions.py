"""Where in an object's key the day stands, and the templates for `logs.uri` that name many keys."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple

_MAX_TEMPLATES = 6

_DAY = re.compile(r"(?<!\d)(\d{4})([-/_.]?)(\d\d)\2(\d\d)(?!\d)")
_HIVE_DAY = re.compile(r"(?<![a-zA-Z])(y(?:ear)?=)(\d{4})/(m(?:onth)?=)(\d{1,2})/(d(?:ay)?=)(\d{1,2})(?!\d)")
_HOUR_FOLDER = re.compile(r"/((?:hour|hh|hr|h)=|)([01]?\d|2[0-3])(?=/)")
_HOUR_IN_NAME = re.compile(r"([-_T.]|)([01]\d|2[0-3])(?=[-_.]|$)")
_CHANGING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+|[0-9a-f]{12,}")


class Placed(NamedTuple):
    """A key's day, and the key with placeholders, without what follows the folder that holds them."""

    day: date
    template: str


def place(key: str) -> Placed | None:
    """Find the day that stands first in a key or path; None where there is none."""
    matches = [*_HIVE_DAY.finditer(key), *_DAY.finditer(key)]
    for match in sorted(matches, key=lambda it: it.start()):
        try:
            day = date(*(int(it) for it in match.groups() if it.isdigit()))
        except ValueError:
            continue
        return Placed(day, key[: match.start()] + _placeholder(match) + _template_of_rest(key[match.end() :]))
    return None


def _placeholder(match: re.Match[str]) -> str:
    if match.re is _DAY:
        separator = match[2]
        return "{day}" if separator == "-" else f"{{day:%Y{separator}%m{separator}%d}}"
    parts = zip(match.groups()[::2], "Ymd", match.groups()[1::2], strict=True)
    return "/".join(f"{name}{{day:%{'-' if len(digits) == 1 else ''}{letter}}}" for name, letter, digits in parts)


def _template_of_rest(rest: str) -> str:
    """Give what is left of the key behind the day: its hour, and the end of its folder or of a name without one."""
    if hour := _HOUR_FOLDER.match(rest):
        return f"/{hour[1]}{{hour}}"
    if "/" in rest:
        return rest[: rest.index("/")]
    if hour := _HOUR_IN_NAME.match(rest):
        return f"{hour[1]}{{hour}}" + _CHANGING.sub("*", rest[hour.end() :])
    return _CHANGING.sub("*", rest)


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
