from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embft.errors import ConfigError
from embft.finetuning import features as features_module
from embft.finetuning.features import FeaturesExtractor, FineTuningFeatures
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.losses import (
    CatalogueSoftmaxLoss,
    CosineProbMarginRankingLoss,
    InBatchSoftmaxLoss,
    ListwiseSoftmaxLoss,
    ProbMarginRankingLoss,
    RankingLossInterface,
)
from embft.finetuning.models import StaticEmbeddingsModel
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.params import FineTuningParams

Row = tuple[float, float, float, float, int, int]  # positive, negative, confidences, session, click

LOSSES = [ProbMarginRankingLoss, CosineProbMarginRankingLoss, ListwiseSoftmaxLoss, InBatchSoftmaxLoss]


def _features(rows: list[Row], target: float = 1.0) -> FineTuningFeatures:
    columns = [torch.tensor([row[i] for row in rows], dtype=torch.float64) for i in range(4)]
    sessions, clicks = (torch.tensor([row[i] for row in rows], dtype=torch.long) for i in (4, 5))
    return FineTuningFeatures(
        positive_ranks=columns[0],
        negative_ranks=columns[1],
        target=torch.full_like(columns[0], target),
        positive_confidences=columns[2],
        negative_confidences=columns[3],
        session_index=sessions,
        click_index=clicks,
    )


_rank = st.floats(-1, 1)
_confidence = st.floats(0, 1)


@st.composite
def _rows(draw: st.DrawFn) -> list[Row]:
    """Up to four sessions with up to two clicks each and up to three negatives a click, shuffled."""
    rows: list[Row] = []
    for session in range(draw(st.integers(1, 4))):
        for click in range(draw(st.integers(1, 2))):
            positive, believed = draw(_rank), draw(_confidence)
            for _ in range(draw(st.integers(1, 3))):
                rows.append((positive, draw(_rank), believed, draw(_confidence), session, session * 10 + click))
    return draw(st.permutations(rows))


def _sigmoid_terms(rows: list[Row], target: float, margin: float, scale: float) -> NDArray[np.float64]:
    return np.array(
        [min(cp, cn) / (1 + math.exp(-scale * (-target * (p - n) + margin))) for p, n, cp, cn, _, _ in rows]
    )


def _softmax_terms(rows: list[Row], target: float, margin: float, scale: float) -> dict[int, tuple[float, int]]:
    """Click → (loss, session), written with plain sums."""
    terms = {}
    for click in {row[5] for row in rows}:
        own = [row for row in rows if row[5] == click]
        total = sum(cn * math.exp(scale * (-target * (p - n) + margin)) for p, n, _, cn, _, _ in own)
        terms[click] = (own[0][2] * math.log(1 + total), own[0][4])
    return terms


@given(rows=_rows(), target=st.sampled_from([1.0, -1.0]), margin=st.floats(0, 1))
def test_prob_margin_losses_match_plain_arithmetic(rows: list[Row], target: float, margin: float) -> None:
    for loss, scale in ((ProbMarginRankingLoss(margin), 1.0), (CosineProbMarginRankingLoss(margin, 7.0), 7.0)):
        expected = _sigmoid_terms(rows, target, margin, scale).mean()
        assert loss(_features(rows, target)).item() == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(rows=_rows(), target=st.sampled_from([1.0, -1.0]), weight=st.floats(0, 2), reach=st.floats(0.01, 1))
def test_the_small_differences_term_matches_plain_arithmetic(
    rows: list[Row], target: float, weight: float, reach: float
) -> None:
    loss = CosineProbMarginRankingLoss(0.1, 7.0, small_difference_weight=weight, small_difference=reach)
    closeness = [min(1.0, max(0.0, 1 - target * (p - n) / reach)) * min(cp, cn) for p, n, cp, cn, _, _ in rows]
    expected = _sigmoid_terms(rows, target, 0.1, 7.0).mean() + weight * np.mean(closeness)
    assert loss(_features(rows, target)).item() == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("positive", "pulls"), [(0.32, True), (0.28, False), (0.40, False)])
