"""A shop whose state can be put back, for tests that disturb the same commands again and again."""

import importlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embft.promotion.history import version_of
from embft.promotion.ledger import read_history
from embft.promotion.pointer import read_pointer
from tests.buckets import new_bucket
from tests.pipeline.effects import in_child
from tests.pipeline.promotable import PromotableNights, promotable_nights

_HEAVY = ("mlflow", "sentence_transformers", "transformers", "sqlalchemy", "alembic", "pandas", "sklearn", "embft")


@dataclass
class Shop:
    """A shop with a state, in S3 and in MLflow, to go back to."""

    nights: PromotableNights

    @property
    def database(self) -> Path:
        return self.nights.folder / "mlflow.db"

    def snapshot(self) -> dict[str, bytes]:
        """Keep all that there is. In this process: its client of the bucket is no child's."""
        shutil.copy(self.database, self.database.with_suffix(".kept"))
        bucket = self.nights.project.bucket
        return {key: bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read() for key in self._sizes()}

    def put_back(self, kept: dict[str, bytes]) -> None:
        """Go back to what was kept."""
        shutil.copy(self.database.with_suffix(".kept"), self.database)
        there = self._sizes()
        for key in there.keys() - kept.keys():
            self.nights.project.bucket.delete(key)
        for key, data in kept.items():
            if key not in there or "/attempts/" not in key:  # an attempt's files are written once
                self.nights.project.bucket.put(key, data)

    def _sizes(self) -> dict[str, int]:
        bucket = self.nights.project.bucket
        pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        return {it["Key"]: it["Size"] for page in pages for it in page.get("Contents", ())}


def make_shop(home: Path, endpoint: str, begin: Callable[[PromotableNights], Any]) -> Shop:
    """Make a shop, and let it begin in a child: what that imported, this process imports, once for all children."""
    further = "publish: {items_per_shard: 5}\n"
    nights = promotable_nights(home, new_bucket(endpoint), endpoint, further=further)

    def modules() -> list[str]:
        begin(nights)
        return sorted(sys.modules)

    for name in in_child(modules):
        if name.partition(".")[0] in _HEAVY:
            importlib.import_module(name)
    return Shop(nights)


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
