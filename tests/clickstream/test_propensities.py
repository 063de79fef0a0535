"""Position bias from a log: planted and found again, held against a plain loop, refused where it cannot be told."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embft.clickstream.impressions import Cells, cells_of, impressions_of
from embft.clickstream.interventions import intervention_sets
from embft.clickstream.position_click_model import em_step, fit_examination, log_likelihood, pairs_that_moved
from embft.clickstream.propensities import (
    Method,
    Propensities,
    effective_sample_size,
    estimate_propensities,
    inverse_propensity_weights,
    shown_propensities,
    summarise_weights,
)
from embft.errors import DataRejected

METHODS: tuple[Method, ...] = ("em", "interventions")
Row = tuple[str, list[str] | None, list[int] | None, list[str]]


def table(rows: list[Row]) -> pa.Table:
    """Sessions given as query, shown, positions and clicked."""
    query, shown, positions, clicked = zip(*rows, strict=True) if rows else ([], [], [], [])
    strings = pa.list_(pa.string())
    return pa.table(
        {
            "query": pa.array(query, pa.string()),
            "shown": pa.array(shown, strings),
            "positions": pa.array(positions, pa.list_(pa.int32())),
            "clicked": pa.array(clicked, strings),
        }
    )


def drawn(planted: NDArray[np.float64], *, n_sessions: int, seed: int = 0, n_queries: int = 40) -> pa.Table:
    """Searches of a ranking that puts attractive items on top, with some chance; clicked as the model says."""
    chance = np.random.default_rng(seed)
    n_items = len(planted) + 4
    attraction = chance.beta(1, 3, size=(n_queries, n_items))
    query = chance.integers(n_queries, size=n_sessions)
    score = np.log(attraction[query]) + chance.gumbel(scale=0.7, size=(n_sessions, n_items))
    shown = np.argsort(-score, axis=1)[:, : len(planted)]
    clicked = chance.random(shown.shape) < planted * np.take_along_axis(attraction[query], shown, 1)
    ids = pa.array([f"i{number}" for number in range(n_items)])

    def lists(chosen: NDArray[np.bool_]) -> pa.Array:
        ends = np.concatenate([[0], np.cumsum(chosen.sum(1))])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), ids.take(pa.array(shown[chosen])))

    columns = {
        "query": pa.array([f"q{number}" for number in query]),
        "shown": lists(np.ones_like(clicked)),
        "positions": pa.nulls(n_sessions, pa.list_(pa.int32())),
        "clicked": lists(clicked),
    }
    return pa.table(columns)


def moved(n_items: int, clicks: tuple[int, int], *, n_impressions: int = 100) -> list[Row]:
    """Items that are shown alone, half of the time at position 1, else at 2, and clicked so often there."""
    return [
        (f"q{item}", ["a"], [position], ["a"] * (number < clicks[position - 1]))
        for item in range(n_items)
        for position in (1, 2)
        for number in range(n_impressions)
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("planted", [np.arange(1, 7) ** -1.0, np.array([1, 0.4, 0.7, 0.2, 0.2, 0.1])])
def test_planted_propensities_are_found_again(method: Method, planted: NDArray[np.float64]) -> None:
    found = estimate_propensities(drawn(planted, n_sessions=30_000), method)
    assert found.values == pytest.approx(planted, rel=0.1)
    assert (found.n_sessions, found.n_impressions) == (30_000, (30_000,) * 6)
    assert all(found.is_estimated)


@pytest.mark.parametrize("method", METHODS)
def test_rates_of_one_item_at_two_positions_are_the_propensity(method: Method) -> None:
    # 40 and 10 clicks of 100 each: the second position is looked at a quarter as often.
    found = estimate_propensities(table(moved(3, (40, 10))), method)
    assert found.values == pytest.approx([1.0, 0.25], abs=1e-4)
    assert found.n_clicks == (120, 30)


def _naive_step(cells: Cells, theta: dict[int, float], gamma: dict[int, float]) -> None:
    """One EM step as the paper writes it: a loop over impressions."""
    seen: dict[int, list[float]] = {k: [] for k in theta}
    attracted: dict[int, list[float]] = {p: [] for p in gamma}
    for p, k, shown, clicks in zip(cells.pairs, cells.positions, cells.impressions, cells.clicks, strict=True):
        for number in range(int(shown)):
            missed = 1 - theta[k] * gamma[p]
            seen[k].append(1.0 if number < clicks else theta[k] * (1 - gamma[p]) / missed)
            attracted[p].append(1.0 if number < clicks else gamma[p] * (1 - theta[k]) / missed)
    theta.update({k: sum(values) / len(values) for k, values in seen.items()})
    gamma.update({p: sum(values) / len(values) for p, values in attracted.items()})


def test_em_agrees_with_a_plain_loop() -> None:
    cells = pairs_that_moved(cells_of(impressions_of(drawn(np.array([1, 0.5, 0.3]), n_sessions=60, n_queries=3)), 3))
    n_pairs = int(cells.pairs.max()) + 1
    chances = np.concatenate([[0.9, 0.5, 0.4], np.linspace(0.2, 0.8, n_pairs)])
    theta = {k: chances[k - 1] for k in (1, 2, 3)}
    gamma = {p: chances[3 + p] for p in range(n_pairs)}
    for _ in range(20):
        chances = em_step(cells, chances, 3)
        _naive_step(cells, theta, gamma)
    np.testing.assert_allclose(chances, [*theta.values(), *gamma.values()], atol=1e-9)


def test_the_fit_ends_where_plain_em_ends() -> None:
    cells = pairs_that_moved(cells_of(impressions_of(drawn(np.array([1, 0.5, 0.3]), n_sessions=1000, n_queries=2)), 3))
    chances = np.full(3 + int(cells.pairs.max()) + 1, 0.5)
    before = -math.inf
    for _ in range(4000):
        chances = em_step(cells, chances, 3)
        after = log_likelihood(cells, chances, 3)
        assert after >= before - 1e-9
        before = after
    fitted = fit_examination(cells, 3, tolerance=1e-14)
    np.testing.assert_allclose(fitted / fitted[0], chances[:3] / chances[0], rtol=1e-4)


def test_intervention_sets_weigh_pairs_as_mantel_and_haenszel() -> None:
    # Pair 0: 10 of 20 at position 1, 6 of 60 at 3: weight 20·60/80 = 15. Pair 1: 1 of 2 and 0 of 2: weight 1.
    cells = Cells(*map(np.array, ([0, 0, 1, 1], [1, 3, 1, 3], [20.0, 60.0, 2.0, 2.0], [10.0, 6.0, 1.0, 0.0])))
    sets = intervention_sets(cells, 3)
    assert (sets.pairs.tolist(), sets.positions.tolist()) == ([0, 0], [1, 3])
    assert sets.impressions.tolist() == [16, 16]
    assert sets.clicks == pytest.approx([15 * 0.5 + 0.5, 15 * 0.1])


def test_impressions_count_first_places_clicks_on_shown_items_and_given_positions() -> None:
    rows: list[Row] = [
        ("q", ["a", "b", "a"], None, ["a", "elsewhere"]),
        ("q", ["b"], [3], ["b"]),
        ("q", None, None, ["a"]),
        ("r", [], None, []),
    ]
    found = impressions_of(table(rows))
    assert found.n_sessions == 3
    assert (found.positions.tolist(), found.clicked.tolist()) == ([1, 2, 3], [True, False, True])
    cells = cells_of(found, 3)
    assert (cells.positions.tolist(), cells.clicks.tolist()) == ([1, 2, 3], [1, 0, 1])
    assert len(cells_of(found, 2)) == 2


_rows = st.lists(
    st.tuples(
        st.sampled_from("pq"), st.permutations("abcd"), st.none(), st.lists(st.sampled_from("abcd"), unique=True)
    ),
    min_size=10,
    max_size=40,
)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25)
@given(rows=_rows, data=st.data())
def test_any_log_gives_probabilities_whatever_the_order_of_sessions(
    method: Method, rows: list[Row], data: st.DataObject
) -> None:
    try:
        found = estimate_propensities(table(rows), method, min_clicks=1)
    except DataRejected as error:
        assert "position_bias: off" in str(error)  # noqa: PT017 - a log without two comparable positions is one case
        return
    assert all(0 < value <= 1 for value in found.values)
    assert found.values[0] == 1
    again = estimate_propensities(table(data.draw(st.permutations(rows))), method, min_clicks=1)
    assert again.values == pytest.approx(found.values, rel=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_the_log_twice_over_tells_the_same(method: Method) -> None:
    sessions = drawn(np.array([1, 0.5, 0.3, 0.2]), n_sessions=8000, n_queries=20)
    once, twice = (estimate_propensities(it, method) for it in (sessions, pa.concat_tables([sessions] * 2)))
    assert twice.values == pytest.approx(once.values, rel=5e-3)
    assert twice.n_clicks == tuple(2 * count for count in once.n_clicks)


def test_position_that_cannot_be_told_takes_the_value_of_the_one_above() -> None:
    # Position 3 has 24 clicks on an item that moved, 5 and 6 no item that was ever seen higher.
    rows = [*moved(3, (40, 20)), *[("q0", ["a"], [3], ["a"])] * 24]
    rows += [("x", ["b"], [position], ["b"]) for position in (5, 6) for _ in range(50)]
    found = estimate_propensities(table(rows), "interventions")
    assert found.is_estimated == (True, True, False, False, False, False)
    assert found.values == pytest.approx([1, 0.5, 0.5, 0.5, 0.5, 0.5], abs=1e-3)
    assert found.of(np.array([[1, 2], [6, 900]])) == pytest.approx(np.array([[1, 0.5], [0.5, 0.5]]), abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("q", None, None, ["a"])], "none of 1 sessions has a shown list"),
        ([], "none of 0 sessions has a shown list"),
        ([("q", ["a", "b"], None, ["z"])] * 9, "none of 9 sessions has a click in its shown list"),
        ([("q", ["a", "b"], None, ["a", "b"])] * 99, "but in this log there are none"),
        (moved(3, (20, 5)), "too few positions have 25 clicks on them"),
    ],
)
def test_log_that_tells_nothing_is_refused_with_a_way_out(method: Method, rows: list[Row], message: str) -> None:
    with pytest.raises(DataRejected, match=f"{message}.*set judgements.position_bias: off"):
        estimate_propensities(table(rows), method)


@pytest.mark.parametrize(
    ("positions", "message"), [([1], "1 positions for 2 results"), ([0, 1], "at position 0; positions count from 1")]
)
def test_positions_that_are_none_are_refused(positions: list[int], message: str) -> None:
    with pytest.raises(DataRejected, match=message):
        impressions_of(table([("q", ["a", "b"], positions, [])]))


def propensities(*values: float) -> Propensities:
    n = len(values)
    return Propensities(
        method="em", values=values, is_estimated=(True,) * n, n_sessions=9, n_impressions=(9,) * n, n_clicks=(1,) * n
    )


def test_weights_are_inverse_and_cut() -> None:
    weights = inverse_propensity_weights(propensities(1, 0.5, 0.05), np.array([1, 2, 3, 3]), max_weight=10)
    assert weights.tolist() == [1, 2, 10, 10]
    # (1 + 2 + 10 + 10)² / (1 + 4 + 100 + 100) = 529 / 205
    assert effective_sample_size(weights) == pytest.approx(529 / 205)
    assert effective_sample_size(np.full(7, 3.0)) == pytest.approx(7)


def test_summary_counts_the_clicks_of_shown_lists() -> None:
    sessions = table(
        [("q", ["a", "b", "c"], None, ["a", "c", "z"]), ("q", ["b"], [3], ["b"]), ("q", None, None, ["a"])]
    )
    summary = summarise_weights(sessions, propensities(1, 0.5, 0.05), max_weight=10)
    # Weights 1, 10 and 10: 441 / 201.
    assert (summary.n_clicks, summary.clipped_share) == (3, pytest.approx(2 / 3))
    assert summary.effective_sample_size == pytest.approx(441 / 201)
    assert summary.effective_share == pytest.approx(147 / 201)
    none = summarise_weights(table([("q", ["a"], None, [])]), propensities(1), max_weight=10)
    assert (none.n_clicks, none.effective_share, none.clipped_share) == (0, 1, 0)


def test_column_beside_the_shown_lists() -> None:
    sessions = table(
        [("q", ["a", "b"], None, []), ("q", None, None, ["a"]), ("q", ["a"], [9], []), ("q", [], None, [])]
    )
    column = shown_propensities(sessions, propensities(1, 0.5, 0.25))
    assert column.type == pa.list_(pa.float32())
    assert column.to_pylist() == [[1, 0.5], None, [0.25], []]
    assert shown_propensities(sessions.slice(2, 1), propensities(1, 0.5, 0.25)).to_pylist() == [[0.25]]


def test_propensities_survive_json() -> None:
    found = propensities(1, 1 / 3)
    assert Propensities.from_json(found.to_json(), "here") == found
    assert Propensities.model_validate(found.model_dump(mode="json")) == found
