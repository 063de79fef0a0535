"""The gate decides by held-out figures and how sure they are, and says why."""

from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from embft.errors import ConfigError
from embft.promotion.decision import Decision
from embft.promotion.evaluation_record import Costs
from embft.promotion.gate import decide
from embft.promotion.what_if import with_limits
from embft.promotion_config import Evaluation, Gate, GateRule, Guard
from tests.promotion.nights import COSTS, evaluated

N = 60
GUARD = Guard(name="staples", uri="s3://bucket/staples.csv")


def gate(**rules: Any) -> Gate:
    return Gate.model_validate({"max_val_loss": 2.0, "min_relative_gain": 0.1, **rules})


def noisy(mean: float, spread: float = 0.3, n: int = N) -> Any:
    values = np.random.default_rng(11).normal(0.0, spread, size=n)
    return mean + values - values.mean()


def decided(
    challenger: Any, champion: Any = None, base: Any = 1.0, *, gate_: Gate | None = None, **options: Any
) -> Decision:
    losses = {"base": base, "champion": champion, "challenger": challenger}
    values = {
        name: {"val_loss": np.broadcast_to(loss, (N,)), "ndcg_at_10": 1 - np.broadcast_to(loss, (N,)) / 10}
        for name, loss in losses.items()
        if loss is not None
    }
    guards = options.pop("judged_by", ())
    return decide(*evaluated(values, **options), gate_ or gate(), guards)


def rule(decision: Decision, name: str) -> Any:
    return next(it for it in decision.rules if it.rule == name)


def test_clear_gain_is_promoted_with_both_losses_and_how_sure_in_the_sentence() -> None:
    decision = decided(0.8, champion=1.0)
    assert decision.passed
    assert decision.reason == (
        "passed: validation loss 0.8000 is 20.0% below the champion's 1.0000 "
        "(with 95% confidence +20.0% to +20.0% better; gate.min_relative_gain asks for 10.0% better)"
    )


def test_equal_loss_keeps_champion() -> None:
    assert not decided(1.0, champion=1.0, gate_=gate(min_relative_gain=0)).passed
    assert not decided(1.0, champion=1.0, gate_=gate(min_relative_gain=0, confidence="off")).passed


def test_gain_below_the_limit_keeps_champion() -> None:
    decision = decided(0.95, champion=1.0)
    assert not decision.passed
    assert "5.0% below" in decision.reason


def test_worse_model_is_rejected_and_says_so() -> None:
    decision = decided(1.2, champion=1.0)
    assert not decision.passed
    assert "20.0% above the champion's 1.0000" in decision.reason


def test_a_gain_that_is_found_but_not_shown_keeps_the_champion() -> None:
    # 15 % better on average, but a few queries decide it.
    challenger = np.where(np.arange(N) < 6, -0.5, 1.0)
    assert not decided(challenger, champion=1.0).passed
    assert decided(challenger, champion=1.0, gate_=gate(confidence="off")).passed


def test_without_champion_the_base_stands_in() -> None:
    decision = decided(0.8)
    assert (decision.opponent, decision.passed) == ("base", True)
    assert not decided(1.0).passed


def test_loss_above_the_absolute_limit_is_rejected_whatever_the_gain() -> None:
    decision = decided(2.5, champion=5.0)
    assert not decision.passed
    assert "gate.max_val_loss asks for at most 2" in decision.reason


@pytest.mark.parametrize("broken", [nan, inf])
@pytest.mark.parametrize("who", ["challenger", "champion"])
def test_a_figure_that_is_no_number_is_rejected_with_that_reason(who: str, broken: float) -> None:
    decision = decided(**{"challenger": 0.5, "champion": 1.0, who: broken})
    assert not decision.passed
    assert f"the {who}'s validation loss is not a number" in decision.reason


