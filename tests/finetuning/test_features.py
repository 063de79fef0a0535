from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embft.errors import ConfigError, DataRejected
from embft.finetuning.batches import checked_batch, flatten
from embft.finetuning.confidences import ShownItems
from embft.finetuning.features import FeaturesExtractor, FineTuningFeatures
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.models import StaticEmbeddingsModel
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.pairs import Pairs, downsampled
from embft.finetuning.params import ExamplesType, FineTuningParams
from embft.finetuning.rankers import euclidean_distance

RETRIEVER = TextQueryRetriever()
HALF = 2**-0.5  # cosine of "red" with "red shoe"


def _extract(
    model: StaticEmbeddingsModel, batch: list[Any], items: ItemsSet, training: bool = False, **params: Any
) -> FineTuningFeatures:
    extractor = FeaturesExtractor(model, FineTuningParams(**params)).train(training)
    features, _ = extractor(batch, items, RETRIEVER)
    assert isinstance(features, FineTuningFeatures)
    return features


def test_every_click_meets_every_result_without_a_click(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    session = FineTuningInput("s", "red", events=["g", "rs"], results=["r", "g", "b", "rs"])
    features = _extract(tiny_model, [(session, None)], items)
    # Clicks: green (cosine 0), red shoe (0.71). Without a click: red (1), blue (0).
    assert features.positive_ranks.tolist() == pytest.approx([0, 0, HALF, HALF])
    assert features.negative_ranks.tolist() == pytest.approx([1, 0, 1, 0])
    assert features.target.tolist() == [1, 1, 1, 1]
    assert features.click_index.tolist() == [1, 1, 3, 3]  # as shown: r, g, b, rs


def test_a_distance_has_target_minus_one(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    session = FineTuningInput("s", "red", events=["r"], results=["r", "b"])
    extractor = FeaturesExtractor(tiny_model, FineTuningParams(), euclidean_distance, is_similarity=False)
    features, ranked = extractor.eval()([(session, None)], items, RETRIEVER)
    assert features.target.tolist() == [-1]
    # Red is at distance 0, blue at sqrt(2): the click is closer by sqrt(2).
    assert features.differences.tolist() == pytest.approx([2**0.5])
    assert not ranked.is_similarity


def test_negatives_stay_with_their_own_session(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    batch = [(session, None) for session in sessions[:3]]
    together = _extract(tiny_model, batch, items)
    assert together.session_index.tolist() == [0, 0, 1, 2, 2, 2, 2]
    for index, pair in enumerate(batch):
        alone = _extract(tiny_model, [pair], items)
        own = together.select(together.session_index == index)
        torch.testing.assert_close(own.positive_ranks, alone.positive_ranks)
        torch.testing.assert_close(own.negative_ranks, alone.negative_ranks)


def test_results_of_the_irrelevant_session_are_negatives_for_its_own_query_where_wanted(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    batch = [(sessions[1], sessions[3])]
    assert len(_extract(tiny_model, batch, items)) == 1
    both = _extract(tiny_model, batch, items, not_irrelevant_only=False)
    # hat: clicked red (0) against green hat (0.71); then "blue" against blue (1) and red shoe (0).
    assert both.positive_ranks.tolist() == [0, 0, 0]
    assert both.negative_ranks.tolist() == pytest.approx([HALF, 1, 0])
    assert both.session_index.tolist() == [0, 0, 0]


def test_a_session_whose_every_result_was_clicked_has_no_pair(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput]
) -> None:
    all_clicked = FineTuningInput("s", "red", ["r", "g"], ["r", "g"])
    features = _extract(tiny_model, [(all_clicked, None), (sessions[1], None)], items)
    assert features.session_index.tolist() == [1]
    assert len(_extract(tiny_model, [(all_clicked, None)], items, training=True)) == 0


def test_each_distinct_text_is_encoded_once(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[list[str]] = []

    def count(texts: list[str]) -> torch.Tensor:
        encoded.append(list(texts))
        return StaticEmbeddingsModel._forward(tiny_model, texts)

    monkeypatch.setattr(tiny_model, "_forward", count)
    session = FineTuningInput("s", "red", ["r"], ["r", "g", "b"])
    _extract(tiny_model, [(session, None)] * 10, items)
    assert encoded == [["red"], ["red", "green", "blue"]]


def test_the_query_retriever_is_applied(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    class Shout(TextQueryRetriever):
        def __call__(self, query: Any) -> str:
            return super().__call__(query).lower()

    session = FineTuningInput("s", "RED", ["r"], ["r", "b"])
    features, _ = FeaturesExtractor(tiny_model, FineTuningParams()).eval()([(session, None)], items, Shout())
    assert features.positive_ranks.tolist() == [1]


@given(share=st.floats(0, 1), n_negatives=st.integers(1, 12))
def test_downsampling_keeps_a_share_of_each_clicks_negatives_and_at_least_one(share: float, n_negatives: int) -> None:
    cells = np.arange(2 * n_negatives) * 3
    pairs = Pairs(np.repeat([4, 9], n_negatives), cells, cells + 1)
    kept = downsampled(pairs, share, np.random.default_rng(0))
    per_click = max(1, int(np.rint(share * n_negatives)))
    assert kept.positives.tolist() == [4] * per_click + [9] * per_click
    assert len(set(kept.negative_cells)) == 2 * per_click  # without replacement
    assert set(kept.negative_cells[:per_click]) <= set(cells[:n_negatives])
    np.testing.assert_array_equal(kept.negatives, kept.negative_cells + 1)


def test_downsampling_one_means_all_and_evaluation_never_downsamples(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    session = FineTuningInput("s", "red", ["r"], ["r", "g", "b", "rs", "gh"])
    batch = [(session, None)]
    assert len(_extract(tiny_model, batch, items, training=True, negative_downsampling=1.0)) == 4
    assert len(_extract(tiny_model, batch, items, training=True, negative_downsampling=0.5)) == 2
    assert len(_extract(tiny_model, batch, items, training=False, negative_downsampling=0.5)) == 4


def test_pairs_outside_the_difference_thresholds_are_left_out_in_training_only(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    session = FineTuningInput("s", "red", ["r"], ["r", "g", "rs"])  # differences 1.0 and 0.29
    batch = [(session, None)]
    kept = _extract(tiny_model, batch, items, training=True, max_abs_difference_threshold=0.5)
    assert kept.negative_ranks.tolist() == pytest.approx([HALF])
    kept = _extract(tiny_model, batch, items, training=True, min_abs_difference_threshold=0.5)
    assert kept.negative_ranks.tolist() == [0]
    assert len(_extract(tiny_model, batch, items, min_abs_difference_threshold=0.5)) == 2


@pytest.mark.parametrize("kind", list(ExamplesType))
def test_broken_weights_are_not_filtered_away(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: list[FineTuningInput], kind: ExamplesType
) -> None:
    with torch.no_grad():
        tiny_model.embedding.weight.fill_(torch.nan)
    features = _extract(tiny_model, [(sessions[1], None)], items, training=True, examples_order=[kind])
    assert torch.isnan(features.positive_ranks).tolist() == [True]


def test_kinds_of_examples(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    session = FineTuningInput("s", "red", ["rs", "g"], ["r", "g", "b", "rs"])  # red 1, blue 0; clicks 0.71 and 0
    batch = [(session, None)]
    hardest = _extract(tiny_model, batch, items, training=True, examples_order=[ExamplesType.hardest_negative])
    assert hardest.negative_ranks.tolist() == [1, 1]
    hard = _extract(tiny_model, batch, items, training=True, examples_order=[ExamplesType.hard_negatives], margin=0.0)
    assert sorted(hard.positive_ranks.tolist()) == pytest.approx([0, HALF])


def test_confidences_go_with_the_item_they_are_of(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    def by_position(shown: ShownItems) -> torch.Tensor:
        assert shown.lengths.tolist() == [3, 2]
        assert shown.positions.tolist() == [1, 2, 3, 1, 2]
        return torch.arange(len(shown.ranks)) / 10

    first = FineTuningInput("1", "red", ["b"], ["r", "b", "g"])
    second = FineTuningInput("2", "red", ["r"], ["g", "r"])
    extractor = FeaturesExtractor(tiny_model, FineTuningParams(), confidence_calculator=by_position).eval()
    features, _ = extractor([(first, None), (second, None)], items, RETRIEVER)
    assert features.positive_confidences.tolist() == pytest.approx([0.1, 0.1, 0.4])
    assert features.negative_confidences.tolist() == pytest.approx([0.0, 0.2, 0.3])


def test_the_weight_of_an_event_multiplies_the_confidence_in_its_click(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    session = FineTuningInput("s", "red", ["b", "g"], ["r", "b", "g"], event_weights=[0.25, 1.0])
    features = _extract(tiny_model, [(session, None)], items)
    assert features.positive_confidences.tolist() == [0.25, 1.0]
    assert features.negative_confidences.tolist() == [1.0, 1.0]


def test_positions_and_propensities_reach_the_confidences(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    seen: list[ShownItems] = []

    def note(shown: ShownItems) -> torch.Tensor:
        seen.append(shown)
        return torch.ones(len(shown.ranks))

    told = FineTuningInput("1", "red", ["b"], ["r", "b"], positions=[4, 9], propensities=[0.5, 0.125])
    untold = FineTuningInput("2", "red", ["r"], ["g", "r"])
    extractor = FeaturesExtractor(tiny_model, FineTuningParams(), confidence_calculator=note).eval()
    extractor([(told, None), (untold, None)], items, RETRIEVER)
    assert seen[0].positions.tolist() == [4, 9, 1, 2]
    np.testing.assert_array_equal(seen[0].propensities, [0.5, 0.125, np.nan, np.nan])


def _in_batch(
    model: StaticEmbeddingsModel, sessions: list[FineTuningInput], items: ItemsSet, **options: Any
) -> FineTuningFeatures:
    batch: list[Any] = [(session, None) for session in sessions]
    extractor = FeaturesExtractor(model, FineTuningParams(), negatives="batch", **options).eval()
    features, _ = extractor(batch, items, RETRIEVER)
    return features


def test_in_a_batch_the_clicks_of_other_queries_are_negatives(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    only_clicks = [
        FineTuningInput(id_, query, [id_], []) for query, id_ in [("red", "r"), ("hat", "gh"), ("blue", "b")]
    ]
    features = _in_batch(tiny_model, only_clicks, items)
    # red: 1 against green hat 0 and blue 0; hat: 0.71 against red 0 and blue 0; blue: 1 against 0 and 0.
    assert features.positive_ranks.tolist() == pytest.approx([1, 1, HALF, HALF, 1, 1])
    assert features.negative_ranks.tolist() == [0] * 6
    assert features.session_index.tolist() == [0, 0, 1, 1, 2, 2]


def test_what_was_clicked_for_a_query_anywhere_in_the_log_is_never_its_negative(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    # Two clicked items of one query must not push each other away, whichever sessions they come from: here one is of
    # a session that is in the batch, one of a session that is not, and queries differ in case and spaces.
    log = [
        FineTuningInput("1", "red", ["r"], ["r", "g"]),
        FineTuningInput("2", " RED ", ["rs"], []),
        FineTuningInput("3", "hat", ["gh"], []),
        FineTuningInput("4", "Red", ["gh"], []),
    ]
    PairedFineTuningInputsDataset(log)
    features = _in_batch(tiny_model, log[:3], items)
    # "red" was clicked for r, rs and gh: only g, which its first session showed, is left. "hat": r and rs.
    assert features.session_index.tolist() == [0, 2, 2]
    assert features.negative_ranks.tolist() == pytest.approx([0, 0, 0])


def test_what_was_clicked_for_a_query_is_known_by_its_text_under_any_id(tiny_model: StaticEmbeddingsModel) -> None:
    twins = ItemsSet(["a", "twin of a", "c"], ["red shoe", "red shoe", "blue"])
    log = [
        FineTuningInput("1", "red", ["a"], []),
        FineTuningInput("2", "red", ["c"], []),
        FineTuningInput("3", "hat", ["twin of a"], []),
    ]
    PairedFineTuningInputsDataset(log)
    features = _in_batch(tiny_model, log[1:], twins)
    # "red" may not push its clicked red shoe away because "hat" brings it into the batch; "hat" has c for a negative.
    assert features.session_index.tolist() == [1]


def test_a_clicked_item_that_is_shown_once_more_is_no_negative_of_itself(tiny_model: StaticEmbeddingsModel) -> None:
    twins = ItemsSet(["a", "twin of a", "b"], ["red", "red", "blue"])
    session = FineTuningInput("1", "red", ["a"], ["a", "twin of a", "b"])
    assert _extract(tiny_model, [(session, None)], twins).negative_ranks.tolist() == [0]
    partner = FineTuningInput("2", "red", [], ["a", "b"])
    alone = FineTuningInput("1", "red", ["a"], ["a"])
    both = _extract(tiny_model, [(alone, partner)], twins, not_irrelevant_only=False)
    assert both.negative_ranks.tolist() == [0]


def test_the_session_beside_an_entry_lends_it_no_confidence_in_a_batch(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    own, partner = FineTuningInput("1", "red", ["r"], ["r", "b"]), FineTuningInput("2", "hat", [], ["b", "g"])
    extractor = FeaturesExtractor(
        tiny_model,
        FineTuningParams(not_irrelevant_only=False),
        negatives="batch",
        confidence_calculator=lambda shown: torch.tensor([1.0, 0.2, 0.3, 0.4]),
    ).eval()
    features, _ = extractor([(own, partner)], items, RETRIEVER)
    assert features.negative_confidences.tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ranks_keep_their_digits_under_mixed_precision(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, dtype: torch.dtype
) -> None:
    session = FineTuningInput("s", "red", ["rs"], ["rs", "b"])
    flat = flatten([(session, None)], items, RETRIEVER, with_irrelevant=False)
    extractor = FeaturesExtractor(tiny_model, FineTuningParams())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = extractor.features_from_vectors(
            flat, tiny_model.forward_query(["red"]).to(dtype), tiny_model.forward_items(["red shoe", "blue"]).to(dtype)
        )
    assert features.positive_ranks.dtype == torch.float32
    assert features.positive_ranks.tolist() == pytest.approx([HALF], abs=1e-6)  # of equal parts: no digit is lost


def test_a_shown_item_keeps_its_confidence_as_a_negative_of_the_batch(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    first = FineTuningInput("1", "red", ["r"], ["r", "g"])
    second = FineTuningInput("2", "hat", ["gh"], ["gh"])
    features = _in_batch(
        tiny_model, [first, second], items, confidence_calculator=lambda shown: torch.tensor([0.9, 0.2, 0.8])
    )
    # red: click .9 against its own skip g (.2) and the other session's gh (taken at its word); hat: against r.
    assert features.positive_confidences.tolist() == pytest.approx([0.9, 0.9, 0.8])
    assert features.negative_confidences.tolist() == pytest.approx([0.2, 1.0, 1.0])


def test_ranks_of_parts_become_one_rank_of_the_item(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    session = FineTuningInput("s", "red", ["rs"], ["rs", "g"])
    expected = {"max": 1.0, "min": 0.0, "mean": 0.5}  # "red shoe" in its words: cosines 1 and 0
    for aggregation, rank in expected.items():
        split = items.split(str.split, aggregation)
        features, ranked = FeaturesExtractor(tiny_model, FineTuningParams()).eval()([(session, None)], split, RETRIEVER)
        assert features.positive_ranks.tolist() == pytest.approx([rank])
        assert ranked.ranks.tolist() == pytest.approx([rank, 0])


def test_queries_are_augmented_in_training_only(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    session = FineTuningInput("s", "red", ["r"], ["r", "b"])
    extractor = FeaturesExtractor(tiny_model, FineTuningParams(), query_augmenter=lambda texts: ["blue" for _ in texts])
    trained, _ = extractor.train()([(session, None)], items, RETRIEVER)
    evaluated, _ = extractor.eval()([(session, None)], items, RETRIEVER)
    assert (trained.positive_ranks.tolist(), evaluated.positive_ranks.tolist()) == ([0], [1])


def test_gradients_reach_the_tokens_of_the_batch_and_no_others(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    session = FineTuningInput("s", "shoe", ["rs"], ["rs", "b"])
    features = _extract(tiny_model, [(session, None)], items, training=True)
    features.differences.sum().backward()  # type: ignore[no-untyped-call]
    gradient = tiny_model.embedding.weight.grad
    assert gradient is not None
    touched = gradient.to_dense().abs().sum(1) > 0
    assert touched.tolist() == [False, True, False, True, True, False, False]


def test_features_of_unequal_length_are_refused() -> None:
    one, two = torch.zeros(1), torch.zeros(2)
    with pytest.raises(ConfigError, match="one length"):
        FineTuningFeatures(one, two, one, one, one, one.long(), one.long())


def test_towers_of_different_length_are_refused(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model, "forward_query", lambda texts: torch.zeros(len(texts), 3))
    with pytest.raises(ConfigError, match="3 numbers per text and the item tower 7"):
        _extract(tiny_model, [(FineTuningInput("s", "red", ["r"], ["r", "b"]), None)], items)


def test_a_click_on_an_unknown_item_is_named(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    with pytest.raises(DataRejected, match="session 's': item 'zebra'"):
        _extract(tiny_model, [(FineTuningInput("s", "red", ["zebra"], ["r"]), None)], items)


@pytest.mark.parametrize("batch", [[], "ab", [1], [(1, 2)], None])
def test_a_batch_that_is_not_made_of_pairs_is_refused(batch: Any) -> None:
    with pytest.raises(ConfigError, match="batch"):
        checked_batch(batch)


def test_a_single_pair_is_a_batch_of_one(sessions: list[FineTuningInput]) -> None:
    assert checked_batch((sessions[0], None)) == [(sessions[0], None)]
