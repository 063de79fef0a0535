"""A plain lexical ranker, BM25: what a shop's search does before it has a model. It finds only words it is given."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_K1 = 1.2
_B = 0.75


def words_of(text: str) -> list[str]:
    """Give the words of a text, lower-cased; a trailing s is dropped, so that plurals meet.

    Args:
        text: Any.

    Returns:
        The words in order.
    """
    return [word.removesuffix("s") for word in re.findall(r"\w+", text.lower())]


class LexicalRanker:
    """BM25 over a catalogue's texts.

    Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond".

    Args:
        texts: Of the items.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        words = [words_of(text) for text in texts]
        self._n_items = len(words)
        mean_length = sum(map(len, words)) / max(len(words), 1)
        weights: dict[str, list[tuple[int, float]]] = {}
        for row, item in enumerate(words):
            length = _K1 * (1 - _B + _B * len(item) / mean_length)
            for word, count in Counter(item).items():
                weights.setdefault(word, []).append((row, count * (_K1 + 1) / (count + length)))
        self._rows = {word: np.array([row for row, _ in found]) for word, found in weights.items()}
        self._weights = {
            word: np.array([weight for _, weight in found]) * self._rarity(len(found))
            for word, found in weights.items()
        }

    def scores(self, query: str) -> NDArray[np.float64]:
        """Score every item.

        Args:
            query: As typed.

        Returns:
            float64 [items]; 0 where no word of the query is found.
        """
        scores = np.zeros(self._n_items)
        for word in words_of(query):
            if word in self._rows:
                scores[self._rows[word]] += self._weights[word]
        return scores

    def _rarity(self, n_found: int) -> float:
        return float(np.log1p((self._n_items - n_found + 0.5) / (n_found + 0.5)))
