"""Ranking losses over pairs of a clicked and a not-clicked item.

All start from the same adjusted difference of a pair, x = -target · (positive rank - negative rank) + margin: above
0 where the clicked item does not beat the other by the margin.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from embft.errors import ConfigError
from embft.finetuning.features import FineTuningFeatures, Negatives


class RankingLossInterface(ABC):
    """A loss as a mean of terms, each belonging to one session; so it can also be read per session.

    Args:
        margin: By how much a click should win, in units of the ranker, >= 0. The fine-tuner sets it from
            `FineTuningParams.margin`.
    """

    negatives: ClassVar[Negatives] = "shown"
    """What a click is compared with: "shown", the not-clicked results of its session; "batch", the clicked items of
    the batch as well, but for those that were clicked for the same query anywhere in the log; or "catalogue", all items
    or a draw of them."""

    suggested_margin: ClassVar[float] = 0.2
    """Margin that suits this kind of loss; taken where `FineTuningParams` give none."""

    def __init__(self, margin: float = 0.0) -> None:
        self.set_margin(margin)

    def set_margin(self, margin: float | None) -> None:
        """Change the margin.

        Args:
            margin: Finite, >= 0; None takes the `suggested_margin`.

        Raises:
            ConfigError: It is not.
        """
        margin = self.suggested_margin if margin is None else margin
        if not (math.isfinite(margin) and margin >= 0):
            raise ConfigError(f"margin is {margin}; it must be a finite number >= 0: change it in `fine_tuning_params`")
        self.margin = margin

    @abstractmethod
    def terms(self, features: FineTuningFeatures) -> tuple[Tensor, Tensor]:
        """The terms that the loss is the mean of, float [terms], and each one's session, int64 [terms]."""

    def __call__(self, features: FineTuningFeatures) -> Tensor:
        """Mean of the terms, float []; 0 with a zero gradient where there is no pair."""
        values, _ = self.terms(features)
        return values.mean() if values.numel() else features.positive_ranks.sum()

    def per_session(self, features: FineTuningFeatures, n_sessions: int) -> Tensor:
        """Each session's mean of its own terms: what a paired comparison of two models needs.

        The mean of these weighs sessions alike; the loss itself weighs terms alike.

        Args:
            features: Pairs of a batch.
            n_sessions: Sessions of the batch.

        Returns:
            Float [n_sessions]; NaN for a session without a pair.
        """
        values, sessions = self.terms(features)
        sums = values.new_zeros(n_sessions).index_add(0, sessions, values)
        counts = values.new_zeros(n_sessions).index_add(0, sessions, torch.ones_like(values))
        return sums / counts

    def adjusted_differences(self, features: FineTuningFeatures) -> Tensor:
        """Each pair's x = -target · (positive - negative) + margin, float [pairs]."""
        return self.margin - features.differences

    def __repr__(self) -> str:
        """Name and numbers; part of the id of settings that hold a loss object."""
        numbers = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({numbers})"


class ProbMarginRankingLoss(RankingLossInterface):
    """Mean over pairs of [σ(adjust(x)) + w · close(d)] · min(positive confidence, negative confidence), adjust(x) = x.

    The margin ranking loss with a sigmoid for its hinge: bounded, so that one wrong click cannot pull for ever.
    For ranks without a fixed scale; for cosines take `CosineProbMarginRankingLoss`.

    The small-differences term is for pairs in the right order, but too close to call: with d = target · (positive
    rank - negative rank) and t the `small_difference`, close(d) = 1 - d/t cut to [0, 1]. Its gradient is 0 for pairs
    in the wrong order, which are the sigmoid's business, and for pairs apart by t or more.

    Args:
        margin: In units of the ranker, >= 0.
        small_difference_weight: w, >= 0; 0 leaves the term out.
        small_difference: t, in units of the ranker, > 0.

    Raises:
        ConfigError: A weight or a difference is out of range.

    Source: `torch.nn.MarginRankingLoss` with the hinge replaced, as in Embedding Studio's ProbMarginRankingLoss.
    """

    def __init__(
        self, margin: float = 0.0, *, small_difference_weight: float = 0.0, small_difference: float = 0.05
    ) -> None:
        super().__init__(margin)
        if not (math.isfinite(small_difference_weight) and small_difference_weight >= 0):
            raise ConfigError(f"small_difference_weight is {small_difference_weight}; it must be a finite number >= 0")
        self.small_difference_weight = small_difference_weight
        self.small_difference = _checked_positive(small_difference, "small_difference")

    def adjust(self, x: Tensor) -> Tensor:
        """The sigmoid's argument for adjusted differences x, float [pairs]; subclasses override it."""
        return x

    def terms(self, features: FineTuningFeatures) -> tuple[Tensor, Tensor]:
        """One term per pair."""
        confidences = torch.minimum(features.positive_confidences, features.negative_confidences)
        values = torch.sigmoid(self.adjust(self.adjusted_differences(features)))
        if self.small_difference_weight:
            closeness = (1.0 - features.differences / self.small_difference).clamp(0.0, 1.0)
            values = values + self.small_difference_weight * closeness
        return values * confidences, features.session_index


