"""A tiny shop whose days can be damaged in any way a test needs."""

import json
import random
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.buckets import Bucket
from tests.include import write_include

FIRST = date(2026, 3, 1)
NIGHT = FIRST + timedelta(days=4)

CONFIG = """\
name: tiny
owner: search
synthetic: true
schedule:
  start_date: 2026-01-01
storage:
  artifacts: s3://{bucket}/models
  endpoint_url: {endpoint}
logs:
  uri: s3://{bucket}/logs/dt={{day}}
catalogue:
  uri: s3://{bucket}/items.jsonl
window:
  days: 5
  test_days: 1
training:
  settings: {{devices: cpu, num_epochs: 3}}
gate:
  max_val_loss: 3.0
  min_relative_gain: 0.01
  confidence: off  # its few queries could not show any gain
mlflow:
  tracking_uri: {mlflow}
runtime:
  retries: 2
  retry_delay_s: 1
"""

KINDS = ["sofa", "kettle", "lamp", "rug", "router", "drill", "tent", "stroller"]
WORDS = {
    "sofa": "couch",
    "kettle": "water boiler",
    "lamp": "bedside light",
    "rug": "floor carpet",
    "router": "wifi box",
    "drill": "hole maker",
    "tent": "camping shelter",
    "stroller": "pram",
}
COLOURS = ["red", "blue", "green", "grey", "black"]
ITEMS = {f"{kind[:2]}-{number}": f"{kind} {colour}" for kind in KINDS for number, colour in enumerate(COLOURS)}


def make_shop(home: Path, bucket: Bucket, endpoint: str, mlflow: str) -> Path:
    """Write the catalogue, five days of logs and the include folder; give the latter."""
    write_items(bucket, ITEMS)
    for number in range(5):
        day = FIRST + timedelta(days=number)
        write_day(bucket, day, day_sessions(day, 80))
    return write_include(home, "tiny", CONFIG.format(bucket=bucket.name, endpoint=endpoint, mlflow=mlflow))


def write_items(bucket: Bucket, items: Mapping[str, str]) -> None:
    bucket.put("items.jsonl", _lines({"id": id_, "text": text} for id_, text in items.items()))


def day_sessions(day: date, count: int) -> list[dict[str, Any]]:
    """Sessions of a day: a word of the shoppers, ten shown items, mostly one click on the kind that was meant."""
    chance = random.Random(day.toordinal())
    return [_session(day, number, chance) for number in range(count)]


def _session(day: date, number: int, chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(KINDS)
    meant = [id_ for id_, text in ITEMS.items() if text.startswith(kind)]
    others = chance.sample([id_ for id_ in ITEMS if id_ not in meant], 7)
    shown = [*chance.sample(meant, 3), *others]
    chance.shuffle(shown)
    second = (7 * day.toordinal() + 13 * number) % 60  # no two days search at the same seconds
    clicked = [next(id_ for id_ in shown if id_ in meant)] if number % 8 else []
    return {
        "session_id": f"{day}-{number}",
        "client": f"shopper-{chance.randrange(60)}",
        "time": f"{datetime(day.year, day.month, day.day, 9) + timedelta(minutes=number, seconds=second)}+00:00",
        "query": WORDS[kind],
        "shown": shown,
        "clicked": clicked,
    }


def write_day(bucket: Bucket, day: date, sessions: list[dict[str, Any]]) -> None:
    bucket.put(f"logs/dt={day}/part-000.jsonl", _lines(sessions))


def _lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()
