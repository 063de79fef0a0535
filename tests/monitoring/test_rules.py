"""What each regression rule says of a day, by numbers that can be checked by hand or by another library."""

from datetime import timedelta
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import median_abs_deviation

from embft.monitoring.day import Shown
from embft.monitoring.rules import NEW_USUAL_AFTER, judge, verdicts
from embft.monitoring_config import DeclineRule, LimitRule, Monitoring, PromotionRule, SameClicksRule, TrailingRule
from tests.monitoring.histories import NDCG, START, day_of, days_of, unmeasured

TRAILING = TrailingRule(name="drop", kind="trailing", days=7, min_days=3, deviations=3.5)
SAME = SameClicksRule(name="same_clicks", kind="same_clicks")
DECLINE = DeclineRule(name="decline", kind="decline", days=28, min_days=5, slack=0.5, threshold=7)
FIGURES = st.lists(st.floats(0.2, 0.9), min_size=1, max_size=25)


def test_a_drop_is_held_against_median_and_mad() -> None:
    """Usual 0.70, 0.72, 0.74: median 0.72, MAD 0.02, so 1.4826 · 0.02 = 0.02965; with the error of a median of three
    √(1 + π/6) · 0.02965 = 0.03660; 3.5 of them are 0.1281, more than 5 % of 0.72: the limit is 0.5919.
    """
    usual = [0.70, 0.72, 0.74]
    broken, kept = (judge(TRAILING, days_of([*usual, figure])) for figure in (0.591, 0.593))
    assert (broken.state, kept.state) == ("broken", "kept")
    assert broken.limit == pytest.approx(0.5919, abs=1e-4)
    assert broken.drop == pytest.approx((0.72 - 0.591) / 0.72)


@given(FIGURES.filter(lambda it: len(it) >= 4), st.floats(0, 0.1))
def test_usual_and_limit_are_scipys(figures: list[float], error: float) -> None:
    rule = TRAILING.model_copy(update={"days": 30})
    past = figures[:-1]
    found = verdicts(rule, days_of(figures, error=error))
    if any(it.state == "broken" for it in found[:-1]):
        return
    scatter = max(median_abs_deviation(past, scale="normal"), error)
    allowed = max(0.05 * np.median(past), 3.5 * scatter * np.sqrt(1 + np.pi / 2 / len(past)))
    # scipy divides by Φ⁻¹(¾) where we multiply by 1.4826.
    assert found[-1].limit == pytest.approx(np.median(past) - allowed, abs=1e-4)
    assert found[-1].usual == pytest.approx(np.median(past))


def test_a_day_of_few_queries_is_held_to_its_own_error() -> None:
    usual = [0.720, 0.721, 0.719, 0.720]
    sure, unsure = (judge(TRAILING, [*days_of(usual), day_of(4, 0.6, error=error)]) for error in (0.01, 0.04))
    assert (sure.state, unsure.state) == ("broken", "kept")


@given(FIGURES, st.floats(0.1, 10))
def test_a_measure_in_another_unit_is_judged_alike(figures: list[float], scale: float) -> None:
    rules = (TRAILING, DECLINE)
    for rule in rules:
        plain = verdicts(rule, days_of(figures, error=0.01))
        scaled = verdicts(rule, days_of([scale * it for it in figures], error=scale * 0.01))
        ties = [abs(it.figure - it.limit) < 1e-9 for it in plain if it.figure and it.limit]
        if not any(ties):
            assert [it.state for it in plain] == [it.state for it in scaled]


@given(FIGURES)
def test_a_loss_is_judged_as_its_mirror_image(figures: list[float]) -> None:
    """What is 1.5 - x of a gain is worse by the same amount; only the share of the usual level differs."""
    loose = {"max_drop": 1e-9}
    gain = verdicts(TRAILING.model_copy(update=loose), days_of(figures))
    loss_rule = TRAILING.model_copy(update={"measure": "val_loss", **loose})
    loss = verdicts(loss_rule, days_of([1.5 - it for it in figures], measure="val_loss"))
    close = [it for it in gain if it.limit is not None and it.figure is not None and abs(it.figure - it.limit) < 1e-6]
    if not close:
        assert [it.state for it in gain] == [it.state for it in loss]


