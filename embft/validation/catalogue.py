"""The frame that the suite `catalogue` speaks about: one row an item."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def catalogue_frame(items: pa.Table) -> pd.DataFrame:
    """Describe each item of the catalogue.

    Args:
        items: Columns id and text, strings.

    Returns:
        The columns that the header of `include/expectations/catalogue.yaml` lists.
    """
    ids = pd.Series(items["id"].to_pandas(), name="id")
    return pd.DataFrame(
        {
            "row": np.arange(items.num_rows),
            "id": ids,
            "text": items["text"].to_pandas(),
            "id_length": trimmed_length(items["id"]),
            "text_length": trimmed_length(items["text"]),
            "n_earlier_copies": earlier_copies(ids),
        }
    )


def earlier_copies(ids: pd.Series) -> NDArray[np.int64]:
    """Count for each row the earlier rows with the same id.

    Args:
        ids: Any ids; nulls are equal to one another.

    Returns:
        int64 [rows].
    """
    return np.asarray(ids.groupby(ids, dropna=False).cumcount(), dtype=np.int64)


def trimmed_length(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """Count the characters of texts without the white space around them.

    Args:
        texts: Strings or nulls.

    Returns:
        int64 [rows]; 0 for null.
    """
    lengths = pc.utf8_length(pc.utf8_trim_whitespace(texts.cast(pa.string())))
    return np.asarray(pc.fill_null(lengths, 0), dtype=np.int64)
