"""How sure a comparison is: against independent computations, and by how often it is right."""

from math import inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from embft.promotion.bootstrap import MIN_QUERIES, Pair, Sample, holm, relative_gain, resample


def compared(queries: list[Any], ours: Any, theirs: Any, *, measure: str = "ndcg_at_10", resamples: int = 4000) -> Pair:
    figures = {measure: (np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float))}
    return resample(queries, figures, lower_is_better=frozenset({"val_loss"}), resamples=resamples)[measure]


def test_interval_of_a_mean_is_that_of_scipys_bootstrap() -> None:
    chance = np.random.default_rng(1)
    values = chance.exponential(size=80)
    ours = compared(list(range(80)), values, np.ones(80), resamples=20_000).ours
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert ours.figure == pytest.approx(values.mean())
    assert ours.interval(0.95) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_interval_of_a_gain_is_that_of_scipys_paired_bootstrap() -> None:
    chance = np.random.default_rng(3)
    theirs = chance.gamma(4.0, size=60)
    ours = theirs * chance.normal(0.9, 0.1, size=60)
    gain = compared(list(range(60)), ours, theirs, measure="val_loss", resamples=20_000).gain

    def lower_by(a: Any, b: Any, axis: int = -1) -> Any:
        return 1 - a.mean(axis=axis) / b.mean(axis=axis)

    told = stats.bootstrap((ours, theirs), lower_by, paired=True, n_resamples=20_000, method="percentile", rng=4)
    assert gain.figure == pytest.approx(1 - ours.mean() / theirs.mean())
    assert gain.interval(0.95) == pytest.approx(tuple(told.confidence_interval), rel=0.03)


def test_sessions_of_one_query_are_drawn_together() -> None:
    # A hundred sessions of each query say no more than one does.
    chance = np.random.default_rng(5)
    ours, theirs = chance.random(30), chance.random(30)
    once = compared(list(range(30)), ours, theirs).gain.interval(0.95)
    many = compared(list(np.repeat(np.arange(30), 100)), np.repeat(ours, 100), np.repeat(theirs, 100)).gain
    assert many.interval(0.95) == pytest.approx(once, abs=1e-9)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance, held, n_tries = np.random.default_rng(6), 0, 400
    for _ in range(n_tries):
        theirs = chance.gamma(2.0, size=80)
        ours = theirs * chance.choice([0.7, 1.1], size=80)  # truly 10 % lower
        low, high = compared(list(range(80)), ours, theirs, measure="val_loss", resamples=1000).gain.interval(0.95)
        held += low <= 0.1 <= high
    # 95 % but for chance (±2 % at two standard errors) and the bootstrap's known optimism on samples of this size.
    assert 0.91 <= held / n_tries <= 0.98


def test_what_is_said_to_be_detectable_is_found_in_8_of_10_cases() -> None:
    chance, found, told = np.random.default_rng(7), 0, []
    for _ in range(300):
        theirs = np.full(100, 1.0)
        ours = theirs - chance.normal(0.0, 0.2, size=100)
        told.append(compared(list(range(100)), ours, theirs, measure="val_loss", resamples=1000).gain.detectable(0.95))
    effect = float(np.mean(told))
    for _ in range(300):
        ours = 1.0 - chance.normal(effect, 0.2, size=100)
        low, _ = compared(list(range(100)), ours, np.ones(100), measure="val_loss", resamples=1000).gain.interval(0.95)
        found += low > 0
    assert found / 300 == pytest.approx(0.8, abs=0.07)


def test_the_same_figures_give_the_same_interval() -> None:
    chance = np.random.default_rng(8)
    ours, theirs = chance.random(50), chance.random(50)
    queries = [f"q{n}" for n in range(50)]
    assert compared(queries, ours, theirs).gain.interval(0.9) == compared(queries, ours, theirs).gain.interval(0.9)


def test_a_model_against_itself_has_no_gain_whatsoever() -> None:
    values = np.random.default_rng(9).random(40)
    gain = compared(list(range(40)), values, values).gain
    assert (gain.figure, gain.interval(0.95), gain.p_no_difference()) == (0.0, (0.0, 0.0), 1.0)


def test_too_few_queries_say_nothing_about_how_sure() -> None:
    queries = [n % (MIN_QUERIES - 1) for n in range(500)]
    pair = compared(queries, np.ones(500), np.full(500, 2.0), measure="val_loss")
    assert pair.gain.figure == 0.5
    assert not pair.gain.is_sure
    assert all(map(isnan, (*pair.gain.interval(0.95), pair.gain.p_no_difference(), pair.gain.detectable(0.95))))


def test_a_session_that_one_model_has_no_figure_for_counts_for_neither() -> None:
    pair = compared(list(range(20)), [nan, *np.ones(19)], [100.0, *np.full(19, 2.0)], measure="val_loss")
    assert (pair.ours.figure, pair.theirs.figure, pair.gain.interval(0.95)) == (1.0, 2.0, (0.5, 0.5))


def test_draws_without_any_query_that_has_a_figure_say_nothing() -> None:
    values = np.full(3000, nan)
    values[:MIN_QUERIES] = 1.0  # half a draw in 10,000 holds none of ten queries among 3,000
    gain = compared(list(range(3000)), values, 2 * values, measure="val_loss", resamples=20_000).gain
    assert MIN_QUERIES <= gain.resampled.size < 20_000
    assert (gain.interval(0.95), gain.detectable(0.95)) == ((0.5, 0.5), 0.0)


def test_nothing_to_measure_is_not_a_number() -> None:
    pair = compared(list(range(20)), np.full(20, nan), np.ones(20))
    assert isnan(pair.ours.figure)
    assert not pair.gain.is_sure


def test_a_gain_over_nothing_is_infinite_and_its_interval_survives_it() -> None:
    assert list(relative_gain(np.array([0.0, 1.0, -1.0]), np.zeros(3), True)) == [0.0, inf, -inf]
    pair = compared(list(range(30)), np.eye(1, 30)[0], np.zeros(30))
    assert pair.gain.interval(0.95) == (0.0, inf)
    assert isnan(pair.gain.detectable(0.95))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_is_what_its_definition_says(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    for number, place in enumerate(order):
        by_definition = max(min(1.0, (len(p_values) - k) * p_values[order[k]]) for k in range(number + 1))
        assert adjusted[place] == pytest.approx(by_definition)


def test_what_was_not_tested_costs_the_others_nothing() -> None:
    adjusted = holm([0.01, nan, 0.04])
    assert (adjusted[0], adjusted[2], isnan(adjusted[1])) == (0.02, 0.04, True)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6)), st.floats(-1e6, 1e6))
def test_a_p_value_is_never_zero_and_never_above_one(resampled: Any, limit: float) -> None:
    sample = Sample(0.0, resampled)
    assert 0 < sample.p_at_least(limit) <= 1
    assert 0 < sample.p_no_difference() <= 1
