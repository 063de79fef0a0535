"""What keeps a model from forgetting while it learns from clicks? On real clicks, and on a collection of another field.

Measured after each training: nDCG@10 on the dev part, as in `benchmarks.quality`, and on Cranfield (225 questions about
aerodynamics, graded abstracts), which nobody trained on: what falls there was forgotten. Options:

- `plain`: trained at the library's defaults, and left as it is.
- `interpolation`: the same, then mixed with the base's weights as `fine_tune` does by default (`mix_with_base`; the
  validation clicks choose the share). The figures without an option's name are this one's.
- `distillation`: beside the loss, squared distance to the base's vectors on catalogue items that nobody clicked.
- `rare_tokens` (static): the step of a token that n train queries have is scaled by n / (n + 10).
- `layer_decay` (MiniLM): steps are scaled by 0.8 for each layer below the last.
- `frozen` (MiniLM): word embeddings and the first half of the layers stay as they are.

`guard_change` is Cranfield's nDCG@10 against the base's, as a share. `gain_kept` is the gain over the base on dev, as a
share of the plain training's. Both are the worst of all collections and models, whose own follow. Means over seeds.

The nights: 30 in a row on Best Buy, each trained on the 13 days before it with itself as validation, and measured on
the day after: started from the base, from the last night's model, and from that with the base's weights mixed in.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import embft
from benchmarks import clicks, training
from benchmarks.figures import print_figure
from benchmarks.measures import Case, Evaluation
from benchmarks.quality import plan_of
from embft.finetuning.catalogue import RankedCatalogue
from embft.finetuning.threads import cpu_threads
from tests import cranfield

Change = Callable[[embft.EmbeddingsFineTuner, clicks.Collection], None]
Scores = dict[str, tuple[float, float]]
"""Option → nDCG@10 on dev and on Cranfield."""

_DISTILLED, _DISTILLATION_WEIGHT = 64, 1.0
_RARE, _LAYER_DECAY = 10, 0.8
_N_NIGHTS, _WINDOW_DAYS = 30, 14


def main(arguments: Sequence[str] | None = None) -> int:
    """Train by every option, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forgetting", description=__doc__.splitlines()[0])
    parts = ["bestbuy.static", "home_depot.static", "bestbuy.minilm", "nights"]
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, default=3, help="of the static model")
    parser.add_argument("--minilm-minutes", type=float, default=3.0, help="of each training of MiniLM")
    options = parser.parse_args(arguments)
    if not clicks.has_data() or not (cranfield.FOLDER / "qrels.tsv").exists():
        print("forgetting: no Best Buy clicks, Home Depot grades or Cranfield; set EMBFT_DATA", file=sys.stderr)
        return 2
    worst: dict[str, list[float]] = defaultdict(list)
    with cpu_threads(1):
        for part in [it for it in options.parts if it != "nights"]:
            name, model = part.split(".")
            collection = {"bestbuy": clicks.best_buy, "home_depot": clicks.home_depot}[name]()
            seeds = range(options.seeds if model == "static" else 1)
            found = [_trained_by_all(collection, model, seed, options.minilm_minutes) for seed in seeds]
            for figure, value in _print_part(part, found, collection).items():
                worst[figure].append(value)
        for figure, values in worst.items():
            for name in dict.fromkeys([figure, figure.removesuffix(".interpolation")]):
                data = f"the worst of {', '.join(it for it in options.parts if it != 'nights')}"
                print_figure(f"forgetting.{name}", min(values), "1", baseline=None, n=len(values), data=data)
        if "nights" in options.parts:
            _print_nights()
    return 0


def _trained_by_all(collection: clicks.Collection, model: str, seed: int, minilm_minutes: float) -> Scores:
    base = training.load(model)
    scores = {"base": _scores(base, collection)}
    for option, (change, params) in _options(model).items():
        done = _trained(collection, model, seed, minilm_minutes, change, params)
        scores[option] = _scores(done.tuner.model, collection)
        if option == "plain":
            mixture = embft.mix_with_base(done.tuner, base, done.validation, done.settings.batch_size)
            scores["interpolation"] = _scores(done.tuner.model, collection)
            print(f"forgetting: {collection.name} {model}: {mixture}", file=sys.stderr, flush=True)
    return scores


