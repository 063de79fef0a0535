"""How well models rank after training on real clicks: nDCG, MRR and recall at 10, ours beside what others use.

Best Buy. Trained on clicks before 2011-10-10, measured on those from then on: a dev click is one query with one
relevant item, the whole catalogue of 437 items is ranked, and figures are means over clicks. `unseen` are the dev
clicks whose query no train click has.

Home Depot. Real queries with human grades from 1 to 3, disjoint between train and dev. Every second dev query with a
relevant item is measured; it ranks all items judged for any of these, and what was not judged for it is taken as
irrelevant. nDCG gains are grade - 1, linear; MRR and recall take grades from 2.33 on as relevant. Each train grade from
2.33 on counts as a click, grades below 2 as shown and not clicked; the latter go before what is drawn as negatives.

Equal scores keep the catalogue's order. Methods:

- `base`: the model, not trained.
- `bm25`: bm25s at its defaults. `most_clicked`: the items clicked most for this very query in train, then BM25.
- `st_mnrl_default`: sentence-transformers' Trainer with MultipleNegativesRankingLoss, one epoch in batches of 64 and
  all else at its defaults, the learning rate (5e-5) among them.
- `st_mnrl_tuned`: the same with the best learning rate and batch sampler of those tried (`_TRIED`), **picked on the dev
  split itself**, in earlier runs, which favours it. It trains on all train clicks.
- `embft_<loss>`: `EmbeddingsFineTuner.create` and `fit` at the library's defaults, but for what `plan_of` says. The
  newest train day (one in twenty train queries at Home Depot) is not trained on, but picks the best epoch. Loss, margin
  and MiniLM's rate (of 5e-5 and 1e-4) were chosen while looking at these dev splits, as the baselines' rates were.

A transformer takes a second a step here, so MiniLM is trained for some steps of 64 clicks, on the newest clicks (Best
Buy) or a random draw of them (Home Depot), the same ones for every method, and by one seed.

Figures of trained methods are means over seeds, which change the order of clicks and the drawn negatives.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import baselines, clicks, training
from benchmarks.figures import print_figure
from embft.finetuning.threads import cpu_threads

Scores = NDArray[np.floating]

_BOTH_SAMPLERS = "with and without duplicates in a batch"
_TRIED = {
    ("static", "bestbuy"): f"rates 0.002, 0.01, 0.05, 0.1, 0.2, {_BOTH_SAMPLERS}",
    ("static", "home_depot"): f"rates 0.002, 0.01, 0.05, 0.1, 0.2, {_BOTH_SAMPLERS}",
    ("minilm", "bestbuy"): "rates 2e-5, 5e-5, 1e-4, and 5e-5 without duplicates in a batch",
    ("minilm", "home_depot"): "the default and this",
}
_TUNED: dict[tuple[str, str], dict[str, Any]] = {
    ("static", "bestbuy"): {"lr": 0.05, "batch_sampler": "no_duplicates"},
    ("static", "home_depot"): {"lr": 0.01},
    ("minilm", "bestbuy"): {"lr": 5e-5, "batch_sampler": "no_duplicates"},
    ("minilm", "home_depot"): {"lr": 1e-4},
}
_SHOWN_LOSSES = ("listwise_softmax", "cosine_prob_margin")
_LOSSES = {
    ("static", "bestbuy"): ("in_batch_softmax", *_SHOWN_LOSSES, "prob_margin"),
    ("static", "home_depot"): ("in_batch_softmax", *_SHOWN_LOSSES),
    ("minilm", "bestbuy"): ("in_batch_softmax", *_SHOWN_LOSSES),
    # A transformer encodes three times as many texts for the losses over shown items: once, on Best Buy, must do.
    ("minilm", "home_depot"): ("in_batch_softmax",),
}


@dataclass(frozen=True)
class Plan:
    """How a model is trained on a collection.

    Args:
        n_train: Newest train clicks used; None takes all.
        n_validation: Newest validation clicks used; None takes all.
        n_negatives: Not-clicked items of a click, for losses over shown items.
        n_beside_batch: Not-clicked items of a click beside those of its batch, for the in-batch softmax.
        lr: Our learning rate; None takes the library's.
        settings: Our further settings.
    """

    n_train: int | None
    n_validation: int | None
    n_negatives: int
    n_beside_batch: int
    lr: float | None
    settings: dict[str, Any]


def plan_of(model: str, collection: str, minilm_steps: int) -> Plan:
    """Say how to train.

    Args:
        model: "static" or "minilm".
        collection: "bestbuy" or "home_depot".
        minilm_steps: Steps of 64 clicks that MiniLM is trained for.

    Returns:
        The plan. Negatives are fewer where items are many, for there each is another text to encode.
    """
    if model == "minilm":
        return Plan(64 * minilm_steps, 128, 2, 0, 1e-4, {"batch_size": 64, "num_epochs": 1})
    if collection == "bestbuy":
        return Plan(None, None, 50, 50, None, {})
    return Plan(None, None, 4, 0, None, {"num_epochs": 5})


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure and print the figures."""
    options = _options(arguments)
    if not clicks.has_data():
        print("quality: no Best Buy clicks or no Home Depot grades in the data folder; set EMBFT_DATA", file=sys.stderr)
        return 2
    for make in (clicks.best_buy, clicks.home_depot):
        collection = make()
        if collection.name not in options.collections:
            continue
        _report(collection, "none", "bm25", partial(baselines.bm25_scores, collection), [0])
        if collection.name == "bestbuy":
            _report(collection, "none", "most_clicked", partial(baselines.most_clicked_scores, collection), [0])
        for model in options.models:
            n_seeds = options.seeds if model == "static" else options.minilm_seeds
            _report_model(collection, model, range(n_seeds), plan_of(model, collection.name, options.minilm_steps))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["static", "minilm"], choices=["static", "minilm"])
    names = ["bestbuy", "home_depot"]
    parser.add_argument("--collections", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", type=int, default=3, help="of the static model")
    parser.add_argument("--minilm-seeds", type=int, default=1)
    parser.add_argument("--minilm-steps", type=int, default=100, help="of 64 clicks")
    return parser.parse_args(arguments)


def _report_model(collection: clicks.Collection, model: str, seeds: Sequence[int], plan: Plan) -> None:
    report = partial(_report, collection, model)
    # The static model gains nothing from a second thread, in our training or in another.
    with tempfile.TemporaryDirectory() as folder, cpu_threads(1 if model == "static" else None):
        start = training.load(model)
        report("base", lambda: training.embft_scores(start, collection), [0])
        start.save(folder)
        for method, tuned in (("st_mnrl_default", {"lr": None}), ("st_mnrl_tuned", _TUNED[model, collection.name])):
            note = (
                f"; best of {_TRIED[model, collection.name]}, picked on dev in an earlier run: {tuned}"
                if method == "st_mnrl_tuned"
                else ""
            )
            report(method, partial(_by_sentence_transformers, collection, Path(folder), plan, tuned), seeds, note)
    for loss in _LOSSES[model, collection.name]:
        report(f"embft_{loss}", partial(_by_embft, collection, model, plan, loss), seeds)


def _by_sentence_transformers(
    collection: clicks.Collection, folder: Path, plan: Plan, tuned: dict[str, Any], seed: int = 0
) -> Scores:
    pairs = _newest(collection.train if plan.n_train else [*collection.train, *collection.validation], plan.n_train)
    model = baselines.train_sentence_transformer(folder, pairs, collection, seed=seed, **tuned)
    return baselines.sentence_transformer_scores(model, collection)


def _by_embft(collection: clicks.Collection, model: str, plan: Plan, loss: str, seed: int = 0) -> Scores:
    trained = training.train_embft(
        model,
        collection,
        train=_newest(collection.train, plan.n_train),
        validation=_newest(collection.validation, plan.n_validation),
        n_negatives=plan.n_beside_batch if loss == "in_batch_softmax" else plan.n_negatives,
        lr=plan.lr,
        loss_func=loss,
        seed=seed,
        **plan.settings,
    )
    return training.embft_scores(trained, collection)


def _newest(these: Sequence[clicks.Click], count: int | None) -> Sequence[clicks.Click]:
    return these if count is None else these[-count:]


def _report(
    collection: clicks.Collection,
    model: str,
    method: str,
    score: Callable[..., Scores],
    seeds: Sequence[int],
    note: str = "",
) -> None:
    """Measure a method by each seed, and print the means; methods without chance are called with no seed."""
    began = perf_counter()
    runs = [collection.evaluation.measure(score(seed=seed) if len(seeds) > 1 else score()) for seed in seeds]
    for part in collection.evaluation.weights:
        for measure in runs[0][part]:
            values = [run[part][measure] for run in runs]
            spread = f"; seeds {min(values):.4f} to {max(values):.4f}" if len(values) > 1 else ""
            print_figure(
                f"quality.{collection.name}.{part}.{model}.{method}.{measure}",
                round(statistics.mean(values), 4),
                "1",
                baseline=None,
                n=len(values),
                data=collection.data + note + spread,
            )
    print(f"quality: {collection.name} {model} {method}: {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
