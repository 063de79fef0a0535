"""A night on UBI events: late clicks, purchases that weigh more, and clicks weighed by where they were made."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from embft.clickstream.shop import load_shop
from embft.clickstream.simulator import simulate
from tests.buckets import new_bucket
from tests.include import write_include
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import CONFIG, FIRST, NIGHT

LOGS = """\
logs:
  format: ubi
  uri:
    - s3://{bucket}/logs/ubi_queries/dt={{day}}
    - s3://{bucket}/logs/ubi_events/dt={{day}}
  settle_hours: 3
judgements:
  position_bias: interventions
  weights: {{click: 0.5, add_to_cart: 0.8, purchase: 1.0}}
"""


@pytest.fixture
def shop(s3: str, tmp_path: Path) -> Project:
    bucket = new_bucket(s3)
    before = "logs:\n  uri: s3://{bucket}/logs/dt={{day}}\n"
    assert before in CONFIG
    config = (
        CONFIG.replace(before, LOGS)
        .replace("max_val_loss: 3.0", "max_val_loss: 9.0")
        .replace("num_epochs: 3", "num_epochs: 1")
    )
    mlflow = new_database(tmp_path)
    include = write_include(tmp_path, "tiny", config.format(bucket=bucket.name, endpoint=s3, mlflow=mlflow))
    made_up = load_shop(Path(__file__).parents[2] / "include" / "demo")
    objects = simulate(made_up, first_day=FIRST, days=5, sessions_per_day=200, seed=1, log_format="ubi", late_share=0.1)
    for key, content in objects:
        bucket.put(key.replace("catalogue/items.jsonl", "items.jsonl"), content)
    return Project(include, bucket, "tiny")


def test_a_night_learns_from_ubi_events_and_tells_what_it_made_of_them(shop: Project) -> None:
    results = {it.stage: it for it in shop.night(NIGHT)}
    pulled = results["validate_sessions"].figures["pulled"]
    assert pulled["lines"] == pulled["used"] + pulled["duplicates"] + pulled["filtered"] + pulled["quarantined"]
    assert pulled["used"] > 10 * pulled["sessions"] > 8_000
    assert pulled["quarantined"] == 0

    figures = results["preprocess_ranks"].figures
    values = figures["position_bias"]["propensities"]["values"]
    assert values[0] == 1.0
    assert max(values[5:]) < 1.0  # planted: 6 to the power of -0.8, that is 0.24, and less below
    assert 0 < figures["position_bias"]["weights"]["effective_share"] < 1
    train = results["preprocess_ranks"].outputs["inputs/train.parquet"]
    inputs = pq.read_table(io.BytesIO(shop.storage.read(train.uri) or b"")).to_pylist()
    kinds = {
        kind: weight
        for row in inputs
        for kind, weight in zip(row["event_types"] or [], row["event_weights"] or [], strict=False)
    }
    assert kinds["purchase"] == 1.0
    assert kinds["click"] == 0.5
    assert all(len(row["propensities"]) == len(row["results"]) for row in inputs)

    assert results["gate"].status == "done"
    # The late clicks of the last day already lie in the next day's objects: it alone is new then.
    following = NIGHT + timedelta(days=1)
    assert shop.stage("plan", following).figures["days_to_pull"] == [str(following)]
