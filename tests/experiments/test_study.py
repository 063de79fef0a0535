"""What Optuna is asked: values in their ranges, the same for the same trials, and who is stopped."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embft.experiments.study import Space, Told, stopper
from embft.search_config import Range, spelled

LR = Range(low=0.002, high=0.02, log=True)


@st.composite
def ranges(draw: st.DrawFn) -> dict[str, Range]:
    low = draw(st.floats(1e-6, 1e3))
    high = low * draw(st.floats(1.00001, 1e6))
    first = draw(st.integers(-5, 5))
    values = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.just(("a", "b")))
    choices = draw(st.lists(values, min_size=2, max_size=5, unique_by=spelled))
    return {
        "number": Range(low=low, high=high, log=draw(st.booleans())),
        "count": Range(low=first, high=first + draw(st.integers(1, 9))),
        "choice": Range(choices=tuple(choices)),
    }


@settings(max_examples=8, deadline=None)
@given(ranges=ranges(), seed=st.integers(0, 2**32 - 1))
def test_what_is_sampled_lies_in_its_range_and_is_the_same_again(ranges: dict[str, Range], seed: int) -> None:
    space, told = Space(ranges, frozenset({"count"})), list[Told]()
    for number in range(6):
        values = space.sampled(told, seed)
        assert values in space
        assert isinstance(values["count"], int)
        assert spelled(values["choice"]) in map(spelled, ranges["choice"].choices or ())
        told.append(Told(values, "finished" if number % 2 else "pruned", number / 2 if number % 2 else None, [1, 2]))
    assert space.sampled(told, seed) == space.sampled(told, seed)


def loss(values: dict[str, Any]) -> float:
    return abs(math.log(values["items_lr"] / 0.01))


def test_it_finds_the_better_region_and_knows_which_setting_mattered() -> None:
    space, told = Space({"items_lr": LR, "margin": Range(low=0.0, high=1.0)}, frozenset()), list[Told]()
    for seed in range(16):
        values = space.sampled(told, seed)
        told.append(Told(values, "finished", loss(values), []))
    assert min(loss(it.values) for it in told[8:]) < 0.1
    shares = space.importances(told)
    assert shares["items_lr"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert space.importances(told[:3]) == {}
    alike = [it._replace(values={**it.values, "margin": 0.5}) for it in told]
    assert space.importances(alike) == {"items_lr": 1, "margin": 0}
    assert space.importances([it._replace(quality=1.0) for it in told]) == {}


def test_what_others_train_at_this_moment_is_not_proposed_again() -> None:
    space = Space({"items_lr": LR}, frozenset())
    told = [Told(it, "finished", loss(it), []) for it in (space.sampled([], seed) for seed in range(6))]
    first = space.sampled(told, 9)
    running = Told(first, "running", None, [])
    assert space.sampled([*told, running], 9) != first


def test_a_trial_outside_of_todays_ranges_tells_the_sampler_nothing() -> None:
    space = Space({"items_lr": LR}, frozenset())
    assert {"items_lr": 0.5} not in space
    assert {} not in space
    outside = [Told({"items_lr": None}, "finished", 0.0, [1.0, 0.0])] * 9
    assert space.sampled(outside, 3) == space.sampled([], 3)


def test_the_median_stops_a_trial_that_is_worse_than_half_but_not_at_its_first_validation() -> None:
    told = [Told({}, "finished", it, [5, it + 1, it]) for it in (1.0, 2.0, 3.0, 4.0)]
    hopeless = stopper("median", told)
    assert [hopeless(it) for it in (9.0, 9.0)] == [False, True]
    good = stopper("median", told)
    assert [good(it) for it in (9.0, 2.4, 9.0)] == [False, False, False]
    few = stopper("median", told[:3])
    assert not any(few(9.0) for _ in range(5))
    never = stopper("none", told)
    assert not any(never(9.0) for _ in range(5))


def test_hyperband_stops_what_is_worst_of_those_that_came_as_far() -> None:
    losses = [5, 4, 3.5, 3, 2.8, 2.6, 2.4, 2.2, 2]
    told = [Told({}, "finished", 2.0 + it, [loss + it for loss in losses]) for it in range(6)]
    stopped = []
    for number in range(6):  # its brackets differ in when they look
        hopeless = stopper("hyperband", [*told, *told[:number]])
        stopped.append([hopeless(20.0) for _ in range(9)])
    assert any(True in it for it in stopped)
    best = stopper("hyperband", told)
    assert not any(best(0.1) for _ in range(9))
