"""One line of a click log → one session, or the reason why not."""

from datetime import date
from hashlib import sha256
from typing import NamedTuple
from zoneinfo import ZoneInfo

from embft.clickstream.quarantine import BadLine, Reason, describe
from embft.clickstream.times import microseconds, parse_time
from embft.clickstream.values import item_id, item_ids, json_object, normalised, whole_characters
from embft.log_config import Logs

_ID_HEX_DIGITS = 16


class SessionLine(NamedTuple):
    """One search as a line tells it.

    Args:
        session_id: The log's own, or made from the content.
        time_us: Microseconds since 1970.
        client: Who searched, if the log says.
        query: Normalised.
        shown: Ids in the order shown; None where the log does not say.
        clicked: Ids, distinct; empty where nothing was clicked.
        digest: Of the content: lines of one digest are copies of one another.
    """

    session_id: str
    time_us: int
    client: str | None
    query: str
    shown: list[str] | None
    clicked: list[str]
    digest: bytes


class SessionParser:
    """Reads the lines of one day.

    Args:
        day: The day that the sessions must be of, in the log's time zone.
        logs: Field names and time zone.
    """

    def __init__(self, day: date, logs: Logs) -> None:
        self._day = day
        self._zone = ZoneInfo(logs.timezone)
        self._fields = logs.fields

    def parse(self, raw: bytes) -> SessionLine:
        """Read one line.

        Args:
            raw: Its bytes.

        Returns:
            The session. A log without session ids, or a line without one, gets an id made from the content: two
            searches that agree in time, client, query, list and clicks are then one.

        Raises:
            BadLine: It is no session of this day; the reason says why.
        """
        line = json_object(raw)
        fields = self._fields
        query = self._query(line.get(fields.query))
        time_us = self._time_us(line.get(fields.time))
        clicked_value = line.get(fields.clicked)
        clicked = [] if clicked_value is None else item_ids(clicked_value, fields.clicked, Reason.CLICKED_TYPE)
        shown_value = line.get(fields.shown) if fields.shown else None
        shown = None if shown_value is None else self._shown(shown_value)
        client_value = line.get(fields.client) if fields.client else None
        client = None if client_value is None else item_id(client_value, str(fields.client), Reason.CLIENT_TYPE)
        id_value = line.get(fields.session_id) if fields.session_id else None
        own_id = None if id_value is None else item_id(id_value, str(fields.session_id), Reason.SESSION_ID_TYPE)

        # repr of a tuple of texts keeps apart what a join with a separator would not.
        digest = sha256(repr((own_id, time_us, client, query, shown, clicked)).encode())
        session_id = own_id or digest.hexdigest()[:_ID_HEX_DIGITS]
        return SessionLine(session_id, time_us, client, query, shown, clicked, digest.digest())

    def _query(self, value: object) -> str:
        field = self._fields.query
        if type(value) is not str:
            if value is None:
                raise BadLine(Reason.QUERY_MISSING, f"the line has no {field}; see logs.fields.query in the config")
            raise BadLine(Reason.QUERY_TYPE, f"{field} holds {describe(value)}; expected a text")
        query = normalised(value if value.isascii() else whole_characters(value, field))
        if not query:
            raise BadLine(Reason.QUERY_MISSING, f"{field} is empty; a session needs what was searched for")
        return query

    def _time_us(self, value: object) -> int:
        time = parse_time(value, self._zone, self._fields.time)
        try:
            day = time.astimezone(self._zone).date()
        except OverflowError:
            day = time.date()  # at the ends of the calendar, centuries from any log
        if day != self._day:
            detail = (
                f"{time.isoformat()} is on {day} in {self._zone.key}, but these are the objects of {self._day}; "
                "see logs.timezone in the config"
            )
            raise BadLine(Reason.OTHER_DAY, detail)
        return microseconds(time)

    def _shown(self, value: object) -> list[str]:
        if type(value) is not list:
            detail = f"{self._fields.shown} holds {describe(value)}; expected a list of ids, or null"
            raise BadLine(Reason.SHOWN_TYPE, detail)
        return item_ids(value, str(self._fields.shown), Reason.SHOWN_TYPE)
