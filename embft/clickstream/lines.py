"""An object's lines, plain or gzipped, streamed: memory stays flat however big the object or a line of it is.

What an object is, its first bytes say, not its name.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from embft.clickstream.quarantine import RAW_BYTES, BadLine, Reason

MAX_LINE_BYTES = 1 << 20

_CHUNK_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31  # zlib's way of saying: a gzip header and trailer, the largest window
_BOM = b"\xef\xbb\xbf"
_REST_IS_LOST = "the lines before were used, the rest is lost: deliver the object again"


class Line(NamedTuple):
    """One line, or what stands for the lines that are lost.

    Args:
        number: From 1.
        raw: Its bytes without the line feed; the first ones only where `fault` is set.
        fault: Why it cannot be read.
    """

    number: int
    raw: bytes
    fault: BadLine | None = None


def read_lines(path: Path, uri: str) -> Iterator[Line]:
    """Read an object's lines.

    A gzip stream that breaks off gives its whole lines, then one faulty line for all the rest.

    Args:
        path: The downloaded object.
        uri: Where it came from; a name that ends in .gz must keep its word.

    Yields:
        The lines in order; none for an empty object.
    """
    with path.open("rb") as file:
        head = file.read(RAW_BYTES)
        file.seek(0)
        if head.startswith(_GZIP_MAGIC):
            yield from _split(_inflated(file))
        elif head and uri.endswith(".gz"):
            yield Line(1, head, _not_gzip(head))
        else:
            yield from _split(iter(lambda: file.read(_CHUNK_BYTES), b""))


def _not_gzip(head: bytes) -> BadLine:
    return BadLine(
        Reason.NOT_GZIP,
        f"the object is named .gz, but begins with {head[:8]!r}, and gzip begins with {_GZIP_MAGIC!r}; "
        "write it again with gzip, or name it without .gz if it is plain text",
    )


def _split(pieces: Iterator[bytes]) -> Iterator[Line]:
    number, pending = 0, b""
    try:
        for piece in pieces:
            lines = piece.split(b"\n")
            lines[0] = pending + lines[0]
            # One byte over the limit is kept: enough to know that the line is too long, without holding it.
            pending = lines.pop()[: MAX_LINE_BYTES + 1]
            for raw in lines:
                number += 1
                yield _line(number, raw)
    except BadLine as fault:
        yield Line(number + 1, pending[:RAW_BYTES], fault)
    else:
        # A byte order mark alone is an empty object, as editors save one.
        if pending and (number or pending != _BOM):
            yield _line(number + 1, pending)


def _line(number: int, raw: bytes) -> Line:
    if number == 1:
        raw = raw.removeprefix(_BOM)
    if len(raw) > MAX_LINE_BYTES:
        detail = f"the line is longer than {MAX_LINE_BYTES} bytes; one line holds one JSON object of a search"
        return Line(number, raw[:RAW_BYTES], BadLine(Reason.LINE_TOO_LONG, detail))
    return Line(number, raw)


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Inflate member after member; each piece is bounded, so that a gzip bomb cannot fill the memory.

    Raises:
        BadLine: The stream is damaged, or breaks off.
    """
    stream = zlib.decompressobj(_GZIP_WBITS)
    data = file.read(_CHUNK_BYTES)
    while data:
        try:
            piece = stream.decompress(data, _CHUNK_BYTES)
        except zlib.error as error:
            raise BadLine(Reason.CORRUPT_GZIP, f"the gzip stream is damaged here ({error}); {_REST_IS_LOST}") from None
        if piece:
            yield piece
        if stream.eof:
            # Zeros between members and at the end are padding, as the gzip tool takes them; they may fill whole chunks.
            data = stream.unused_data.lstrip(b"\0")
            while not data and (more := file.read(_CHUNK_BYTES)):
                data = more.lstrip(b"\0")
            stream = zlib.decompressobj(_GZIP_WBITS) if data else stream
        else:
            data = stream.unconsumed_tail or file.read(_CHUNK_BYTES)
    if not stream.eof:
        yield from _last_bytes(stream)


def _last_bytes(stream: "zlib._Decompress") -> Iterator[bytes]:
    rest = stream.flush()
    if rest:
        yield rest
    if not stream.eof:
        raise BadLine(Reason.TRUNCATED, f"the gzip stream breaks off here; {_REST_IS_LOST}")
