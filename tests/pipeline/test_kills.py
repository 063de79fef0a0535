"""register, publish and rollback, killed before every single thing they do to the outside world: a re-run completes it.

What they do is not listed here: each command is run once and its effects are recorded, see `effects`.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from embft.stages.rollback import roll_back
from tests.pipeline.disturbed import Shop, make_shop, state_of
from tests.pipeline.effects import in_child, killed_before, recorded
from tests.pipeline.nights_by_hand import DAY, ITEMS
from tests.pipeline.promotable import PromotableNights

NEXT = DAY + timedelta(days=1)

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Version 1 serves, with its vectors; the next night has passed the gate."""

    def begin(nights: PromotableNights) -> None:
        nights.passed(DAY)
        nights.register(DAY)
        nights.project.stage("publish", DAY)
        nights.passed(NEXT)

    return make_shop(tmp_path_factory.mktemp("kills"), module_environment, begin)


def killed_everywhere(shop: Shop, work: Callable[[], Any]) -> list[str]:
    """Kill something before each of its effects; each time, a re-run ends where an undisturbed run ends."""
    before = shop.snapshot()
    names = recorded(work)
    wanted = in_child(partial(state_of, shop.nights))
    for number, name in enumerate(names):
        shop.put_back(before)
        killed_before(number, work)

        def rerun() -> dict[str, Any]:
            state = state_of(shop.nights)
            assert state["aliases"]["champion"] in ("1", "2"), "an alias names a version that there is"
            work()
            return state_of(shop.nights)

        assert in_child(rerun) == wanted, f"killed before effect {number}, {name}, of {names}"
    return names


def test_register_publish_and_rollback_are_completed_after_a_kill_at_any_step(shop: Shop) -> None:
    nights = shop.nights
    registering = killed_everywhere(shop, lambda: nights.register(NEXT) and None)
    for name in ("create_logged_model", "create_model_version", "_difference", "set_registered_model_alias", "write"):
        assert name in registering
    registered = in_child(partial(state_of, nights))
    assert registered == {
        "versions": [["1", str(DAY)], ["2", str(NEXT)]],
        "aliases": {"champion": "2", "previous": "1", "challenger": "2"},
        "champion": "2",
        "previous": "1",
        "changes": [[1, "promotion", "1"], [2, "promotion", "2"]],
        "vectors": "1",
        "items": len(ITEMS),
    }

    publishing = killed_everywhere(shop, lambda: nights.project.stage("publish", NEXT) and None)
    assert {"upload", "write"} <= set(publishing)
    assert in_child(partial(state_of, nights)) == {**registered, "vectors": "2"}

    # Its vectors are of the night before: as a catalogue that changed since has none of version 1 yet.
    roll = partial(roll_back, "tiny", include=nights.project.include, to=None, why="worse")
    rolling = killed_everywhere(shop, lambda: roll(request="dag 1") and None)
    assert {"write", "set_registered_model_alias"} <= set(rolling)
    rolled = in_child(partial(state_of, nights))
    assert rolled == {
        **registered,
        "aliases": {"champion": "1", "challenger": "2"},
        "champion": "1",
        "previous": None,
        "changes": [*registered["changes"], [3, "rollback", "1"]],
        "vectors": "1",
    }
