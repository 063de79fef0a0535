"""How well position bias is estimated from a log that has it, and what correcting it gains in training.

The estimate. A made-up search engine with known propensities: queries are searched by Zipf's law, each has thirty items
of known attraction, and its ten best by attraction and chance are shown. Errors are the greatest over ten positions of
|estimated - planted| / planted, and of the worse of two seeds. In `cascade` logs people read from the top until they
click, in `trust` logs they also click what does not attract them, the sooner the higher it stands: neither follows the
model that is fitted. What is planted is, for cascades, the share of searches in which a position is reached.

The gain. Shoppers of the demo's shop search within a department; the ranking they see has preferences of its own, and
puts what is wanted low. They look at position k with probability 1/k. The static model is trained on these clicks, as
they are and weighed by propensities estimated from the same log; `no_bias` are as many clicks of shoppers who look at
every position, which is what a correction could reach at best. nDCG@10 ranks the department for new queries of the
same shoppers, against the planted attraction of each item.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import embft
from benchmarks.figures import print_figure
from benchmarks.measures import Case, Evaluation
from embft.clickstream.propensities import estimate_propensities, shown_propensities, summarise_weights
from embft.clickstream.queries import QueryWriter
from embft.clickstream.shop import Shop, load_shop
from embft.finetuning.threads import cpu_threads

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_POSITIONS = 10
METHODS = ("interventions", "em")
RECOMMENDED = "interventions"
PLANTED = {
    "power 0.8": np.arange(1.0, N_POSITIONS + 1) ** -0.8,
    "uneven": np.array([1, 0.9, 0.5, 0.4, 0.45, 0.3, 0.2, 0.2, 0.1, 0.1]),
}
LOSSES = ("in_batch_softmax", "listwise_softmax", "cosine_prob_margin")
_N_QUERIES, _N_ITEMS = 2000, 30
_TRUST = 0.05
_WANTED, _SAME_KIND, _SAME_DEPARTMENT = 0.9, 0.5, 0.1
_PREFERENCE, _AGAINST_WANTED, _EXPLORATION = 1.5, 1.5, 0.7
_UNBIASED_SHARE = 0.28  # of the searches: they have as many clicks as all do under bias
_DAY = date(2026, 3, 1)
_SHOP = Path(__file__).resolve().parents[1] / "include" / "demo"


def main(arguments: Sequence[str] | None = None) -> int:
    """Estimate, train, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.propensity", description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=200_000, help="of the logs that propensities are estimated on")
    parser.add_argument("--seeds", type=int, default=3, help="of the trainings")
    parser.add_argument("--train-sessions", type=int, default=8000, help="of the logs that are trained on")
    options = parser.parse_args(arguments)
    _report_errors(options.sessions)
    with cpu_threads(1):  # the static model gains nothing from a second thread
        _report_gain(range(options.seeds), options.train_sessions)
    return 0


def world(n_sessions: int, *, seed: int, planted: Floats, clicking: str = "pbm") -> tuple[pa.Table, Floats]:
    """Make a log.

    Args:
        n_sessions: Searches.
        seed: Of everything.
        planted: Probability that each position is looked at, float64 [positions].
        clicking: "pbm", "trust" or "cascade"; a cascade has no use for `planted`.

    Returns:
        Sessions, and how likely each position was looked at.
    """
    chance = np.random.default_rng(seed)
    searched = 1 / np.arange(1.0, _N_QUERIES + 1)
    query = chance.choice(_N_QUERIES, size=n_sessions, p=searched / searched.sum())
    attraction = chance.beta(1, 5, size=(_N_QUERIES, _N_ITEMS))
    score = np.log(attraction[query]) + chance.gumbel(scale=0.7, size=(n_sessions, _N_ITEMS))
    shown = np.argsort(-score, axis=1)[:, :N_POSITIONS]
    attracts = np.take_along_axis(attraction[query], shown, axis=1)
    if clicking == "trust":
        attracts = attracts + (1 - attracts) * _TRUST * planted
    if clicking == "cascade":
        liked = chance.random(shown.shape) < attracts
        reached = np.cumsum(liked, axis=1) - liked == 0
        clicked, planted = liked & reached, reached.mean(0)
    else:
        clicked = chance.random(shown.shape) < planted * attracts
    return _sessions([f"q{number}" for number in query], shown, clicked, [f"i{n}" for n in range(_N_ITEMS)]), planted


