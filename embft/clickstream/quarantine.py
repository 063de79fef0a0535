"""Lines that are set aside: a fixed set of reasons, and the table that keeps what was found.

A reason is a word that can be counted; the detail beside it says what was found and what to do.
"""

from enum import StrEnum

import pyarrow as pa

RAW_BYTES = 4096
_SHOWN_CHARACTERS = 60

SCHEMA = pa.schema(
    [
        pa.field("object", pa.string(), nullable=False),  # URI
        pa.field("line", pa.int64(), nullable=False),  # 1-based
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),  # the line's first bytes, at most RAW_BYTES
    ]
)


class Reason(StrEnum):
    """Why a line was set aside."""

    # The object
    NOT_GZIP = "not_gzip"  # named .gz, but its bytes are not gzip; counts as one line
    NOT_ZSTD = "not_zstd"  # likewise
    TRUNCATED = "truncated"  # the gzip or zstd stream breaks off; all that is lost counts as one line
    CORRUPT_GZIP = "corrupt_gzip"  # the gzip stream is damaged from here on; counts as one line
    CORRUPT_ZSTD = "corrupt_zstd"  # likewise
    CORRUPT_PARQUET = "corrupt_parquet"  # likewise
    INFLATES_TOO_MUCH = "inflates_too_much"  # a bomb: the rest of the object counts as one line
    COLUMN_MISSING = "column_missing"  # a Parquet object without a column that is needed; counts as one line
    # The line
    LINE_TOO_LONG = "line_too_long"
    BLANK = "blank"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    NOT_UNICODE = "not_unicode"  # an escape such as \ud800 that is half a character
    DUPLICATE_KEY = "duplicate_key"  # a field that is read stands twice in the line
    # The session or the event
    QUERY_MISSING = "query_missing"
    QUERY_TYPE = "query_type"
    TIME_MISSING = "time_missing"
    TIME_UNREADABLE = "time_unreadable"
    OTHER_DAY = "other_day"
    CLICKED_TYPE = "clicked_type"
    SHOWN_TYPE = "shown_type"
    SESSION_ID_TYPE = "session_id_type"
    SESSION_ID_CONFLICT = "session_id_conflict"  # one session id, two contents; the earlier one is kept
    TOO_MANY_RESULTS = "too_many_results"
    CLIENT_TYPE = "client_type"
    TEXT_FIELD_TYPE = "text_field_type"  # user agent or IP address that is no text
    # The event
    ACTION_MISSING = "action_missing"
    ACTION_TYPE = "action_type"
    ITEM_TYPE = "item_type"
    POSITION_TYPE = "position_type"
    DWELL_TYPE = "dwell_type"
    SEARCH_ID_MISSING = "search_id_missing"  # neither a search id nor a client to join it by
    SEARCH_ID_TYPE = "search_id_type"
    EVENT_ID_TYPE = "event_id_type"
    # The item
    ID_MISSING = "id_missing"
    ID_TYPE = "id_type"
    TEXT_MISSING = "text_missing"
    TEXT_TYPE = "text_type"


class BadLine(Exception):
    """A line cannot be used. Caught by the reader of the object, never by a user.

    Args:
        reason: From the fixed set.
        detail: What was found, what is expected, what to do.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Quarantine:
    """Collects what is set aside."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, int, str, str, bytes]] = []

    def add(self, uri: str, line: int, bad: BadLine, raw: bytes) -> None:
        """Set one line aside.

        Args:
            uri: The object.
            line: Its number there, from 1.
            bad: Why.
            raw: Its bytes; the first `RAW_BYTES` are kept.
        """
        self._rows.append((uri, line, bad.reason.value, bad.detail, raw[:RAW_BYTES]))

    def __len__(self) -> int:
        return len(self._rows)

    def by_reason(self) -> dict[str, int]:
        """Count the lines by reason, in the reasons' alphabetical order."""
        counts: dict[str, int] = {}
        for _, _, reason, _, _ in sorted(self._rows, key=lambda row: row[2]):
            counts[reason] = counts.get(reason, 0) + 1
        return counts

    def table(self) -> pa.Table:
        """Give the lines by object and number, whatever the order in which they were found."""
        columns = list(zip(*sorted(self._rows), strict=True)) or [()] * len(SCHEMA)
        return pa.table(
            [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )


def describe(value: object) -> str:
    """Show a value of a log in a message: bounded, and escaped, for it is a stranger's text.

    Args:
        value: Anything that JSON can hold.

    Returns:
        Its repr if it is a scalar, cut to some characters, else its JSON type.
    """
    match value:
        case None:
            return "null"
        case str():
            cut = "…" if len(value) > _SHOWN_CHARACTERS else ""
            return ascii(value[:_SHOWN_CHARACTERS]) + cut
        case bool() | int() | float():
            return repr(value)[:_SHOWN_CHARACTERS]
        case list():
            return f"a list of {len(value)}"
        case _:
            return "an object"
