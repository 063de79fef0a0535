"""What is told of a regression: once, again only when it is much worse, and once when it is over."""

from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.monitoring.day import MonitoredDay, QueryFigure
from embft.monitoring.message import Message
from embft.monitoring.replay import Replay, regression_signals, replay
from embft.monitoring_config import LimitRule, MonitorRule, SameClicksRule, TrailingRule
from tests.monitoring.histories import START, config_of, day_of, days_of, unmeasured

DROP = TrailingRule(name="drop", kind="trailing", days=7, min_days=3)
TAIL = TrailingRule(name="tail_drop", kind="trailing", slice="tail", days=7, min_days=3)
SAME = SameClicksRule(name="same_clicks", kind="same_clicks")
FLOOR = LimitRule(name="floor", kind="limit", at_least=0.5, severity="critical")
USUAL = [0.72, 0.721, 0.719, 0.72]


def told(days: Sequence[MonitoredDay], *rules: MonitorRule) -> Sequence[Message]:
    return replay(days, config_of(*(rules or (DROP,)))).messages


def states(days: Sequence[MonitoredDay], *rules: MonitorRule) -> list[tuple[str, str, int]]:
    """Incident, state and place of the day of each message."""
    return [(it.incident, it.state, (it.day - START).days) for it in told(days, *rules)]


def test_a_regression_is_told_once_and_once_when_it_is_over() -> None:
    days = days_of([*USUAL, 0.61, 0.60, 0.61, 0.61, 0.72, 0.72, 0.72, 0.72])
    assert states(days) == [("regression_all", "opened", 4), ("regression_all", "recovered", 9)]


def test_days_to_and_fro_are_one_regression() -> None:
    days = days_of([*USUAL, 0.61, 0.72, 0.61, 0.72, 0.60, 0.72, 0.72])
    assert states(days) == [("regression_all", "opened", 4), ("regression_all", "recovered", 10)]


def test_few_clicks_that_leave_it_open_do_not_end_one() -> None:
    """On 0.62 ± 0.04 the rule is kept, and yet it is as low as before."""
    vague = [day_of(number, 0.62, error=0.04) for number in (5, 6, 7)]
    days = [*days_of(USUAL), day_of(4, 0.61), *vague]
    assert states(days) == [("regression_all", "opened", 4)]
    assert states([*days, day_of(8, 0.72), day_of(9, 0.72)])[-1] == ("regression_all", "recovered", 9)


def test_days_that_say_nothing_neither_begin_nor_end_one() -> None:
    dull = [day_of(4, 0.2, n_queries=5), unmeasured(5)]
    opened = [*days_of(USUAL), *dull, day_of(6, 0.61)]
    still = [*opened, day_of(7, 0.72), day_of(8, 0.72, n_queries=5), unmeasured(9)]
    assert states(opened) == states(still) == [("regression_all", "opened", 6)]
    assert states([*still, day_of(10, 0.72)])[-1] == ("regression_all", "recovered", 10)
    assert regression_signals(still, config_of(DROP)) == []


def test_it_is_told_again_when_it_is_twice_as_bad_and_never_for_less() -> None:
    """Usual 0.72: 0.61 is 15 % worse, 0.55 is 24 %, 0.40 is 44 %, more than twice as bad."""
    days = days_of([*USUAL, 0.61, 0.55, 0.40, 0.45, 0.40])
    assert states(days) == [("regression_all", "opened", 4), ("regression_all", "changed", 6)]


def test_twice_as_bad_on_a_day_that_may_be_chance_is_not_told() -> None:
    days = [*days_of(USUAL), day_of(4, 0.66), day_of(5, 0.58, error=0.04)]
    assert states(days) == [("regression_all", "opened", 4)]


def test_a_critical_rule_that_breaks_later_is_told() -> None:
    found = told(days_of([*USUAL, 0.52, 0.49]), DROP, FLOOR)
    assert [(it.state, it.severity) for it in found] == [("opened", "warning"), ("changed", "critical")]


def test_several_rules_on_one_day_are_one_message_with_all_of_them() -> None:
    (message,) = told(days_of([*USUAL, 0.45]), DROP, FLOOR)
    assert message.severity == "critical"
    assert message.words.title == "shop: nDCG@10 was 0.450 on 2026-03-05, below the limit of 0.5"
    assert "Rule drop: nDCG@10 fell to 0.450 on 2026-03-05, 38 % below the usual 0.720 (limit 5.7 %)." in (
        message.words.details
    )


