"""An object's lines, plain, gzip or zstd, streamed: memory stays flat however big the object or a line of it is.

What an object is, its first bytes say, not its name.
"""

import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from embft.clickstream.quarantine import RAW_BYTES, BadLine, Reason

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_LINE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_CHUNK_BYTES = 1 << 22
_PACKED_BYTES = 1 << 18  # of what unpacks to ten times as much
_BLOCK_BYTES = 1 << 21
_BLOCK_LINES = 50_000
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # pzstd begins with such a frame
_GZIP_WBITS = 31  # zlib's way of saying: a gzip header and trailer, the largest window
_BOM = b"\xef\xbb\xbf"
_REST_IS_LOST = "the lines before were used, the rest is lost: deliver the object again"
# Logs shrink to a tenth, seldom to a fiftieth. What grows more than this, beyond a size that does no harm, is a bomb.
_MAX_INFLATION = 200
_HARMLESS_BYTES = 1 << 28


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


class Block(NamedTuple):
    """Whole lines, side by side.

    Args:
        first: Number of the first line, from 1.
        data: The lines, each with its line feed; the object's last one may lack it.
    """

    first: int
    data: bytes

    def lines(self) -> list[bytes]:
        """Give the lines without their line feeds."""
        lines = self.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return lines


def read_blocks(path: Path, uri: str) -> Iterator[Block | Line]:
    """Read an object as blocks of a few megabytes.

    A compressed stream that breaks off gives its whole lines, then one faulty line for all the rest. A line longer than
    `MAX_LINE_BYTES` is cut one byte after it, so that whoever reads the block can tell.

    Args:
        path: The downloaded object.
        uri: Where it came from; a name that ends in .gz or .zst must keep its word.

    Yields:
        The blocks in order, and a faulty line where something cannot be read; nothing for an empty object.
    """
    with path.open("rb") as file:
        head = file.read(RAW_BYTES)
        file.seek(0)
        if head.startswith(GZIP_MAGIC):
            yield from _blocks(_bounded(_inflated(file), path))
        elif head.startswith(ZSTD_MAGIC) or _SKIPPABLE.match(head):
            yield from _blocks(_bounded(_unpacked(file), path))
        elif head and uri.endswith((".gz", ".zst")):
            yield Line(1, head, _wrong_name(head, uri))
        else:
            yield from _blocks(iter(lambda: file.read(_CHUNK_BYTES), b""))


def read_lines(path: Path, uri: str) -> Iterator[Line]:
    """Read an object's lines one by one.

    Args:
        path: The downloaded object.
        uri: Where it came from.

    Yields:
        The lines in order; none for an empty object.
    """
    for block in read_blocks(path, uri):
        if isinstance(block, Line):
            yield block
        else:
            for number, raw in enumerate(block.lines(), block.first):
                fault = too_long(raw)
                yield Line(number, raw[:RAW_BYTES] if fault else raw, fault)


def too_long(raw: bytes) -> BadLine | None:
    """Give the fault of a line that is longer than `MAX_LINE_BYTES`, or None."""
    if len(raw) <= MAX_LINE_BYTES:
        return None
    detail = f"the line is longer than {MAX_LINE_BYTES} bytes; one line holds one JSON object"
    return BadLine(Reason.LINE_TOO_LONG, detail)


def _wrong_name(head: bytes, uri: str) -> BadLine:
    reason, kind, magic = (
        (Reason.NOT_GZIP, "gzip", GZIP_MAGIC) if uri.endswith(".gz") else (Reason.NOT_ZSTD, "zstd", ZSTD_MAGIC)
    )
    name = uri[uri.rindex(".") :]
    return BadLine(
        reason,
        f"the object is named {name}, but begins with {head[:8]!r}, and {kind} begins with {magic!r}; "
        f"write it again with {kind}, or name it without {name} if it is plain text",
    )


