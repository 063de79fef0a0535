"""Does a mixture of old and new weights gain without forgetting? On real clicks, and on a collection of another field.

A static model is trained at embft's defaults, then mixed with the base that it started from, by the share of new
weights that the validation clicks like best (`training.interpolate`; their loss decides, the dev split is never looked
at). Measured: nDCG@10 as in `benchmarks.quality`, and nDCG@10 on Cranfield (225 questions about aerodynamics, 1,400
abstracts, graded), which nobody trained on: what falls there was forgotten. Means over seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence

import embft
from benchmarks import clicks, training
from benchmarks.figures import print_figure
from embft.finetuning.catalogue import RankedCatalogue
from embft.finetuning.interpolation import SHARES, choose_mixture, interpolate
from embft.finetuning.registry import make_loss
from embft.finetuning.threads import cpu_threads
from embft.finetuning.validation import validation_loss
from tests import realdata

_CRANFIELD = realdata.DATA / "cranfield"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, mix, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixture", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    if not clicks.has_data() or not (_CRANFIELD / "qrels.tsv").exists():
        print(
            "mixture: no Best Buy clicks, Home Depot grades or Cranfield in the data folder; set EMBFT_DATA",
            file=sys.stderr,
        )
        return 2
    items, cases = _cranfield()
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
    return training.train_embft(
        "static",
        collection,
        train=collection.train,
        validation=collection.validation,
        n_negatives=0,
        lr=None,
        seed=seed,
    )


def _loss(model: embft.EmbeddingsModelInterface, collection: clicks.Collection, seed: int) -> float:
    settings = embft.FineTuningSettings(metric_calculators=(), devices="cpu", seed=seed)
    learned, held_out = (
        clicks.sessions_of(part, collection, n_negatives=0, seed=seed)
        for part in (collection.train, collection.validation)
    )
    sessions = embft.PairedFineTuningInputsDataset(held_out, seed, clicks_of=learned).not_irrelevant
    retriever, loss = embft.TextQueryRetriever(), make_loss(settings.loss_func)
    return validation_loss(
        model, sessions, collection.items, retriever, loss, embft.FineTuningParams(), batch_size=settings.batch_size
    ).mean


def _cranfield() -> tuple[embft.ItemsSet, list[tuple[str, dict[str, float]]]]:
    items = [json.loads(line) for line in (_CRANFIELD / "items.jsonl").open(encoding="utf-8")]
    queries = {it["id"]: it["text"] for it in map(json.loads, (_CRANFIELD / "queries.jsonl").open(encoding="utf-8"))}
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    with (_CRANFIELD / "qrels.tsv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            if (grade := float(row["grade"])) > 0:
                grades[row["query_id"]][row["item_id"]] = grade
    known = [it for it in items if it["text"].strip()]
    texts = embft.ItemsSet([it["id"] for it in known], [it["text"] for it in known])
    known_ids = set(texts.ids)
    cases = []
    for id_, judged in grades.items():
        known_grades = {item: grade for item, grade in judged.items() if item in known_ids}
        if any(grade >= 1 for grade in known_grades.values()):
            cases.append((queries[id_], known_grades))
    return texts, cases


if __name__ == "__main__":
    sys.exit(main())
