from __future__ import annotations

import pytest
import torch

from embft.errors import ConfigError
from embft.finetuning.features import RankedBatch
from embft.finetuning.metrics import DistanceShift, MetricsAccumulator, MetricValue


def _ranked(now: list[float], start: list[float], is_similarity: bool = True) -> RankedBatch:
    """Session 0 shows a, b, c and has a click on c; session 1 shows d, without a click."""
    clicked = torch.tensor([False, False, True, False])
    return RankedBatch(
        torch.tensor(now), torch.tensor(start, dtype=torch.float64), clicked, torch.tensor([0, 0, 0, 1]), is_similarity
    )


def _shifts(ranked: RankedBatch) -> dict[str, float]:
    return {metric.name: metric.value for metric in DistanceShift()(ranked)}


def test_each_item_is_compared_with_its_own_rank_at_the_start() -> None:
    # The fault compared the clicked item c with the rank of the item shown first.
    # c: 0.9 - 0.5 = 0.4. Session 0 without c: -((0.1 - 0.3) + (0.2 - 0.2)) / 2 = 0.1. Session 1: -(0.6 - 0.4) = -0.2.
    shifts = _shifts(_ranked([0.1, 0.2, 0.9, 0.6], [0.3, 0.2, 0.5, 0.4]))
    assert shifts["not_irrelevant_dist_shift"] == pytest.approx(0.4)
    assert shifts["irrelevant_dist_shift"] == pytest.approx((0.1 - 0.2) / 2)


def test_a_smaller_distance_is_closer() -> None:
    shifts = _shifts(_ranked([0.3, 0.2, 0.1, 0.4], [0.3, 0.2, 0.5, 0.4], is_similarity=False))
    assert shifts["not_irrelevant_dist_shift"] == pytest.approx(0.4)


def test_unknown_ranks_at_the_start_are_left_out() -> None:
    nan = float("nan")
    shifts = _shifts(_ranked([0.1, 0.2, 0.9, 0.6], [nan, 0.3, nan, nan]))
    assert shifts == {"irrelevant_dist_shift": pytest.approx(0.1)}


def test_accumulated_means_weigh_by_sessions() -> None:
    measures = MetricsAccumulator(window=2)
    measures.add(
        [MetricValue("loss", 1.0, weight=3), MetricValue("loss", 5.0, weight=1), MetricValue("loss", 2.0, weight=4)]
    )
    assert measures.mean("loss") == pytest.approx((3 + 5 + 8) / 8)
    assert measures.sliding("loss") == pytest.approx((5 + 2) / 2)
    assert (measures.minimum("loss"), measures.maximum("loss")) == (1.0, 5.0)
    measures.reset()
    assert measures.means() == {}
    with pytest.raises(KeyError):
        measures.sliding("loss")
    with pytest.raises(ConfigError, match="window is 0"):
        MetricsAccumulator(window=0)