def test_a_session_that_the_challenger_alone_has_no_figure_for_is_not_left_out() -> None:
    challenger = np.where(np.arange(N) == 7, nan, 0.5)
    assert "the challenger's validation loss is not a number" in decided(challenger, champion=1.0).reason
    nobody = np.where(np.arange(N) == 7, nan, 1.0)
    assert decided(challenger, champion=nobody, base=nobody).passed


def test_too_few_queries_show_nothing() -> None:
    decision = decided(0.5, champion=1.0, queries=[f"q{n % 9}" for n in range(N)])
    assert not decision.passed
    assert "9 different queries are too few to show what validation loss is; 10 are needed" in decision.reason
    assert decided(0.5, champion=1.0, queries=["q"] * N, gate_=gate(confidence="off")).passed


def test_a_slice_that_got_worse_rejects_what_is_better_at_large() -> None:
    tail = [f"query {number}" for number in range(20)]
    challenger = np.where(np.arange(N) < 20, 1.3, 0.4)
    rules = [{"name": "tail", "measure": "val_loss", "slice": "tail", "min_gain": 0.0}]
    decision = decided(challenger, champion=1.0, slices={"tail": tail}, gate_=gate(rules=rules))
    assert [it.rule for it in decision.rules if not it.passed] == ["tail"]
    assert "validation loss on tail queries 1.3000 is 30.0% above the champion's 1.0000" in decision.reason


def test_an_empty_slice_is_rejected_with_that_reason() -> None:
    rules = [{"name": "unseen", "measure": "ndcg_at_10", "slice": "unseen", "at_least": 0.1}]
    decision = decided(0.5, champion=1.0, slices={"unseen": []}, gate_=gate(rules=rules))
    assert not decision.passed
    assert "there is no query on unseen queries to judge nDCG@10 by" in decision.reason


def test_a_measure_that_the_evaluation_lacks_is_rejected_with_that_reason() -> None:
    rules = [{"name": "mine", "measure": "recall_at_10", "at_least": 0.1}]
    assert decided(0.5, champion=1.0, gate_=gate(rules=rules)).reason == (
        "rejected: the evaluation has no Recall@10; run evaluate again with --force"
    )
    without_loss = decide(*evaluated({name: {"ndcg_at_10": noisy(0.5)} for name in ("base", "challenger")}), gate())
    assert "the evaluation has no validation loss" in without_loss.reason
    assert (without_loss.passed, without_loss.detectable) == (False, None)


def test_a_measure_where_more_is_better_has_its_own_direction() -> None:
    better = {"name": "up", "measure": "ndcg_at_10", "min_gain": 0.01}
    assert decided(0.5, champion=1.0, gate_=gate(rules=[better])).passed
    kept = {"name": "floor", "measure": "ndcg_at_10", "at_least": 0.99}
    assert not decided(0.5, champion=1.0, gate_=gate(rules=[kept])).passed


def test_a_guard_set_must_not_regress_whatever_the_clicks_say() -> None:
    guards = {"staples": {"champion": {"ndcg_at_10": 0.8}, "challenger": {"ndcg_at_10": np.full(30, 0.7)}}}
    guards["staples"]["base"] = {"ndcg_at_10": 0.8}
    decision = decided(0.5, champion=1.0, guards=guards, judged_by=[GUARD])
    assert not decision.passed
    assert (
        "nDCG@10 on guard staples 0.7000 is 12.5% below the champion's 0.8000 (rule guard_staples allows 2.0% worse)"
    ) in decision.reason
    assert decided(0.5, champion=1.0, guards=guards, judged_by=[GUARD.model_copy(update={"max_drop": 0.2})]).passed


def test_a_guard_set_that_is_too_small_to_show_a_break_is_judged_by_its_figure() -> None:
    figures = {who: {"ndcg_at_10": np.full(5, 0.8)} for who in ("base", "champion")}
    guard = GUARD.model_copy(update={"confidence": "to_reject"})
    for ndcg, passed in ((0.7, False), (0.79, True)):
        guards = {"staples": {**figures, "challenger": {"ndcg_at_10": np.full(5, ndcg)}}}
        assert decided(0.5, champion=1.0, guards=guards, judged_by=[guard]).passed is passed


