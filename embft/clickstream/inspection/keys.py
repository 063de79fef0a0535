"""What lies at each path of a log's lines: types, values, and examples that tell nothing of people."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from embft.clickstream.privacy import private_parts

# Fields whose values say nothing of who searched.
HARMLESS = ("query", "time", "shown", "clicked", "action", "item", "position", "dwell_s")
_MAX_DEPTH = 6
_MAX_PATHS = 300
_LOOKED_AT = 500  # values of a path
_CHARACTERS = 60
_TYPES: dict[type, str] = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "object"}


@dataclass
class Seen:
    """What lies at one path, where it is not null: a value a line, and type → lines."""

    values: list[Any] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)

    def some(self) -> list[Any]:
        """Give some of the values, from all over the sample."""
        return self.values[:: max(1, len(self.values) // _LOOKED_AT)]

    def distinct(self) -> float:
        """Give the number of distinct values over that of all."""
        return len({str(it) for it in self.values}) / max(1, len(self.values))


def paths_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Seen]:
    """Look at lines: dotted path → what lies there, for the leaves.

    Keys with a dot or a control character in them are left out: no config can name them.
    """
    found: dict[str, Seen] = {}
    for row in rows:
        _walk(row, "", 1, found)
    return found


def _walk(row: Mapping[str, Any], prefix: str, depth: int, found: dict[str, Seen]) -> None:
    for key, value in row.items():
        path = prefix + key
        if value is None or not key or "." in key or not key.isprintable():
            continue
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            _walk(value, path + ".", depth + 1, found)
        elif path in found or len(found) < _MAX_PATHS:
            seen = found.setdefault(path, Seen())
            seen.values.append(value)
            seen.types[type_of(value)] += 1


def type_of(value: Any) -> str:
    """Name the type of a value that is not null."""
    if isinstance(value, list):
        return f"list of {type_of(value[0])}" if value else "list"
    return _TYPES.get(type(value), type(value).__name__)


def shortened(text: str) -> str:
    """Cut a text to show."""
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + "…"


def example_of(field_name: str, seen: Seen) -> str | None:
    """Give a value of a field to show, cut and without private parts; None for a field that tells of people."""
    for value in seen.some() if field_name in HARMLESS else ():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if text and text != "[]" and private_parts(text.lower()) == text.lower():
            return shortened(text)
    return None
