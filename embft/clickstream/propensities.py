"""Position bias: how likely each position of the result list is looked at, and what a click there weighs.

Estimated from the log itself, by one of two methods:

- `interventions`: compares the same item, for the same query, at two positions. Take this one: it is as accurate on
  much data, more accurate on little, and faster.
- `em`: the position-based click model, with an attraction of its own for every query and item. It finds too little
  bias where most of these were shown a few times only, for such an attraction fits chance as well.

Both need a log in which items move: a ranking that never changes cannot tell a good item from a good position.
"""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embft.clickstream.impressions import Cells, Impressions, cells_of, impressions_of, positions_of
from embft.clickstream.interventions import intervention_sets, linked_positions
from embft.clickstream.position_click_model import fit_examination, pairs_that_moved
from embft.errors import DataRejected
from embft.results import Record

Method = Literal["em", "interventions"]
Floats = NDArray[np.float64]

MAX_POSITIONS = 100
MIN_CLICKS = 25  # a rate from 25 clicks is off by a fifth, one standard error
_LEAST = 1e-3  # of a propensity: a float32 > 0, and below every weight's limit
# Of a pair, for the click model: on 8,000 searches of 3,000 queries its error at position 2 fell from 0.22 to 0.05.
_MIN_IMPRESSIONS = {"em": 5, "interventions": 2}
_INSTEAD = "set judgements.position_bias: off"


class Propensities(Record):
    """Probability that each position is looked at, relative to the first one.

    Positions may rise with depth, as on a page of tiles: only what is above 1 is cut down to it. Position k is entry
    k - 1 of each list, down to the deepest position that was shown, or `MAX_POSITIONS`.
    """

    method: Method
    values: tuple[float, ...]  # in (0, 1]; of a position that is not estimated the value of the one above
    is_estimated: tuple[bool, ...]
    n_sessions: int  # with a shown list
    n_impressions: tuple[int, ...]
    n_clicks: tuple[int, ...]

    def of(self, positions: NDArray[np.integer]) -> Floats:
        """Give the propensities of positions.

        Args:
            positions: From 1, integers of any shape; those beyond the last take the last one's value.

        Returns:
            In (0, 1], float64, as `positions`.
        """
        found: Floats = np.array(self.values)[np.clip(positions, 1, len(self.values)) - 1]
        return found


class WeightSummary(Record):
    """What inverse propensity weights do to the clicks of a log."""

    n_clicks: int  # in shown lists
    effective_sample_size: float  # clicks of one weight that would tell as much
    effective_share: float  # of the clicks, in [0, 1]; 1 without a click
    clipped_share: float  # clicks whose weight was cut, of all


def estimate_propensities(sessions: pa.Table, method: Method, *, min_clicks: int = MIN_CLICKS) -> Propensities:
    """Estimate how likely each position is looked at.

    A position is estimated if it has `min_clicks` clicks on pairs of query and item that were shown at several
    positions, and such pairs link it, by way of other positions perhaps, to the first.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`; sessions without a shown list are passed over.
        method: "em" or "interventions".
        min_clicks: Clicks below which a position takes the value of the one above, >= 1.

    Returns:
        The propensities; where the first position is not estimated they are relative to the first that is.

    Raises:
        DataRejected: The log has no shown list, no click in one, or no two positions that can be compared.
    """
    impressions = impressions_of(sessions)
    if not len(impressions.positions):
        raise DataRejected(
            f"none of {sessions.num_rows} sessions has a shown list, and position bias is estimated from lists with "
            f"their clicks: log what was shown, or {_INSTEAD}"
        )
    if not impressions.clicked.any():
        raise DataRejected(
            f"none of {impressions.n_sessions} sessions has a click in its shown list, and position bias is estimated "
            f"from clicks: look at the ids of clicked items, or {_INSTEAD}"
        )
    n_positions = min(int(impressions.positions.max()), MAX_POSITIONS)
    cells = _comparable(cells_of(impressions, n_positions), n_positions, min_clicks, _MIN_IMPRESSIONS[method])
    fitted = cells if method == "em" else intervention_sets(cells, n_positions)
    return _as_propensities(method, fit_examination(fitted, n_positions), cells, impressions)


