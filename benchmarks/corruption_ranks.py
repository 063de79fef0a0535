"""Damage to ranks and to the item vectors they come from, each kind at three strengths, under the suite `ranks`.

The champion is the static model, trained on the clicks before the night's window. The ranks of the night before, by
the same champion, are what it compares with.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks import clicks, training
from benchmarks.corruption_nights import EXPECTATIONS, WINDOW_DAYS, Nights
from benchmarks.corruption_results import STRENGTHS, Seen
from embft import EmbeddingsModelInterface
from embft.clickstream.negatives import sample_not_clicked
from embft.validation.drift import summarise
from embft.validation.rank_frame import Ranking
from embft.validation.ranks import PARTS, RanksVerdict, check_ranks
from embft.validation_config import load_suite

N_NEGATIVES, SEED = 10, 17
N_TRAIN, N_VALIDATION = 6000, 500  # of the oldest clicks, all before 2011-09-06
_PARTS_FROM_END = {"test": slice(-2, None), "validation": slice(-3, -2), "train": slice(None, -3)}

Ranks = list[list[float | None]]


@dataclass(frozen=True)
class Ranked:
    """A night's ranks by one model.

    Args:
        session_ids: Of the sessions, train first, test last.
        parts: Part → sessions of it.
        results: Positions of the shown items in `item_ids`, the clicked one first, int [sessions, results].
        item_ids: Ids of the catalogue.
        queries: Unit vectors, float32 [sessions, dim].
        items: Unit vectors, float32 [items, dim].
        ranks: Of the results, as they are handed on.
    """

    session_ids: list[str]
    parts: dict[str, slice]
    results: NDArray[np.int64]
    item_ids: list[str]
    queries: NDArray[np.float32]
    items: NDArray[np.float32]
    ranks: Ranks

    def cosines(self, items: NDArray[np.float32]) -> Ranks:
        """Rank the results by some item vectors of unit length."""
        ranks: Ranks = np.einsum("sd,srd->sr", self.queries, items[self.results]).tolist()
        return ranks


@dataclass(frozen=True)
class Kind:
    """One kind of damage: the night's ranks, those of a stale model, a generator and a strength → ranks after it."""

    damage: Callable[[Ranked, Ranked, np.random.Generator, Any], Ranked]
    strengths: tuple[Any, Any, Any]


def see_all(nights: Nights, night: date, folder: Path, *, only: list[str]) -> Iterator[Seen]:
    """Damage a night's ranks in every way, and validate them.

    Args:
        nights: Of the real shop.
        night: Its day.
        folder: For files.
        only: Names of kinds; empty for all.

    Yields:
        What became of each kind at each strength.
    """
    kinds = [kind for kind in KINDS if not only or kind.damage.__name__ in only]
    if not kinds:
        return
    base, champion = training.load("static"), _champion()
    before = _ranked(nights, night - timedelta(days=1), champion)
    tonight, stale = (_ranked(nights, night, model) for model in (champion, base))
    test = np.asarray(before.ranks[before.parts["test"]], dtype=np.float32)
    lead = float((test[:, 0] - test[:, 1:].mean(axis=1)).mean())  # the first result is the one clicked
    reference = {**summarise(test.ravel(), len(test)), "lead": lead}
    quiet = _checked(tonight, reference, folder)
    for kind in kinds:
        for strength, value in zip(STRENGTHS, kind.strengths, strict=True):
            damaged = kind.damage(tonight, stale, np.random.default_rng(SEED), value)
            verdict = _checked(damaged, reference, folder)
            alarms = _alarms(verdict) - _alarms(quiet)
            rules = [it.name for it in verdict.verdict.rules if it.success is False]
            touched = sum(now != then for now, then in zip(damaged.ranks, tonight.ranks, strict=True))
            yield Seen(
                "ranks",
                kind.damage.__name__,
                strength,
                caught=bool(alarms),
                rules=sorted(set(rules) - {it.name for it in quiet.verdict.rules if it.success is False}),
                touched=touched,
            )


def _alarms(verdict: RanksVerdict) -> set[str]:
    return {*verdict.reasons, *verdict.figures["warnings"]}


def _champion() -> EmbeddingsModelInterface:
    collection = clicks.best_buy()
    learned, held_out = collection.train[:N_TRAIN], collection.train[N_TRAIN : N_TRAIN + N_VALIDATION]
    return training.train_embft("static", collection, train=learned, validation=held_out, n_negatives=0, lr=None)


