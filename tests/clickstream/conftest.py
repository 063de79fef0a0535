"""Fixtures: read objects as one day, and the made-up shop."""

from __future__ import annotations

import itertools
from datetime import date
from pathlib import Path

import pytest

from embft.clickstream.shop import Shop, load_shop
from embft.log_config import Logs
from tests.clickstream.good_lines import DAY, LOGS, DayLog, Read, read_day


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read objects given as name → bytes (or as bytes alone), as one day."""
    numbers = itertools.count()

    def reader(objects: bytes | dict[str, bytes], *, day: date = DAY, logs: Logs = LOGS) -> DayLog:
        named = {"part.jsonl": objects} if isinstance(objects, bytes) else objects
        return read_day(named, tmp_path / str(next(numbers)), day=day, logs=logs)

    return reader


@pytest.fixture(scope="session")
def shop() -> Shop:
    return load_shop(Path(__file__).parents[2] / "include" / "demo")