def test_only_a_shown_break_breaks_a_rule_that_asks_for_one() -> None:
    rules = [{"name": "drop", "measure": "val_loss", "slice": "own", "min_gain": 0.0, "confidence": "to_reject"}]
    own = [f"query {number}" for number in range(30)]
    slightly = np.where(np.arange(N) < 30, noisy(1.02, 0.5), 0.4)
    assert decided(slightly, champion=1.0, slices={"own": own}, gate_=gate(rules=rules)).passed
    clearly = np.where(np.arange(N) < 30, noisy(1.5, 0.5), 0.2)
    assert not decided(clearly, champion=1.0, slices={"own": own}, gate_=gate(rules=rules)).passed


def test_many_rules_do_not_reject_by_their_number() -> None:
    # One slice of twenty is worse with p around 0.01: by itself it would be a break, among twenty it is chance.
    names = [f"s{number}" for number in range(20)]
    one = {"measure": "val_loss", "min_gain": 0.0, "confidence": "to_reject"}
    rules = [{"name": name, "slice": name, **one} for name in names]
    first, others = ([f"query {number}" for number in part] for part in (range(30), range(30, N)))
    slices = {name: first if name == "s0" else others for name in names}
    unlucky = np.where(np.arange(N) < 30, noisy(1.0, 0.3) + 0.13, 0.3)
    alone = decided(unlucky, champion=1.0, slices=slices, gate_=gate(rules=rules[:1]))
    assert not alone.passed
    assert decided(unlucky, champion=1.0, slices=slices, gate_=gate(rules=rules)).passed


def test_a_model_that_is_too_big_or_too_slow_is_rejected() -> None:
    rules = [
        {"name": "size", "measure": "model_mb", "at_most": 50.0},
        {"name": "latency", "measure": "encode_ms", "min_gain": -0.2},
    ]
    assert decided(0.5, champion=1.0, gate_=gate(rules=rules)).passed
    slow = {**COSTS, "challenger": Costs(model_mb=60.0, encode_ms=1.5)}
    decision = decided(0.5, champion=1.0, costs=slow, gate_=gate(rules=rules))
    assert [it.rule for it in decision.rules if not it.passed] == ["size", "latency"]
    assert "time to encode a query in ms 1.5000 is 50.0% above the champion's 1.0000" in decision.reason


def test_weights_that_were_rolled_back_are_rejected_first_of_all() -> None:
    values = {"base": {"val_loss": np.full(N, 1.0)}, "challenger": {"val_loss": np.full(N, 0.5)}}
    decision = decide(*evaluated(values), gate(), rolled_back="these very weights were rolled back on 2026-03-09")
    assert not decision.passed
    assert decision.reason == "rejected: these very weights were rolled back on 2026-03-09"


def test_the_smallest_gain_that_could_have_been_shown_is_told() -> None:
    few, many = decided(noisy(0.8), champion=1.0), decided(noisy(0.8, 0.1), champion=1.0)
    assert few.detectable is not None
    assert many.detectable is not None
    assert few.detectable == pytest.approx(3 * many.detectable, rel=0.05)


@given(st.floats(0.01, 5.0), st.floats(0.01, 5.0), st.floats(0.0, 0.9))
def test_whoever_passes_is_better_by_the_limit(challenger: float, champion: float, limit: float) -> None:
    decision = decided(challenger, champion=champion, gate_=gate(max_val_loss=10.0, min_relative_gain=limit))
    gain = 1 - challenger / champion
    if decision.passed:
        assert gain > 0
        assert gain >= limit - 1e-9
    elif gain > 0:
        assert gain <= limit + 1e-9
    assert decision == decided(challenger, champion=champion, gate_=gate(max_val_loss=10.0, min_relative_gain=limit))


