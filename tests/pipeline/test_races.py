"""register and rollback beside each other: one stops before each of its effects until the other is done, wholly.

Whoever is last, all that says who serves agrees in the end, and the champion is the one that the history gives.
"""

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest

from embft.stages.rollback import roll_back
from tests.pipeline.disturbed import Shop, make_shop, state_of
from tests.pipeline.effects import at_once, in_child, paused_before, recorded
from tests.pipeline.nights_by_hand import DAY
from tests.pipeline.promotable import PromotableNights

SECOND, THIRD, OLDER = DAY + timedelta(days=1), DAY + timedelta(days=2), DAY - timedelta(days=3)
# What comes before a version is made shows nobody anything.
_UNSEEN = ("log_outputs", "log_batch", "log_model_artifacts", "finalize_logged_model", "create_registered_model")

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Version 2 serves, 1 did before, with their vectors; tonight and a backfill of an old day passed the gate."""

    def begin(nights: PromotableNights) -> None:
        for day in (DAY, SECOND):
            nights.passed(day)
            nights.register(day)
            nights.project.stage("publish", day)
        for day in (THIRD, OLDER):
            nights.passed(day)

    return make_shop(tmp_path_factory.mktemp("races"), module_environment, begin)


def beside(shop: Shop, paused: Callable[[], Any], other: Callable[[], Any]) -> list[dict[str, Any]]:
    """Let one run wholly within the other, at each place where that can matter; gives the states it ends in."""
    before = shop.snapshot()
    names = recorded(paused)
    states = []
    for number, name in enumerate(names):
        if name not in _UNSEEN:
            shop.put_back(before)
            paused_before(number, paused, other)
            states.append(in_child(partial(state_of, shop.nights)))
    shop.put_back(before)
    return states


def registering(shop: Shop, day: date) -> Callable[[], None]:
    return lambda: shop.nights.register(day) and None


def assert_agrees(state: dict[str, Any]) -> None:
    wanted = {"champion": state["champion"], "challenger": state["versions"][-1][0]}
    if state["previous"]:
        wanted["previous"] = state["previous"]
    assert state["aliases"] == wanted, state


def test_two_processes_that_register_one_night_make_one_version_and_one_change(shop: Shop) -> None:
    register = registering(shop, THIRD)
    for state in beside(shop, register, register):
        assert_agrees(state)
        assert [day for _, day in state["versions"]].count(str(THIRD)) == 1
        assert (state["champion"], state["previous"]) == ("3", "2")
        # Both may have written it, each before it saw the other's: it is the same change.
        assert {(kind, version) for _, kind, version in state["changes"][2:]} == {("promotion", "3")}
    before = shop.snapshot()
    at_once(register, register)
    assert_agrees(in_child(partial(state_of, shop.nights)))
    shop.put_back(before)


@pytest.mark.parametrize("paused", [THIRD, OLDER])
def test_tonight_and_a_backfill_of_an_older_day_leave_tonights_model(shop: Shop, paused: date) -> None:
    other = OLDER if paused == THIRD else THIRD
    for state in beside(shop, registering(shop, paused), registering(shop, other)):
        assert_agrees(state)
        tonight = next(number for number, day in state["versions"] if day == str(THIRD))
        assert state["champion"] == tonight
        assert len(state["versions"]) == 4


def test_a_rollback_beside_a_night_agrees_whoever_is_last(shop: Shop) -> None:
    night = registering(shop, THIRD)

    def rollback() -> None:
        roll_back("tiny", include=shop.nights.project.include, request="dag 1", why="worse")

    for state in [*beside(shop, night, rollback), *beside(shop, rollback, night)]:
        assert_agrees(state)
        # Asked for once 3 was in the history, it is 3 that it leaves, though the aliases did not follow yet.
        is_later = state["changes"][2:] == [[3, "promotion", "3"], [4, "rollback", "2"]]
        assert state["champion"] in (("2",) if is_later else ("1", "3"))
        assert state["previous"] != "2", "it was rolled back"
        # Before it is published, a promoted version has no vectors: those of the last that had some go on serving.
        assert state["vectors"] in (("1",) if state["champion"] == "1" else ("1", "2"))
