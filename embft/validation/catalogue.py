"""What the suite `catalogue` speaks about: one row an item, and figures against the catalogue of the night before."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embft.validation.suites import Figures

COLUMNS = ("row", "id", "text", "id_length", "text_length", "n_earlier_copies")
FIGURES = ("n_items", "top_text_share", "size_change", "vanished_share", "changed_text_share")
_NO_LAST = "no earlier night to compare with"


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


def catalogue_figures(items: pa.Table, last: pa.Table | None) -> Figures:
    """Compare the catalogue with that of the night before.

    Args:
        items: The good items: id, text.
        last: Those of the newest earlier night; None where there is none.

    Returns:
        The figures that the header of `include/expectations/catalogue.yaml` lists.
    """
    n = items.num_rows
    values: dict[str, float | None] = dict.fromkeys(FIGURES)
    values["n_items"] = n
    if n:
        values["top_text_share"] = max(pc.value_counts(items["text"]).field("counts").to_pylist()) / n
    if last is not None and last.num_rows:
        both = last.join(items, "id", join_type="inner", right_suffix=" now")
        values["size_change"] = n / last.num_rows - 1
        values["vanished_share"] = 1 - both.num_rows / last.num_rows
        if both.num_rows:
            values["changed_text_share"] = pc.mean(pc.not_equal(both["text"], both["text now"])).as_py()
    return Figures.of_set(values, dict.fromkeys(FIGURES[2:], _NO_LAST))


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