def _blocks(pieces: Iterator[bytes]) -> Iterator[Block | Line]:
    number, pending, waiting = 1, b"", b""
    try:
        for piece in pieces:
            # Small pieces wait for one another: each block costs some time of its own.
            waiting += piece
            if len(waiting) < _BLOCK_BYTES:
                continue
            data, pending, waiting = *_whole_lines(pending, waiting), b""
            yield from _portions(number, data)
            number += data.count(b"\n")
    except BadLine as fault:
        data, pending = _whole_lines(pending, waiting)
        yield from _portions(number, data)
        yield Line(number + data.count(b"\n"), pending[:RAW_BYTES], fault)
    else:
        data, pending = _whole_lines(pending, waiting)
        yield from _portions(number, data)
        yield from _portions(number + data.count(b"\n"), pending)


def _whole_lines(pending: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Cut after the last line feed; of a line without an end no more than tells that it is too long is kept."""
    end = data.rfind(b"\n") + 1
    return (pending + data[:end] if end else b""), (data[end:] if end else pending + data)[: MAX_LINE_BYTES + 1]


def _portions(number: int, data: bytes) -> Iterator[Block]:
    """Give blocks of so few lines that those of garbage fit the memory as well."""
    if number == 1:
        # A byte order mark alone is an empty object, as editors save one.
        data = data.removeprefix(_BOM)
    if data.count(b"\n") > _BLOCK_LINES:
        end = (data.rfind(b"\n", 0, len(data) // 2) + 1) or data.index(b"\n") + 1
        yield from _portions(number, data[:end])
        yield from _portions(number + data.count(b"\n", 0, end), data[end:])
    elif data:
        yield Block(number, data)


def _bounded(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Pass pieces on until they are too many for the packed object.

    Raises:
        BadLine: It grows as no log does.
    """
    limit = max(_HARMLESS_BYTES, _MAX_INFLATION * path.stat().st_size)
    n_bytes = 0
    for piece in pieces:
        n_bytes += len(piece)
        if n_bytes > limit:
            raise BadLine(
                Reason.INFLATES_TOO_MUCH,
                f"the object of {path.stat().st_size} bytes unpacks to more than {limit}, over {_MAX_INFLATION} times "
                f"its size, which no log does; {_REST_IS_LOST}",
            )
        yield piece


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """Unpack zstd frames.

    Raises:
        BadLine: The stream is damaged, or breaks off.
    """
    stream = zstd.ZstdDecompressor()
    data = file.read(_PACKED_BYTES)
    while data or not stream.needs_input:
        try:
            piece = stream.decompress(data, max_length=_CHUNK_BYTES)
        except zstd.ZstdError as error:
            raise BadLine(Reason.CORRUPT_ZSTD, f"the zstd stream is damaged here ({error}); {_REST_IS_LOST}") from None
        if piece:
            yield piece
        data = b""
        if stream.eof:
            data = stream.unused_data or file.read(_PACKED_BYTES)
            if not data:
                return
            stream = zstd.ZstdDecompressor()
        elif stream.needs_input:
            data = file.read(_PACKED_BYTES)
    raise BadLine(Reason.TRUNCATED, f"the zstd stream breaks off here; {_REST_IS_LOST}")


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Inflate member after member; each piece is bounded, so that a gzip bomb cannot fill the memory.

    Raises:
        BadLine: The stream is damaged, or breaks off.
    """
    stream = zlib.decompressobj(_GZIP_WBITS)
    data = file.read(_PACKED_BYTES)
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
            while not data and (more := file.read(_PACKED_BYTES)):
                data = more.lstrip(b"\0")
            stream = zlib.decompressobj(_GZIP_WBITS) if data else stream
        else:
            data = stream.unconsumed_tail or file.read(_PACKED_BYTES)
    if not stream.eof:
        yield from _last_bytes(stream)


def _last_bytes(stream: "zlib._Decompress") -> Iterator[bytes]:
    rest = stream.flush()
    if rest:
        yield rest
    if not stream.eof:
        raise BadLine(Reason.TRUNCATED, f"the gzip stream breaks off here; {_REST_IS_LOST}")