def _sessions(queries: Sequence[str], shown: Ints, clicked: NDArray[np.bool_], ids: Sequence[str]) -> pa.Table:
    def lists(chosen: NDArray[np.bool_]) -> pa.Array:
        ends = np.concatenate([[0], np.cumsum(chosen.sum(1))])
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(ids).take(pa.array(shown[chosen])))

    columns = {
        "query": pa.array(queries),
        "shown": lists(np.ones_like(clicked)),
        "positions": pa.nulls(len(queries), pa.list_(pa.int32())),
        "clicked": lists(clicked),
    }
    return pa.table(columns)


def _report_errors(n_sessions: int) -> None:
    worst = dict.fromkeys(METHODS, 0.0)
    for name, planted in PLANTED.items():
        for method in METHODS:
            error, data = _worst_error(n_sessions, method, planted, "pbm")
            worst[method] = max(worst[method], error)
            figure = f"propensity.{method}.max_relative_error.{name.replace(' ', '_')}"
            print_figure(figure, round(error, 4), "1", baseline=None, n=2, data=data)
    about = f"{n_sessions} simulated sessions of ten results; greatest error of {', '.join(PLANTED)}"
    for method in METHODS:
        name = f"propensity.{method}.max_relative_error"
        print_figure(name, round(worst[method], 4), "1", baseline=None, n=4, data=about)
        if method == RECOMMENDED:
            name = "propensity.max_relative_error"
            print_figure(name, round(worst[method], 4), "1", baseline=None, n=4, data=f"{about}; {method}")
    for clicking in ("trust", "cascade"):
        for method in METHODS:
            error, data = _worst_error(n_sessions, method, PLANTED["power 0.8"], clicking)
            name = f"propensity.{method}.max_relative_error.{clicking}"
            print_figure(name, round(error, 4), "1", baseline=None, n=2, data=data)


