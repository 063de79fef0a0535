"""The gate decides by the held-out validation loss, and says why."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.config import Gate
from embft.promotion.gate import Decision, decide

DAY = date(2026, 3, 10)


def decided(challenger: float, champion: float | None = None, base: float = 1.0, **rules: float) -> Decision:
    losses = {"base": base, "champion": champion, "challenger": challenger}
    measures = {name: {"val_loss": loss} for name, loss in losses.items() if loss is not None}
    return decide("shop", DAY, measures, Gate(**{"max_val_loss": 2.0, "min_relative_gain": 0.1, **rules}))


def test_clear_gain_is_promoted_with_both_losses_in_the_sentence() -> None:
    decision = decided(0.8, champion=1.0)
    assert decision.passed
    assert decision.reason == (
        "passed: validation loss 0.8000 is 20.0% below the champion's 1.0000 "
        "(gate.min_relative_gain asks for 10.0% below)"
    )


def test_equal_loss_keeps_champion() -> None:
    assert not decided(1.0, champion=1.0, min_relative_gain=0).passed


def test_gain_below_the_limit_keeps_champion() -> None:
    decision = decided(0.95, champion=1.0)
    assert not decision.passed
    assert "5.0% below" in decision.reason


def test_worse_model_is_rejected_and_says_so() -> None:
    decision = decided(1.2, champion=1.0)
    assert not decision.passed
    assert "20.0% above the champion's" in decision.reason


def test_base_stands_in_before_the_first_champion() -> None:
    assert decided(0.8, base=1.0).opponent == "base"
    assert not decided(1.1, base=1.0).passed


def test_better_than_a_bad_champion_is_not_enough_above_the_absolute_limit() -> None:
    decision = decided(2.5, champion=4.0)
    assert not decision.passed
    assert "above gate.max_val_loss 2" in decision.reason


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_loss_that_is_no_number_is_never_promoted(broken: float) -> None:
    for decision in (decided(broken, champion=1.0), decided(0.5, champion=broken)):
        assert not decision.passed
        assert "cannot be compared" in decision.reason


def test_missing_measure_is_never_promoted() -> None:
    rules = Gate(max_val_loss=2.0, min_relative_gain=0.1)
    assert not decide("shop", DAY, {"base": {"val_loss": 1.0}}, rules).passed


@given(st.floats(0.01, 5), st.floats(0.01, 5), st.floats(0, 0.9), st.floats(0.01, 5))
def test_promoted_exactly_when_both_limits_hold(challenger: float, champion: float, gain: float, top: float) -> None:
    decision = decided(challenger, champion=champion, min_relative_gain=gain, max_val_loss=top)
    assert decision.passed == all(rule.passed for rule in decision.rules)
    assert not decision.passed or (challenger < champion and challenger <= top)
