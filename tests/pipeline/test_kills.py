"""register, publish and rollback, killed before every single thing they do to the outside world: a re-run completes it.

What they do is not listed here: each command is run once and its effects are recorded, see `effects`.
"""

import importlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embft.promotion import load_check
from embft.promotion.history import version_of
from embft.promotion.ledger import read_history
from embft.promotion.pointer import read_pointer
from embft.stages.rollback import roll_back
from tests.buckets import new_bucket
from tests.pipeline.effects import in_child, killed_before, recorded
from tests.pipeline.nights_by_hand import DAY, ITEMS
from tests.pipeline.promotable import PromotableNights, promotable_nights

NEXT = DAY + timedelta(days=1)
_HEAVY = (
    "mlflow",
    "sentence_transformers",
    "transformers",
    "sqlalchemy",
    "alembic",
    "pandas",
    "sklearn",
    "embft",
    "boto3",
)


@dataclass
class Shop:
    """A shop whose state, in S3 and in MLflow, can be put back."""

    nights: PromotableNights

    @property
    def database(self) -> Path:
        return self.nights.folder / "mlflow.db"

    def snapshot(self) -> dict[str, bytes]:
        """Keep all that there is. In this process: boto3's client of the bucket is no child's."""
        shutil.copy(self.database, self.database.with_suffix(".kept"))
        bucket = self.nights.project.bucket
        pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        keys = [it["Key"] for page in pages for it in page.get("Contents", ())]
        return {key: bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read() for key in keys}

    def put_back(self, kept: dict[str, bytes]) -> None:
        shutil.copy(self.database.with_suffix(".kept"), self.database)
        bucket = self.nights.project.bucket
        pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        there = {it["Key"]: it["Size"] for page in pages for it in page.get("Contents", ())}
        for key in there.keys() - kept.keys():
            bucket.delete(key)
        for key, data in kept.items():
            # What is ever written anew is small, and lies beside the attempts, whose files are written once.
            if key not in there or "/attempts/" not in key:
                bucket.put(key, data)


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Version 1 serves, with its vectors; the next night has passed the gate, with one more item."""
    home = tmp_path_factory.mktemp("kills")
    further = "publish: {items_per_shard: 5}\n"
    nights = promotable_nights(home, new_bucket(module_environment), module_environment, further=further)

    def begin() -> list[str]:
        nights.passed(DAY)
        nights.register(DAY)
        nights.project.stage("publish", DAY)
        nights.passed(NEXT)
        return sorted(sys.modules)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_check, "_difference", lambda *_: 0.0)
        modules = in_child(begin)
    for name in modules:  # paid for once, not in each child
        if name.partition(".")[0] in _HEAVY:
            importlib.import_module(name)
    return Shop(nights)


@pytest.fixture(autouse=True)
def no_load_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process takes seconds; what stands for it here is one effect of `register`."""
    monkeypatch.setattr(load_check, "_difference", lambda *_: 0.0)


def state_of(nights: PromotableNights) -> dict[str, Any]:
    """All that must agree: versions, aliases, history and pointer."""
    history, pointer = read_history(nights.storage, nights.paths), read_pointer(nights.storage, nights.paths)
    whole = {it.uri: it.size_bytes for it in nights.storage.objects(nights.paths.all_vectors)}
    assert pointer is None or all(whole.get(it.uri) == it.size_bytes for it in pointer.shards)
    return {
        "versions": [[it.number, it.tags["embft.day"]] for it in nights.registry.versions()],
        "aliases": nights.registry.aliases(),
        "champion": version_of(history.champion),
        "previous": version_of(history.previous),
        "changes": [[it.number, it.kind, it.to.version] for it in history.changes],
        "vectors": pointer and pointer.version,
        "items": pointer and pointer.items,
    }


def killed_everywhere(shop: Shop, work: Callable[[], Any], again: Callable[[], Any] | None = None) -> list[str]:
    """Kill something before each of its effects; each time, a re-run ends where an undisturbed run ends."""
    before = shop.snapshot()
    names = recorded(work)
    wanted = in_child(partial(state_of, shop.nights))
    assert wanted == in_child(lambda: [work(), state_of(shop.nights)][1])  # asked again, nothing more happens
    for number, name in enumerate(names):
        shop.put_back(before)
        killed_before(number, work)

        def rerun() -> dict[str, Any]:
            state = state_of(shop.nights)
            assert state["aliases"]["champion"] in ("1", "2"), "an alias names a version that there is"
            (again or work)()
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
