"""Measure one model on a day's clicks. What was clicked and cannot be found any more counts as a miss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from embft.errors import DataRejected
from embft.finetuning.catalogue import RankedCatalogue
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.models import EmbeddingsModelInterface
from embft.promotion.measuring import Measuring, Numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clicks:
    """A day's clicked sessions, n of them.

    Args:
        queries: Of each, as a model gets it.
        clicked: Ids clicked in each, of the catalogue or not.
        rows: Which of them have a click on an item of the catalogue; the ranking loss is over these.
        inputs: Those, cut down to the catalogue, with what was not clicked beside it.
    """

    queries: Sequence[str]
    clicked: Sequence[Sequence[str]]
    rows: Sequence[int]
    inputs: Sequence[FineTuningInput]


class DayFigures(NamedTuple):
    """Measure → float64 [n], NaN where a session has no figure; and what a person should know of them."""

    figures: dict[str, Numbers]
    cautions: list[str]


def measure_day(
    model: EmbeddingsModelInterface,
    ranked: RankedCatalogue,
    clicks: Clicks,
    measuring: Measuring,
    *,
    cutoffs: Sequence[int],
) -> DayFigures:
    """Take a model's figures on a day's clicks, by the measures of `evaluate`.

    Distance shifts are not among them: they tell how far training moved a model from the one before it.

    Args:
        model: Not changed.
        ranked: What users get of it.
        clicks: The day's.
        measuring: Takes the ranking loss, with the model's own vectors.
        cutoffs: The k of nDCG@k, MRR@k and Recall@k.

    Returns:
        The figures.
    """
    val_loss, cautions = np.full(len(clicks.queries), np.nan), []
    if clicks.inputs:
        try:
            val_loss[clicks.rows] = measuring.loss(model, clicks.inputs).per_session
        except DataRejected as error:  # one measure fewer; what users get is told all the same
            log.warning("no validation loss: %s", error)
            cautions.append(f"there is no validation loss: {error}")
    ranking = ranking_with_misses(ranked, clicks.queries, clicks.clicked, cutoffs=cutoffs)
    return DayFigures({"val_loss": val_loss, **ranking}, cautions)


def ranking_with_misses(
    ranked: RankedCatalogue, queries: Sequence[str], clicked: Sequence[Sequence[str]], *, cutoffs: Sequence[int]
) -> dict[str, Numbers]:
    """Measure where clicked items stand; one that is not ranked stands nowhere, and is missed.

    As if it came last in an endless list: it counts in the ideal order of nDCG and among what recall has to find. Of
    two clicked items, one of them gone and the other first: nDCG@10 is 1 / (1 + 1 / log2(3)) = 0.61, MRR 1, recall 0.5.

    Args:
        ranked: The catalogue as users get it.
        queries: Of each session, as the model gets it, n of them.
        clicked: Ids clicked in each, one at least.
        cutoffs: Each k, >= 1.

    Returns:
        `ndcg_at_<k>`, `mrr_at_<k>`, `recall_at_<k>`, each float64 [n], in [0, 1].
    """
    found = [[id_ for id_ in dict.fromkeys(ids) if id_ in ranked] for ids in clicked]
    rows = [row for row, ids in enumerate(found) if ids]
    names = [f"{measure}_at_{k}" for k in cutoffs for measure in ("ndcg", "mrr", "recall")]
    figures = {name: np.zeros(len(queries)) for name in names}
    if not rows:
        return figures
    measured = ranked.measure(((queries[row], dict.fromkeys(found[row], 1.0)) for row in rows), cutoffs=cutoffs)
    n_found = np.array([len(found[row]) for row in rows])
    n_clicked = np.array([len(set(clicked[row])) for row in rows])
    for k in cutoffs:
        ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
        share = ideal[np.minimum(n_found, k)] / ideal[np.minimum(n_clicked, k)]
        figures[f"ndcg_at_{k}"][rows] = measured[f"ndcg_at_{k}"] * share
        figures[f"mrr_at_{k}"][rows] = measured[f"mrr_at_{k}"]
        figures[f"recall_at_{k}"][rows] = measured[f"recall_at_{k}"] * n_found / n_clicked
    return figures
