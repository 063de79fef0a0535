"""What happens to log objects on their way: the damage that the simulator does to a broken day."""

import json
import zlib
from collections.abc import Iterable
from datetime import date, timedelta

import numpy as np

from embft.log_config import LogFormat

_Record = dict[str, object]
_SYNTHETIC: _Record = {"synthetic": True}
_BATCH_BYTES = 1 << 20  # compressed at once
_GARBAGE_SHARE = 0.015  # of the day's lines
_BREAKS_OFF_AT = 0.8  # of the object's bytes


class Packer:
    """Packs lines into a gzip object as they come, so that they need not be held; the same lines, the same bytes.

    Args:
        level: How hard zlib tries, 1 to 9.
    """

    def __init__(self, level: int = 9) -> None:
        # What gzip.compress(…, level, mtime=0) gives: no time in the header.
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self._waiting = bytearray()
        self._packed = bytearray()
        self.n_lines = 0

    def add(self, line: bytes) -> None:
        """Take one more line.

        Args:
            line: With its line feed.
        """
        self._waiting += line
        self.n_lines += 1
        if len(self._waiting) >= _BATCH_BYTES:
            self._packed += self._zlib.compress(self._waiting)
            self._waiting.clear()

    def close(self) -> bytes:
        """Give the object; no line can be added any more.

        Returns:
            The object.
        """
        self._packed += self._zlib.compress(self._waiting)
        self._packed += self._zlib.flush()
        return bytes(self._packed)


def packed(lines: Iterable[bytes]) -> bytes:
    """Give lines as a gzip object; the same lines give the same bytes.

    Args:
        lines: With their line feeds.

    Returns:
        The object.
    """
    packer = Packer()
    for line in lines:
        packer.add(line)
    return packer.close()


def damaged(
    lines: list[bytes], day: date, n_day_lines: int, generator: np.random.Generator, log_format: LogFormat = "sessions"
) -> bytes:
    """Give lines as an object that was damaged: some are garbage or of wrong types, and the gzip stream breaks off.

    The garbage stands in the first half, which the break leaves whole.

    Args:
        lines: With their line feeds.
        day: Of the lines.
        n_day_lines: Lines of the whole day, which the share of garbage is taken of.
        generator: Source of chance.
        log_format: Of the lines: decides what a wrong type is.

    Returns:
        The object.
    """
    garbage = _garbage(day, log_format)
    lines = list(lines)
    for number in range(max(1, round(n_day_lines * _GARBAGE_SHARE))):
        lines.insert(int(generator.integers(len(lines) // 2 + 1)), garbage[number % len(garbage)])
    whole = packed(lines)
    return whole[: int(len(whole) * _BREAKS_OFF_AT)]


def _garbage(day: date, log_format: LogFormat) -> list[bytes]:
    """Lines as they are found in real logs, one for each of the common ways to be wrong."""
    good, wrong = {"sessions": _wrong_sessions, "events": _wrong_events, "ubi": _wrong_ubi_events}[log_format](day)
    raw = [b'{"query": "half a li\n', b"\x00\xfe\xca\xde\xad\n", b"[1, 2, 3]\n", b"<html>502 Bad Gateway</html>\n"]
    return [*raw, *(json.dumps(good | change).encode() + b"\n" for change in wrong)]


def _wrong_sessions(day: date) -> tuple[_Record, list[_Record]]:
    return {"query": "sofa", "time": f"{day}T12:00:00Z", "clicked": [], "synthetic": True}, [
        {"query": 42},
        {"query": None},
        {"time": "yesterday"},
        {"time": f"{day + timedelta(days=1)}T12:00:00Z"},
        {"clicked": {"id": "living-001"}},
        {"shown": "living-001"},
    ]


def _wrong_events(day: date) -> tuple[_Record, list[_Record]]:
    good = {"action": "click", "search_id": "5" * 16, "client": "c-" + "5" * 16, "time": f"{day}T12:00:00Z"}
    return good | {"item": "living-001", "position": 1} | _SYNTHETIC, [
        {"action": 42},
        {"action": None},
        {"time": "yesterday"},
        {"time": None},
        {"item": {"id": "living-001"}},
        {"position": "first"},
    ]


def _wrong_ubi_events(day: date) -> tuple[_Record, list[_Record]]:
    good = {"application": "made-up shop", "action_name": "click", "query_id": "5" * 16, "client_id": "c-" + "5" * 16}
    return good | {"timestamp": f"{day}T12:00:00Z", "event_attributes": _attributes("living-001", 1)} | _SYNTHETIC, [
        {"action_name": 42},
        {"action_name": None},
        {"timestamp": "yesterday"},
        {"timestamp": None},
        {"event_attributes": _attributes({"id": "living-001"}, 1)},
        {"event_attributes": _attributes("living-001", "first")},
    ]


def _attributes(item: object, ordinal: object) -> _Record:
    return {"object": {"object_id": item, "object_id_field": "id"}, "position": {"ordinal": ordinal}}
