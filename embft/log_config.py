"""The config's section `logs`: where the click log lies, how it is written, and what of it is not used."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, model_validator

from embft.config_base import S3Uri, Strict, TimeZone

LogFormat = Literal["sessions", "events", "ubi"]
Action = Literal["search", "impression", "click", "add_to_cart", "purchase"]


class LogFields(Strict):
    """What a log line calls each column; a dotted path reaches into nested objects. `null`: the log has no such field.

    A field that is left out has the format's own name: see `FORMAT_FIELDS`.
    """

    query: str | None = Field(None, description="What was searched for.")
    time: str | None = Field(None, description="When: ISO 8601, or seconds or milliseconds since 1970.")
    client: str | None = Field(None, description="Who searched; kept as a keyed hash alone.")
    shown: str | None = Field(None, description="Ids of the results, in the order shown.")
    clicked: str | None = Field(None, description="sessions: ids that were clicked.")
    session_id: str | None = Field(None, description="sessions: name of one search.")
    action: str | None = Field(None, description="events: what was done; see logs.actions.")
    item: str | None = Field(None, description="events: id of the item it was done to.")
    position: str | None = Field(None, description="events: place of the item in the list.")
    search_id: str | None = Field(None, description="events: name of the search that the event belongs to.")
    event_id: str | None = Field(None, description="events: name of the event; deliveries of one id are one event.")
    dwell_s: str | None = Field(None, description="events: seconds spent on the item after a click.")
    user_agent: str | None = Field(None, description="Judged by logs.noise.user_agents; never kept.")
    ip: str | None = Field(None, description="Judged by logs.noise.internal_ips; never kept.")


FORMAT_FIELDS: dict[LogFormat, dict[str, str]] = {
    "sessions": {
        "query": "query",
        "time": "time",
        "client": "client",
        "shown": "shown",
        "clicked": "clicked",
        "session_id": "session_id",
    },
    "events": {
        "query": "query",
        "time": "time",
        "client": "client",
        "shown": "shown",
        "action": "action",
        "item": "item",
        "position": "position",
        "search_id": "search_id",
        "event_id": "event_id",
    },
    # https://github.com/o19s/ubi, schemas 1.0 to 1.3
    "ubi": {
        "query": "user_query",
        "time": "timestamp",
        "client": "client_id",
        "shown": "query_response_hit_ids",
        "action": "action_name",
        "item": "event_attributes.object.object_id",
        "position": "event_attributes.position.ordinal",
        "search_id": "query_id",
    },
}
_ANY_FORMAT = ("user_agent", "ip")
_OF_EVENTS = (*FORMAT_FIELDS["events"], "dwell_s", *_ANY_FORMAT)
_ALLOWED_FIELDS: dict[LogFormat, tuple[str, ...]] = {
    "sessions": (*FORMAT_FIELDS["sessions"], *_ANY_FORMAT),
    "events": _OF_EVENTS,
    "ubi": _OF_EVENTS,
}
_NEEDED_FIELDS: dict[LogFormat, tuple[str, ...]] = {
    "sessions": ("query", "time", "clicked"),
    "events": ("query", "time", "action", "item"),
    "ubi": ("query", "time", "action", "item", "search_id"),
}


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


def _as_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Noise(Strict):
    """What is filtered as noise or abuse. Each rule is counted by its name; `null` switches it off."""

    max_sessions_per_client: int | None = Field(
        200, ge=1, description="client_cap: sessions of one client in one day beyond this; the earliest stay."
    )
    max_sessions_per_client_query: int | None = Field(
        10, ge=1, description="client_query_cap: sessions of one client with one query in one day beyond this."
    )
    max_sessions_per_client_item: int | None = Field(
        10, ge=1, description="client_item_cap: sessions of one client that click one item in one day beyond this."
    )
    max_sessions_per_query: int | None = Field(
        None, ge=1, description="query_cap: sessions with one query in one day beyond this; the earliest stay."
    )
    max_sessions_per_minute: int | None = Field(
        30, ge=1, description="too_fast: all sessions of a client in a minute in which it has more than this."
    )
    typing_pause_s: float | None = Field(
        1.0,
        gt=0,
        description="typing: a session without a click that the same client's next search follows within this time, "
        "and whose query the next one goes on with or takes back (search as you type).",
    )
    user_agents: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        ("bot", "crawl", "spider", "slurp", "headless", "python-requests", "curl/"),
        description="user_agent: regular expressions; a user agent that one is found in, upper or lower case.",
    )
    internal_ips: tuple[IPvAnyNetwork, ...] = Field((), description="internal_ip: networks such as 10.0.0.0/8.")


class Privacy(Strict):
    """What of people may be kept and shown."""

    private_queries: Literal["drop", "mask", "keep"] = Field(
        "drop", description="private_query: queries that hold an e-mail address, or a phone or card number."
    )
    min_clients: int = Field(
        5, ge=1, description="Reports and Data Docs show a query only if this many clients searched for it."
    )


class Logs(Strict):
    """The click log: JSON lines (plain, .gz, .zst) or Parquet, below one prefix a day."""

    uri: Annotated[tuple[S3Uri, ...], BeforeValidator(_as_several)] = Field(
        min_length=1,
        description="Prefix of a day's objects, or a list of them; {day} becomes 2011-10-20, {day:%Y/%m/%d} "
        "2011/10/20, {hour} the hours 00 to 23, and * any part of one path segment.",
    )
    format: LogFormat = Field(
        "sessions",
        description="sessions: one search a line; events: one search, impression, click … a line; ubi: OpenSearch "
        "User Behavior Insights, ubi_queries and ubi_events. `embft logs inspect <uri>` finds it out.",
    )
    timezone: TimeZone = Field("UTC", description="Zone in which days begin and end, and of times that state none.")
    fields: LogFields = LogFields()
    actions: dict[Action, tuple[str, ...]] = Field(
        default_factory=lambda: dict(_ACTIONS), description="events: what the log calls each action."
    )
    settle_hours: int = Field(
        0,
        ge=0,
        le=24,
        description="Hours after midnight whose objects are read too, for clicks on the day's searches. Lines that "
        "belong to the day but lie in the next day's objects are found as well.",
    )
    inactivity_minutes: int = Field(
        30, ge=1, description="events without search_id: a pause of a client that ends a search."
    )
    max_task_bytes: int = Field(
        4 << 30, ge=1, description="A day whose objects are bigger is read by several tasks of about this size."
    )
    noise: Noise = Noise()
    privacy: Privacy = Privacy()

    @model_validator(mode="before")
    @classmethod
    def _fills_in_fields(cls, data: Any) -> Any:
        """Give each field that is left out the format's own name."""
        if not isinstance(data, dict):
            return data
        names = FORMAT_FIELDS.get(data.get("format", "sessions"))
        given = data.get("fields", {})
        if names is None or not isinstance(given, dict | LogFields):
            return data
        if isinstance(given, LogFields):
            given = given.model_dump(exclude_unset=True)
        return {**data, "fields": {**names, **given}}

    @model_validator(mode="after")
    def _names_the_day(self) -> "Logs":
        for uri in self.uri:
            braces = re.findall(r"\{[^}]*\}?", uri)
            if not any(it.startswith("{day") for it in braces):
                raise ValueError(f"uri is {uri!r}; it must contain {{day}}")
            if unknown := [it for it in braces if not re.fullmatch(r"\{day(:[^}]+)?\}|\{hour\}", it)]:
                raise ValueError(f"uri is {uri!r}; {unknown[0]!r} is none of {{day}}, {{day:%Y/%m/%d}} and {{hour}}")
        return self

    @model_validator(mode="after")
    def _has_the_fields_of_its_format(self) -> "Logs":
        given = {name for name, path in self.fields if path is not None}
        if missing := [name for name in _NEEDED_FIELDS[self.format] if name not in given]:
            raise ValueError(f"fields.{missing[0]} is null; a log of format {self.format!r} needs it")
        if foreign := sorted(given - set(_ALLOWED_FIELDS[self.format])):
            raise ValueError(
                f"fields.{foreign[0]} is no field of format {self.format!r}; its fields are "
                f"{', '.join(_ALLOWED_FIELDS[self.format])}"
            )
        if self.format == "events" and not {"search_id", "client"} & given:
            raise ValueError("fields.search_id and fields.client are both null; events are joined by one of them")
        return self

    @model_validator(mode="after")
    def _tells_actions_apart(self) -> "Logs":
        names = [name for several in self.actions.values() for name in several]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"actions: {twice[0]!r} stands under two actions; each name means one")
        return self


_ACTIONS: dict[Action, tuple[str, ...]] = {
    "search": ("search", "on_search"),
    "impression": ("impression",),
    "click": ("click", "item_click"),
    "add_to_cart": ("add_to_cart",),
    "purchase": ("purchase",),
}
