"""The history of champions as it lies in S3: each entry read once, none missing, nothing in it that breaks out."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from embft.errors import ConfigError
from embft.promotion.history import History
from embft.promotion.ledger import append, read_history
from embft.promotion.vector_sets import VectorSet
from embft.results import Artifact
from embft.storage import Storage
from tests.buckets import new_bucket
from tests.pipeline.nights_by_hand import DAY, NightsByHand, nights_by_hand


@pytest.fixture(scope="module")
def nights(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> NightsByHand:
    """Three versions that served one after the other."""
    made = nights_by_hand(tmp_path_factory.mktemp("ledger"), new_bucket(module_environment), module_environment)
    for version in ("1", "2", "3"):
        made.promote(version)
    return made


def read(nights: NightsByHand) -> History:
    return read_history(nights.storage, nights.paths)


def test_an_entry_is_read_once_however_often_the_history_is(
    nights: NightsByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    reading = Storage.read

    def counted(self: Storage, uri: str) -> bytes | None:
        reads[uri] += 1
        return reading(self, uri)

    monkeypatch.setattr(Storage, "read", counted)
    storage = Storage(nights.config.storage)
    assert read_history(storage, nights.paths) == read_history(storage, nights.paths)
    assert list(reads.values()) == [1, 1, 1]


def test_a_history_with_a_damaged_or_missing_entry_is_none(nights: NightsByHand) -> None:
    uris = [it.uri for it in nights.storage.objects(nights.paths.history)]
    kept = [nights.storage.read(uri) or b"" for uri in uris]
    nights.storage.write(uris[1], kept[1][:-20])
    with pytest.raises(ConfigError, match=r"000002-promotion-2.* is damaged .*: restore it") as damaged:
        read(nights)
    assert "--force" not in str(damaged.value)

    nights.storage.write(uris[1], kept[1])
    nights.storage.remove(uris[:1])  # as a rule of the bucket for old objects does
    with pytest.raises(ConfigError, match=r"entry 1 of .*/history is gone"):
        read(nights)
    nights.storage.write(uris[0], kept[0])
    nights.storage.write(f"{nights.paths.history}/notes.txt", b"somebody's")
    assert [it.to.version for it in read(nights).changes] == ["1", "2", "3"]


def test_a_history_that_is_gone_is_told_where_vectors_serve(nights: NightsByHand) -> None:
    entries = {it.uri: nights.storage.read(it.uri) or b"" for it in nights.storage.objects(nights.paths.history)}
    nights.storage.remove(list(entries))
    assert read(nights).changes == (), "nothing was published yet: this is a model before its first promotion"
    nights.storage.write(nights.paths.current_vectors, b"{}")
    assert read(nights).changes == (), "what wrote that pointer kept no history"
    artifact = Artifact(uri="s3://b/items.parquet", size_bytes=1, sha256="feed")
    pointer = VectorSet(
        model="tiny",
        version="3",
        weights="feed",
        day=DAY,
        dimensions=8,
        items=1,
        catalogue=artifact,
        shards=(artifact,),
        encoded=1,
        reused=0,
        encoding=None,
        written_utc=datetime.now(UTC),
    )
    nights.storage.write(nights.paths.current_vectors, pointer.to_json())
    with pytest.raises(ConfigError, match=r"/history is empty, though .*/current\.json says"):
        read(nights)
    nights.storage.remove([nights.paths.current_vectors])
    for uri, entry in entries.items():
        nights.storage.write(uri, entry)


def test_what_people_write_stays_in_its_line(nights: NightsByHand) -> None:
    two = nights.champion("2")
    append(
        nights.storage,
        nights.paths,
        "rollback",
        two,
        request="a",
        why="\x1b[31mlamps\nERROR forged\r 红 👟" + "x" * 9999,
    )
    append(nights.storage, nights.paths, "rollback", two, request="b", why=" \n ")
    first, second = (it.why for it in read(nights).changes[-2:])
    assert first.startswith("[31mlamps ERROR forged 红 👟xxx")
    assert (len(first), first[-1], second) == (1000, "…", "no reason was given")
