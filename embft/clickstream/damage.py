"""What happens to log objects on their way: the damage that the simulator does to a broken day."""

import gzip
import json
from datetime import date, timedelta

import numpy as np

_GARBAGE_SHARE = 0.015  # of the day's lines
_BREAKS_OFF_AT = 0.8  # of the object's bytes


def packed(lines: list[bytes]) -> bytes:
    """Give lines as a gzip object; the same lines give the same bytes.

    Args:
        lines: With their line feeds.

    Returns:
        The object.
    """
    return gzip.compress(b"".join(lines), mtime=0)


def damaged(lines: list[bytes], day: date, n_day_lines: int, generator: np.random.Generator) -> bytes:
    """Give lines as an object that was damaged: some are garbage or of wrong types, and the gzip stream breaks off.

    The garbage stands in the first half, which the break leaves whole.

    Args:
        lines: With their line feeds.
        day: Of the lines.
        n_day_lines: Lines of the whole day, which the share of garbage is taken of.
        generator: Source of chance.

    Returns:
        The object.
    """
    garbage = _garbage(day)
    lines = list(lines)
    for number in range(max(1, round(n_day_lines * _GARBAGE_SHARE))):
        lines.insert(int(generator.integers(len(lines) // 2 + 1)), garbage[number % len(garbage)])
    whole = packed(lines)
    return whole[: int(len(whole) * _BREAKS_OFF_AT)]


def _garbage(day: date) -> list[bytes]:
    """Lines as they are found in real logs, one for each of the common ways to be wrong."""
    good: dict[str, object] = {"query": "sofa", "time": f"{day}T12:00:00Z", "clicked": [], "synthetic": True}
    wrong: list[dict[str, object]] = [
        {"query": 42},
        {"query": None},
        {"time": "yesterday"},
        {"time": f"{day + timedelta(days=1)}T12:00:00Z"},
        {"clicked": {"id": "living-001"}},
        {"shown": "living-001"},
    ]
    raw = [b'{"query": "half a li\n', b"\x00\xfe\xca\xde\xad\n", b"[1, 2, 3]\n", b"<html>502 Bad Gateway</html>\n"]
    return [*raw, *(json.dumps(good | change).encode() + b"\n" for change in wrong)]
