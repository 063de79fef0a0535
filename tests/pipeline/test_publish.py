"""`publish`: whose vectors serve, of which catalogue, and what that costs, by what the history says."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embft.errors import ConfigError
from embft.finetuning.models import load_model
from embft.promotion.ledger import append, read_history
from embft.promotion.pointer import read_pointer, settle_pointer
from embft.promotion.vector_sets import VectorSet
from embft.results import StageResult
from tests.buckets import new_bucket
from tests.pipeline.nights_by_hand import DAY, ITEMS, NightsByHand, nights_by_hand

NEXT = DAY + timedelta(days=1)
CHANGED = {**ITEMS, "sofa-red": "lamp red blue", "new": "kettle sofa"}


@pytest.fixture
def nights(s3: str, tmp_path: Path) -> NightsByHand:
    made = nights_by_hand(tmp_path, new_bucket(s3), s3, further="publish: {items_per_shard: 4, keep_previous: 0}\n")
    made.night()
    return made


def publish(nights: NightsByHand, day: date = DAY) -> StageResult:
    return nights.project.stage("publish", day)


def pointer(nights: NightsByHand) -> VectorSet:
    found = read_pointer(nights.storage, nights.paths)
    assert found is not None
    return found


def forbid_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("embft.stages.publish.served_model", load)


def test_promoted_rejected_and_unchanged_nights(nights: NightsByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    none = publish(nights)
    assert (none.status, none.figures["published"]) == ("done", False)
    assert none.reason == "no version serves yet, so there are no vectors to publish"

    champion = nights.promote("1")
    first = publish(nights)  # the result of before stands no more: another version serves
    assert first.figures["published"] is True
    counts = ("version", "dimensions", "items", "encoded", "reused")
    assert [first.figures[it] for it in counts] == ["1", 4, 9, 9, 0]
    assert first.figures["pointer"] == nights.paths.current_vectors
    assert first.figures["estimate"]["bytes"] == pytest.approx(9 * 60, rel=0.2)
    home = nights.folder / "served"
    for name, it in champion.weights.items():
        nights.storage.fetch(it, home / name)
    shard = pq.read_table(nights.storage.fetch(pointer(nights).shards[1], nights.folder / "shard"))
    vectors = load_model(home).encode_items([ITEMS[id_] for id_ in shard["id"].to_pylist()])
    np.testing.assert_allclose(np.array(shard["vector"].to_pylist()), vectors, atol=1e-6)
    assert publish(nights).reused

    # The next night's model is rejected: its changed items get vectors of the champion.
    nights.night(NEXT, CHANGED)
    second = publish(nights, NEXT)
    assert [second.figures[it] for it in counts] == ["1", 4, 10, 2, 8]
    assert pointer(nights).day == NEXT

    forbid_loading(monkeypatch)
    third_day = NEXT + timedelta(days=1)
    nights.night(third_day, CHANGED)
    third = publish(nights, third_day)
    assert [third.figures[it] for it in counts] == ["1", 4, 10, 0, 10]
    assert (third.figures["published"], third.figures["estimate"], pointer(nights).day) == (True, None, third_day)

    older = DAY - timedelta(days=1)  # a backfill, with what is an old catalogue
    nights.night(older, {"other": "lamp"})
    backfill = publish(nights, older)
    assert backfill.figures["published"] is False
    assert backfill.reason == f"vectors of the catalogue of {third_day} serve, which is newer than this night's"
    assert (publish(nights, older).reused, pointer(nights).items) == (True, 10)
    assert publish(nights).model_dump(exclude={"reused"}) == first.model_dump(exclude={"reused"})

    # Somebody removed the pointer: a result that stands is no reason to leave it so.
    nights.project.delete(nights.paths.current_vectors)
    assert publish(nights, third_day).reused is False
    assert pointer(nights).day == third_day


def test_an_old_night_made_champion_by_force_gets_vectors_of_todays_catalogue(nights: NightsByHand) -> None:
    nights.night(NEXT, CHANGED)
    nights.promote("1", NEXT)
    publish(nights, NEXT)
    nights.promote("2", DAY, forced=True)
    assert publish(nights).figures["published"] is True
    served = pointer(nights)
    assert (served.version, served.items, served.day) == ("2", len(CHANGED), NEXT)


def test_weights_that_are_gone_name_the_version_and_the_way_out(nights: NightsByHand) -> None:
    nights.promote("1")
    publish(nights)
    nights.night(NEXT, CHANGED)
    champion = nights.promote("2", NEXT)
    lost = champion.weights["model.safetensors"].uri
    nights.project.delete(lost)
    with pytest.raises(ConfigError, match="weights of version 2 of tiny cannot be used") as failure:
        publish(nights, NEXT)
    assert f"{lost} does not exist" in str(failure.value)
    assert "`embft rollback --model tiny --to 1`" in str(failure.value)
    assert pointer(nights).version == "1"


def test_whoever_is_rolled_back_while_encoding_is_not_pointed_to(
    nights: NightsByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = nights.promote("1")
    publish(nights)
    nights.promote("2")
    storage, paths = nights.storage, nights.paths

    def settle(*_: object) -> VectorSet | None:
        append(storage, paths, "rollback", one, request="now", why="worse")
        return settle_pointer(storage, paths)

    monkeypatch.setattr("embft.stages.publish.settle_pointer", settle)
    result = publish(nights)
    assert (result.figures["published"], pointer(nights).version) == (False, "1")
    assert result.reason == "version 2 no longer serves, so the pointer did not move to its vectors"
    assert read_history(storage, paths).champion == one