def test_another_limit_can_be_tried() -> None:
    rules = gate(rules=[{"name": "tail", "measure": "ndcg_at_10", "slice": "tail", "min_gain": 0.05}])
    changed, guards = with_limits(rules, [GUARD], {"min_relative_gain": 0.3, "tail": -0.1, "guard_staples": -0.5})
    assert (changed.min_relative_gain, changed.rules[0].min_gain, guards[0].max_drop) == (0.3, -0.1, 0.5)
    assert changed.max_val_loss == rules.max_val_loss
    with pytest.raises(ConfigError, match="there is no such rule; did you mean 'min_relative_gain'"):
        with_limits(rules, [], {"min_relative_gian": 0.1})
    with pytest.raises(ConfigError, match=r"min_relative_gain cannot be 7\.0"):
        with_limits(rules, [], {"min_relative_gain": 7.0})


@pytest.mark.parametrize(
    ("rule_", "told"),
    [
        (
            {"measure": "ndgc_at_10", "at_least": 0.5},
            "no measure 'ndgc_at_10'; did you mean 'ndcg_at_10'",
        ),
        ({"measure": "ndcg_at_5", "at_least": 0.5}, "did you mean"),
        ({"measure": "ndcg_at_10", "slice": "tial", "at_least": 0.5}, "did you mean 'tail'"),
        ({"measure": "ndcg_at_10", "guard": "staple", "at_least": 0.5}, "did you mean 'staples'"),
        ({"measure": "val_loss", "guard": "staples", "at_most": 0.5}, "no measure 'val_loss'"),
        ({"name": "guard_staples", "measure": "val_loss", "at_most": 0.5}, "the name of that guard's own rule"),
    ],
)
def test_a_rule_about_what_is_not_measured_names_the_closest(rule_: dict[str, Any], told: str) -> None:
    rules = gate(rules=[{"name": "mine", **rule_}])
    with pytest.raises(ValueError, match=told):
        rules.check_against(Evaluation(guards=(GUARD,)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"measure": "ndcg_at_10"}, "no limit; give one"),
        ({"measure": "ndcg_at_10", "at_least": 0.1, "min_gain": 0.1}, "at_least and min_gain; give one"),
        ({"measure": "model_mb", "at_most": 9, "slice": "tail"}, "of the model, not of queries"),
        ({"measure": "irrelevant_dist_shift", "min_gain": 0.1}, "is itself a difference"),
        ({"measure": "ndcg_at_10", "at_least": 0.1, "slice": "tail", "guard": "g"}, "give one of the two"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GateRule.model_validate({"name": "mine", **fields})


def test_rules_that_so_few_resamples_could_never_break_are_refused() -> None:
    shown = {"measure": "ndcg_at_10", "min_gain": -0.1, "confidence": "to_reject"}
    rules = gate(rules=[{"name": f"rule{number}", **shown} for number in range(4)])
    worse = {"name": "staples", "uri": "s3://bucket/staples.csv", "confidence": "to_reject"}
    few = Evaluation.model_validate({"confidence": 0.995, "resamples": 1000, "guards": [worse]})
    with pytest.raises(
        ValueError, match=r"1000 resamples cannot show a break of 5 rules `to_reject`.*take 2000 or more"
    ):
        rules.check_against(few)
    enough = few.model_copy(update={"resamples": 2000})
    rules.check_against(enough)
    figures: dict[str, dict[str, Any]] = {
        "base": {"val_loss": 1.0, "ndcg_at_10": 0.9},
        "challenger": {"val_loss": np.full(N, 0.5), "ndcg_at_10": 0.1},
    }
    evaluation, sets = evaluated(figures, resamples=enough.resamples)
    decision = decide(evaluation.model_copy(update={"confidence": enough.confidence}), sets, rules)
    assert [it.passed for it in decision.rules[2:]] == [False] * 4
    assert "with 99.5% confidence" in decision.reason


def test_two_rules_of_one_name_are_refused() -> None:
    twice = [{"name": "max_val_loss", "measure": "ndcg_at_10", "at_least": 0.1}]
    with pytest.raises(ValidationError, match="'max_val_loss' is there twice"):
        gate(rules=twice)