def test_a_slice_that_falls_with_everything_is_no_second_message() -> None:
    both = [*days_of(USUAL, slices={"tail": 0.5}), day_of(4, 0.6, slices={"tail": 0.4})]
    (message,) = told(both, DROP, TAIL)
    assert message.incident == "regression_all"
    assert any("tail queries" in it for it in message.words.details)
    alone = [*days_of(USUAL, slices={"tail": 0.5}), day_of(4, 0.72, slices={"tail": 0.4})]
    assert states(alone, DROP, TAIL) == [("regression_tail", "opened", 4)]


def test_the_words_say_what_and_how_bad_and_since_when() -> None:
    (message,) = told([*days_of(USUAL, base=0.6), day_of(4, 0.61, base=0.6)])
    words = message.words
    assert words.title == "shop: nDCG@10 fell to 0.610 on 2026-03-05, 15 % below the usual 0.720 (limit 5.7 %)"
    assert words.details == (
        "Measured on 500 searches with a click, 200 distinct queries.",
        "Version 3, from the night of 2026-02-28, serves; it is measured since 2026-03-01.",
    )
    assert words.chart is not None
    assert words.chart.figures[-5:] == (*USUAL, 0.61)
    assert (words.chart.days[-1], len(words.chart.days)) == (date(2026, 3, 5), 14)
    assert words.command == "embft rollback --model shop --why 'nDCG@10 got worse on 2026-03-05'"


def test_a_recovery_says_how_long_it_was_worse() -> None:
    *_, over = told(days_of([*USUAL, 0.61, 0.60, 0.72, 0.72]))
    assert over.words.title == "shop: nDCG@10 has recovered: 0.720 on 2026-03-08 (usual: 0.720)"
    assert over.words.details[0].startswith("It was worse from 2026-03-05 on, for 3 days")


def test_a_level_that_became_usual_ends_the_regression_and_says_so() -> None:
    opened, over = told(days_of([0.72] * 10 + [0.60] * 60))
    assert (opened.state, over.state) == ("opened", "recovered")
    assert over.words.title == "shop: nDCG@10 stays at 0.600 on 2026-03-31; that counts as usual now"


def test_a_loss_that_rises_is_told_as_rising() -> None:
    rule = DROP.model_copy(update={"measure": "val_loss"})
    (message,) = told(days_of([3.0, 3.01, 2.99, 3.0, 3.6], measure="val_loss"), rule)
    assert message.words.title == (
        "shop: validation loss rose to 3.600 on 2026-03-05, 20 % above the usual 3.000 (limit 5 %)"
    )


def test_simulated_clicks_are_named_as_such() -> None:
    days = days_of([*USUAL, 0.61])
    found = replay(days, config_of(DROP, synthetic=True))
    assert found.synthetic
    assert [it.synthetic for it in found.messages] == [True]


def test_where_the_base_fell_as_well_it_is_the_traffic_and_no_rollback_is_proposed() -> None:
    days = [*days_of(USUAL * 2, base=0.6), day_of(8, 0.61, base=0.5)]
    (message,) = told(days)
    assert message.words.causes[0].what == "People search for other things, which are harder to answer"
    assert "17 % worse as well, 0.500 against a usual 0.600" in message.words.causes[0].evidence
    assert message.words.command is None


def test_same_clicks_that_fall_point_to_the_model_and_to_a_rollback() -> None:
    days = [*days_of(USUAL * 2, base=0.6), day_of(8, 0.61, base=0.5, again=(0.72, 0.60))]
    (message,) = told(days, DROP, SAME)
    assert message.words.causes[0].what == "The model, its vectors or the catalogue changed, not what people search for"
    assert message.words.causes[0].evidence.startswith("the clicks of 2026-03-08, ranked again, get nDCG@10 0.600")
    assert message.words.command is not None
    (alone,) = told([*days_of(USUAL), day_of(4, 0.74, again=(0.72, 0.60))], SAME)
    assert alone.words.title == (
        "shop: nDCG@10 of the same clicks fell to 0.600 on 2026-03-05, 17 % below the 0.720 before (limit 2 %)"
    )


def test_items_that_are_gone_are_a_cause_and_a_rollback_would_not_help() -> None:
    gone = {"lost_sessions": 60, "items": 396, "items_removed": 41}
    days = [*days_of(USUAL * 2, base=0.6), day_of(8, 0.61, base=0.6, traffic=gone)]
    (message,) = told(days)
    evidence = [it.evidence for it in message.words.causes]
    assert evidence[:2] == [
        "in 12 % of the clicked searches no clicked item is there (usual: 0 %)",
        "41 items are gone since 2026-03-08; it has 396 now",
    ]
    assert message.words.command is None


