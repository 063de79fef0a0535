"""Nights that went well, as they lie in S3: what `validate_sessions` of each left for later ones to compare with."""

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.sessions import SCHEMA
from embft.config import StorageConfig
from embft.paths import Paths
from embft.results import Artifact, StageResult
from embft.storage import Storage
from embft.validation.profiles import DayProfile
from tests.buckets import Bucket, new_bucket
from tests.include import write_include
from tests.shop import CONFIG, ITEMS, day_sessions, write_items


@dataclass(frozen=True)
class Shop:
    """A model's config, and its bucket with a catalogue."""

    include: Path
    bucket: Bucket
    storage: Storage
    paths: Paths


def new_shop(home: Path, endpoint: str) -> Shop:
    bucket = new_bucket(endpoint)
    write_items(bucket, ITEMS)
    config = CONFIG.format(bucket=bucket.name, endpoint=endpoint, mlflow="sqlite:///none.db")
    artifacts = f"s3://{bucket.name}/models"
    return Shop(
        write_include(home, "tiny", config),
        bucket,
        Storage(StorageConfig(artifacts=artifacts, endpoint_url=endpoint)),
        Paths(artifacts, "tiny"),
    )


def sessions_of(day: date, count: int = 80) -> pa.Table:
    """A day's sessions as `pull` leaves them."""
    rows = [
        {
            **{name: None for name in SCHEMA.names},
            **it,
            "day": day,
            "time": datetime.fromisoformat(it["time"]),
        }
        for it in day_sessions(day, count)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def profile(day: date, *, n_sessions: int = 80, click_rate: float = 0.87) -> DayProfile:
    """A day of a shop that is open from nine to eleven."""
    return DayProfile(
        day=day,
        figures={
            "n_sessions": (n_sessions, math.sqrt(n_sessions)),
            "click_rate": (click_rate, math.sqrt(click_rate * (1 - click_rate) / n_sessions)),
        },
        hours=[n_sessions // 2 if hour in (9, 10) else 0 for hour in range(24)],
        positions=[0] * 11,
        scripts={"Latin": n_sessions},
    )


def write_nights(
    shop: Shop, profiles: Iterable[DayProfile], left_out: Iterable[date] = (), status: str = "done"
) -> None:
    """Write a night for each day; it saw no other day."""
    for it in profiles:
        prefix = shop.paths.stage(it.day, "validate_sessions")
        with tempfile.TemporaryDirectory() as folder:
            items = Path(folder) / "items.parquet"
            pq.write_table(pa.table({"id": list(ITEMS), "text": list(ITEMS.values())}), items)
            outputs = shop.storage.upload_all({"items.parquet": items}, Paths.attempt(prefix, "1"))
        figures = {
            "profiles": {it.day.isoformat(): it.model_dump(mode="json")},
            "days_left_out": {day.isoformat(): ["too few"] for day in left_out},
        }
        write_result(shop, "validate_sessions", it.day, prefix, outputs, figures, status)


def write_result(
    shop: Shop,
    stage: str,
    day: date,
    prefix: str,
    outputs: dict[str, Artifact],
    figures: dict[str, Any],
    status: str = "done",
) -> str:
    """Commit a stage's result; give its address."""
    result = StageResult(
        stage=stage,
        model="tiny",
        day=day,
        uri=Paths.result(prefix),
        attempt="1",
        status=status,
        inputs={},
        settings_digest="",
        code_version="",
        outputs=outputs,
        figures=figures,
        started_utc=datetime.now(UTC),
        finished_utc=datetime.now(UTC),
    )
    shop.storage.write(result.uri, result.to_json())
    return result.uri
