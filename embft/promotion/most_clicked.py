"""The model-free baseline `most_clicked`: a table of past clicks, looked up. What loses to it is no model.

For a query it shows what was clicked for it most in the train and validation days, then the rest as the base model
ranks it; a query that nobody clicked for is ranked by the base model alone.
"""

from collections import Counter
from collections.abc import Iterable

from embft.finetuning.inputs import FineTuningInput, query_identity


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