def test_only_what_is_unusual_is_a_cause() -> None:
    odd = {
        "clicked_sessions": 1200,
        "unseen_share": 0.4,
        "quarantined": 200,
        "warnings": ("a line less", "as on every day"),
    }
    usual = days_of(USUAL * 2, base=0.6, traffic={"warnings": ("as on every day",)})
    found = {it.what: it.evidence for it in told([*usual, day_of(8, 0.61, base=0.6, traffic=odd)])[0].words.causes}
    assert found == {
        "Many new queries": "40 % of the clicked searches have a query that no day before had (usual: 10 %)",
        "Much of the log cannot be read": "20 % of its 1,000 lines are in quarantine (usual: 0 %)",
        "More clicks than usual": "1,200 searches with a click (usual: 500)",
        "Warning of the day": "a line less",
    }
    assert told([*usual, day_of(8, 0.61, base=0.6, traffic={"warnings": ("as on every day",)})])[0].words.causes == ()


def test_another_champion_a_slice_and_a_query_are_causes() -> None:
    before = QueryFigure(query="rocksmith", n_sessions=20, ndcg=0.7, base_ndcg=0.7)
    now = before.model_copy(update={"ndcg": 0.1})
    usual = days_of(USUAL * 2, slices={"tail": 0.5, "head": 0.8}, examples=(before,))
    worse = day_of(8, 0.61, champion="4", slices={"tail": 0.25, "head": 0.79}, examples=(now,))
    found = {it.what: it.evidence for it in told([*usual, worse])[0].words.causes}
    assert found["Another version serves"].startswith(
        "version 4 of the night 2026-02-28; on 2026-03-08 it was version 3"
    )
    assert found["tail queries fell most"] == "0.250, 50 % worse than their usual 0.500"
    assert found["Query “rocksmith”"] == "20 clicked searches at nDCG@10 0.100, 0.700 on 2026-03-08"


@given(st.lists(st.one_of(st.none(), st.floats(0.3, 0.8)), max_size=25))
def test_the_newest_days_signals_are_what_a_replay_says(figures: list[float | None]) -> None:
    """A night that knows only the days up to its own says what a replay of the whole history says of it."""
    days, config = days_of(figures), config_of(DROP, FLOOR)
    whole = replay(days, config)
    for number in range(len(days)):
        until = replay(days[: number + 1], config).messages
        assert until == tuple(it for it in whole.messages if it.day <= days[number].day)
    kinds = [it.state for it in whole.messages if it.state != "changed"]
    assert kinds == ["opened", "recovered"] * (len(kinds) // 2) + ["opened"] * (len(kinds) % 2)


def test_a_replay_looks_at_the_days_asked_for_and_still_knows_what_is_usual() -> None:
    days, config = days_of([*USUAL, 0.61, 0.72, 0.72, 0.61]), config_of(DROP)
    found = replay(days, config, from_day=START + timedelta(5), to_day=START + timedelta(7))
    assert (found.first, found.last, found.n_days) == (START + timedelta(5), START + timedelta(7), 3)
    assert [(it.state, it.day) for it in found.messages] == [("opened", START + timedelta(7))]


def test_a_replay_says_which_days_it_could_not_judge_and_why() -> None:
    days = [*days_of([0.72] * 4), day_of(4, 0.1, n_queries=9), unmeasured(5), unmeasured(6)]
    found = [(it.first, it.last, it.state, it.reason) for it in replay(days, config_of(DROP)).not_judged]
    day = [START + timedelta(number) for number in range(7)]
    assert found == [
        (day[0], day[2], "not_enough_days", "2 judged days before it, 3 are needed"),
        (day[4], day[4], "not_enough_clicks", "9 queries, 50 are needed"),
        (day[5], day[6], "not_measured", "no search of the day has a click"),
    ]


@pytest.mark.parametrize("rules", [(), (DROP,)])
def test_an_empty_history_tells_nothing(rules: tuple[MonitorRule, ...]) -> None:
    assert regression_signals([], config_of(*rules)) == []
    assert replay([], config_of(*rules)) == Replay(
        model="shop", synthetic=False, first=None, last=None, n_days=0, messages=(), not_judged=()
    )


def test_where_the_same_clicks_are_what_is_told_it_is_still_said_that_no_search_explains_it() -> None:
    days = [*days_of(USUAL), day_of(len(USUAL), 0.71, again=(0.72, 0.6))]
    (message,) = told(days, SAME)
    assert message.words.causes[0].what == (
        "The model, its vectors or the catalogue changed, not what people search for"
    )
    assert message.words.causes[0].evidence == f"it is the clicks of {days[-2].day} that fell, ranked again"
