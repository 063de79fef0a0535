"""Ranking the catalogue: figures that can be checked by hand, and against their definitions."""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from embft.finetuning.catalogue import MEASURES, RankedCatalogue, measure_ranking
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.models import StaticEmbeddingsModel
from embft.finetuning.params import FineTuningParams, FineTuningSettings
from embft.promotion.evaluation import described, figures_of, per_query_table
from embft.promotion.measuring import HeldOut, Measuring

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


def test_a_clicked_item_on_top_is_found_whatever_the_sign_of_its_score() -> None:
    # Torchmetrics' recall and reciprocal rank take a score at or below 0 for "not relevant".
    for scores in ([-0.1, -0.2, -0.3], [0.0, -0.2, -0.3], [-1.0, -2.0, -1e6]):
        assert set(measure_ranking(torch.tensor(scores), {0: 1.0}).values()) == {1.0}


def test_a_query_that_finds_all_items_alike_gets_what_a_random_order_would() -> None:
    # nDCG is the mean over the orders of what ties; the first ten alone would have made 0.4 of a ten-thousandth.
    scores, clicked = torch.zeros(5000), {3: 1.0}
    expected = sum(1 / np.log2(place + 1) for place in range(1, 11)) / 5000
    assert measure_ranking(scores, clicked)["ndcg_at_10"] == pytest.approx(expected, rel=1e-4)


def test_click_on_the_third_of_the_ranking() -> None:
    measured = measure_ranking(torch.tensor([0.9, 0.8, 0.7, 0.1]), {2: 1.0})
    assert measured["ndcg_at_10"] == pytest.approx(1 / math.log2(4))
    assert measured["mrr_at_10"] == pytest.approx(1 / 3)
    assert measured["recall_at_10"] == 1.0


def test_click_beyond_the_tenth_counts_as_not_found() -> None:
    scores = torch.linspace(1, 0, 20)
    assert measure_ranking(scores, {10: 1.0}) == dict.fromkeys(MEASURES, 0.0)
    assert measure_ranking(scores, {0: 1.0, 10: 1.0})["recall_at_10"] == 0.5


def measured(
    model: RandomModel, sessions: Sequence[FineTuningInput], items: ItemsSet, queries_per_chunk: int
) -> dict[str, NDArray[np.float64]]:
    catalogue = RankedCatalogue(model, items, queries_per_chunk=queries_per_chunk)  # type: ignore[arg-type]
    return catalogue.measure([(str(it.query), dict.fromkeys(it.events, 1.0)) for it in sessions])


def by_definition(scores: NDArray[np.float32], clicked: set[int]) -> dict[str, float]:
    """Sort the whole catalogue and count: nDCG as Järvelin and Kekäläinen 2002, gain 1, discount log2(1 + rank)."""
    hits = [rank for rank, item in enumerate(np.argsort(-scores), start=1) if rank <= 10 and item in clicked]
    ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(10, len(clicked)) + 1))
    return {
        "ndcg_at_10": sum(1 / math.log2(1 + rank) for rank in hits) / ideal,
        "mrr_at_10": 1 / hits[0] if hits else 0.0,
        "recall_at_10": len(hits) / len(clicked),
    }


def test_measures_agree_with_their_definitions(items: ItemsSet) -> None:
    chance = np.random.default_rng(5)
    clicks = [chance.choice(N_ITEMS, size=chance.integers(1, 15), replace=False) for _ in range(60)]
    sessions = [session(n, f"query {n % 30}", *(f"i{i}" for i in it)) for n, it in enumerate(clicks)]
    model = RandomModel()
    ours = measured(model, sessions, items, queries_per_chunk=7)

    scores = model.encode_queries([it.query for it in sessions]) @ model.encode_items(list(items.items)).T
    for n, it in enumerate(clicks):
        expected = by_definition(scores[n], set(it.tolist()))
        assert {name: figures[n] for name, figures in ours.items()} == pytest.approx(expected, abs=1e-6)


def test_each_text_is_encoded_once(items: ItemsSet) -> None:
    model = RandomModel()
    sessions = [session(n, f"query {n % 3}", "i1") for n in range(12)]
    measured(model, sessions, items, queries_per_chunk=2)
    assert len(model.encoded) == len(set(model.encoded)) == N_ITEMS + 3


def test_a_text_without_a_finite_vector_makes_no_figure_in_place_of_a_good_one(items: ItemsSet) -> None:
    class Broken(RandomModel):
        def __init__(self, *broken: str) -> None:
            super().__init__()
            self.broken = broken

        def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
            vectors = super().encode_queries(texts)
            vectors[[text in self.broken for text in texts]] = np.nan
            return vectors

        encode_items = encode_queries

    sessions = [session(0, "whole", "i1"), session(1, "broken", "i2")]
    of_query = measured(Broken("broken"), sessions, items, queries_per_chunk=7)
    assert all(math.isfinite(it[0]) and math.isnan(it[1]) for it in of_query.values())
    # Of twelve items without a rank the first ten would have been all there is, and the clicked one the best of them.
    of_items = measured(Broken(*(f"item {n}" for n in range(20, 32))), sessions, items, queries_per_chunk=7)
    assert all(np.isnan(it).all() for it in of_items.values())


def test_a_model_that_cannot_encode_the_whole_catalogue_has_no_loss_either() -> None:
    def model(token_vector: float) -> StaticEmbeddingsModel:
        tokenizer = Tokenizer(WordLevel({"red": 0, "lamp": 1, "huge": 2, "?": 3}, unk_token="?"))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        return StaticEmbeddingsModel(tokenizer, torch.diag(torch.tensor([1.0, 1.0, token_vector, 1.0])))

    told = ItemsSet(["i1", "i2", "i3"], ["red", "lamp", "huge huge"])
    shown = FineTuningInput(session_id="s", query="red lamp", events=("i1",), results=("i1", "i2"))
    held_out = HeldOut([shown], told, TextQueryRetriever(), [], {})
    measuring = Measuring(held_out, FineTuningParams(), FineTuningSettings(), [10])
    assert all(np.isfinite(measuring(model(1.0)).sessions[name]).all() for name in ("val_loss", "ndcg_at_10"))
    too_big = model(3e38)  # its weights are numbers, and a text that has the word twice is none
    assert all(np.isnan(it).all() for it in measuring(too_big).sessions.values())


def test_figures_are_cut_into_slices_and_guards_and_nothing_is_lost() -> None:
    told = {
        "session_id": ["s0", "s1"],
        "query": ["方块", "b"],
        "slices": pa.array([["tail"], []], pa.list_(pa.string())),
    }
    per_query = per_query_table(told, {"base": {"val_loss": np.array([1.0, np.nan])}})
    assert per_query.to_pylist()[0] == {"session_id": "s0", "query": "方块", "slices": ["tail"], "base.val_loss": 1.0}
    guards = per_query_table({"guard": ["g"], "query": ["q"]}, {"base": {"ndcg_at_10": np.array([0.5])}})
    all_, tail, unseen, guard = figures_of(per_query, guards, ["all", "tail", "unseen"])
    assert [it.queries for it in (all_, tail, unseen, guard)] == [["方块", "b"], ["方块"], [], ["q"]]
    assert described(all_).models == {"base": {"val_loss": 1.0}}
    assert described(unseen).models == {"base": {"val_loss": None}}
    assert (guard.kind, guard.measures, described(guard, ["a note"]).notes) == ("guard", ("ndcg_at_10",), ("a note",))
