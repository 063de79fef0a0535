"""Ranking the catalogue: figures that can be checked by hand, and against a second implementation."""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from ranx import Qrels, Run, evaluate

from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.promotion.evaluation import MEASURES, measure_ranking, per_query_table, rank_catalogue
from embft.promotion.vectors import write_shards

N_ITEMS, DIM = 40, 8


class RandomModel:
    """Texts get random unit vectors, the same each time; counts what it was asked to encode."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIM) for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_items = encode_queries


@pytest.fixture
def items() -> ItemsSet:
    return ItemsSet([f"i{n}" for n in range(N_ITEMS)], [f"item {n}" for n in range(N_ITEMS)])


def session(number: int, query: str, *clicked: str) -> FineTuningInput:
    return FineTuningInput(session_id=f"s{number}", query=query, events=clicked, results=clicked)


def test_click_on_the_third_of_the_ranking() -> None:
    measured = measure_ranking(torch.tensor([0.9, 0.8, 0.7, 0.1]), [2])
    assert measured["ndcg_at_10"] == pytest.approx(1 / math.log2(4))
    assert measured["mrr_at_10"] == pytest.approx(1 / 3)
    assert measured["recall_at_10"] == 1.0


def test_click_beyond_the_tenth_counts_as_not_found() -> None:
    scores = torch.linspace(1, 0, 20)
    assert measure_ranking(scores, [10]) == dict.fromkeys(MEASURES, 0.0)
    assert measure_ranking(scores, [0, 10])["recall_at_10"] == 0.5


def test_measures_agree_with_ranx(items: ItemsSet) -> None:
    chance = np.random.default_rng(5)
    sessions = [
        session(
            n, f"query {n % 30}", *(f"i{i}" for i in chance.choice(N_ITEMS, size=chance.integers(1, 4), replace=False))
        )
        for n in range(60)
    ]
    model = RandomModel()
    ours = rank_catalogue(model, sessions, items, TextQueryRetriever(), queries_per_chunk=7)  # type: ignore[arg-type]

    scores = model.encode_queries([it.query for it in sessions]) @ model.encode_items(list(items.texts)).T
    qrels = Qrels({it.session_id: dict.fromkeys(it.events, 1) for it in sessions})
    run = Run(
        {
            it.session_id: {f"i{i}": float(row[i]) for i in range(N_ITEMS)}
            for it, row in zip(sessions, scores, strict=True)
        }
    )
    theirs = evaluate(qrels, run, ["ndcg@10", "mrr@10", "recall@10"])
    for name, figures in ours.items():
        assert figures.mean() == pytest.approx(theirs[name.replace("_at_", "@")], abs=1e-6)


def test_each_text_is_encoded_once(items: ItemsSet) -> None:
    model = RandomModel()
    sessions = [session(n, f"query {n % 3}", "i1") for n in range(12)]
    rank_catalogue(model, sessions, items, TextQueryRetriever(), queries_per_chunk=2)  # type: ignore[arg-type]
    assert len(model.encoded) == len(set(model.encoded)) == N_ITEMS + 3


def test_table_has_a_row_per_session_and_a_column_per_model_and_measure() -> None:
    sessions = [session(0, "方块", "i1"), session(1, "b", "i2", "i3")]
    table = per_query_table(sessions, {"base": {"val_loss": np.array([1.0, 2.0])}})
    assert table.to_pylist()[1] == {"session_id": "s1", "query": "b", "clicked": ["i2", "i3"], "base.val_loss": 2.0}
    assert table["query"].to_pylist()[0] == "方块"


def test_shards_hold_every_item_once_with_its_vector(items: ItemsSet, tmp_path: object) -> None:
    model = RandomModel()
    table = pa.table({"id": list(items.ids), "text": list(items.texts)})
    paths = list(write_shards(model, table, tmp_path, items_per_shard=15))  # type: ignore[arg-type]
    assert [path.name for path in paths] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    shards = pa.concat_tables([pq.read_table(path) for path in paths])
    assert shards["id"].to_pylist() == list(items.ids)
    vectors = np.array(shards["vector"].to_pylist(), dtype=np.float32)
    np.testing.assert_allclose(vectors, model.encode_items(list(items.texts)))
