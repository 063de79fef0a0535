"""How often the gate lets a model through that is not better, and how often one that is, on real clicks.

Models are trained on Best Buy's clicks before 2011-10-10 and judged by their loss on those from then on. A night is a
draw of its queries, with all their clicks, with replacement; the gate is told no more of it than that. The champion is
trained on all train clicks.

- `aa`: the champion against itself, and against trainings that differ by their seed alone.
- `worse`: its weights with noise added, a model trained on clicks whose items were shuffled, and one trained on what
  bots of another week clicked: forty queries of August, each with a third of the catalogue in turn. The clicks that
  pick their best epoch are of the same kind.
- `better`: a proper training against the base model, and against a champion that has seen no click since August.

`gate.promoted.*` is the share of nights in which embft's gate promotes at its defaults (2 % less loss, shown with 95 %
confidence); `gate.naive_promoted.*`, on the same nights, that of a gate that asks for a lower loss. A night holds out
400 queries; for `better` it is told for other numbers, too.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

import embft
from benchmarks import clicks, training
from benchmarks.figures import print_figure
from embft import FineTuningInput
from embft.finetuning.registry import make_loss
from embft.finetuning.threads import cpu_threads
from embft.finetuning.validation import validation_loss
from embft.promotion.evaluation import QueryFigures, per_query_table
from embft.promotion.evaluation_record import Costs, Evaluation
from embft.promotion.gate import decide
from embft.promotion_config import Gate

Losses = NDArray[np.float64]

_STALE_SHARE = 0.4  # of the train clicks, oldest first: those up to the end of August
_N_NEGATIVES = 50
_BOT_QUERIES = 40
_BOT_CLICKS_KEPT = 1000  # for validation
_NOISE = (0.5, 0.75, 1.0)  # standard deviations of the weights; 0.25 lowers the loss, and so is not worse
_RESAMPLES = 2000  # a tenth of a second a night; the gate's default is 10,000
_GATE = Gate(max_val_loss=1e9)
_USUAL_SIZE = 400
_OTHER_SIZES = (50, 100, 200, 800)


@dataclass(frozen=True)
class Pairing:
    """A challenger's and a champion's losses on all held-out sessions, float64 [sessions]."""

    kind: str
    name: str
    challenger: Losses
    champion: Losses

    @property
    def true_gain(self) -> float:
        """On all of them: what the gate does not know."""
        return float(1 - self.challenger.mean() / self.champion.mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, draw nights, and print what two gates say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="further trainings of the champion")
    options = parser.parse_args(arguments)
    if not clicks.has_data():
        print("gate: no Best Buy clicks in the data folder; set EMBFT_DATA", file=sys.stderr)
        return 2
    collection = clicks.best_buy()
    with cpu_threads(1):
        held_out = _held_out(collection)
        queries = np.array([str(it.query) for it in held_out])
        pairings = _pairings(collection, held_out, options.seeds)
    for kind in ("aa", "worse", "better"):
        _report(kind, [it for it in pairings if it.kind == kind], queries, _USUAL_SIZE, options.nights)
    for size in _OTHER_SIZES:
        _report(f"better.{size}_queries", [it for it in pairings if it.kind == "better"], queries, size, options.nights)
    return 0


def _held_out(collection: clicks.Collection) -> list[FineTuningInput]:
    """Every held-out click as a session, as the pipeline makes them where nothing tells what was shown."""
    sessions = clicks.sessions_of(clicks.best_buy_dev(), collection, n_negatives=_N_NEGATIVES)
    return embft.PairedFineTuningInputsDataset(sessions, 0).not_irrelevant


def _pairings(collection: clicks.Collection, held_out: list[FineTuningInput], n_seeds: int) -> list[Pairing]:
    settings = embft.FineTuningSettings(metric_calculators=(), devices="cpu")

    def losses(model: embft.EmbeddingsModelInterface) -> Losses:
        return validation_loss(
            model,
            held_out,
            collection.items,
            embft.TextQueryRetriever(),
            make_loss(settings.loss_func),
            embft.FineTuningParams(),
            batch_size=settings.batch_size,
        ).per_session

    def trained(
        of: Sequence[clicks.Click], validation: Sequence[clicks.Click] = collection.validation, seed: int = 0
    ) -> embft.EmbeddingsModelInterface:
        return training.train_embft(
            "static",
            collection,
            train=of,
            validation=validation,
            n_negatives=_N_NEGATIVES,
            lr=None,
            seed=seed,
        )

    champion_model = trained(collection.train)
    champion, base = losses(champion_model), losses(training.load("static"))
    stale = losses(trained(collection.train[: int(_STALE_SHARE * len(collection.train))]))
    found = [Pairing("aa", "itself", champion, champion)]
    found += [
        Pairing("aa", f"seed {seed}", losses(trained(collection.train, seed=seed)), champion)
        for seed in range(1, n_seeds + 1)
    ]
    found += [Pairing("worse", f"noise {share}", losses(_noisy(champion_model, share)), champion) for share in _NOISE]
    found.append(
        Pairing(
            "worse",
            "shuffled clicks",
            losses(trained(_shuffled(collection.train), _shuffled(collection.validation))),
            champion,
        )
    )
    bots = _bots(collection)
    found.append(
        Pairing("worse", "bots", losses(trained(bots[:-_BOT_CLICKS_KEPT], bots[-_BOT_CLICKS_KEPT:])), champion)
    )
    found.append(Pairing("better", "against the base", champion, base))
    found.append(Pairing("better", "against a stale champion", champion, stale))
    for it in found:
        print(f"gate: {it.kind}, {it.name}: true gain {it.true_gain:+.2%}", file=sys.stderr, flush=True)
    return found


def _noisy(model: embft.EmbeddingsModelInterface, share: float) -> embft.EmbeddingsModelInterface:
    noisy = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in noisy.parameters():
            weight += share * weight.std() * torch.randn(weight.shape, generator=generator)
    return noisy


def _shuffled(train: Sequence[clicks.Click]) -> list[clicks.Click]:
    items = [click.item for click in train]
    random.Random(0).shuffle(items)
    return [clicks.Click(click.query, item) for click, item in zip(train, items, strict=True)]


def _bots(collection: clicks.Collection) -> list[clicks.Click]:
    queries = list(dict.fromkeys(click.query for click in collection.train))[:_BOT_QUERIES]
    chance = random.Random(0)
    a_third = len(collection.items) // 3
    visited = [
        clicks.Click(query, item) for query in queries for item in chance.sample(list(collection.items.ids), a_third)
    ]
    chance.shuffle(visited)
    return visited


def _report(kind: str, pairings: Sequence[Pairing], queries: NDArray[np.str_], size: int, n_nights: int) -> None:
    gates: dict[str, Callable[[Pairing, list[NDArray[np.int64]]], bool]] = {"": _promotes, "naive_": _is_lower}
    rows_of = [np.flatnonzero(queries == query) for query in np.unique(queries)]
    chance = np.random.default_rng(size)
    nights = [[rows_of[it] for it in chance.integers(len(rows_of), size=size)] for _ in range(n_nights)]
    for gate, promotes in gates.items():
        shares = {it.name: float(np.mean([promotes(it, night) for night in nights])) for it in pairings}
        each = ", ".join(f"{it.name} ({it.true_gain:+.1%}) {shares[it.name]:.3f}" for it in pairings)
        print_figure(
            f"gate.{gate}promoted.{kind}",
            round(float(np.mean(list(shares.values()))), 4),
            "1",
            baseline=None,
            n=len(nights) * len(pairings),
            data=f"Best Buy clicks, {size} queries a night; in brackets the true gain: {each}",
        )


def _is_lower(pairing: Pairing, night: list[NDArray[np.int64]]) -> bool:
    rows = np.concatenate(night)
    return bool(pairing.challenger[rows].mean() < pairing.champion[rows].mean())


def _promotes(pairing: Pairing, night: list[NDArray[np.int64]]) -> bool:
    rows = np.concatenate(night)
    # A query that was drawn twice counts as two.
    queries = np.repeat([f"q{number}" for number in range(len(night))], [len(it) for it in night]).tolist()
    table = per_query_table(
        {"query": queries, "slices": pa.array([[]] * len(rows), pa.list_(pa.string()))},
        {"champion": {"val_loss": pairing.champion[rows]}, "challenger": {"val_loss": pairing.challenger[rows]}},
    )
    return decide(_EVALUATION, [QueryFigures("slice", "all", table)], _GATE).passed


_EVALUATION = Evaluation(
    model="xbox",
    day=date(2011, 10, 20),
    test_from=date(2011, 10, 10),
    inputs_sha256="",
    loss_func="in_batch_softmax",
    n_items=437,
    candidate="challenger",
    opponent="champion",
    new_share=None,
    sets=(),
    costs=dict.fromkeys(("champion", "challenger"), Costs(model_mb=33.0, encode_ms=0.1)),
    confidence=0.95,
    resamples=_RESAMPLES,
    comparisons=(),
)


if __name__ == "__main__":
    sys.exit(main())