def _options(model: str) -> dict[str, tuple[Change | None, dict[str, Any]]]:
    common: dict[str, tuple[Change | None, dict[str, Any]]] = {"plain": (None, {}), "distillation": (_distil, {})}
    if model == "static":
        return common | {"rare_tokens": (_slow_rare_tokens, {})}
    return common | {"layer_decay": (_slow_first_layers, {}), "frozen": (None, {"num_fixed_layers": 4})}


def _trained(
    collection: clicks.Collection,
    model: str,
    seed: int,
    minilm_minutes: float,
    change: Change | None = None,
    params: Mapping[str, Any] | None = None,
    start: embft.EmbeddingsModelInterface | None = None,
) -> training.Trained:
    plan = plan_of(model, collection.name, minilm_minutes)

    def make(*arguments: Any) -> embft.EmbeddingsFineTuner:
        tuner = embft.EmbeddingsFineTuner.create(*arguments)
        if change:
            change(tuner, collection)
        return tuner

    return training.trained(
        model,
        collection,
        train=collection.train[-plan.n_train :] if plan.n_train else collection.train,
        validation=collection.validation[-plan.n_validation :] if plan.n_validation else collection.validation,
        n_negatives=0,
        lr=None,
        max_seconds=plan.minutes and 60 * plan.minutes,
        start=start,
        params=params or {},
        make_tuner=make,
        seed=seed,
        **plan.settings,
    )


def _distil(tuner: embft.EmbeddingsFineTuner, collection: clicks.Collection) -> None:
    clicked = {click.item for click in collection.train}
    texts = collection.items.items_by_ids([id_ for id_ in collection.items.ids if id_ not in clicked])
    base = torch.from_numpy(tuner.model.encode_items(texts))
    random, backward = np.random.default_rng(0), tuner.manual_backward

    def with_distillation(loss: Tensor) -> None:
        rows = random.choice(len(texts), min(_DISTILLED, len(texts)), replace=False).tolist()
        now = tuner.model.forward_items([texts[row] for row in rows])
        backward(loss + _DISTILLATION_WEIGHT * (now - base[rows]).pow(2).sum(dim=1).mean())

    tuner.manual_backward = with_distillation


def _slow_rare_tokens(tuner: embft.EmbeddingsFineTuner, collection: clicks.Collection) -> None:
    model = tuner.model
    assert isinstance(model, embft.StaticEmbeddingsModel)
    counts = torch.zeros(model.embedding.num_embeddings, 1)
    for query, count in Counter(click.query for click in collection.train).items():
        counts[list(set(model.tokenizer.encode(query, add_special_tokens=False).ids))] += count
    _scale_steps(tuner, {model.embedding.weight: counts / (counts + _RARE)})


def _slow_first_layers(tuner: embft.EmbeddingsFineTuner, collection: clicks.Collection) -> None:
    layers = tuner.model.layer_parameters()
    _scale_steps(
        tuner,
        {
            weight: torch.tensor(_LAYER_DECAY ** (len(layers) - 1 - depth))
            for depth, layer in enumerate(layers)
            for weight in layer
        },
    )


def _scale_steps(tuner: embft.EmbeddingsFineTuner, factors: Mapping[nn.Parameter, Tensor]) -> None:
    """Scale what each step changes: Adam would undo a scaling of gradients."""
    before: dict[nn.Parameter, Tensor] = {}

    def begin(batch: object, batch_idx: int) -> None:
        before.update({weight: weight.detach().clone() for weight in factors})

    @torch.no_grad()
    def end(outputs: object, batch: object, batch_idx: int) -> None:
        for weight, factor in factors.items():
            weight.copy_(torch.lerp(before[weight], weight, factor))

    tuner.on_train_batch_start, tuner.on_train_batch_end = begin, end