class CosineProbMarginRankingLoss(ProbMarginRankingLoss):
    """`ProbMarginRankingLoss` with adjust(x) = scale · x, for ranks that are cosines.

    Cosines of one query with two items differ by some hundredths, and by 2 at most. On so short a range the plain
    sigmoid is a straight line: a pair in the wrong order then pulls no harder than one long since in order, and
    the loss hardly falls (sigmoid(0.05) - sigmoid(-0.05) = 0.025). Scaled by 20, its bend spans about ± 0.15.

    Args:
        margin: In cosine, >= 0.
        scale: Factor of the cosine difference; no unit, > 0.
        small_difference_weight: As in `ProbMarginRankingLoss`.
        small_difference: As in `ProbMarginRankingLoss`.

    Raises:
        ConfigError: `scale` is not above 0, or as in `ProbMarginRankingLoss`.
    """

    def __init__(
        self,
        margin: float = 0.0,
        scale: float = 20.0,
        *,
        small_difference_weight: float = 0.0,
        small_difference: float = 0.05,
    ) -> None:
        super().__init__(margin, small_difference_weight=small_difference_weight, small_difference=small_difference)
        self.scale = _checked_positive(scale, "scale")

    def adjust(self, x: Tensor) -> Tensor:
        """Scale · x, float [pairs]."""
        return self.scale * x


class ListwiseSoftmaxLoss(RankingLossInterface):
    """Cross-entropy of each click against the not-clicked results of its own session.

    For click c with not-clicked results j:

        loss_c = confidence of c · ln(1 + Σ_j confidence of j · exp(scale · x_cj)),   loss = mean over clicks

    So a click's weight (a purchase's, an inverse propensity) weighs what the click teaches, as in Joachims et al. 2017;
    within the logarithm it would only shift a rank.

    With confidences of 1 and no margin this is -ln softmax(scale · target · rank) of the click in the list of itself
    and its negatives. Other clicks of the session are not in the list, so two clicks never push each other away.
    A pair weighs by how far it is out of order, and the hardest of many negatives prevails: hence it beats the
    pairwise losses here. A model that finds all items alike gets ln(1 + negatives).

    Args:
        margin: Additive, in units of the ranker, >= 0.
        scale: Inverse temperature; no unit, > 0. For cosines 10 to 30.

    Raises:
        ConfigError: `scale` is not above 0.

    Source: softmax loss of Cao et al. 2007 (ListNet, top-one), one click at a time as in Bruch et al. 2019
        (10.1145/3341981.3344221); additive margin of Wang et al. 2018, arXiv:1801.05599.
    """

    def __init__(self, margin: float = 0.0, scale: float = 20.0) -> None:
        super().__init__(margin)
        self.scale = _checked_positive(scale, "scale")

    def terms(self, features: FineTuningFeatures) -> tuple[Tensor, Tensor]:
        """One term per click that has a negative."""
        weights = features.negative_confidences
        # A pair that is not believed at all must not set the peak either, beside which the others would vanish.
        logits = (self.scale * self.adjusted_differences(features)).masked_fill(weights == 0, -math.inf)
        click = features.click_index
        n_pairs = torch.bincount(click)
        zeros = logits.new_zeros(len(n_pairs))  # some numbers are of no click: cheaper than to sort them out first
        # exp overflows in float32 above 88: take out each click's largest logit, and never less than the click's own 0.
        peak = zeros.scatter_reduce(0, click, logits.detach(), "amax", include_self=True)
        sums = zeros.index_add(0, click, weights * torch.exp(logits - peak[click]))
        sessions = torch.zeros_like(n_pairs).scatter_(0, click, features.session_index)
        believed = zeros.scatter(0, click, features.positive_confidences)
        values = believed * (peak + torch.log(torch.exp(-peak) + sums))
        is_click = n_pairs > 0
        return values[is_click], sessions[is_click]


