"""What a log is, guessed from a sample: its format, its fields and its actions.

A field is known by its name and by its values: only what `embft.clickstream.fields` reads without complaint qualifies.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from embft.clickstream.fields import Fields, columns_of
from embft.clickstream.inspection.keys import HARMLESS, Seen, shortened, type_of
from embft.clickstream.inspection.names import action_of, rank_of
from embft.clickstream.privacy import ClientHash, private_parts
from embft.clickstream.quarantine import BadLine
from embft.clickstream.sources import SourceRules
from embft.log_config import FORMAT_FIELDS, Action, LogFields, LogFormat, Logs

_GOOD = 0.9  # of the values must be of the field's kind
_DISTINCT = 0.95  # of the values of a name of one line
_FEW_LINES = 20  # too few to tell a line's name from a search's
_YEAR_US = 31_557_600_000_000
_PLAUSIBLE_US = range(25 * _YEAR_US, 130 * _YEAR_US)  # any number is a time; that of a log lies in 1995 to 2099
_EVENT_FIELDS = (
    *("time", "action", "query", "item", "shown", "position", "search_id", "event_id", "client"),
    *("dwell_s", "user_agent", "ip"),
)
# In the order in which they take their paths.
_FIELDS_OF: dict[LogFormat, tuple[str, ...]] = {
    "sessions": ("time", "query", "clicked", "shown", "session_id", "client", "user_agent", "ip"),
    "events": _EVENT_FIELDS,
    "ubi": _EVENT_FIELDS,
}
_NEEDED: dict[LogFormat, tuple[str, ...]] = {
    "sessions": ("query", "time", "clicked"),
    "events": ("query", "time", "action", "item"),
    "ubi": ("query", "time", "search_id"),
}
_OF_UBI = {"action_name", "query_response_id", "query_response_hit_ids", "query_attributes"}


@dataclass(frozen=True)
class Detected:
    """What a log seems to be.

    Args:
        format: The nearest one.
        fields: Field → path, of those that were found.
        missing: Needed fields that were not found.
        refused: Missing field → what has a name like it, and why it is no such field.
        actions: Action → names of it in the log.
        other_actions: Names that say nothing of a search → lines.
    """

    format: LogFormat
    fields: dict[str, str]
    missing: list[str]
    refused: dict[str, str]
    actions: dict[str, list[str]]
    other_actions: dict[str, int]


def detect(seen: Mapping[str, Seen]) -> Detected:
    """Tell the format, the one that lacks least, and its fields."""
    if {"query_id", "timestamp"} <= seen.keys() and _OF_UBI & {path.split(".")[0] for path in seen}:
        return _Matcher("ubi", seen).detected()
    events, sessions = _Matcher("events", seen).detected(), _Matcher("sessions", seen).detected()
    if len(events.missing) == len(sessions.missing):
        return events if {"action", "item"} <= events.fields.keys() else sessions
    return min(events, sessions, key=lambda it: len(it.missing))


class _Matcher:
    """Finds the fields of one format."""

    def __init__(self, format_: LogFormat, seen: Mapping[str, Seen]) -> None:
        self._format, self._seen = format_, seen
        self._standard = FORMAT_FIELDS[format_]
        fields = LogFields(**{name: self._standard.get(name, name) for name in _FIELDS_OF[format_]})
        logs = Logs(uri="s3://any-bucket/{day}", format=format_, fields=fields)
        # Only whether a value can be read is asked; nothing of what this key hides is kept.
        self._fields = Fields(logs, ClientHash("nobody's"), SourceRules(logs))
        self._columns = {it.name: it for it in columns_of(logs)}

    def detected(self) -> Detected:
        """Match all fields."""
        fields: dict[str, str] = {}
        refused: dict[str, str] = {}
        for name in _FIELDS_OF[self._format]:
            named = [path for path in self._named(name) if path not in fields.values()]
            if fitting := [path for path in named if self._fits(name, path)]:
                fields[name] = fitting[0]
            elif named:
                refused[name] = self._why_not(name, named[0])
        missing = [name for name in _NEEDED[self._format] if name not in fields]
        if self._format == "events" and not {"search_id", "client"} & fields.keys():
            missing.append("search_id")
        refused = {name: why for name, why in refused.items() if name in missing}
        actions = _actions(self._seen[fields["action"]] if "action" in fields else Seen())
        return Detected(self._format, fields, missing, refused, *actions)

    def _named(self, name: str) -> list[str]:
        """Give the paths that are named like a field, the likeliest first."""
        found = []
        for path, seen in self._seen.items():
            rank = -1 if path == self._standard.get(name) else rank_of(path, name)
            if rank is not None:
                found.append((rank, -len(seen.values), path.count("."), path))
        return [it[-1] for it in sorted(found)]

    def _fits(self, name: str, path: str) -> bool:
        seen = self._seen[path]
        values = seen.some()
        n_good = sum(self._fault(name, path, it) is None for it in values)
        return n_good >= _GOOD * len(values) and self._is_likely(name, path, seen)

    def _fault(self, name: str, path: str, value: Any) -> str | None:
        try:
            read = self._fields.read(value, self._columns[name]._replace(path=path))
        except BadLine as bad:
            # What a search is called may be what a visitor is called.
            return bad.detail if name in HARMLESS else f"{path} holds {type_of(value)}"
        if name == "time" and read not in _PLAUSIBLE_US:
            return f"{path} holds no time of a log"
        return None

    def _is_likely(self, name: str, path: str, seen: Seen) -> bool:
        """Ask what one value alone cannot tell."""
        if name == "action":
            return any(action_of(it) for it in set(map(str, seen.values)))
        if name == "clicked":  # a flag is no click
            return not all(it in (0, 1) for it in seen.values)
        if name in ("session_id", "event_id"):
            return seen.distinct() >= _DISTINCT
        if name == "search_id" and path != self._standard[name]:
            return len(seen.values) < _FEW_LINES or seen.distinct() < _DISTINCT
        return True

    def _why_not(self, name: str, path: str) -> str:
        faults = (self._fault(name, path, it) for it in self._seen[path].some())
        return next(filter(None, faults), f"{path} is named like it, but its values are no {name.replace('_', ' ')}")


def _actions(seen: Seen) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Give the names of each action, and those of no action."""
    names: dict[str, list[str]] = defaultdict(list)
    others: Counter[str] = Counter()
    for name, n_lines in Counter(it for it in seen.values if type(it) is str).most_common():
        if action := action_of(name):
            names[action].append(name)
        else:
            others[shortened(private_parts(name))] += n_lines
    return {it: sorted(names[it]) for it in get_args(Action) if it in names}, dict(others)