def _ranked(nights: Nights, night: date, model: EmbeddingsModelInterface) -> Ranked:
    days = [nights.undamaged(night - timedelta(days=back)).table for back in range(WINDOW_DAYS - 1, -1, -1)]
    item_ids = nights.items.table["id"].to_pylist()
    sessions = sample_not_clicked(pa.concat_tables(days), item_ids, count=N_NEGATIVES, seed=SEED)
    place = {id_: at for at, id_ in enumerate(item_ids)}
    results = np.array([[place[id_] for id_ in shown] for shown in sessions["shown"].to_pylist()])
    ends = np.cumsum([0, *(day.num_rows for day in days)])
    starts, lasts = ends[:-1], ends[1:]
    ranked = Ranked(
        session_ids=sessions["session_id"].to_pylist(),
        parts={part: slice(starts[of][0], lasts[of][-1]) for part, of in _PARTS_FROM_END.items()},
        results=results,
        item_ids=item_ids,
        queries=_unit(model.encode_queries(sessions["query"].to_pylist())),
        items=_unit(model.encode_items(nights.items.table["text"].to_pylist())),
        ranks=[],
    )
    return replace(ranked, ranks=ranked.cosines(ranked.items))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _checked(ranked: Ranked, reference: dict[str, Any], folder: Path) -> RanksVerdict:
    files = {part: folder / f"{part}.parquet" for part in PARTS}
    ids = np.array(ranked.item_ids)
    for part, path in files.items():
        rows, shown = ranked.parts[part], ids[ranked.results[ranked.parts[part]]]
        columns = {
            "session_id": ranked.session_ids[rows],
            "results": shown.tolist(),
            "clicked": shown[:, :1].tolist(),
            "ranks": pa.array(ranked.ranks[rows], pa.list_(pa.float32())),
        }
        pq.write_table(pa.table(columns), path)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ranked.items.ravel()), ranked.items.shape[1])
    pq.write_table(pa.table({"id": ranked.item_ids, "vector": vectors}), folder / "vectors.parquet")
    return check_ranks(
        files,
        load_suite(EXPECTATIONS, "ranks"),
        vectors=folder / "vectors.parquet",
        ranking=Ranking((-1.0, 1.0), is_similarity=True, is_champions=True),
        reference=reference,
        docs_folder=folder / "docs",
    )


def _changed(
    ranked: Ranked, chance: np.random.Generator, share: float, change: Callable[[list[Any]], list[Any]]
) -> Ranked:
    """Change the ranks of a share of the sessions."""
    n = len(ranked.ranks)
    ranks = list(ranked.ranks)
    for at in chance.choice(n, size=max(1, round(share * n)), replace=False).tolist():
        ranks[at] = change(ranks[at])
    return replace(ranked, ranks=ranks)


def ranks_constant(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has one and the same rank for all results."""
    return _changed(ranked, chance, share, lambda ranks: [0.5] * len(ranks))


def ranks_negated(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has its ranks with the other sign: of distances instead of similarities."""
    return _changed(ranked, chance, share, lambda ranks: [-it for it in ranks])


def ranks_nan(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has a rank that is not a number."""
    return _changed(ranked, chance, share, lambda ranks: [float("nan"), *ranks[1:]])


def ranks_missing(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has a rank that was not filled."""
    return _changed(ranked, chance, share, lambda ranks: [None, *ranks[1:]])


def ranks_incomplete(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has a rank less than results."""
    return _changed(ranked, chance, share, lambda ranks: ranks[:-1])


def ranks_out_of_range(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has ranks that are no cosines: in per cent."""
    return _changed(ranked, chance, share, lambda ranks: [100 * it for it in ranks])


def ranks_shuffled(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has its ranks in any order."""
    return _changed(ranked, chance, share, lambda ranks: chance.permutation(ranks).tolist())


def ranks_of_a_stale_model(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the sessions has the ranks of the model that was never trained."""
    n = len(ranked.ranks)
    chosen = set(chance.choice(n, size=round(share * n), replace=False).tolist())
    return replace(ranked, ranks=[(stale if at in chosen else ranked).ranks[at] for at in range(n)])


def one_norm_explodes(ranked: Ranked, stale: Ranked, chance: np.random.Generator, factor: float) -> Ranked:
    """One item's vector is some times as long as the others; cosines do not show it."""
    items = ranked.items.copy()
    items[chance.integers(len(items))] *= factor
    return replace(ranked, items=items)


def vectors_collapse(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """Each item vector moves towards the mean of all of them."""
    mean = ranked.items.mean(axis=0) / np.linalg.norm(ranked.items.mean(axis=0))
    items = _unit((1 - share) * ranked.items + share * mean)
    return replace(ranked, items=items, ranks=ranked.cosines(items))


def vectors_of_other_items(ranked: Ranked, stale: Ranked, chance: np.random.Generator, share: float) -> Ranked:
    """A share of the items has the vector of the item before it."""
    items = ranked.items.copy()
    n = max(2, round(share * len(items)))
    items[:n] = np.roll(items[:n], 1, axis=0)
    return replace(ranked, items=items, ranks=ranked.cosines(items))


KINDS = (
    Kind(ranks_constant, (0.02, 0.3, 1.0)),
    Kind(ranks_negated, (0.1, 0.5, 1.0)),
    Kind(ranks_nan, (0.0001, 0.1, 1.0)),
    Kind(ranks_missing, (0.0001, 0.1, 1.0)),
    Kind(ranks_incomplete, (0.0001, 0.1, 1.0)),
    Kind(ranks_out_of_range, (0.0001, 0.1, 1.0)),
    Kind(ranks_shuffled, (0.1, 0.5, 1.0)),
    Kind(ranks_of_a_stale_model, (0.1, 0.5, 1.0)),
    Kind(one_norm_explodes, (3, 30, 1000)),
    Kind(vectors_collapse, (0.5, 0.8, 0.99)),
    Kind(vectors_of_other_items, (0.1, 0.5, 1.0)),
)
