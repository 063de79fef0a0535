"""`check_ranks`: each kind of damage is named, with the sessions that have it; drift needs an earlier night."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embft.validation.ranks import RanksVerdict, check_ranks
from embft.validation_config import Expectation

Rows = list[dict[str, Any]]
INPUTS = pa.schema(
    [
        ("session_id", pa.string()),
        ("results", pa.list_(pa.string())),
        ("clicked", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.float32())),
    ]
)


@pytest.fixture
def check(suites: dict[str, tuple[Expectation, ...]], tmp_path: Path) -> Any:
    def run(inputs: Rows, reference: dict[str, Any] | None = None, n_train: int = 300) -> RanksVerdict:
        table = pa.Table.from_pylist(inputs, schema=INPUTS)
        return check_ranks(
            table.slice(0, n_train), table.slice(n_train), suites["ranks"], reference=reference, docs_folder=tmp_path
        )

    return run


def test_healthy_ranks_pass_and_say_that_drift_was_not_judged(check: Any, inputs: Rows, tmp_path: Path) -> None:
    verdict = check(inputs)
    assert not verdict.rejected
    assert verdict.figures["warnings"] == []
    assert verdict.figures["notes"] == ["rank_drift must be at most 0.5: not judged, no earlier run to compare with"]
    assert verdict.figures["clicked_minus_not_clicked"] == pytest.approx(0.3, abs=0.02)
    assert verdict.figures["sessions"] == {"train": 300, "test": 100, "broken": 0}
    assert "no earlier run to compare with" in (tmp_path / "index.html").read_text()
    json.dumps(verdict.figures)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ({"ranks": [0.1, None, 0.2, 0.3, 0.1]}, "n_missing must be 0"),
        ({"ranks": [0.1, math.nan, 0.2, 0.3, 0.1]}, "n_not_finite must be 0"),
        ({"ranks": [0.1, math.inf, 0.2, 0.3, 0.1]}, "n_not_finite must be 0"),
        ({"ranks": [0.1, -1.5, 0.2, 0.3, 0.1]}, "rank_min must be at least -1.001"),
        ({"ranks": [0.1, 17.0, 0.2, 0.3, 0.1]}, "rank_max must be at most 1.001"),
        ({"ranks": [0.1, 0.4, 0.2]}, "n_ranks and n_results must be equal"),
        ({"ranks": None}, "n_ranks and n_results must be equal"),
        ({"clicked": ["B0-9"]}, "n_clicked_without_rank must be 0"),
        ({"session_id": "s0"}, "n_earlier_copies must be 0"),
    ],
)
def test_damage_rejects_and_names_its_sessions(check: Any, inputs: Rows, damage: dict[str, Any], rule: str) -> None:
    inputs[11] |= damage
    inputs[350] |= damage
    verdict = check(inputs)
    assert verdict.rejected
    assert verdict.verdict.broken == {11: [rule], 350: [rule]}
    assert verdict.reason.startswith(f"ranks: 2 of 400 rows (0.5 %) break “{rule}” (first: ")


def test_float32_rounding_of_a_cosine_is_in_range(check: Any, inputs: Rows) -> None:
    inputs[0]["ranks"] = [1.0000001, -1.0000001, 0.5, 0.5, 0.5]
    assert not check(inputs).rejected


def test_a_constant_rank_rejects(check: Any, inputs: Rows) -> None:
    verdict = check([{**row, "ranks": [0.5] * 5} for row in inputs])
    assert verdict.reason.startswith("ranks: rank_stdev is 0; it must be at least 1e-06: all ranks are the same")


def test_a_model_that_ranks_clicks_lower_is_a_warning(check: Any, inputs: Rows) -> None:
    verdict = check([{**row, "ranks": [-rank for rank in row["ranks"]]} for row in inputs])
    assert not verdict.rejected
    assert verdict.figures["warnings"][0].startswith("clicked_minus_not_clicked is -0.")


def test_sessions_with_everything_clicked(check: Any, inputs: Rows) -> None:
    """A few are a shopper's choice; many are told; most of them stop the night."""
    for count, n_warnings, rejected in ((30, 0, False), (100, 1, False), (250, 1, True)):
        rows = [{**row, "clicked": row["results"]} if n < count else row for n, row in enumerate(inputs)]
        verdict = check(rows)
        assert (len(verdict.figures["warnings"]), verdict.rejected) == (n_warnings, rejected), count


def test_sessions_without_a_click_are_healthy(check: Any, inputs: Rows) -> None:
    assert not check([{**row, "clicked": []} if n % 2 else row for n, row in enumerate(inputs)]).rejected


def test_no_inputs_reject(check: Any) -> None:
    verdict = check([], n_train=0)
    assert verdict.reason.startswith("ranks: the number of rows is 0")
    assert verdict.figures["distribution"]["n"] == 0


def test_the_next_night_compares_with_this_ones_distribution(check: Any, inputs: Rows) -> None:
    reference = json.loads(json.dumps(check(inputs).figures["distribution"]))
    same = check(inputs, reference)
    assert same.figures["rank_distance"] == 0
    assert same.figures["notes"] == []

    shifted = check([{**row, "ranks": [rank + 0.3 for rank in row["ranks"]]} for row in inputs], reference)
    assert not shifted.rejected
    assert shifted.figures["rank_drift"] > 0.5
    assert shifted.figures["warnings"][0].startswith("rank_drift is 0.")


def test_an_empty_reference_is_no_reference(check: Any, inputs: Rows) -> None:
    for reference in ({}, {"n": 0, "quantiles": []}):
        assert check(inputs, reference).figures["rank_drift"] is None


def test_another_draw_of_the_same_ranks_has_not_drifted(check: Any, inputs: Rows) -> None:
    reference = check(inputs).figures["distribution"]
    noise = np.random.default_rng(8).normal(0.2, 0.05, (400, 5)) + np.array([0, 0.3, 0, 0, 0])
    other = check([{**row, "ranks": ranks.tolist()} for row, ranks in zip(inputs, noise, strict=True)], reference)
    assert other.figures["rank_distance"] > 0
    assert other.figures["rank_drift"] == 0
