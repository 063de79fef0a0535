"""A small healthy shop: a catalogue, sessions, and ranks, each easy to break in one place."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embft.validation_config import SUITES, Expectation, load_suite

EXPECTATIONS = Path(__file__).parents[2] / "include" / "expectations"
N_ITEMS = 50


@pytest.fixture(scope="session")
def suites() -> dict[str, tuple[Expectation, ...]]:
    return {name: load_suite(EXPECTATIONS, name) for name in SUITES}


@pytest.fixture
def items() -> list[dict[str, Any]]:
    return [{"id": f"B0-{n}", "text": f"game number {n}"} for n in range(N_ITEMS)]


@pytest.fixture
def sessions() -> list[dict[str, Any]]:
    """600 sessions over ten days; five items shown, every second session clicks the second of them."""
    return [
        {
            "session_id": f"s{n}",
            "day": date(2011, 10, 1 + n // 60),
            "time": datetime(2011, 10, 1 + n // 60, 6 + n % 60 // 5, n * 11 % 60, n * 7 % 60, tzinfo=UTC),
            "client": None,
            "query": f"query {n % 7}",
            "shown": [f"B0-{(n + k) % N_ITEMS}" for k in range(5)],
            "clicked": [f"B0-{(n + 1) % N_ITEMS}"] if n % 2 else [],
        }
        for n in range(600)
    ]


@pytest.fixture
def inputs() -> list[dict[str, Any]]:
    """400 sessions of five results, the second clicked, with ranks around 0.5 (clicked) and 0.2 (not clicked)."""
    random = np.random.default_rng(7)
    ranks = random.normal(0.2, 0.05, (400, 5))
    ranks[:, 1] += 0.3
    return [
        {
            "session_id": f"s{n}",
            "results": [f"B0-{k}" for k in range(5)],
            "clicked": ["B0-1"],
            "ranks": ranks[n].tolist(),
        }
        for n in range(400)
    ]
