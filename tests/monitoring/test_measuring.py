"""A day's figures: what is gone is missed, vectors that serve are ranked as they are, and few queries are named."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from embft.clickstream.known import keep_known_clicks
from embft.clickstream.sessions import SCHEMA
from embft.finetuning.catalogue import RankedCatalogue
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.models import StaticEmbeddingsModel
from embft.finetuning.params import FineTuningParams, FineTuningSettings
from embft.monitoring.measuring import Clicks, measure_day, ranking_with_misses
from embft.monitoring.summary import summary_of, worst_queries
from embft.promotion.bootstrap import MIN_QUERIES
from embft.promotion.measuring import HeldOut, Measuring

IDS = [f"i{number}" for number in range(30)]
QUERIES = ["red sofa", "kettle", "\u65b9\u5757"]
CUTOFFS = [10, 3]


class Seeded:
    """A model whose queries have fixed vectors, and which may encode no item."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.random.default_rng(QUERIES.index(text)).normal(size=6) for text in texts]
        return np.array([[1.0, *row] for row in rows], np.float32)


def ranked(ids: Sequence[str], gone: Sequence[str] = ()) -> RankedCatalogue:
    """Items in a fixed order for each query; those that are gone come last for every query."""
    rows = {id_: np.random.default_rng(100 + number).normal(size=6) for number, id_ in enumerate(IDS)}
    vectors = np.array([[-1000.0 if id_ in gone else 0.0, *rows[id_]] for id_ in ids], np.float32)
    return RankedCatalogue(
        Seeded(),  # type: ignore[arg-type]
        ItemsSet(ids, ids),
        ranker=lambda queries, items: queries @ items.T,
        item_vectors=vectors,
    )


@settings(max_examples=25)
@given(
    gone=st.sets(st.sampled_from(IDS), max_size=15),
    clicked=st.lists(st.lists(st.sampled_from(IDS), min_size=1, max_size=14, unique=True), min_size=1, max_size=3),
)
def test_an_item_that_is_gone_counts_as_one_that_comes_last_of_all(gone: set[str], clicked: list[list[str]]) -> None:
    queries = QUERIES[: len(clicked)]
    left = ranked([id_ for id_ in IDS if id_ not in gone])
    figures = ranking_with_misses(left, queries, clicked, cutoffs=CUTOFFS)
    cases = [(query, dict.fromkeys(ids, 1.0)) for query, ids in zip(queries, clicked, strict=True)]
    expected = ranked(IDS, gone=sorted(gone)).measure(cases, cutoffs=CUTOFFS)
    assert figures.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(figures[name], values, atol=1e-6)


def test_one_of_two_clicked_items_is_gone_and_the_other_first() -> None:
    """1 / log2(2) over 1 / log2(2) + 1 / log2(3) = 1 / 1.6309 = 0.6131."""
    catalogue = ranked(IDS)
    first = next(id_ for id_ in IDS if catalogue.measure([("kettle", {id_: 1.0})])["mrr_at_10"][0] == 1.0)
    figures = ranking_with_misses(catalogue, ["kettle", "kettle"], [[first, "gone"], ["gone"]], cutoffs=[10])
    assert figures["ndcg_at_10"] == pytest.approx([0.6131, 0.0], abs=1e-4)
    assert figures["mrr_at_10"].tolist() == [1.0, 0.0]
    assert figures["recall_at_10"].tolist() == [0.5, 0.0]


def test_a_day_whose_clicks_have_nothing_beside_them_has_every_figure_but_the_loss() -> None:
    items = ItemsSet(["a", "b"], ["red sofa", "green lamp"])
    model = tiny_model(["red", "sofa", "green", "lamp"])
    alone = FineTuningInput(session_id="s", query="red", events=["a"], results=["a"])
    clicks = Clicks(["red", "lamp"], [["a"], ["gone"]], [0], [alone])
    held_out = HeldOut([alone], items, TextQueryRetriever(), (), {})
    measuring = Measuring(held_out, FineTuningParams(), FineTuningSettings(loss_func="in_batch_softmax"), [10])
    found = measure_day(model, RankedCatalogue(model, items), clicks, measuring, cutoffs=[10])
    assert np.isnan(found.figures["val_loss"]).all()
    assert found.figures["recall_at_10"].tolist() == [1.0, 0.0]
    assert found.cautions[0].startswith("there is no validation loss: none of 1 clicked sessions has a not-clicked")


def tiny_model(words: Sequence[str]) -> StaticEmbeddingsModel:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*words, "?"])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return StaticEmbeddingsModel(tokenizer, torch.eye(len(words) + 1))


def test_clicks_on_what_is_gone_go_with_what_was_told_of_them() -> None:
    row = dict.fromkeys(SCHEMA.names) | {"session_id": "s", "query": "q", "shown": ["a"]}
    rows = [
        {**row, "clicked": ["a", "gone"], "actions": ["click", "purchase"], "dwell_s": [None, 3.0]},
        {**row, "clicked": ["gone"], "actions": None, "dwell_s": None},
        {**row, "clicked": ["a"], "actions": None, "dwell_s": [1.0]},
    ]
    table = pa.table({name: pa.array([it[name] for it in rows], SCHEMA.field(name).type) for name in SCHEMA.names})
    kept = keep_known_clicks(table, {"a"}).select(["clicked", "actions", "dwell_s"]).to_pylist()
    assert kept == [
        {"clicked": ["a"], "actions": ["click"], "dwell_s": [None]},
        {"clicked": ["a"], "actions": None, "dwell_s": [1.0]},
    ]


def per_query(queries: Sequence[str], ours: Sequence[float], base: Sequence[float]) -> pa.Table:
    return pa.table(
        {
            "query": queries,
            "slices": pa.array([["tail"]] * len(queries), pa.list_(pa.string())),
            "champion.ndcg_at_10": pa.array(ours, pa.float64()),
            "base.ndcg_at_10": pa.array(base, pa.float64()),
        }
    )


def test_the_error_of_a_mean_is_that_of_its_queries() -> None:
    queries, ours = [f"q{number}" for number in range(200)], np.random.default_rng(0).uniform(size=200)
    found = summary_of(per_query(queries, ours, ours), ["head", "tail"])
    error = ours.std(ddof=1) / np.sqrt(200)  # one session a query: the textbook's
    assert found["errors"]["all"]["ndcg_at_10"] == pytest.approx(error, rel=0.1)
    assert found["errors"]["tail"] == found["errors"]["all"]
    assert [(it.name, it.n_queries) for it in found["sets"]] == [("all", 200), ("head", 0), ("tail", 200)]
    few = MIN_QUERIES - 1
    assert summary_of(per_query(queries[:few], ours[:few], ours[:few]), [])["errors"]["all"] == {"ndcg_at_10": None}


def test_the_queries_that_lost_most_are_named_unless_too_few_people_searched_for_them() -> None:
    table = per_query(["a", "b", "b", "c", "d"], [0.1, 0.5, 0.3, 1.0, np.nan], [0.2, np.nan, 0.1, 0.0, 0.0])
    queries = ["A", "B", "B", "C", "D"]
    found = worst_queries(table, queries, None)
    assert [(it.query, it.n_sessions, it.ndcg, it.base_ndcg) for it in found] == [
        ("B", 2, 0.4, None),
        ("A", 1, 0.1, 0.2),
    ]
    assert [it.query for it in worst_queries(table, queries, frozenset({"A", "C", "D"}))] == ["A"]
    many = [f"{number:02}" for number in range(30)]
    assert len(worst_queries(per_query(many, [0.0] * 30, [0.0] * 30), many, None)) == 10