def _scores(model: embft.EmbeddingsModelInterface, collection: clicks.Collection) -> tuple[float, float]:
    measured = collection.evaluation.measure(training.embft_scores(model, collection))
    return next(iter(measured.values()))["ndcg_at_10"], _cranfield_ndcg(model)


def _cranfield_ndcg(model: embft.EmbeddingsModelInterface) -> float:
    items, cases = cranfield.read()
    return float(RankedCatalogue(model, items).measure(cases)["ndcg_at_10"].mean())


def _print_part(part: str, found: Sequence[Scores], collection: clicks.Collection) -> dict[str, float]:
    """Print what the options kept and gained; gives figure.option → value."""
    values = {}
    for option in [it for it in found[0] if it != "base"]:
        of_option = {
            "ndcg_at_10": [it[option][0] for it in found],
            "guard_change": [it[option][1] / it["base"][1] - 1 for it in found],
            "gain_kept": [(it[option][0] - it["base"][0]) / (it["plain"][0] - it["base"][0]) for it in found],
        }
        for figure, of_seeds in of_option.items():
            value = round(mean(of_seeds), 4)
            data = f"{collection.data}; seeds {min(of_seeds):.4f} to {max(of_seeds):.4f}"
            print_figure(f"forgetting.{part}.{figure}.{option}", value, "1", baseline=None, n=len(found), data=data)
            if figure != "ndcg_at_10":
                values[f"{figure}.{option}"] = value
    return values


def _print_nights() -> None:
    by_day: dict[Any, list[clicks.Click]] = defaultdict(list)
    for day, click in clicks.best_buy_dated():
        by_day[day].append(click)
    days, whole, base = sorted(by_day), clicks.best_buy(), training.load("static")
    base_guard = _cranfield_ndcg(base)
    kinds = {"base": partial(_night, base, False, False), "champion": partial(_night, base, True, False)}
    for name, train in (kinds | {"champion_interpolated": partial(_night, base, True, True)}).items():
        model, next_day, guard = deepcopy(base), [], []
        for place in range(len(days) - _N_NIGHTS - 1, len(days) - 1):
            window = [by_day[day] for day in days[place - _WINDOW_DAYS + 1 : place + 1]]
            collection = _collection(whole, window, by_day[days[place + 1]])
            model = train(model, collection)
            score, of_guard = _scores(model, collection)
            next_day.append(score)
            guard.append(of_guard / base_guard - 1)
        data = f"lowest {min(guard):.4f} of {_N_NIGHTS} nights from {days[-_N_NIGHTS - 1]}, {_WINDOW_DAYS} days each"
        figures = {"guard_change": guard[-1], "next_day_ndcg_at_10": mean(next_day)}
        for figure, value in figures.items():
            name_of = f"forgetting.nights.{figure}.{name}"
            print_figure(name_of, round(value, 4), "1", baseline=None, n=_N_NIGHTS, data=data)


def _night(
    base: embft.EmbeddingsModelInterface,
    goes_on: bool,
    mixes: bool,
    last: embft.EmbeddingsModelInterface,
    collection: clicks.Collection,
) -> embft.EmbeddingsModelInterface:
    done = _trained(collection, "static", 0, 0, start=last if goes_on else deepcopy(base))
    if mixes:
        embft.mix_with_base(done.tuner, base, done.validation, done.settings.batch_size)
    return done.tuner.model


def _collection(
    whole: clicks.Collection, window: Sequence[list[clicks.Click]], tomorrow: Sequence[clicks.Click]
) -> clicks.Collection:
    counts = Counter(tomorrow)
    cases = [Case(click.query, {click.item: 1.0}, frozenset([click.item])) for click in counts]
    texts = dict(zip(whole.items.ids, whole.items.items_by_ids(whole.items.ids), strict=True))
    learned = [click for day in window[:-1] for click in day]
    evaluation = Evaluation(cases, {"all": list(counts.values())}, texts)
    return clicks.Collection("bestbuy", whole.data, whole.items, learned, window[-1], {}, evaluation)


if __name__ == "__main__":
    sys.exit(main())
