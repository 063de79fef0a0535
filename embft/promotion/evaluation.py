"""A night's figures per session, laid out as a table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embft.finetuning.inputs import FineTuningInput


def per_query_table(
    sessions: Sequence[FineTuningInput], values: Mapping[str, Mapping[str, NDArray[np.float64]]]
) -> pa.Table:
    """Lay out every model's figures per session.

    Args:
        sessions: Clicked sessions, n of them.
        values: Model → measure → float64 [n].

    Returns:
        One row per session: session_id, query, clicked, and `<model>.<measure>` columns.
    """
    columns: dict[str, object] = {
        "session_id": [it.session_id for it in sessions],
        "query": [it.query for it in sessions],
        "clicked": [list(it.events) for it in sessions],
    }
    for model, measures in values.items():
        for measure, figures in measures.items():
            columns[f"{model}.{measure}"] = figures
    return pa.table(columns)
