"""The catalogue under its suite, which speaks of one row an item, and of figures against the night before."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embft.validation.setting_aside import too_many, without
from embft.validation.suites import Figures, SuiteRun
from embft.validation.verdicts import Excess, Verdict
from embft.validation_config import Expectation

COLUMNS = ("row", "id", "text", "id_length", "text_length", "n_earlier_copies")
FIGURES = ("n_items", "top_text_share", "size_change", "vanished_share", "changed_text_share")
_NO_LAST = "no earlier night to compare with"
_MIN_FOR_SHARES = 20  # of fewer, two of a kind are a tenth


@dataclass(frozen=True)
class CatalogueVerdict:
    """What the suite `catalogue` says of a catalogue.

    Args:
        verdict: The suite's.
        excess: Whether more items were set aside than may be.
        clean: The items that may go on.
        broken: Position of an item → the critical rules that it breaks.
    """

    verdict: Verdict
    excess: list[Excess]
    clean: pa.Table
    broken: dict[int, list[str]]

    @property
    def reasons(self) -> list[str]:
        """Why the run must stop, in sentences for the person on call."""
        return [
            *(it.sentence for it in self.excess),
            *(f"catalogue: {sentence}" for sentence in self.verdict.rejections),
        ]


def check_catalogue(
    items: pa.Table,
    rules: Sequence[Expectation],
    *,
    last: pa.Table | None,
    max_quarantined: float,
    docs_folder: Path,
) -> CatalogueVerdict:
    """Check the catalogue.

    Args:
        items: Columns id, text.
        rules: The suite `catalogue`.
        last: The good items of the newest earlier night; None where there is none.
        max_quarantined: Share of items set aside above which the run stops, 0 … 1.
        docs_folder: Folder for the suite's page of Data Docs.

    Returns:
        The verdict; bad data is never an error here.

    Raises:
        ConfigError: A rule has an unknown type, a wrong argument, or an unknown column.
    """
    suite = SuiteRun("catalogue", rules, columns=COLUMNS, figures=FIGURES, id_column="id")
    broken = suite.judge(catalogue_frame(items))
    clean = without(items, broken)
    verdict = suite.verdict(docs_folder, catalogue_figures(clean, last))
    excess = too_many(verdict, "items", verdict.n_broken, verdict.rows, max_quarantined)
    return CatalogueVerdict(verdict, excess, clean, broken)


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
    if n >= _MIN_FOR_SHARES:
        values["top_text_share"] = max(pc.value_counts(items["text"]).field("counts").to_pylist()) / n
    if last is not None and last.num_rows:
        both = last.join(items, "id", join_type="inner", right_suffix=" now")
        values["size_change"] = n / last.num_rows - 1
        values["vanished_share"] = 1 - both.num_rows / last.num_rows
        if both.num_rows:
            values["changed_text_share"] = pc.mean(pc.not_equal(both["text"], both["text now"])).as_py()
    few = {"top_text_share": f"fewer than {_MIN_FOR_SHARES} items"}
    return Figures.of_set(values, {**few, **dict.fromkeys(FIGURES[2:], _NO_LAST)})


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
