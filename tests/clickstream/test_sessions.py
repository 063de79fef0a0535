"""The session table on disk, and the sums."""

from __future__ import annotations

from pathlib import Path

import pytest

from embft.clickstream.accounting import Accounting, CatalogueAccounting
from tests.clickstream.good_lines import line, read_day


def test_same_lines_give_the_same_bytes_however_they_are_delivered(tmp_path: Path) -> None:
    lines = [line(session_id=f"s{number}") for number in range(10)]
    read_day({"a": b"\n".join(lines)}, tmp_path / "whole")
    read_day({"a": b"\n".join(lines[5:]), "b": b"\n".join(lines[:5])}, tmp_path / "pieces")
    assert (tmp_path / "whole/sessions.parquet").read_bytes() == (tmp_path / "pieces/sessions.parquet").read_bytes()


def test_sums_that_do_not_add_up_are_a_bug() -> None:
    # 10 lines, but 6 + 1 + 1 + 1 = 9 places
    accounting = Accounting(
        lines=10,
        used=6,
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
