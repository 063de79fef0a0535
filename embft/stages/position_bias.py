"""Position bias: how likely each place of the result list was looked at, found in train, told to every part."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream.propensities import (
    Propensities,
    WeightSummary,
    estimate_propensities,
    shown_propensities,
    summarise_weights,
)
from embft.config import Judgements
from embft.results import Record


class PositionBias(Record):
    """What was found, and what it makes of train's clicks."""

    propensities: Propensities
    weights: WeightSummary


def position_bias(train: pa.Table, judgements: Judgements) -> PositionBias | None:
    """Estimate the propensities from train alone, as everything that is learned.

    Args:
        train: Its sessions, as the log tells them.
        judgements: The method, and the limit of a click's weight.

    Returns:
        What was found; None where clicks are not to be weighed.

    Raises:
        DataRejected: The log cannot tell: no shown lists, no clicks, or items that never move.
    """
    if judgements.position_bias == "off":
        return None
    found = estimate_propensities(train, judgements.position_bias)
    return PositionBias(
        propensities=found, weights=summarise_weights(train, found, max_weight=judgements.max_click_weight)
    )


def propensity_column(part: pa.Table, filled: pa.Table, bias: PositionBias | None) -> Mapping[str, pa.Array]:
    """Give the propensities of a part's results, as a further column of the fine-tuner's inputs.

    Args:
        part: Its sessions, `shown` null where the log does not say.
        filled: The same, with `shown` filled in.
        bias: What was found.

    Returns:
        The column by its name; none where clicks are not weighed. Of a list that was drawn nobody knows the places:
        its clicks weigh as one at the first place, the least.
    """
    if bias is None:
        return {}
    known = shown_propensities(part, bias.propensities)
    drawn = pc.is_null(known)
    lengths = pc.list_value_length(filled["shown"].combine_chunks())
    rows = zip(lengths.to_pylist(), drawn.to_pylist(), strict=True)
    ones = pa.array([[1.0] * n if is_drawn else None for n, is_drawn in rows], known.type)
    return {"propensities": pc.if_else(drawn, ones, known)}
