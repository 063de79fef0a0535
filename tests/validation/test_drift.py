"""Distances from stored quantiles against SciPy's, which sees the samples."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstwobign

from embft.validation.drift import distance, drift, explained_by_chance, summarise


@pytest.mark.parametrize(("shift", "scale", "size"), [(0, 1, 300), (0.5, 1, 1000), (0, 2, 5000), (3, 1, 200)])
def test_the_distance_is_scipys_within_one_step_of_the_grid(shift: float, scale: float, size: int) -> None:
    random = np.random.default_rng(1)
    one, two = random.normal(0, 1, 4000), random.normal(shift, scale, size)
    exact = ks_2samp(one, two).statistic
    assert distance(summarise(one, 4000), summarise(two, size)) == pytest.approx(exact, abs=0.006)


def test_values_that_repeat_are_jumps() -> None:
    """A quarter zeros and three quarters ones, against all ones: the distance is a quarter, up to a grid step."""
    one = summarise(np.repeat([0.0, 1.0], [250, 750]), 1000)
    two = summarise(np.ones(1000), 1000)
    assert distance(one, two) == pytest.approx(0.25, abs=0.006)
    assert distance(two, one) == distance(one, two)
    assert distance(two, two) == distance(one, one) == 0


def test_constants_apart_are_as_far_as_can_be() -> None:
    assert distance(summarise(np.zeros(5), 5), summarise(np.ones(5), 5)) == 1


def test_small_samples_need_more_distance() -> None:
    """At n = m = 100 the 0.1 % point of Kolmogorov's distribution, 1.9495, gives 1.9495 · sqrt(2 / 100) = 0.2757."""
    assert explained_by_chance(100, 100) == pytest.approx(0.2757, abs=1e-4)
    assert explained_by_chance(100, 100) == pytest.approx(kstwobign.isf(0.001) * (2 / 100) ** 0.5, abs=1e-7)
    assert explained_by_chance(1, 1) == 1
    random = np.random.default_rng(2)
    few, many = random.normal(0, 1, 40), random.normal(0.3, 1, 40_000)
    assert drift(summarise(few, 40), summarise(many, 40_000)) == 0
    assert drift(summarise(random.normal(0, 1, 40_000), 40_000), summarise(many, 40_000)) > 0.08


def test_no_ranks_have_a_summary() -> None:
    assert summarise(np.empty(0), 0) == {"n": 0, "n_independent": 0, "mean": None, "stdev": None, "quantiles": []}
