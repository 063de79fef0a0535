"""Vectors of a catalogue: what is encoded, what is taken over, what a kill leaves, what the pointer says."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from embft.config import StorageConfig
from embft.errors import DataRejected, StorageUnavailable
from embft.paths import Paths
from embft.promotion.ledger import append, read_history
from embft.promotion.old_vectors import old_vectors
from embft.promotion.pointer import read_pointer, settle_pointer
from embft.promotion.vector_sets import VectorSet, sets_of
from embft.promotion.vectors import publish_vectors
from embft.results import Artifact, Champion
from embft.storage import Storage
from tests.buckets import Bucket, new_bucket

DAY = date(2026, 3, 5)
DIM = 8
CATALOGUE = {f"i{n}": f"item {n}" for n in range(40)}


class RandomModel:
    """Texts get random unit vectors, the same each time, but `?` has no known token; counts what it encodes."""

    dim = DIM

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_items(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIM) * (text != "?") for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def champion(version: str, day: date = DAY) -> Champion:
    weights = {"model.safetensors": Artifact(uri=f"s3://b/{version}", size_bytes=1, sha256=version.zfill(64))}
    return Champion(model="shop", version=version, day=day, mlflow_run_id="r", weights=weights, val_loss=1.0)


@dataclass
class Shop:
    """A bucket, and what was encoded in it."""

    storage: Storage
    bucket: Bucket
    folder: Path
    loads: list[str] = field(default_factory=list)
    model: RandomModel = field(default_factory=RandomModel)

    @property
    def paths(self) -> Paths:
        return Paths(f"s3://{self.bucket.name}/models", "shop")

    def catalogue(self, items: Mapping[str, str], name: str) -> Artifact:
        path = self.folder / "items.parquet"
        pq.write_table(pa.table({"id": list(items), "text": list(items.values())}), path)
        return self.storage.upload(path, f"s3://{self.bucket.name}/{name}/items.parquet")

    def publish(self, version: str = "1", items: Mapping[str, str] = CATALOGUE, day: date = DAY) -> VectorSet:
        def load() -> RandomModel:
            self.loads.append(version)
            return self.model

        self.model.encoded.clear()
        return publish_vectors(
            self.storage,
            self.paths,
            champion(version),
            self.catalogue(items, str(day)),
            day,
            load=load,  # type: ignore[arg-type]
            folder=self.folder,
            items_per_shard=15,
        )

    def promote(self, version: str, day: date = DAY) -> None:
        append(self.storage, self.paths, "promotion", champion(version, day), request=version, why="better")

    def rows(self, published: VectorSet) -> pa.Table:
        path = self.folder / "shard.parquet"
        return pa.concat_tables([pq.read_table(self.storage.fetch(it, path)) for it in published.shards])


@pytest.fixture
def shop(s3: str, tmp_path: Path) -> Shop:
    bucket = new_bucket(s3)
    return Shop(Storage(StorageConfig(artifacts=f"s3://{bucket.name}/models", endpoint_url=s3)), bucket, tmp_path)


def key(uri: str) -> str:
    return uri.split("/", 3)[3]


def test_shards_hold_every_item_in_order_with_unit_vectors_and_zeros_where_no_token_is_known(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    items = {**CATALOGUE, "unknown": "?", "twin": "item 1"}
    with caplog.at_level("INFO"):
        published = shop.publish(items=items)
    table = shop.rows(published)
    assert table["id"].to_pylist() == list(items)
    assert table["norm"].to_pylist() == pytest.approx([float(text != "?") for text in items.values()])
    assert table.schema.field("vector").type == pa.list_(pa.float32(), DIM)
    expected = RandomModel().encode_items(list(items.values()))
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), expected)
    assert (published.items, published.encoded, published.reused, len(published.shards)) == (42, 42, 0, 3)
    assert published.encoding is not None
    assert published.encoding.estimated_bytes == pytest.approx(42 * (4 * DIM + 45), rel=0.1)
    assert "encoding 42 of 42 items: about 0 s, 0.0 MB in 3 shards" in caplog.text


def test_a_changed_catalogue_costs_its_changed_items_wherever_they_moved(shop: Shop) -> None:
    """Items are in another order and other shards, two have a new text, one is new, one is gone."""
    shop.publish()
    changed = {"new": "something new", **dict(reversed(CATALOGUE.items())), "i3": "changed", "i20": "changed"}
    del changed["i7"]
    second = shop.publish(items=changed, day=DAY + timedelta(1))
    assert set(shop.model.encoded) == {"something new", "changed"}
    assert (second.encoded, second.reused) == (3, 37)
    expected = RandomModel().encode_items(list(changed.values()))
    np.testing.assert_array_equal(np.array(shop.rows(second)["vector"].to_pylist(), np.float32), expected)

    fewer = dict(list(changed.items())[5:])
    third = shop.publish(items=fewer, day=DAY + timedelta(2))
    assert (third.encoded, third.reused, third.dimensions, third.encoding) == (0, 35, DIM, None)
    assert shop.loads == ["1", "1"]  # nothing to encode: no model
    assert shop.publish("2", fewer).encoded == 35  # vectors of another version are none of its


def test_an_unchanged_catalogue_loads_no_model_and_carries_the_day_on(shop: Shop) -> None:
    first, other = shop.publish(), {"a": "another"}
    later = shop.publish(day=DAY + timedelta(3))
    assert later == first.model_copy(update={"day": DAY + timedelta(3)})
    assert shop.publish(day=DAY) == later  # a re-run of the older night takes nothing back
    shop.publish(items=other, day=DAY + timedelta(3))
    again = shop.publish(day=DAY + timedelta(3))  # and the catalogue is again what it was
    assert sets_of(shop.storage, shop.paths, champion("1"))[0] == again
    assert shop.loads == ["1", "1"]


def test_vectors_of_other_weights_under_the_same_number_are_never_taken(shop: Shop) -> None:
    """A new MLflow begins to count anew beside the S3 of the old one."""
    old = shop.publish()
    name = key(Paths.manifest(shop.paths.vectors("1", old.catalogue.sha256)))
    shop.bucket.put(name, old.model_copy(update={"weights": "0" * 64}).to_json())
    assert sets_of(shop.storage, shop.paths, champion("1")) == []
    shop.publish()
    assert sets_of(shop.storage, shop.paths, champion("1"))[0].weights == champion("1").digest


def test_killed_anywhere_the_next_one_goes_on_and_damaged_shards_are_written_anew(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = shop.storage.upload

    def killed(path: Path, uri: str) -> Artifact:
        if "/part-00002" in uri:
            raise StorageUnavailable("killed")
        return upload(path, uri)

    monkeypatch.setattr(shop.storage, "upload", killed)
    with pytest.raises(StorageUnavailable):
        shop.publish()
    monkeypatch.undo()
    assert sets_of(shop.storage, shop.paths, champion("1")) == []  # without a manifest it is no set
    first, second = shop.storage.objects(shop.paths.vectors_of("1"))
    shop.bucket.put(key(second.uri), b"damaged")

    published = shop.publish()
    assert set(shop.model.encoded) == {f"item {n}" for n in range(15, 40)}
    assert published.shards[0].uri == first.uri
    assert (published.encoded, published.reused) == (40, 0)
    assert "is written anew" in caplog.text
    np.testing.assert_array_equal(
        np.array(shop.rows(published)["vector"].to_pylist(), np.float32),
        RandomModel().encode_items(list(CATALOGUE.values())),
    )
    shop.bucket.delete(key(published.shards[1].uri))  # a manifest whose shards are not all there is no set either
    assert shop.publish().shards == published.shards
    assert set(shop.model.encoded) == {f"item {n}" for n in range(15, 30)}


def test_a_model_that_gives_no_numbers_is_not_published(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop.model, "encode_items", lambda texts: np.full((len(texts), DIM), np.nan, np.float32))
    with pytest.raises(DataRejected, match="a vector that is not finite, item 'i0' among them"):
        shop.publish()


def test_the_pointer_follows_the_history_and_never_an_older_catalogue(shop: Shop) -> None:
    assert settle_pointer(shop.storage, shop.paths) is None
    one = shop.publish()
    assert settle_pointer(shop.storage, shop.paths) is None  # nobody is champion
    shop.promote("1")
    assert settle_pointer(shop.storage, shop.paths) == one == read_pointer(shop.storage, shop.paths)

    shop.promote("2", DAY + timedelta(1))
    assert settle_pointer(shop.storage, shop.paths) is None  # it has no vectors yet, so those of version 1 serve on
    assert read_pointer(shop.storage, shop.paths) == one
    two = shop.publish("2", day=DAY + timedelta(1))
    assert settle_pointer(shop.storage, shop.paths) == two

    newer = shop.publish("2", {"a": "b"}, DAY + timedelta(2))
    assert settle_pointer(shop.storage, shop.paths) == newer
    shop.bucket.delete(key(newer.shards[0].uri))
    assert settle_pointer(shop.storage, shop.paths) == newer == read_pointer(shop.storage, shop.paths)

    append(shop.storage, shop.paths, "rollback", champion("1"), request="x", why="worse")
    assert settle_pointer(shop.storage, shop.paths) == one  # older, but another version's


def test_a_nights_second_catalogue_serves_though_the_first_ones_writer_had_a_clock_ahead(shop: Shop) -> None:
    shop.promote("1")
    first = shop.publish()
    ahead = first.model_copy(update={"written_utc": first.written_utc + timedelta(minutes=9)})
    shop.bucket.put(key(Paths.manifest(shop.paths.vectors("1", first.catalogue.sha256))), ahead.to_json())
    second = shop.publish(items={"a": "b"})
    assert settle_pointer(shop.storage, shop.paths) == second
    assert settle_pointer(shop.storage, shop.paths) != shop.publish()
    settled = settle_pointer(shop.storage, shop.paths)
    assert settled is not None
    assert settled.catalogue == first.catalogue


def test_two_that_move_the_pointer_at_once_agree_in_the_end(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is about to write what it saw, the other promotes, publishes and points."""
    shop.publish()
    shop.promote("1")
    write = shop.storage.write

    def overtaken(uri: str, data: bytes) -> None:
        monkeypatch.setattr(shop.storage, "write", write)
        shop.publish("2", day=DAY + timedelta(1))
        shop.promote("2", DAY + timedelta(1))
        assert settle_pointer(shop.storage, shop.paths) is not None
        write(uri, data)

    monkeypatch.setattr(shop.storage, "write", overtaken)
    settled = settle_pointer(shop.storage, shop.paths)
    assert settled is not None
    assert settled.version == "2"
    assert read_pointer(shop.storage, shop.paths) == settled