def _worst_error(n_sessions: int, method: str, planted: Floats, clicking: str) -> tuple[float, str]:
    """Greatest relative error of two seeds, and all positions of the worse one in words."""
    found = []
    for seed in range(2):
        sessions, truth = world(n_sessions, seed=seed, planted=planted, clicking=clicking)
        began = perf_counter()
        values = np.array(estimate_propensities(sessions, method).values)  # type: ignore[arg-type]
        print(f"propensity: {method} {clicking}: {perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        pairs = ", ".join(f"{mine:.3f} for {true:.3f}" for mine, true in zip(values, truth, strict=True))
        found.append((float(np.abs(values / truth - 1).max()), f"{n_sessions} simulated sessions; estimated {pairs}"))
    return max(found)


class BiasedShop:
    """The demo's shop with planted relevance, and a ranking that has it wrong.

    Args:
        shop: From `load_shop`.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._ids = [it.id for it in shop.products]
        self._kinds = np.unique([it.kind for it in shop.products], return_inverse=True)[1]
        self._departments = np.unique([it.department for it in shop.products], return_inverse=True)[1]
        shape = (int(self._kinds.max()) + 1, len(self._ids))
        self._preference = np.random.default_rng(99).normal(0, _PREFERENCE, shape)  # of the ranking, for each kind
        self.items = embft.ItemsSet(self._ids, [it.text for it in shop.products])

    def log(self, n_sessions: int, seed: int, eta: float = 1.0) -> pa.Table:
        """Searches, what was shown and what was clicked, where position k is looked at with probability 1 / k^eta."""
        chance = np.random.default_rng(seed)
        writer = QueryWriter(self._shop, _DAY, chance)
        wanted = chance.choice(len(self._ids), size=n_sessions)
        attraction = np.stack([self._attraction(item) for item in wanted])
        score = self._preference[self._kinds[wanted]] + chance.gumbel(scale=_EXPLORATION, size=attraction.shape)
        score -= _AGAINST_WANTED * (attraction > _SAME_DEPARTMENT)
        score[attraction == 0] = -np.inf
        shown = np.argsort(-score, axis=1)[:, :N_POSITIONS]
        looked_at = chance.random(shown.shape) < np.arange(1.0, N_POSITIONS + 1) ** -eta
        clicked = looked_at & (chance.random(shown.shape) < np.take_along_axis(attraction, shown, axis=1))
        return _sessions([writer.write(self._shop.products[item]) for item in wanted], shown, clicked, self._ids)

    def ndcg(self, model: embft.EmbeddingsModelInterface, n_queries: int = 600) -> float:
        """nDCG@10 of the department's items for new queries."""
        chance = np.random.default_rng(12345)
        writer = QueryWriter(self._shop, _DAY, chance)
        wanted = chance.choice(len(self._ids), size=n_queries)
        department = {}
        cases = []
        for item in wanted.tolist():
            query, attraction = writer.write(self._shop.products[item]), self._attraction(item)
            gains = {self._ids[row]: float(attraction[row]) for row in np.flatnonzero(attraction)}
            cases.append(Case(query, gains, frozenset([self._ids[item]])))
            department[query] = self._departments[item]
        texts = {it.id: it.text for it in self._shop.products}
        evaluation = Evaluation(cases, {"all": [1.0] * len(cases)}, texts)
        scores = model.encode_queries(evaluation.queries) @ model.encode_items(evaluation.item_texts).T
        is_own = np.array([department[query] for query in evaluation.queries])[:, None] == self._departments
        return evaluation.measure(np.where(is_own, scores, -np.inf))["all"]["ndcg_at_10"]

    def _attraction(self, wanted: int) -> Floats:
        """Probability that an item is clicked once looked at by who wants this one, float64 [items]."""
        same_department = np.where(self._departments == self._departments[wanted], _SAME_DEPARTMENT, 0.0)
        attraction = np.where(self._kinds == self._kinds[wanted], _SAME_KIND, same_department)
        attraction[wanted] = _WANTED
        return attraction


def _report_gain(seeds: Sequence[int], n_sessions: int) -> None:
    shop = BiasedShop(load_shop(_SHOP))
    about = f"demo's shop, {n_sessions} simulated sessions, examination 1/k, wordllama"
    base = shop.ndcg(embft.load_model("wordllama"))
    print_figure("propensity.ndcg.not_trained", round(base, 4), "1", baseline=None, n=1, data=about)
    found: dict[str, list[float]] = {}
    for seed in seeds:
        sessions = shop.log(n_sessions, seed)
        propensities = estimate_propensities(sessions, RECOMMENDED)  # type: ignore[arg-type]
        summary = summarise_weights(sessions, propensities, max_weight=10)
        print(f"propensity: seed {seed}: {propensities.values} {summary}", file=sys.stderr, flush=True)
        inputs = _inputs(sessions, shown_propensities(sessions, propensities))
        for loss in LOSSES:
            for how, confidences in (("uncorrected", "dummy_confidences"), ("corrected", "propensity_confidences")):
                value = shop.ndcg(_trained(inputs, shop.items, loss, confidences, seed))
                found.setdefault(f"{how}.{loss}", []).append(value)
        unbiased = shop.log(round(n_sessions * _UNBIASED_SHARE), seed, eta=0.0)
        inputs = _inputs(unbiased, pa.nulls(unbiased.num_rows, pa.list_(pa.float32())))
        for loss in LOSSES[:2]:
            value = shop.ndcg(_trained(inputs, shop.items, loss, "dummy_confidences", seed))
            found.setdefault(f"no_bias.{loss}", []).append(value)
    for name, values in found.items():
        spread = f"{about}; seeds {min(values):.4f} to {max(values):.4f}"
        value = round(statistics.mean(values), 4)
        print_figure(f"propensity.ndcg.{name}", value, "1", baseline=None, n=len(values), data=spread)
        how, loss = name.split(".")
        if loss == embft.FineTuningSettings().loss_func:
            print_figure(
                f"propensity.ndcg.{how}",
                value,
                "1",
                baseline=None,
                n=len(values),
                data=f"{spread}; {loss}, the default",
            )


def _inputs(sessions: pa.Table, propensities: pa.Array) -> list[embft.FineTuningInput]:
    columns = [sessions[name].to_pylist() for name in ("query", "clicked", "shown")]
    rows = zip(*columns, propensities.to_pylist(), strict=True)
    return [
        embft.FineTuningInput(str(number), query, clicked, shown, propensities=chances)
        for number, (query, clicked, shown, chances) in enumerate(rows)
    ]


def _trained(
    inputs: list[embft.FineTuningInput], items: embft.ItemsSet, loss: str, confidences: str, seed: int
) -> embft.EmbeddingsModelInterface:
    """Train on nine tenths of the sessions; the last tenth picks the best epoch."""
    settings = embft.FineTuningSettings(
        loss_func=loss,
        confidence_calculator=confidences,
        metric_calculators=(),
        devices="cpu",
        seed=seed,
    )
    cut = len(inputs) * 9 // 10
    train = embft.PairedFineTuningInputsDataset(inputs[:cut], seed)
    validation = embft.PairedFineTuningInputsDataset(inputs[cut:], seed, clicks_of=inputs[:cut])
    model = embft.load_model("wordllama")
    sets = {"train": items, "test": items}
    tuner = embft.EmbeddingsFineTuner.create(
        model, settings, sets, embft.TextQueryRetriever(), embft.FineTuningParams()
    )
    with tempfile.TemporaryDirectory() as folder:
        embft.fit(tuner, train, validation, settings, Path(folder))
    return model


if __name__ == "__main__":
    sys.exit(main())