def inverse_propensity_weights(
    propensities: Propensities, positions: NDArray[np.integer], *, max_weight: float
) -> Floats:
    """Give what clicks at these positions weigh: 1 / propensity, cut down to a limit.

    Args:
        propensities: As estimated.
        positions: Of the clicks, from 1, integers of any shape.
        max_weight: The limit, >= 1: bounds the variance, at the price of some bias.

    Returns:
        In [1, max_weight], float64, as `positions`.

    Source: Joachims et al. 2017, "Unbiased learning-to-rank with biased feedback", arXiv:1608.04468.
    """
    return np.minimum(1 / propensities.of(positions), max_weight)


def effective_sample_size(weights: Floats) -> float:
    """Give how many clicks of one weight would tell as much: (Σw)² / Σw².

    Args:
        weights: > 0, float64 [clicks].

    Returns:
        From 1 to the number of weights; 0 without any.

    Source: Kish 1965, "Survey sampling", section 11.7.
    """
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def summarise_weights(sessions: pa.Table, propensities: Propensities, *, max_weight: float) -> WeightSummary:
    """Say what weighing a log's clicks by inverse propensities costs.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`; only clicks on shown items count.
        propensities: As estimated.
        max_weight: As for `inverse_propensity_weights`.

    Returns:
        Effective sample size and share of cut weights.
    """
    impressions = impressions_of(sessions)
    positions = impressions.positions[impressions.clicked]
    weights = inverse_propensity_weights(propensities, positions, max_weight=max_weight)
    n_clicks = len(weights)
    size = effective_sample_size(weights)
    return WeightSummary(
        n_clicks=n_clicks,
        effective_sample_size=size,
        effective_share=size / n_clicks if n_clicks else 1.0,
        clipped_share=float((1 / propensities.of(positions) > max_weight).mean()) if n_clicks else 0.0,
    )


def shown_propensities(sessions: pa.Table, propensities: Propensities) -> pa.Array:
    """Give the propensity of every shown result, as a column beside `shown`.

    Args:
        sessions: Columns `shown` and `positions` of `embft.clickstream.sessions.SCHEMA`.
        propensities: As estimated.

    Returns:
        list<float32> [sessions], aligned to `shown`; null where that is.
    """
    lengths = pc.list_value_length(sessions["shown"].combine_chunks())
    offsets = np.concatenate([[0], np.cumsum(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False))])
    values = propensities.of(positions_of(sessions)).astype(np.float32)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values), mask=pc.is_null(lengths))


def _comparable(cells: Cells, n_positions: int, min_clicks: int, min_impressions: int) -> Cells:
    """Keep the cells from which positions can be compared.

    Raises:
        DataRejected: There are no two such positions.
    """
    moved = pairs_that_moved(cells, min_impressions)
    n_moved = len(moved)
    if n_moved:
        clicks = moved.sums_by_position(moved.clicks, n_positions)
        moved = pairs_that_moved(moved.select(clicks[moved.positions - 1] >= min_clicks))
    if len(moved):
        moved = pairs_that_moved(moved.select(linked_positions(moved, n_positions)[moved.positions - 1]))
    if not len(moved):
        found = (
            f"too few positions have {min_clicks} clicks on them, and two are needed" if n_moved else "there are none"
        )
        raise DataRejected(
            f"position bias is estimated from items that were shown {min_impressions} times or more for the same "
            f"query, at several positions, and clicked, but in this log {found}; lengthen the window, let the ranking "
            f"vary, or {_INSTEAD}"
        )
    return moved


def _as_propensities(method: Method, theta: Floats, cells: Cells, impressions: Impressions) -> Propensities:
    n_positions = len(theta)
    is_estimated = cells.sums_by_position(np.ones(len(cells)), n_positions) > 0
    first = int(is_estimated.argmax())
    relative = np.where(is_estimated, np.clip(theta / theta[first], _LEAST, 1.0), 1.0)
    from_position = np.maximum.accumulate(np.where(is_estimated, np.arange(n_positions), 0))
    return Propensities(
        method=method,
        values=tuple(relative[from_position].tolist()),
        is_estimated=tuple(is_estimated.tolist()),
        n_sessions=impressions.n_sessions,
        n_impressions=_counts(impressions.positions, n_positions),
        n_clicks=_counts(impressions.positions[impressions.clicked], n_positions),
    )


def _counts(positions: NDArray[np.int64], n_positions: int) -> tuple[int, ...]:
    """How often each position occurs; deeper ones are left out."""
    return tuple(np.bincount(positions - 1, minlength=n_positions)[:n_positions].tolist())