def test_the_small_differences_term_pulls_only_pairs_that_are_in_order_but_close(positive: float, pulls: bool) -> None:
    # Against 0.30, with a reach of 0.05: 0.02 above is close; 0.02 below is the sigmoid's business; 0.10 is far.
    def gradient(weight: float) -> float:
        features = _features([(positive, 0.3, 1.0, 1.0, 0, 0)])
        features.positive_ranks.requires_grad_()
        ProbMarginRankingLoss(small_difference_weight=weight)(features).backward()
        return float(features.positive_ranks.grad)

    assert (gradient(1.0) < gradient(0.0)) == pulls


@given(rows=_rows(), target=st.sampled_from([1.0, -1.0]), margin=st.floats(0, 1), scale=st.floats(0.5, 30))
def test_listwise_softmax_matches_plain_arithmetic(rows: list[Row], target: float, margin: float, scale: float) -> None:
    terms = _softmax_terms(rows, target, margin, scale)
    expected = np.mean([value for value, _ in terms.values()])
    assert ListwiseSoftmaxLoss(margin, scale)(_features(rows, target)).item() == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )


@given(rows=_rows())
def test_per_session_values_are_means_of_a_sessions_own_terms(rows: list[Row]) -> None:
    got = ListwiseSoftmaxLoss(0.1, 5.0).per_session(_features(rows), n_sessions=5).numpy()
    terms = _softmax_terms(rows, 1.0, 0.1, 5.0)
    for session in range(5):
        own = [value for value, of in terms.values() if of == session]
        expected = np.mean(own) if own else np.nan
        np.testing.assert_allclose(got[session], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", LOSSES)
@given(rows=_rows())
def test_gradients_are_right(make: Callable[..., RankingLossInterface], rows: list[Row]) -> None:
    features = _features(rows)
    loss = make(margin=0.1)

    def of_ranks(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        others = {name: getattr(features, name) for name in vars(features) if not name.endswith("_ranks")}
        return loss(FineTuningFeatures(positive_ranks=positive, negative_ranks=negative, **others))

    ranks = (features.positive_ranks.clone().requires_grad_(), features.negative_ranks.clone().requires_grad_())
    assert torch.autograd.gradcheck(of_ranks, ranks)


def test_a_model_that_finds_all_alike_gets_ln_of_the_list() -> None:
    # One click, three negatives, no margin: ln(1 + 3 * exp(0)) = ln 4.
    rows: list[Row] = [(0.5, 0.5, 1.0, 1.0, 0, 0)] * 3
    assert ListwiseSoftmaxLoss()(_features(rows)).item() == pytest.approx(math.log(4))


def test_listwise_softmax_is_cross_entropy_of_the_click_in_its_list() -> None:
    negatives = [0.1, 0.4, -0.2]
    rows: list[Row] = [(0.3, negative, 1.0, 1.0, 0, 0) for negative in negatives]
    logits = 20 * torch.tensor([[0.3, *negatives]], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0]))
    assert ListwiseSoftmaxLoss(scale=20.0)(_features(rows)).item() == pytest.approx(expected.item())


