"""The session table on disk, and the sums."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from embft.clickstream.accounting import Accounting, CatalogueAccounting
from embft.clickstream.sessions import read_sessions, write_sessions
from tests.clickstream.good_lines import Read, line


def test_table_comes_back_as_it_was_written(read: Read, tmp_path: Path) -> None:
    table = read(line(shown=None) + b"\n" + line(session_id="s2", client=None, clicked=None)).sessions
    write_sessions(table, tmp_path / "sessions.parquet")
    assert read_sessions(tmp_path / "sessions.parquet").equals(table)


def test_same_rows_give_the_same_bytes_however_they_are_chunked(read: Read, tmp_path: Path) -> None:
    table = read(b"\n".join(line(session_id=f"s{number}") for number in range(10))).sessions
    write_sessions(table, tmp_path / "whole")
    write_sessions(pa.concat_tables([table.slice(0, 3), table.slice(3)]), tmp_path / "pieces")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_sums_that_do_not_add_up_are_a_bug() -> None:
    # 10 lines, but 6 + 1 + 1 + 1 = 9 places
    accounting = Accounting(
        lines=10,
        sessions=6,
        duplicates=1,
        filtered={"client_cap": 1},
        quarantined=1,
        quarantined_by_reason={"blank": 1},
    )
    with pytest.raises(AssertionError, match="10 lines read, 9 accounted for"):
        accounting.check()
    accounting.model_copy(update={"lines": 9}).check()


def test_quarantine_without_a_reason_is_a_bug() -> None:
    accounting = CatalogueAccounting(lines=2, items=1, duplicates=0, quarantined=1, quarantined_by_reason={})
    with pytest.raises(AssertionError, match="a bug in embft"):
        accounting.check()