@given(FIGURES, st.floats(0.01, 0.5))
def test_a_worse_day_is_never_judged_milder(figures: list[float], worse: float) -> None:
    *past, newest = figures
    order = ["kept", "broken"]
    for rule in (TRAILING, DECLINE, LimitRule(name="floor", kind="limit", at_least=0.5)):
        at, below = (judge(rule, days_of([*past, it])) for it in (newest, newest - worse))
        if at.is_judged:
            assert order.index(below.state) >= order.index(at.state)


@given(st.lists(st.floats(0.69, 0.73), min_size=7, max_size=14), st.lists(st.floats(0.1, 0.4), min_size=1, max_size=14))
def test_a_broken_day_never_makes_the_next_days_limit_easier(usual: list[float], broken: list[float]) -> None:
    found = verdicts(TRAILING, days_of([*usual, *broken]))[len(usual) :]
    assert {it.state for it in found} == {"broken"}
    assert {it.usual for it in found} == {found[0].usual}


def test_a_level_that_stays_is_usual_once_nothing_younger_says_else() -> None:
    found = verdicts(TRAILING, days_of([0.72] * 10 + [0.60] * 60))
    since = next(number for number, it in enumerate(found) if it.state == "broken")
    until = next(number for number, it in enumerate(found) if number > since and it.state == "kept")
    # Fewer than three of the ten days before it are younger than three times seven days then.
    assert (since, until) == (10, 7 + 3 * 7 + 1)
    assert found[until].is_new_usual
    assert {it.state for it in found[until:]} == {"kept"}


@pytest.mark.parametrize("n_days", [0, 1, 2])
def test_a_short_history_says_nothing(n_days: int) -> None:
    assert verdicts(TRAILING, days_of([0.7] * n_days)) == [
        judge(TRAILING, days_of([0.7] * n)) for n in range(1, n_days + 1)
    ]
    assert {it.state for it in verdicts(TRAILING, days_of([0.7] * n_days))} <= {"not_enough_days"}


def test_a_dull_day_is_no_regression_and_not_usual_either() -> None:
    days = [*days_of([0.72] * 5), day_of(5, 0.1, n_queries=12), day_of(6, 0.72)]
    dull, after = verdicts(TRAILING, days)[-2:]
    assert (dull.state, dull.reason) == ("not_enough_clicks", "12 queries, 50 are needed")
    assert (after.state, after.n_days) == ("kept", 5)


@pytest.mark.parametrize("figure", [None, nan])
def test_a_figure_that_is_none_is_not_judged(figure: float | None) -> None:
    found = verdicts(TRAILING, [*days_of([0.72] * 5), day_of(5, figure), unmeasured(6), day_of(7, 0.72)])
    assert [it.state for it in found[-3:]] == ["not_measured", "not_measured", "kept"]
    assert found[-2].reason == "no search of the day has a click"


def test_days_before_a_long_gap_say_nothing_of_what_is_usual() -> None:
    before = days_of([0.72] * 10)
    late = day_of(10 + 3 * 7, 0.5)
    assert judge(TRAILING, [*before, late]).state == "not_enough_days"


@pytest.mark.parametrize(("figure", "state"), [(0.649, "broken"), (0.65, "kept"), (0.8, "kept")])
def test_an_absolute_limit_needs_no_history(figure: float, state: str) -> None:
    assert judge(LimitRule(name="floor", kind="limit", at_least=0.65), days_of([figure])).state == state


def test_a_loss_has_an_upper_limit() -> None:
    rule = LimitRule(name="ceiling", kind="limit", measure="val_loss", at_most=3.0)
    assert [it.state for it in verdicts(rule, days_of([2.9, 3.1], measure="val_loss"))] == ["kept", "broken"]


def test_a_promise_is_held_with_the_errors_of_both_sides() -> None:
    """Promised 0.80 ± 0.03, found ± 0.04: one deviation is 0.05, three are 0.15, more than 10 %: the limit is 0.65."""
    rule = PromotionRule(name="promise", kind="promotion")
    promised = Shown(n_queries=300, figures={NDCG: 0.80}, errors={NDCG: 0.03})
    found = [judge(rule, [day_of(0, it, error=0.04, promised=promised)]) for it in (0.64, 0.66)]
    assert [it.state for it in found] == ["broken", "kept"]
    assert found[0].limit == pytest.approx(0.65)
    assert judge(rule, days_of([0.1])).state == "not_measured"
    few = promised.model_copy(update={"n_queries": 20})
    assert judge(rule, [day_of(0, 0.1, promised=few)]).state == "not_enough_clicks"


