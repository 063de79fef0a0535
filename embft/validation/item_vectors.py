"""The item vectors behind the ranks, as figures of the suite `ranks`: their lengths, and whether they collapsed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embft.validation.wording import figure, quoted

_OF_DIRECTIONS = ("mean_cosine", "effective_dimensions")
FIGURES = (
    "n_vectors",
    "n_vectors_not_finite",
    "vector_norm_max_over_median",
    "vector_norm_min_over_median",
    *_OF_DIRECTIONS,
)
_VECTORS_AT_A_TIME = 16_384
_MIN_VECTORS = 10  # fewer span few dimensions, whatever the model
_NO_SPREAD = 1e-9  # of float32 vectors: less is rounding
_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class VectorFigures:
    """What the item vectors show.

    Args:
        values: The figures; None where unknown.
        unknown: Figure → why it is unknown.
        context: Figure → the items that it comes from, in words.
    """

    values: dict[str, float | None]
    unknown: dict[str, str]
    context: dict[str, str]


def vector_figures(path: Path) -> VectorFigures:
    """Measure item vectors, a batch of them at a time; of each only its id and its length stay.

    Args:
        path: Parquet: id, vector (a fixed-size list of floats).

    Returns:
        The figures that the header of `include/expectations/ranks.yaml` lists. Vectors that are not finite are counted,
        and left out of the other figures.
    """
    ids, norms = [pa.array([], pa.string())], [np.empty(0)]
    directions = _Directions()
    for batch_ids, vectors in _batches(path):
        length = np.linalg.norm(vectors, axis=1)
        has_direction = np.isfinite(length) & (length > 0)
        directions.add(vectors[has_direction] / length[has_direction, None])
        ids.append(batch_ids)
        norms.append(length)
    return _figures(pa.concat_arrays(ids), np.concatenate(norms), directions)


def _batches(path: Path) -> Iterator[tuple[pa.Array, NDArray[np.float64]]]:
    for batch in pq.ParquetFile(path).iter_batches(_VECTORS_AT_A_TIME, columns=["id", "vector"]):
        vectors = batch.column("vector")
        numbers = pc.fill_null(vectors.flatten(), np.nan).to_numpy(zero_copy_only=False).astype(np.float64)
        yield batch.column("id").cast(pa.string()), numbers.reshape(len(vectors), -1)


class _Directions:
    """Sums over vectors of unit length: both figures of a collapse follow from them, with no second look."""

    def __init__(self) -> None:
        self._n = 0
        self._sum: NDArray[np.float64] = np.zeros(0)
        self._products: NDArray[np.float64] = np.zeros((0, 0))

    def add(self, units: NDArray[np.float64]) -> None:
        """Add vectors of unit length, float64 [n, dim]."""
        if not self._n:
            dim = units.shape[1]
            self._sum, self._products = np.zeros(dim), np.zeros((dim, dim))
        self._n += len(units)
        self._sum += units.sum(axis=0)
        self._products += units.T @ units

    @property
    def are_enough(self) -> bool:
        """Whether there are so many that few dimensions say something about the model."""
        return self._n >= _MIN_VECTORS

    def mean_cosine(self) -> float:
        """Mean cosine of two different ones: ‖Σu‖² sums all pairs, and n of them are a vector with itself."""
        return float((self._sum @ self._sum - self._n) / (self._n * (self._n - 1)))

    def effective_dimensions(self) -> float:
        """Participation ratio (Σλ)² / Σλ² of the eigenvalues λ of the covariance: trace², and the sum of squares.

        Source: Gao et al. 2017, A theory of multineuronal dimensionality, dynamics and measurement, bioRxiv 214262.
        """
        mean = self._sum / self._n
        covariance = self._products / self._n - np.outer(mean, mean)
        spread = float(np.trace(covariance))
        # Where all vectors are the same, rounding is left, and that has many dimensions.
        return spread**2 / float(np.sum(covariance**2)) if spread > _NO_SPREAD else 1.0


def _figures(ids: pa.Array, norms: NDArray[np.float64], directions: _Directions) -> VectorFigures:
    is_finite = np.isfinite(norms)
    values: dict[str, float | None] = dict.fromkeys(FIGURES)
    values |= {"n_vectors": len(norms), "n_vectors_not_finite": int((~is_finite).sum())}
    context = {"n_vectors_not_finite": _named(ids, np.flatnonzero(~is_finite))}
    median = float(np.median(norms[is_finite])) if is_finite.any() else 0.0
    if median > 0:
        shortest_first = np.flatnonzero(is_finite)[np.argsort(norms[is_finite], kind="stable")]
        for name, order in (("max", shortest_first[::-1]), ("min", shortest_first)):
            values[f"vector_norm_{name}_over_median"] = float(norms[order[0]] / median)
            context[f"vector_norm_{name}_over_median"] = _named(ids, order, norms / median)
    if directions.are_enough:
        values |= {
            "mean_cosine": directions.mean_cosine(),
            "effective_dimensions": directions.effective_dimensions(),
        }
    few = f"fewer than {_MIN_VECTORS} item vectors with a direction"
    unknown = {name: few if name in _OF_DIRECTIONS else "most item vectors have no length" for name in FIGURES}
    return VectorFigures(values, unknown, context)


def _named(ids: pa.Array, rows: NDArray[np.int64], ratios: NDArray[np.float64] | None = None) -> str:
    """Name the items that a figure comes from, the worst first."""
    told = [
        quoted(ids[int(row)].as_py()) + ("" if ratios is None else f" with {figure(float(ratios[row]))}")
        for row in rows[:_MAX_EXAMPLES]
    ]
    return ", ".join(told)
