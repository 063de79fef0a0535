"""Objects as bytes: what is a line, what is lost, and what stays small."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embft.clickstream import lines as module
from embft.clickstream.lines import MAX_LINE_BYTES, Line, read_lines, zstd
from embft.clickstream.quarantine import RAW_BYTES, Reason

PLAIN = "s3://shop/part.jsonl"
NAMED_GZ = "s3://shop/part.jsonl.gz"
NAMED_ZST = "s3://shop/part.jsonl.zst"


def lines_of(content: bytes, folder: Path, uri: str = PLAIN) -> list[Line]:
    path = folder / "object"
    path.write_bytes(content)
    return list(read_lines(path, uri))


def raws(found: list[Line]) -> list[bytes]:
    return [line.raw for line in found]


def test_empty_object_has_no_lines(tmp_path: Path) -> None:
    assert lines_of(b"", tmp_path) == []
    assert lines_of(b"", tmp_path, NAMED_GZ) == []
    assert lines_of(gzip.compress(b""), tmp_path, NAMED_GZ) == []


def test_last_line_needs_no_line_feed(tmp_path: Path) -> None:
    assert raws(lines_of(b"one\ntwo", tmp_path)) == raws(lines_of(b"one\ntwo\n", tmp_path)) == [b"one", b"two"]


def test_gzip_is_known_by_its_bytes_whatever_its_name(tmp_path: Path) -> None:
    assert raws(lines_of(gzip.compress(b"one\ntwo\n"), tmp_path, PLAIN)) == [b"one", b"two"]


def test_gzip_members_one_after_the_other_are_one_object(tmp_path: Path) -> None:
    content = gzip.compress(b"one\ntw") + gzip.compress(b"o\n") + b"\0" * 512
    assert raws(lines_of(content, tmp_path, NAMED_GZ)) == [b"one", b"two"]


@pytest.mark.parametrize("padding", [1, 512, module._PACKED_BYTES, 3 * module._PACKED_BYTES])
def test_padding_between_gzip_members_hides_none_of_them(padding: int, tmp_path: Path) -> None:
    first, second = gzip.compress(b"one\n"), gzip.compress(b"two\n")
    content = first + b"\0" * padding + second
    assert gzip.decompress(content) == b"one\ntwo\n"
    assert raws(lines_of(content, tmp_path)) == [b"one", b"two"]


def test_padding_up_to_the_end_of_a_read_hides_no_member(tmp_path: Path) -> None:
    first = gzip.compress(b"one\n")
    content = first + b"\0" * (module._PACKED_BYTES - len(first)) + gzip.compress(b"two\n")
    assert raws(lines_of(content, tmp_path)) == [b"one", b"two"]


def test_plain_text_named_gz_is_one_fault_with_the_bytes_and_the_remedy(tmp_path: Path) -> None:
    (found,) = lines_of(b'{"query": "lamp"}\n' * 3, tmp_path, NAMED_GZ)
    assert (found.number, found.fault and found.fault.reason) == (1, Reason.NOT_GZIP)
    assert found.fault is not None
    assert """b'{"query"'""" in found.fault.detail
    assert "write it again with gzip" in found.fault.detail


def test_gzip_that_breaks_off_gives_its_whole_lines_then_one_fault(tmp_path: Path) -> None:
    # Incompressible lines, so that the break falls in the middle of them.
    text = b"".join(
        zlib.crc32(bytes([n % 256, n // 256])).to_bytes(4, "big").hex().encode() + b"\n" for n in range(9000)
    )
    whole = gzip.compress(text)
    found = lines_of(whole[: len(whole) // 2], tmp_path, NAMED_GZ)
    assert found[-1].fault is not None
    assert found[-1].fault.reason is Reason.TRUNCATED
    assert found[-1].number == len(found)
    assert 3000 < len(found) < 6000
    assert raws(found[:-1]) == text.split(b"\n")[: len(found) - 1]


def test_gzip_that_lost_only_its_trailer_is_truncated(tmp_path: Path) -> None:
    found = lines_of(gzip.compress(b"one\ntwo\n")[:-8], tmp_path, NAMED_GZ)
    assert raws(found[:2]) == [b"one", b"two"]
    assert found[2].fault is not None
    assert found[2].fault.reason is Reason.TRUNCATED


def test_damaged_gzip_is_a_fault_of_its_own(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(b"one\ntwo\n"))
    whole[-8] ^= 0xFF  # the checksum
    found = lines_of(bytes(whole), tmp_path, NAMED_GZ)
    assert found[-1].fault is not None
    assert found[-1].fault.reason is Reason.CORRUPT_GZIP


def test_byte_order_mark_is_not_part_of_the_first_line(tmp_path: Path) -> None:
    assert raws(lines_of(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", tmp_path)) == [b"one", b"\xef\xbb\xbftwo"]


def test_line_at_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    at_limit, over = b"x" * MAX_LINE_BYTES, b"y" * (MAX_LINE_BYTES + 1)
    first, second, third = lines_of(at_limit + b"\n" + over + b"\nlast\n", tmp_path)
    assert (first.raw, first.fault) == (at_limit, None)
    assert second.fault is not None
    assert second.fault.reason is Reason.LINE_TOO_LONG
    assert len(second.raw) == RAW_BYTES
    assert (third.number, third.raw) == (3, b"last")


def test_hundred_megabytes_in_one_gzipped_line_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(b"\0" * (1 << 20))
    tracemalloc.start()
    (found,) = read_lines(path, NAMED_GZ)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.fault is not None
    assert found.fault.reason is Reason.LINE_TOO_LONG
    assert peak_bytes < 24 << 20


@example(content=b"\xef\xbb\xbf", chunk_bytes=1, packed=True)
@given(content=st.binary(max_size=300), chunk_bytes=st.integers(1, 20), packed=st.booleans())
def test_lines_do_not_depend_on_how_the_bytes_come_in(content: bytes, chunk_bytes: int, packed: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, _folder() as folder:
        stored = gzip.compress(content) if packed else b"." + content
        whole = lines_of(stored, folder)
        patch.setattr(module, "_CHUNK_BYTES", chunk_bytes)
        patch.setattr(module, "_PACKED_BYTES", chunk_bytes)
        patch.setattr(module, "_BLOCK_BYTES", chunk_bytes)
        assert lines_of(stored, folder) == whole
    expected = (content if packed else b"." + content).split(b"\n")
    expected[0] = expected[0].removeprefix(b"\xef\xbb\xbf")
    assert raws(whole) == (expected[:-1] if not expected[-1] else expected)


class _folder:
    """A folder per example: hypothesis runs many of them within one tmp_path."""

    def __enter__(self) -> Path:
        import tempfile

        self._kept = tempfile.TemporaryDirectory()
        return Path(self._kept.name)

    def __exit__(self, *_: object) -> None:
        self._kept.cleanup()


def test_zstd_is_read_frame_after_frame_and_says_where_it_breaks(tmp_path: Path) -> None:
    packed = zstd.compress(b"one\ntwo\n") + zstd.compress(b"three\n")
    assert [it.raw for it in lines_of(packed, tmp_path, NAMED_ZST)] == [b"one", b"two", b"three"]
    incompressible = random.Random(1).randbytes(400_000).hex().encode()
    whole = zstd.compress(b"\n".join(incompressible[at : at + 100] for at in range(0, len(incompressible), 100)))
    lines = lines_of(whole[:-100], tmp_path, NAMED_ZST)
    assert len(lines) > 100
    assert [it.fault.reason for it in lines if it.fault] == ["truncated"]
    broken = whole[:4] + b"\xff" * 20 + whole[24:]
    assert [it.fault.reason for it in lines_of(broken, tmp_path, NAMED_ZST) if it.fault] == ["corrupt_zstd"]
    (named,) = lines_of(b"plain", tmp_path, NAMED_ZST)
    assert named.fault
    assert named.fault.reason == "not_zstd"


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_bomb_is_given_up_before_it_costs_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(module, "_HARMLESS_BYTES", 1 << 20)
    (line,) = lines_of(pack(b"x" * (64 << 20)), tmp_path)
    assert line.fault
    assert line.fault.reason == "inflates_too_much"
    assert "200 times its size" in line.fault.detail