def test_in_batch_softmax_is_info_nce_without_the_clicks_of_the_same_query(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    clicks = [("red", "r"), ("hat", "gh"), ("red", "rs"), ("blue", "b")]
    log = [FineTuningInput(f"{n}", query, [id_], []) for n, (query, id_) in enumerate(clicks)]
    batch = list(PairedFineTuningInputsDataset(log))
    extractor = FeaturesExtractor(tiny_model, FineTuningParams(), negatives=InBatchSoftmaxLoss.negatives).eval()
    features, _ = extractor(batch, items, TextQueryRetriever())
    # NumPy, from the vectors: row i against all columns, those clicked for the same query left out but for its own.
    queries = tiny_model.encode_queries([query for query, _ in clicks]).astype(float)
    vectors = tiny_model.encode_items(items.items_by_ids(id_ for _, id_ in clicks)).astype(float)
    logits = 3.0 * queries @ vectors.T
    terms = []
    for i, (query, _) in enumerate(clicks):
        kept = [j for j in range(len(clicks)) if j == i or clicks[j][0] != query]
        terms.append(np.log(np.exp(logits[i, kept]).sum()) - logits[i, i])
    assert InBatchSoftmaxLoss(scale=3.0)(features).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_catalogue_softmax_is_cross_entropy_over_all_items_and_pulls_clicks_to_their_shares(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet
) -> None:
    clicks = [("red", "r"), ("hat", "gh"), ("red", "rs"), ("red", "r")]
    batch = [(FineTuningInput(f"{n}", query, [id_], []), None) for n, (query, id_) in enumerate(clicks)]
    extractor = FeaturesExtractor(tiny_model, FineTuningParams(), negatives=CatalogueSoftmaxLoss.negatives).eval()
    features, _ = extractor(batch, items, TextQueryRetriever())
    loss = CatalogueSoftmaxLoss(scale=3.0)(features)
    queries = tiny_model.forward_query(["red", "hat"])
    vectors = tiny_model.forward_items(items.items).detach()
    logits = 3.0 * queries @ vectors.T
    targets = torch.tensor([items.ids.index(id_) for _, id_ in clicks])
    expected = torch.nn.functional.cross_entropy(logits[[0, 1, 0, 0]], targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    # Of the clicks for "red" two thirds went to r and a third to rs: at these shares the loss has its lowest point.
    shares = torch.zeros(len(items)).index_add(0, targets[[0, 2, 3]], torch.full((3,), 1 / 3))
    model_shares = logits[0].softmax(0)
    (gradient,) = torch.autograd.grad(expected, logits, retain_graph=True)
    torch.testing.assert_close(gradient[0], 3 / 4 * (model_shares - shares))


def test_of_a_big_catalogue_training_draws_anew_and_evaluation_takes_the_same_for_any_batch(
    tiny_model: StaticEmbeddingsModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["red", "green", "blue", "shoe", "hat"]
    texts = [f"{a} {b} {c}" for a in words for b in words for c in words]
    big = ItemsSet([str(n) for n in range(125)], texts)
    batch: list[Any] = [(FineTuningInput(f"{n}", "red", [f"{n}"], [f"{n}", "70", "71"]), None) for n in range(4)]

    def extract(extractor: FeaturesExtractor, part: list[Any]) -> FineTuningFeatures:
        return extractor(part, big, TextQueryRetriever())[0]

    def make() -> FeaturesExtractor:
        return FeaturesExtractor(tiny_model, FineTuningParams(), negatives="catalogue", n_candidates=20, seed=3).train()

    extractor = make()
    first = extract(extractor, batch)
    state = extractor.random_state
    second = extract(extractor, batch)
    again = make()
    again.random_state = state
    assert torch.equal(extract(again, batch).negative_ranks, second.negative_ranks)
    assert not torch.equal(first.negative_ranks, second.negative_ranks)
    # 20 drawn, 3 other clicks of the batch and 2 shown without a click: fewer where one of these was drawn.
    assert 20 * 4 <= len(first) <= 25 * 4

    monkeypatch.setattr(features_module, "EVALUATED_CANDIDATES", 30)
    terms = {}
    for size in (1, 2, 4):
        evaluated = [extract(make().eval(), batch[at : at + size]) for at in range(0, 4, size)]
        terms[size] = torch.cat([CatalogueSoftmaxLoss().per_session(it, size) for it in evaluated])
    torch.testing.assert_close(terms[1], terms[4])
    torch.testing.assert_close(terms[2], terms[4])


def test_a_drawn_item_stands_for_many_and_clicks_of_the_log_for_themselves(tiny_model: StaticEmbeddingsModel) -> None:
    words = ["red", "green", "blue", "shoe", "hat"]
    big = ItemsSet([str(n) for n in range(125)], [f"{a} {b} {c}" for a in words for b in words for c in words])
    shown = FineTuningInput("1", "red", ["1"], ["1", "70"])
    PairedFineTuningInputsDataset([shown, FineTuningInput("2", "RED", ["9"], ["9"])])  # tells the first of the second

    def weights(learn: bool) -> list[float]:
        tiny_model.candidates_learn = learn
        extractor = FeaturesExtractor(tiny_model, FineTuningParams(), negatives="catalogue", n_candidates=5, seed=1)
        features, _ = extractor.train()([(shown, None)], big, TextQueryRetriever())
        return sorted(features.negative_confidences.tolist())

    # Item 70 was shown; item 9 was clicked for the query in another session; five of 125 items are drawn.
    assert weights(True) == [1.0, 1.0, *[25.0] * 5]
    assert weights(False) == [1.0, *[25.0] * 5]


def test_items_that_do_not_learn_still_teach_the_queries(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    def gradient(learn: bool) -> torch.Tensor:
        tiny_model.candidates_learn = learn
        tiny_model.zero_grad()
        extractor = FeaturesExtractor(tiny_model, FineTuningParams(), negatives="catalogue").train()
        features, _ = extractor([(FineTuningInput("1", "hat", ["r"], []), None)], items, TextQueryRetriever())
        CatalogueSoftmaxLoss(scale=1.0)(features).backward()
        assert tiny_model.embedding.weight.grad is not None
        return tiny_model.embedding.weight.grad.to_dense().norm(dim=1)

    hat, green = 5, 2
    assert (gradient(True)[green] > 0, gradient(False)[green] > 0) == (True, False)
    assert gradient(False)[hat] > 0


def test_listwise_softmax_survives_differences_that_would_overflow() -> None:
    rows: list[Row] = [(-1.0, 1.0, 1.0, 1.0, 0, 0), (1.0, -1.0, 1.0, 1.0, 1, 1)]
    # exp(2000) is infinite; ln(1 + exp(2000)) = 2000, and ln(1 + exp(-2000)) = 0: mean 1000.
    assert ListwiseSoftmaxLoss(scale=1000.0)(_features(rows)).item() == pytest.approx(1000.0)


def test_a_pair_that_is_not_believed_does_not_drown_the_others() -> None:
    # Alone, the second pair gives ln(1 + e^-2); a first one of weight 0 and a logit of 120 must not change that.
    rows: list[Row] = [(0.0, 6.0, 1.0, 0.0, 0, 0), (0.0, -0.1, 1.0, 1.0, 0, 0)]
    assert ListwiseSoftmaxLoss(scale=20.0)(_features(rows)).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_the_cosine_adjustment_takes_effect() -> None:
    # The fault was name mangling: the subclass's adjustment was never called and both losses were equal.
    rows: list[Row] = [(0.4, 0.5, 1.0, 1.0, 0, 0)]
    plain, cosine = ProbMarginRankingLoss()(_features(rows)), CosineProbMarginRankingLoss()(_features(rows))
    assert plain.item() == pytest.approx(1 / (1 + math.exp(-0.1)))
    assert cosine.item() == pytest.approx(1 / (1 + math.exp(-2.0)))


@pytest.mark.parametrize("make", LOSSES)
def test_the_better_order_has_the_lower_loss_for_similarities_and_distances(
    make: Callable[..., RankingLossInterface],
) -> None:
    click_above: list[Row] = [(0.8, 0.2, 1.0, 1.0, 0, 0)]
    click_below: list[Row] = [(0.2, 0.8, 1.0, 1.0, 0, 0)]
    assert make()(_features(click_above)) < make()(_features(click_below))
    assert make()(_features(click_above, -1.0)) > make()(_features(click_below, -1.0))


@pytest.mark.parametrize("make", LOSSES)
def test_no_pair_gives_zero(make: Callable[..., RankingLossInterface]) -> None:
    assert make()(_features([])).item() == 0.0


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_a_margin_below_zero_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match=f"margin is {wrong}"):
        ProbMarginRankingLoss(wrong)
    with pytest.raises(ConfigError, match="scale is 0"):
        ListwiseSoftmaxLoss(scale=0)
    with pytest.raises(ConfigError, match="small_difference is 0"):
        ProbMarginRankingLoss(small_difference=0)
    with pytest.raises(ConfigError, match="small_difference_weight is -1"):
        ProbMarginRankingLoss(small_difference_weight=-1)
