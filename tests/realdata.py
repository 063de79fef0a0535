"""The real clicks, where there are any: Best Buy's search log, laid out as daily objects."""

import gzip
import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from tests.buckets import Bucket
from tests.include import REPOSITORY, write_include

DATA = Path(os.environ.get("EMBFT_DATA", REPOSITORY.parent / "shared" / "data"))
CLICKS = DATA / "bestbuy_xbox_clicks"

needs_clicks = pytest.mark.skipif(
    not (CLICKS / "clicks_train.jsonl.gz").exists(),
    reason=f"no real clicks in {CLICKS}; set EMBFT_DATA to the folder that holds bestbuy_xbox_clicks",
)

CONFIG = """\
name: xbox
owner: search
schedule:
  start_date: 2011-08-01
storage:
  artifacts: s3://{bucket}/models
  endpoint_url: {endpoint}
logs:
  uri: s3://{bucket}/logs/dt={{day}}
  # A day is what the log calls one; its clicks name no zone, no shown list and no search of their own.
  fields: {{query: query, time: time, clicked: clicked, shown: null, session_id: null, client: session}}
catalogue:
  uri: s3://{bucket}/items.jsonl
window:
  days: 14
  test_days: 2
training:
  settings: {{devices: cpu}}
gate:
  max_val_loss: 2.2
  min_relative_gain: 0.01
mlflow:
  tracking_uri: {mlflow}
runtime:
  retries: 2
  retry_delay_s: 1
"""


def lay_out(bucket: Bucket) -> None:
    """Write the clicks as one JSONL.gz object a day, and the catalogue, into a bucket."""
    by_day: dict[str, list[str]] = defaultdict(list)
    with gzip.open(CLICKS / "clicks_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            by_day[json.loads(line)["time"][:10]].append(line)
    for day, clicks in by_day.items():
        # No time in the header: the same clicks give the same object.
        bucket.put(f"logs/dt={day}/clicks.jsonl.gz", gzip.compress("".join(clicks).encode(), mtime=0))
    bucket.put("items.jsonl", (CLICKS / "items.jsonl").read_bytes())


def make_include(folder: Path, *, bucket: str, endpoint: str, mlflow: str) -> Path:
    """Make a project's include folder with the one model `xbox`."""
    return write_include(folder, "xbox", CONFIG.format(bucket=bucket, endpoint=endpoint, mlflow=mlflow))
