"""A line's bytes → a JSON object, and its values → texts and ids. Refuses with a reason; guesses nothing."""

import json
import unicodedata
from collections import Counter
from typing import Any

from embft.clickstream.quarantine import BadLine, Reason, describe

_MANY_DIGITS = 1000


class _Repeating(dict[str, Any]):
    """An object in which keys stand twice, with their last values; `repeated` names them."""

    repeated: frozenset[str]


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    counts = Counter(name for name, _ in pairs)
    repeating.repeated = frozenset(name for name, count in counts.items() if count > 1)
    return repeating


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < _MANY_DIGITS else float(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Python's own decoder takes NaN and Infinity, which no other JSON reader does.
# And it refuses whole numbers of thousands of digits, which others take for what they are: too big.
_decode = json.JSONDecoder(object_pairs_hook=_object_of, parse_constant=_refuse_constant, parse_int=_whole).decode


def json_object(raw: bytes) -> dict[str, Any]:
    """Read one line as a JSON object.

    Args:
        raw: The line, UTF-8.

    Returns:
        The object; `value_at` refuses a key that stands twice in it.

    Raises:
        BadLine: It is blank, not UTF-8, not JSON, or not an object.
    """
    try:
        value = _decode(raw.decode())
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the line is {raw[error.start]:#04x}, which is not UTF-8; write logs as UTF-8"
        raise BadLine(Reason.NOT_UTF8, detail) from None
    except (ValueError, RecursionError) as error:
        if not raw.strip():
            raise BadLine(Reason.BLANK, "the line is blank; each line holds one JSON object") from None
        raise BadLine(Reason.NOT_JSON, f"not JSON ({str(error)[:200]}); each line holds one JSON object") from None
    if not isinstance(value, dict):
        raise BadLine(Reason.NOT_OBJECT, f"the line holds {describe(value)}; expected one JSON object")
    return value


def value_at(line: dict[str, Any], path: str) -> Any:
    """Follow a dotted path into an object.

    Args:
        line: From `json_object`, or a row of a table.
        path: Keys, joined by dots.

    Returns:
        What lies there; None where the path leads nowhere.

    Raises:
        BadLine: A key on the path stands twice, and there is no telling which value was meant.
    """
    value: Any = line
    for key in path.split("."):
        if not isinstance(value, dict):
            return None
        if isinstance(value, _Repeating) and key in value.repeated:
            detail = f"the key {describe(key)} stands twice in one object; write each key once"
            raise BadLine(Reason.DUPLICATE_KEY, detail)
        value = value.get(key)
    return value


def normalised(text: str) -> str:
    """Give the form in which queries are compared: lower-cased, NFC, white space collapsed.

    Args:
        text: As typed, in any script.

    Returns:
        The text; empty where there was only white space.
    """
    text = text.lower()
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def item_id(value: object, field: str, reason: Reason) -> str:
    """Read an id: a text or a whole number, kept as text.

    Args:
        value: As found.
        field: The field's name, for the message.
        reason: What to call the fault.

    Returns:
        The id as text.

    Raises:
        BadLine: It is of another type, or empty.
    """
    if type(value) is int:
        return str(value)
    if type(value) is not str or not value:
        raise BadLine(reason, f"{field} holds {describe(value)}; an id is a text that is not empty, or a whole number")
    return value if value.isascii() else whole_characters(value, field)


def item_ids(value: object, field: str, reason: Reason) -> list[str]:
    """Read a list of ids, or a single one. An id that comes twice counts where it came first.

    Args:
        value: As found.
        field: The field's name, for the message.
        reason: What to call the fault.

    Returns:
        The ids as texts, distinct, in order.

    Raises:
        BadLine: It is neither an id nor a list of ids.
    """
    if type(value) is not list:
        return [item_id(value, field, reason)]
    ids = [one if type(one) is str and one and one.isascii() else item_id(one, field, reason) for one in value]
    return ids if len(ids) < 2 else list(dict.fromkeys(ids))


def whole_characters(text: str, field: str) -> str:
    r"""Refuse text that cannot be written as UTF-8: JSON's \ud800 is half of a character.

    Args:
        text: As found.
        field: The field's name, for the message.

    Returns:
        The same text.

    Raises:
        BadLine: It holds half a character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        detail = f"{field} holds {describe(text)}, in which an escape names half a character (a lone surrogate)"
        raise BadLine(Reason.NOT_UNICODE, detail) from None
    return text
