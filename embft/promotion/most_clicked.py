"""The model-free baseline `most_clicked`: a table of past clicks, looked up. What loses to it is no model.

For a query it shows what was clicked for it most in the train and validation days, then the rest as the base model
ranks it; a query that nobody clicked for is ranked by the base model alone.
"""

from collections import Counter
from collections.abc import Iterable

from embft.finetuning.inputs import FineTuningInput, query_identity
from embft.promotion.evaluation_record import Comparison, Evaluation
from embft.promotion.wording import measure_name
from embft.promotion_config import MAIN_CUTOFF

_MEASURE = f"ndcg_at_{MAIN_CUTOFF}"


def click_counts(sessions: Iterable[FineTuningInput]) -> dict[str, Counter[str]]:
    """Count the past clicks.

    Args:
        sessions: Before the held-out ones.

    Returns:
        Query, by its `query_identity` → item → sessions in which it was clicked.
    """
    counts: dict[str, Counter[str]] = {}
    for session in sessions:
        if session.events:
            counts.setdefault(query_identity(session.query), Counter()).update(session.events)
    return counts


def warning_of(evaluation: Evaluation) -> str | None:
    """Say that the candidate loses to the look-up table.

    Args:
        evaluation: Of the night.

    Returns:
        A sentence without its full stop; None where it does not lose, or the table was not measured.
    """
    found = next((it for it in evaluation.against_most_clicked if _is_main(it)), None)
    if found is None or found.figure >= found.opposed:
        return None
    return (
        f"a look-up table of past clicks ranks better than this model: {measure_name(_MEASURE)} {found.opposed:.4f} "
        f"to the {evaluation.candidate}'s {found.figure:.4f}{_sureness(found, evaluation.confidence)}"
    )


def _is_main(it: Comparison) -> bool:
    return (it.kind, it.of, it.measure) == ("slice", "all", _MEASURE)


def _sureness(found: Comparison, confidence: float) -> str:
    if found.high is None or found.low is None:
        return f"; {found.n_queries} different queries are too few to say how sure that is"
    told = f"with {100 * confidence:g}% confidence the model is"
    if found.high < 0:
        return f"; {told} {-found.high:.1%} to {-found.low:.1%} worse"
    return f"; that is not sure: {told} {-found.low:.1%} worse to {found.high:.1%} better"
