"""In which script queries are written, and which of them were decoded wrongly on the way."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ftfy.badness import is_bad
from numpy.typing import NDArray

NO_LETTERS = "none"
_LOST = re.compile("[\ufffd\x00-\x08\x0e-\x1f\x7f-\x9f]")  # the replacement character, and control characters


def script_counts(queries: pa.ChunkedArray) -> dict[str, int]:
    """Count queries by the script that most of their letters belong to.

    Args:
        queries: Texts or nulls.

    Returns:
        Script as Unicode's character names begin with it (latin, cyrillic, cjk …) → queries, the commonest first;
        `none` for queries without a letter.
    """
    counts: Counter[str] = Counter()
    for entry in pc.value_counts(pc.fill_null(queries.cast(pa.string()), "")).to_pylist():
        counts[_script(entry["values"])] += entry["counts"]
    return dict(counts.most_common())


def is_garbled(queries: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Find queries that some program decoded with the wrong character set: `cafÃ©` for `café`.

    Args:
        queries: Texts or nulls.

    Returns:
        bool [queries].

    Source: ftfy's heuristic of sequences that no language writes.
    """
    codes = pc.fill_null(queries.cast(pa.string()), "").combine_chunks().dictionary_encode()
    bad = np.fromiter(map(_is_garbled, codes.dictionary.to_pylist()), dtype=bool, count=len(codes.dictionary))
    return bad[codes.indices.to_numpy()] if len(bad) else np.zeros(len(queries), dtype=bool)


def _is_garbled(query: str) -> bool:
    if _LOST.search(query):
        return True
    # Queries are lower-cased when they are pulled, and half of the tell-tale sequences are capitals.
    return not query.isascii() and (is_bad(query) or is_bad(query.upper()))


def _script(query: str) -> str:
    if query.isascii():
        return "latin" if any(map(str.isalpha, query)) else NO_LETTERS
    letters = Counter(_script_of(character) for character in query if character.isalpha())
    return letters.most_common(1)[0][0] if letters else NO_LETTERS


@lru_cache(maxsize=4096)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "unknown").split()[0].lower()
