"""Fixtures: read objects as one day, and the made-up shop."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from embft.clickstream.reader import DayLog, read_day
from embft.clickstream.shop import Shop, load_shop
from embft.log_config import Logs
from tests.clickstream.good_lines import DAY, LOGS, Read


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read objects given as name → bytes (or as bytes alone), as one day."""

    def reader(objects: bytes | dict[str, bytes], *, day: date = DAY, logs: Logs = LOGS) -> DayLog:
        if isinstance(objects, bytes):
            objects = {"part.jsonl": objects}
        pairs: Sequence[tuple[str, Path]] = []
        for number, (name, content) in enumerate(objects.items()):
            path = tmp_path / str(number)
            path.write_bytes(content)
            pairs = [*pairs, (f"s3://shop/{name}", path)]
        found = read_day(pairs, day=day, logs=logs)
        found.accounting.check()
        return found

    return reader


@pytest.fixture(scope="session")
def shop() -> Shop:
    return load_shop(Path(__file__).parents[2] / "include" / "demo")
