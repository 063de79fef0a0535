"""The two real click collections that models are trained and measured on, and their clicks as sessions."""

import csv
import gzip
import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pyarrow as pa

from benchmarks.measures import Case, Evaluation
from embft import FineTuningInput, ItemsSet
from embft.clickstream.negatives import sample_not_clicked
from embft.clickstream.sessions import SCHEMA
from tests import realdata

VALIDATION_FROM, DEV_FROM = "2011-10-09", "2011-10-10"
HOME_DEPOT = realdata.DATA / "home_depot"
CLICKED_GRADE, NOT_CLICKED_GRADE = 2.33, 2.0
_VALIDATION_SHARE = 20  # one train query in so many
_DEV_STRIDE = 2  # a transformer takes a minute for the titles of all dev queries, and a dozen models are measured


@dataclass(frozen=True)
class Click:
    """A query and the item clicked for it; two of other times are equal."""

    query: str
    item: str
    time: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Collection:
    """Clicks to train on, and what the trained model is measured on.

    Args:
        name: In the figures' names.
        data: What it is, in a phrase.
        items: Every item that a click or a draw may name.
        train: Clicks, oldest first where they have a time.
        validation: Clicks that pick the best epoch; never those that are measured.
        rejected: Query → items seen and known not to be wanted; empty where the log has no such thing.
        evaluation: What is measured.
    """

    name: str
    data: str
    items: ItemsSet
    train: list[Click]
    validation: list[Click]
    rejected: Mapping[str, tuple[str, ...]]
    evaluation: Evaluation


def has_data() -> bool:
    """Whether both collections are there."""
    return (realdata.CLICKS / "clicks_train.jsonl.gz").exists() and (HOME_DEPOT / "items.jsonl.gz").exists()


def best_buy() -> Collection:
    """Best Buy's clicks; the development split of the data's README."""
    days = _best_buy_parts()
    texts = {it["id"]: it["text"] for it in map(json.loads, (realdata.CLICKS / "items.jsonl").open(encoding="utf-8"))}
    seen = {click.query for click in [*days["train"], *days["validation"]]}
    counts = Counter(days["dev"])
    weights = {
        "all": list(counts.values()),
        "unseen": [count * (click.query not in seen) for click, count in counts.items()],
    }
    cases = [Case(click.query, {click.item: 1.0}, frozenset([click.item])) for click in counts]
    data = f"Best Buy Xbox clicks: {len(days['dev'])} dev clicks from {DEV_FROM}, {len(texts)} items ranked"
    items = ItemsSet(list(texts), list(texts.values()))
    return Collection("bestbuy", data, items, days["train"], days["validation"], {}, Evaluation(cases, weights, texts))


def best_buy_dev() -> list[Click]:
    """Best Buy's dev clicks, oldest first."""
    return _best_buy_parts()["dev"]


def best_buy_dated() -> list[tuple[date, Click]]:
    """Best Buy's clicks with their days, oldest first."""
    with gzip.open(realdata.CLICKS / "clicks_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [
            (time.date(), Click(" ".join(row["query"].lower().split()), row["clicked"], time))
            for row in map(json.loads, lines)
            for time in [datetime.fromisoformat(row["time"]).replace(tzinfo=UTC)]
        ]


def _best_buy_parts() -> dict[str, list[Click]]:
    parts = defaultdict(list)
    for day, click in best_buy_dated():
        part = ["train", "validation", "dev"][(str(day) >= VALIDATION_FROM) + (str(day) >= DEV_FROM)]
        parts[part].append(click)
    return parts


def home_depot() -> Collection:
    """Home Depot's graded pairs as clicks, shuffled; dev queries rank every item that is judged for any of them."""
    texts = _texts_of("items.jsonl.gz")
    queries = _texts_of("queries.jsonl")
    train: list[Click] = []
    validation: list[Click] = []
    rejected: dict[str, tuple[str, ...]] = {}
    for query_id, grades in _grades("train").items():
        query = queries[query_id]
        clicked = [Click(query, item) for item, grade in grades.items() if grade >= CLICKED_GRADE]
        rejected[query] = tuple(item for item, grade in grades.items() if grade < NOT_CLICKED_GRADE)
        (validation if _is_validation(query) else train).extend(clicked)
    random.Random(0).shuffle(train)
    random.Random(0).shuffle(validation)
    dev = dict(list(_grades("dev").items())[::_DEV_STRIDE])
    judged = {item: texts[item] for item in sorted({item for grades in dev.values() for item in grades})}
    cases = [
        Case(
            queries[query_id],
            {item: grade - 1 for item, grade in grades.items() if grade > 1},
            frozenset(item for item, grade in grades.items() if grade >= CLICKED_GRADE),
        )
        for query_id, grades in dev.items()
    ]
    cases = [case for case in cases if case.relevant]
    data = f"Home Depot grades: {len(cases)} dev queries, {len(judged)} items ranked"
    evaluation = Evaluation(cases, {"dev": [1.0] * len(cases)}, judged)
    items = ItemsSet(list(texts), list(texts.values()))
    return Collection("home_depot", data, items, train, validation, rejected, evaluation)


def sessions_of(
    clicks: Sequence[Click], collection: Collection, *, n_negatives: int, seed: int = 0
) -> list[FineTuningInput]:
    """Make each click a session of its own.

    Args:
        clicks: Of the collection.
        collection: Its items are drawn from; what was clicked for a query anywhere in train is never drawn for it.
        n_negatives: Not-clicked items of a session, drawn where the log tells too few; 0 leaves the click alone.
        seed: Of the draw.

    Returns:
        One session per click, in order.
    """
    if not n_negatives:
        return [_session(n, click, [click.item]) for n, click in enumerate(clicks)]
    everything = _table(list(dict.fromkeys([*collection.train, *collection.validation, *clicks])))
    drawn = sample_not_clicked(_table(clicks), collection.items.ids, count=n_negatives, seed=seed, clicks_of=everything)
    sessions = []
    for number, (click, shown) in enumerate(zip(clicks, drawn["shown"].to_pylist(), strict=True)):
        negatives = dict.fromkeys([*collection.rejected.get(click.query, ()), *shown[1:]])
        results = [click.item, *list(negatives)[:n_negatives]]
        sessions.append(_session(number, click, results))
    return sessions


def _session(number: int, click: Click, results: Sequence[str]) -> FineTuningInput:
    return FineTuningInput(str(number), click.query, [click.item], results, timestamp=click.time)


def _table(clicks: Sequence[Click]) -> pa.Table:
    epoch = datetime.fromtimestamp(0, UTC)
    nothing = dict.fromkeys(SCHEMA.names, [None] * len(clicks))
    columns = nothing | {
        "session_id": [str(number) for number in range(len(clicks))],
        "day": [epoch.date()] * len(clicks),
        "time": [epoch] * len(clicks),
        "query": [click.query for click in clicks],
        "clicked": [[click.item] for click in clicks],
    }
    return pa.table(columns, schema=SCHEMA)


def _texts_of(name: str) -> dict[str, str]:
    path = HOME_DEPOT / name
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as lines:
        return {row["id"]: row["text"] for row in map(json.loads, lines)}


def _grades(split: str) -> dict[str, dict[str, float]]:
    by_query: dict[str, dict[str, float]] = defaultdict(dict)
    with (HOME_DEPOT / f"qrels_{split}.tsv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            by_query[row["query_id"]][row["item_id"]] = float(row["grade"])
    return by_query


def _is_validation(query: str) -> bool:
    return hashlib.blake2b(query.encode(), digest_size=4).digest()[0] % _VALIDATION_SHARE == 0