def test_a_pointer_of_another_version_of_embft_is_replaced(shop: Shop) -> None:
    shop.bucket.put(key(shop.paths.current_vectors), b'{"version": "0", "shards": []}')
    published = shop.publish()
    shop.promote("1")
    assert settle_pointer(shop.storage, shop.paths) == published == read_pointer(shop.storage, shop.paths)


def old(shop: Shop, keep_previous: int, days: float) -> set[str]:
    """Versions and catalogues whose vectors are found to be old after some days."""
    listed = shop.storage.objects(shop.paths.all_vectors)
    now = datetime.now(UTC) + timedelta(days)
    found = old_vectors(
        shop.storage, shop.paths, listed, read_history(shop.storage, shop.paths), keep_previous, now=now
    )
    return {it.uri.removeprefix(f"{shop.paths.all_vectors}/").rpartition("/")[0] for it in found}


def test_old_vectors_are_those_of_long_gone_champions_changed_catalogues_and_broken_attempts(shop: Shop) -> None:
    for number, version in enumerate(("1", "2", "3", "4")):
        shop.publish(version, {"a": "b"})
        shop.promote(version, DAY + timedelta(number))
    settle_pointer(shop.storage, shop.paths)
    shop.publish("unheard-of", {"a": "b"})

    def sets(*versions: str) -> set[str]:
        prefix = shop.paths.vectors("", shop.catalogue({"a": "b"}, "any").sha256).rpartition("/")[2]
        return {f"{version}/{prefix}" for version in versions}

    assert old(shop, 2, days=2) == sets("1")
    assert old(shop, 0, days=2) == sets("1", "2")  # the champion's predecessor is what a rollback goes to
    assert old(shop, 0, days=0.9) == set()
    append(shop.storage, shop.paths, "rollback", champion("1"), request="x", why="worse")
    assert old(shop, 0, days=2) == sets("2", "3")  # and the pointer, which names 4 still, keeps what it names
    settle_pointer(shop.storage, shop.paths)
    assert old(shop, 0, days=2) == sets("2", "3", "4")

    shop.publish("1", {"a": "changed"}, DAY + timedelta(9))
    settle_pointer(shop.storage, shop.paths)
    assert old(shop, 3, days=0.9) == set()  # somebody may still read what served until now
    assert old(shop, 3, days=2) == sets("1")
    shop.bucket.put(key(shop.paths.vectors("1", "0" * 64)) + "/part-00000.parquet", b"of a killed publishing")
    assert old(shop, 3, days=2) == sets("1") | {f"1/{'0' * 16}"}
