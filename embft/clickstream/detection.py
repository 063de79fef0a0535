"""What a log is, guessed from a sample: its format, its fields, its actions, and where in a key the day stands.

A field is known by its name and by its values: only what `embft.clickstream.fields` reads without complaint qualifies.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from ipaddress import ip_address
from typing import Any, NamedTuple, get_args

from embft.clickstream.fields import Column, Fields, columns_of
from embft.clickstream.privacy import ClientHash, private_parts
from embft.clickstream.quarantine import BadLine
from embft.clickstream.sources import SourceRules
from embft.log_config import FORMAT_FIELDS, Action, LogFields, LogFormat, Logs

ANY_URI = "s3://your-bucket/dt={day}"
OLD_HIT_IDS = "query_response_object_ids"  # the reader takes it where query_response_hit_ids is missing

_MAX_DEPTH = 6
_MAX_PATHS = 300
_LOOKED_AT = 500  # values of a path
_GOOD = 0.9  # of them must be of the field's kind
_DISTINCT = 0.95  # of the values of a name of one line
_YEAR_US = 31_557_600_000_000
_PLAUSIBLE_US = range(25 * _YEAR_US, 130 * _YEAR_US)  # any number is a time; that of a log lies in 1995 to 2099
_HARMLESS = ("query", "time", "shown", "clicked", "action", "item", "position", "dwell_s")
_SHOWN_CHARACTERS = 60
_MAX_TEMPLATES = 6

# Usual names, the likelier first; compared without case and punctuation. A last part of a path counts as a name, and so
# do its last two together: product.id is a productId.
_ALIASES: dict[str, str] = {
    "time": "time timestamp ts event_time event_timestamp datetime created_at occurred_at timestamp_ms time_ms "
    "time_utc",
    "action": "action action_name event_name event_type event type activity kind",
    "query": "query user_query q search_term search_query query_text query_string keywords keyword search_text "
    "search_phrase search_terms term phrase",
    "shown": "shown shown_ids results result_ids impressions impression_ids shown_items displayed displayed_ids "
    "hits hit_ids query_response_hit_ids query_response_object_ids doc_ids item_ids product_ids skus ranking",
    "clicked": "clicked clicked_ids clicks clicked_items clicked_item clicked_id clicked_results clicked_item_id "
    "clicked_product_id clicked_products clicked_docs clicked_skus click_ids selected selected_ids click",
    "item": "item item_id product_id sku doc_id document_id object_id article_id asin ean upc product_sku result_id "
    "content_id listing_id product object",
    "position": "position rank ordinal pos result_position result_rank item_rank slot index",
    "search_id": "search_id query_id request_id search_request_id search_uuid query_uuid qid impression_id",
    "session_id": "session_id search_id query_id request_id search_request_id search_uuid query_uuid qid",
    "event_id": "event_id event_uuid message_id insert_id uuid id",
    "client": "client client_id user_id visitor_id customer_id shopper_id anonymous_id user_pseudo_id device_id "
    "cookie_id user visitor customer session session_id visit_id sid",
    "user_agent": "user_agent ua http_user_agent browser_user_agent browser",
    "ip": "ip ip_address client_ip remote_addr remote_ip ip_addr",
    "dwell_s": "dwell_s dwell_seconds dwell_time_s dwell_time dwell",
}
_ACTION_NAMES: dict[Action, str] = {
    "search": "search on_search search_query search_submit submit_search view_search_results site_search query "
    "search_performed searched",
    "impression": "impression impressions item_impression product_impression result_impression view_item_list "
    "show shown displayed result_shown exposure",
    "click": "click item_click product_click result_click search_click search_result_click click_through "
    "select_item clicked view_item item_view product_view view_product product_viewed detail_view",
    "add_to_cart": "add_to_cart cart_add add_cart add_to_basket basket_add add_to_bag added_to_cart product_added atc",
    "purchase": "purchase order checkout buy transaction conversion order_placed order_completed ordered bought "
    "purchased",
}
_FIELDS_OF: dict[LogFormat, tuple[str, ...]] = {
    "sessions": ("time", "query", "clicked", "shown", "session_id", "client", "user_agent", "ip"),
    "events": (
        *("time", "action", "query", "item", "shown", "position", "search_id", "event_id", "client"),
        *("dwell_s", "user_agent", "ip"),
    ),
}
_FIELDS_OF["ubi"] = _FIELDS_OF["events"]
_NEEDED: dict[LogFormat, tuple[str, ...]] = {
    "sessions": ("query", "time", "clicked"),
    "events": ("query", "time", "action", "item"),
    "ubi": ("query", "time", "search_id"),
}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


_RANKS = {name: {_plain(it): at for at, it in enumerate(names.split())} for name, names in _ALIASES.items()}
_KNOWN_ACTIONS = {_plain(it): action for action, names in _ACTION_NAMES.items() for it in names.split()}


@dataclass
class Seen:
    """What lies at one path.

    Args:
        values: Those that are not null, one a line.
        types: Type → lines.
    """

    values: list[Any] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)

    def some(self) -> list[Any]:
        """Give some of the values, from all over the sample."""
        return self.values[:: max(1, len(self.values) // _LOOKED_AT)]

    def distinct(self) -> float:
        """Give the number of distinct values over that of all."""
        return len({str(it) for it in self.values}) / max(1, len(self.values))


def paths_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Seen]:
    """Look at lines.

    Args:
        rows: Lines as objects.

    Returns:
        Dotted path → what lies there, for the leaves. Keys with a dot in them are out of reach, and left out.
    """
    found: dict[str, Seen] = {}

    def walk(row: Mapping[str, Any], prefix: str, depth: int) -> None:
        for key, value in row.items():
            path = prefix + key
            if value is None or not key or "." in key:
                continue
            if isinstance(value, Mapping) and depth < _MAX_DEPTH:
                walk(value, path + ".", depth + 1)
            elif path in found or len(found) < _MAX_PATHS:
                seen = found.setdefault(path, Seen())
                seen.values.append(value)
                seen.types[_type(value)] += 1

    for row in rows:
        walk(row, "", 1)
    return found


_TYPES: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    dict: "object",
}


def _type(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {_type(value[0])}" if value else "list"
    names = {
        type(None): "null",
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "text",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


@dataclass(frozen=True)
class Detected:
    """What a log seems to be.

    Args:
        format: The nearest one.
        fields: Field → path, of those that were found.
        missing: Needed fields that were not.
        actions: Action → names of it in the log.
        other_actions: Names that say nothing of a search → lines.
        guesses: Field → why it is a guess.
        refused: Missing field → what has a name like it, and why it is no such field.
    """

    format: LogFormat
    fields: dict[str, str]
    missing: tuple[str, ...]
    actions: dict[str, tuple[str, ...]]
    other_actions: dict[str, int]
    guesses: dict[str, str]
    refused: dict[str, str]

    def settings(self, seen: Mapping[str, Seen]) -> dict[str, Any]:
        """Give what the config must say of it, where that differs from the defaults.

        Args:
            seen: The paths of the log.

        Returns:
            Keys of `Logs`.
        """
        standard = FORMAT_FIELDS[self.format]
        fields: dict[str, str | None] = {}
        for name in LogFields.model_fields:
            if name in self.fields:
                if self.fields[name] != standard.get(name):
                    fields[name] = self.fields[name]
            elif name not in self.missing and standard.get(name) in seen:
                fields[name] = None  # the log has such a name, and means something else by it
        found: dict[str, Any] = {} if self.format == "sessions" else {"format": self.format}
        if fields:
            found["fields"] = fields
        defaults = Logs(uri=ANY_URI).actions
        # A sample need not hold every action: the default names stay beside those that were seen.
        merged = {it: [*names, *sorted(set(self.actions.get(it, ())) - set(names))] for it, names in defaults.items()}
        if merged != {it: list(names) for it, names in defaults.items()}:
            found["actions"] = merged
        return found


def detect(seen: Mapping[str, Seen]) -> Detected:
    """Tell the format and the fields.

    Args:
        seen: Paths and values of a sample.

    Returns:
        The format that lacks least; see `missing`.
    """
    if _looks_like_ubi(seen):
        return _Matcher("ubi", seen).detected()
    events, sessions = _Matcher("events", seen).detected(), _Matcher("sessions", seen).detected()
    if len(events.missing) == len(sessions.missing):
        return events if "action" in events.fields and "item" in events.fields else sessions
    return min(events, sessions, key=lambda it: len(it.missing))


def _looks_like_ubi(seen: Mapping[str, Seen]) -> bool:
    own = ("action_name", "query_response_id", OLD_HIT_IDS, "query_response_hit_ids", "query_attributes")
    return (
        {"query_id", "timestamp"} <= seen.keys()
        and ("user_query" in seen or any(path.startswith("event_attributes.") for path in seen))
        and any(path.split(".")[0] in own for path in seen)
    )


class _Matcher:
    """Finds the fields of one format."""

    def __init__(self, format_: LogFormat, seen: Mapping[str, Seen]) -> None:
        logs = Logs(uri=ANY_URI, format=format_)
        self._format, self._seen = format_, seen
        self._standard = FORMAT_FIELDS[format_]
        # Only whether a value can be read is asked; nothing of what this key hides is kept.
        self._reader = Fields(logs, ClientHash("nobody's"), SourceRules(logs))
        kinds = {it.name: it for it in (*columns_of(logs), *_extra_columns())}
        self._columns = {name: kinds[name] for name in _FIELDS_OF[format_]}
        self._guesses: dict[str, str] = {}

    def detected(self) -> Detected:
        """Match all fields."""
        fields: dict[str, str] = {}
        for name in _FIELDS_OF[self._format]:
            if path := self._best(name, set(fields.values())):
                fields[name] = path
        missing = [name for name in _NEEDED[self._format] if name not in fields]
        if self._format == "events" and not {"search_id", "client"} & fields.keys():
            missing.append("search_id")
        actions, others = self._actions(fields.get("action"))
        refused = {name: why for name in missing if (why := self._why_refused(name, set(fields.values())))}
        return Detected(self._format, fields, tuple(missing), actions, others, self._guesses, refused)

    def _best(self, name: str, taken: set[str]) -> str | None:
        found = []
        for path, seen in self._seen.items():
            rank = self._rank(name, path)
            if rank is not None and path not in taken and self._fits(name, path, seen):
                found.append((rank, -len(seen.values), path.count("."), path))
        if not found and name == "time":
            return self._any_time(taken)
        if not found:
            return None
        path = min(found)[-1]
        if path != self._standard.get(name):
            others = [it[-1] for it in sorted(found)[1:4]]
            self._guesses[name] = "guessed by its name and values" + (f"; or {', '.join(others)}?" if others else "")
        return self._standard["shown"] if path == OLD_HIT_IDS and self._format == "ubi" else path

    def _rank(self, name: str, path: str) -> float | None:
        if path == self._standard.get(name):
            return -1
        parts = path.split(".")
        names = (_plain(path), _plain("".join(parts[-2:])), _plain(parts[-1]))
        ranks = [_RANKS[name][it] for it in names if it in _RANKS[name]]
        return min(ranks) + (0.5 if len(parts) > 1 else 0) if ranks else None

    def _fits(self, name: str, path: str, seen: Seen) -> bool:
        values = seen.some()
        column = self._columns[name]._replace(path=path)
        n_good = sum(self._reads(value, column) for value in values)
        return n_good >= _GOOD * len(values) and self._is_likely(name, path, seen)

    def _reads(self, value: Any, column: Column) -> bool:
        try:
            read = self._reader.read(value, column)
        except BadLine:
            return False
        if column.name == "time":
            return read in _PLAUSIBLE_US
        if column.name == "ip":
            return _is_address(value)
        return True

    def _is_likely(self, name: str, path: str, seen: Seen) -> bool:
        """Ask what one value alone cannot tell."""
        if name == "action":
            return any(_plain(it) in _KNOWN_ACTIONS for it in set(map(str, seen.values)))
        if name == "clicked":  # a flag, or a list of flags
            return not all(it in (0, 1) for it in seen.values)
        if name in ("session_id", "event_id"):
            return seen.distinct() >= _DISTINCT
        if name == "search_id" and path != self._standard["search_id"]:
            return len(seen.values) < 20 or seen.distinct() < _DISTINCT
        return True

    def _why_refused(self, name: str, taken: set[str]) -> str | None:
        named = [(rank, path) for path in self._seen if (rank := self._rank(name, path)) is not None]
        for _, path in sorted(it for it in named if it[1] not in taken):
            column = self._columns[name]._replace(path=path)
            for value in self._seen[path].some():
                try:
                    self._reader.read(value, column)
                except BadLine as bad:
                    # What a search is called may be what a visitor is called.
                    return bad.detail if name in _HARMLESS else f"{path} holds {_type(value)}"
            return f"{path} is named like it, but its values are no {name.replace('_', ' ')}"
        return None

    def _any_time(self, taken: set[str]) -> str | None:
        found = [
            (-len(seen.values), path)
            for path, seen in self._seen.items()
            if path not in taken and {"text"} == set(seen.types) and self._fits("time", path, seen)
        ]
        if not found:
            return None
        self._guesses["time"] = "guessed by its values alone"
        return min(found)[1]

    def _actions(self, path: str | None) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
        if path is None:
            return {}, {}
        names: dict[str, list[str]] = defaultdict(list)
        others: dict[str, int] = {}
        for name, n_lines in Counter(it for it in self._seen[path].values if type(it) is str).most_common():
            if action := _KNOWN_ACTIONS.get(_plain(name)):
                names[action].append(name)
            else:
                shown = private_parts(name)[:_SHOWN_CHARACTERS]
                others[shown] = others.get(shown, 0) + n_lines
        return {it: tuple(sorted(names[it])) for it in get_args(Action) if it in names}, others


def _extra_columns() -> tuple[Column, ...]:
    more = LogFields(user_agent="ua", ip="ip", dwell_s="dwell_s")
    return columns_of(Logs(uri=ANY_URI, format="events", fields=more))


def _is_address(value: Any) -> bool:
    try:
        ip_address(value.strip())
    except ValueError:
        return False
    return True


def example_of(name: str, seen: Seen) -> str | None:
    """Give a value of a field to show.

    Args:
        name: Of the field.
        seen: What lies at its path.

    Returns:
        A value, cut and without private parts; None for a field that tells of people.
    """
    if name not in _HARMLESS:
        return None
    for value in seen.some():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if text and text != "[]" and private_parts(text.lower()) == text.lower():
            return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return None


class Placed(NamedTuple):
    """A key, and what stands in it.

    Args:
        day: Its day.
        template: The key with its day and hour as placeholders, without what follows the folder that holds them.
    """

    day: date
    template: str


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


def place(key: str) -> Placed | None:
    """Find the day in a key.

    Args:
        key: Or a path, with slashes.

    Returns:
        The day that stands first in it, and the template; None where there is none.
    """
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


def templates_of(placed: Sequence[Placed]) -> list[str]:
    """Give few templates that name many keys.

    Args:
        placed: All keys in which a day stands.

    Returns:
        At most some, the ones with most keys; what changes from key to key became a star.
    """
    counts = Counter(it.template for it in placed)
    for text in ("{day:%m}", "{day:%d}"):  # a month of two digits is written alike with and without a leading zero
        short = text.replace("%", "%-")
        if any(short in it for it in counts):
            counts = _merged(counts, lambda it, text=text, short=short: it.replace(text, short))
    if len(counts) > _MAX_TEMPLATES:
        counts = _merged(counts, _starred)
    return sorted(it for it, _ in counts.most_common(_MAX_TEMPLATES))


def _merged(counts: Counter[str], change: Any) -> Counter[str]:
    merged: Counter[str] = Counter()
    for template, n_keys in counts.items():
        merged[change(template)] += n_keys
    return merged


def _starred(template: str) -> str:
    head, brace, tail = template.partition("{")
    return _CHANGING.sub("*", head) + brace + tail


def days_between(days: Iterable[date]) -> list[date]:
    """Give the days that are missing between the first and the last of some."""
    there = set(days)
    first, last = min(there), max(there)
    every = (first + timedelta(days=n) for n in range((last - first).days))
    return [it for it in every if it not in there]
