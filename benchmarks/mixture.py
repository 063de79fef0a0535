"""Does a mixture of old and new weights gain without forgetting? On real clicks, and on a collection of another field.

A static model is trained at embft's defaults, then mixed with the base that it started from, by the share of new
weights that the validation clicks like best (`training.interpolate`; their loss decides, the dev split is never looked
at). Measured: nDCG@10 as in `benchmarks.quality`, and nDCG@10 on Cranfield (225 questions about aerodynamics, 1,400
abstracts, graded), which nobody trained on: what falls there was forgotten. Means over seeds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence

import embft
from benchmarks import clicks, training
from benchmarks.figures import print_figure
from benchmarks.quality import plan_of
from embft.finetuning.catalogue import RankedCatalogue
from embft.finetuning.interpolation import SHARES, choose_mixture, interpolate
from embft.finetuning.registry import make_loss
from embft.finetuning.threads import cpu_threads
from embft.finetuning.validation import validation_loss
from tests import cranfield


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, mix, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixture", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    if not clicks.has_data() or not (cranfield.FOLDER / "qrels.tsv").exists():
        print(
            "mixture: no Best Buy clicks, Home Depot grades or Cranfield in the data folder; set EMBFT_DATA",
            file=sys.stderr,
        )
        return 2
    items, cases = cranfield.read()
    for make in (clicks.best_buy, clicks.home_depot):
        collection = make()
        told: dict[str, list[float]] = defaultdict(list)
        shares = []
        for seed in range(options.seeds):
            with cpu_threads(1):
                base, trained = training.load("static"), _trained(collection, seed)
                mixture = choose_mixture(base, trained, lambda model: _loss(model, collection, seed))  # noqa: B023
                shares.append(mixture.new_share)
                models = {"base": base, "trained": trained, "chosen": mixture.model}
                models |= {f"share_{share:g}": interpolate(base, trained, share) for share in SHARES if share < 1}
                for name, model in models.items():
                    measured = collection.evaluation.measure(training.embft_scores(model, collection))
                    for part, measures in measured.items():
                        told[f"{collection.name}.{part}.{name}"].append(measures["ndcg_at_10"])
                    forgotten = RankedCatalogue(model, items).measure(cases)["ndcg_at_10"]
                    told[f"{collection.name}.cranfield.{name}"].append(float(forgotten.mean()))
        for name, values in told.items():
            note = f"; shares chosen: {shares}" if name.endswith("chosen") else ""
            data = f"{collection.data}; Cranfield: {len(cases)} questions{note}"
            print_figure(
                f"mixture.{name}.ndcg_at_10",
                round(statistics.mean(values), 4),
                "1",
                baseline=None,
                n=len(values),
                data=data,
            )
    return 0


def _trained(collection: clicks.Collection, seed: int) -> embft.EmbeddingsModelInterface:
    plan = plan_of("static", collection.name, 0)
    return training.train_embft(
        "static",
        collection,
        train=collection.train,
        validation=collection.validation,
        n_negatives=plan.n_beside_batch,
        lr=plan.lr,
        seed=seed,
        **plan.settings,
    )


def _loss(model: embft.EmbeddingsModelInterface, collection: clicks.Collection, seed: int) -> float:
    settings = embft.FineTuningSettings(metric_calculators=(), devices="cpu", seed=seed)
    n_negatives = plan_of("static", collection.name, 0).n_beside_batch
    learned, held_out = (
        clicks.sessions_of(part, collection, n_negatives=n_negatives, seed=seed)
        for part in (collection.train, collection.validation)
    )
    sessions = embft.PairedFineTuningInputsDataset(held_out, seed, clicks_of=learned).not_irrelevant
    retriever, loss = embft.TextQueryRetriever(), make_loss(settings.loss_func)
    return validation_loss(
        model, sessions, collection.items, retriever, loss, embft.FineTuningParams(), batch_size=settings.batch_size
    ).mean


if __name__ == "__main__":
    sys.exit(main())