class CatalogueSoftmaxLoss(ListwiseSoftmaxLoss):
    """Cross-entropy of each click against the catalogue: how likely is this item, of all that there are? The default.

    `ListwiseSoftmaxLoss`, where a click's list is every item of the catalogue. Where that has more than
    `catalogue_candidates`, n of N items, it is a random draw of so many, anew for each step and shared by its clicks,
    with what the batch clicked, what was clicked for its queries anywhere in the log, and what the click's own session
    showed. Each drawn item stands for N / n within the logarithm: else all that is nearly never drawn would be pushed
    away far less than what the batch clicks. In evaluation mode the draw is always the same, and stands for itself
    alone; clicks of the batch and the log are left out: there the loss depends neither on the batch nor on chance.

    Best Buy's 437 items among 54,667 titles of Home Depot, 20 days of clicks, static model, two seeds: without that
    weight and the clicks of the log, nDCG@10 of the days after is 0.749 (unseen queries 0.562), with them 0.766
    (0.584).

    Unlike in `InBatchSoftmaxLoss`, other items that were clicked for the query stay in the list, and none of them is a
    negative for that. With p_j the share of item j in the weights of a query's clicks and q_j the model's softmax over
    the list, its clicks add up to -Σ_j p_j ln q_j, whose gradient with respect to the j-th logit is q_j - p_j. An item
    clicked for the query is pulled in until the model gives it its share, and held back only beyond that; one that
    nobody clicked is only pushed away. Left out of each other's lists, the bestseller and what was clicked once would
    have no order among them. A margin above 0 moves that point: leave it out.

    A model that finds all items alike gets ln(items).

    Args:
        margin: Additive, in units of the ranker, >= 0.
        scale: Inverse temperature; no unit, > 0. For cosines 10 to 30.

    Raises:
        ConfigError: `scale` is not above 0.

    Source: softmax over all items of Covington et al. 2016 (10.1145/2959100.2959190), section 3; a draw shared by the
        batch beside its own clicks as in Wu et al. 2024, arXiv:2201.02327.
    """

    negatives = "catalogue"
    suggested_margin = 0.0


class InBatchSoftmaxLoss(ListwiseSoftmaxLoss):
    """Cross-entropy of each click against the other items of its batch (InfoNCE).

    `ListwiseSoftmaxLoss`, with negatives from the batch: every distinct item that its sessions clicked, and what the
    click's own session showed without a click; but nothing that was clicked for the same query anywhere in the log. So
    two clicked items of one query never push each other away, whichever sessions they come from.

    It needs no shown lists, and encodes few items a step where there are none: for transformers. An item stands once
    in the list however often it was clicked, so popular ones are not pushed down by their popularity.

    Its value moves with the batch: compare models at one batch size, in one order of sessions. A model that finds
    all items alike gets ln(1 + negatives).

    Args:
        margin: Additive, in units of the ranker, >= 0.
        scale: Inverse temperature; no unit, > 0. For cosines 10 to 30.

    Raises:
        ConfigError: `scale` is not above 0.

    Source: in-batch softmax of Henderson et al. 2017, arXiv:1705.00652, section 4.4; InfoNCE of van den Oord et al.
        2018, arXiv:1807.03748; additive margin of Yang et al. 2019, arXiv:1902.08564.
    """

    negatives = "batch"


def _checked_positive(value: float, name: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} is {value}; it must be a finite number > 0")
    return value