def test_small_drops_add_up() -> None:
    """Usual 0.70 ± 0.02, slack 0.5; days of 0.66 are 2 deviations worse and add 1.5 each: the fifth makes 7.5 > 7."""
    found = verdicts(DECLINE, days_of([0.70] * 5 + [0.66] * 8, error=0.02))
    assert [it.state for it in found[5:]] == ["kept"] * 4 + ["broken"] * 4
    assert found[9].drop == pytest.approx(0.04 / 0.70)


def test_one_terrible_day_is_no_decline() -> None:
    found = verdicts(DECLINE, days_of([0.70] * 5 + [0.0] + [0.70] * 8, error=0.02))
    assert {it.state for it in found[5:]} == {"kept"}


def test_a_decline_is_over_once_the_last_days_are_as_usual() -> None:
    found = verdicts(DECLINE, days_of([0.70] * 5 + [0.66] * 8 + [0.70] * 3, error=0.02))
    assert [it.state for it in found[-3:]] == ["broken", "kept", "kept"]


def test_the_same_model_on_the_same_clicks_falls_by_no_chance() -> None:
    """0.70 to 0.68 is 2.9 % worse: more than 2 %, whatever the error; under another champion only if it is sure."""
    before = day_of(0, 0.70)
    same = day_of(1, 0.9, again=(0.70, 0.68), again_error=0.02)
    new = day_of(1, 0.9, again=(0.70, 0.68), again_error=0.02, champion="4")
    sure = day_of(1, 0.9, again=(0.70, 0.68), again_error=0.005, champion="4")
    assert [judge(SAME, [before, it]).state for it in (same, new, sure)] == ["broken", "kept", "broken"]


def test_same_clicks_stay_broken_until_what_was_lost_is_back() -> None:
    """It fell by a tenth, to 0.9; a rise of 5 % gives 0.945, one more 0.992: within 2 % of where it was."""
    agains = [(0.7, 0.7), (0.7, 0.63), (0.6, 0.6), (0.6, 0.63), (0.5, 0.525)]
    days = [day_of(0, 0.7), *(day_of(number, 0.7, again=it) for number, it in enumerate(agains, 1))]
    found = verdicts(SAME, days)
    assert [it.state for it in found] == ["not_measured", "kept", "broken", "broken", "broken", "kept"]
    assert [round(it.drop or 0, 3) for it in found[2:]] == [0.1, 0.1, 0.055, 0.008]


def test_vectors_that_are_gone_for_some_days_are_broken_until_they_are_back() -> None:
    agains = [(0.7, 0.0), (0.0, 0.0), (0.0, 0.69), (0.69, 0.69)]
    days = [day_of(0, 0.7), *(day_of(number, 0.7, again=it) for number, it in enumerate(agains, 1))]
    assert [it.state for it in verdicts(SAME, days)[1:]] == ["broken", "broken", "kept", "kept"]


def test_same_clicks_say_what_stays_usual_after_six_weeks() -> None:
    days = [day_of(0, 0.7), day_of(1, 0.7, again=(0.7, 0.6))]
    days += [day_of(number, 0.6, again=(0.6, 0.6)) for number in range(2, 60)]
    found = verdicts(SAME, days)
    until = next(number for number, it in enumerate(found) if number > 1 and it.state == "kept")
    assert days[until].day == START + timedelta(1 + NEW_USUAL_AFTER + 1)
    assert found[until].is_new_usual
    assert {it.state for it in found[until:]} == {"kept"}


def test_same_clicks_that_lack_a_figure_are_not_judged() -> None:
    days = [
        day_of(0, 0.7),
        day_of(1, 0.7, again=(None, 0.6)),
        day_of(2, 0.7, again=(0.0, 0.0)),
        day_of(3, 0.7, again=(0.7, 0.1), n_queries=10),
    ]
    states = [it.state for it in verdicts(SAME, days)]
    assert states == ["not_measured", "not_measured", "not_measured", "not_enough_clicks"]


@pytest.mark.parametrize("rule", [{"kind": "trailing", "days": 5}, {"kind": "decline", "days": 10}])
def test_a_rule_that_could_never_judge_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="rule 'never' needs min_days"):
        Monitoring.model_validate({"rules": [{"name": "never", **rule}]})
