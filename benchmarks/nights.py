"""Thirty consecutive nights on real clicks: is who retrains every night better off the day after, and what is lost?

Night D is the whole pipeline, `plan` to `publish`, in one process; what serves after it is measured on the clicks of
day D + 1, which no model has seen: nDCG@10 over the whole catalogue, the clicked item being the one relevant one, as a
mean over clicks. Five ways to serve:

- `gated`: the pipeline at its defaults; a challenger serves from the night on that the gate lets it through.
- `ungated`: the same nights up to `evaluate`, and every challenger serves. Where a challenger depends on the champion,
  these are nights of their own with a history of their own; where not, the challengers are those of the gated nights.
- `base`: the model that nobody trained.
- `most_clicked`: what was clicked most for this very query in the 14 days up to D, then the base model's order.
- `most_clicked_bm25`: the same, then BM25's order.

The guard set (Cranfield: questions about aerodynamics) is in no gate and in no training here. What a serving model
ranks worse there than the base was forgotten.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import yaml

from benchmarks import baselines, clicks, training
from benchmarks.figures import print_figure
from benchmarks.measures import Case, Evaluation
from demo import services
from embft.config import ModelConfig, load_config
from embft.finetuning.models import EmbeddingsModelInterface, load_model
from embft.paths import Paths
from embft.promotion.evaluation_record import Evaluation as EvaluationRecord
from embft.promotion.ledger import append, read_history
from embft.results import Artifact, Champion, StageResult
from embft.stages.models import weights_of
from embft.stages.night import run_night
from embft.storage import Storage
from tests import cranfield, realdata
from tests.buckets import new_bucket
from tests.include import write_include

MODEL = "xbox"
# Every next day is a whole one: the log's last, 2011-10-20, ends soon after midnight.
FIRST, N_NIGHTS = date(2011, 9, 19), 30
WINDOW_DAYS = 14
CHAINS = ("gated", "ungated")
SERVED = (*CHAINS, "base", "most_clicked", "most_clicked_bm25")
_ENDS = 5
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GX_ANALYTICS_ENABLED": "false",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the nights, and print the figures."""
    options = _options(arguments)
    if not (realdata.CLICKS / "clicks_train.jsonl.gz").exists() or not (cranfield.FOLDER / "qrels.tsv").exists():
        print("nights: no Best Buy clicks or no Cranfield in the data folder; set EMBFT_DATA", file=sys.stderr)
        return 2
    os.environ.update(_QUIET)
    told = []
    with tempfile.TemporaryDirectory() as folder, _chains(Path(folder), options.start_from) as chains:
        nights = Nights(chains)
        for number in range(options.nights):
            told.append(nights.run(FIRST + timedelta(days=number)))
            line = json.dumps(told[-1])
            print(f"nights: {line}", file=sys.stderr, flush=True)
            if options.out:
                with options.out.open("a", encoding="utf-8") as out:
                    out.write(line + "\n")
        config = chains["gated"].config
    report(told, f"{len(told)} nights from {FIRST} on, Best Buy Xbox clicks; start_from {config.training.start_from}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nights", description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=N_NIGHTS, choices=range(1, N_NIGHTS + 1), metavar="1…30")
    parser.add_argument("--start-from", choices=["base", "champion", "both"], help="left out: the pipeline's default")
    parser.add_argument("--out", type=Path, help="file to which each night is added, as a line of JSON, when it ends")
    return parser.parse_args(arguments)


@dataclass(frozen=True)
class Chain:
    """Nights that follow from each other: a project with a bucket, a history of champions and an MLflow of its own."""

    include: Path
    config: ModelConfig
    storage: Storage
    paths: Paths

    @property
    def champion(self) -> Champion | None:
        """Who serves."""
        return read_history(self.storage, self.paths).champion

    def load(self, weights: dict[str, Artifact]) -> EmbeddingsModelInterface:
        """Load a model from what was saved of it."""
        with tempfile.TemporaryDirectory() as folder:
            for name, artifact in weights.items():
                self.storage.fetch(artifact, Path(folder) / name)
            return load_model(folder)

    def candidate(self, results: Sequence[StageResult]) -> Champion | None:
        """Give what the gate would judge, as a champion; None where a stage before it ended the night."""
        of = {it.stage: it for it in results}
        if "evaluate" not in of:
            return None
        figures = of["evaluate"].output("evaluation.json")
        raw = self.storage.read(figures.uri)
        assert raw is not None, "evaluate has just written it"
        evaluation = EvaluationRecord.from_json(raw, figures.uri)
        loss = evaluation.models[evaluation.candidate]["val_loss"]
        assert loss is not None, "a candidate of which no loss is known"
        return Champion(
            model=MODEL,
            version=str(evaluation.day.toordinal()),
            day=evaluation.day,
            mlflow_run_id=str(of["fine_tune"].figures["mlflow_run_id"]),
            weights=weights_of(of["fine_tune"], of["evaluate"], evaluation),
            val_loss=loss,
        )


@contextmanager
def _chains(home: Path, start_from: str | None) -> Iterator[dict[str, Chain]]:
    """Serve S3, and lay out the projects: a second one only where challengers depend on who serves."""
    with services.s3_server(home / "s3", services.free_port(), home / "s3.log") as endpoint:
        os.environ.update(services.s3_environment(endpoint))
        gated = _chain(home / "gated", endpoint, start_from)
        is_apart = gated.config.training.start_from != "base"  # else no challenger depends on who serves
        yield {"gated": gated, "ungated": _chain(home / "ungated", endpoint, start_from) if is_apart else gated}


def _chain(home: Path, endpoint: str, start_from: str | None) -> Chain:
    bucket = new_bucket(endpoint)
    realdata.lay_out(bucket)
    home.mkdir()
    mlflow = f"sqlite:///{home}/mlflow.db"
    content = yaml.safe_load(realdata.CONFIG.format(bucket=bucket.name, endpoint=endpoint, mlflow=mlflow))
    if start_from:
        content["training"]["start_from"] = start_from
    include = write_include(home, MODEL, yaml.safe_dump(content))
    config = load_config(include / "models" / f"{MODEL}.yaml")
    return Chain(include, config, Storage(config.storage), Paths(config.storage.artifacts, MODEL))


class Nights:
    """The nights of both chains, and what serves the day after."""

    def __init__(self, chains: dict[str, Chain]) -> None:
        self._chains = chains
        self._base = training.load("static")
        self._collection, self._dated, self._guard = clicks.best_buy(), clicks.best_buy_dated(), _guard()
        self._served: dict[str, Champion | None] = dict.fromkeys(CHAINS)
        self._guard_of: dict[str, float] = {"base": self._measure(self._base, self._guard)}

    def run(self, day: date) -> dict[str, Any]:
        """Run a night, and give all that is told of it."""
        gated, ungated = (self._chains[name] for name in CHAINS)
        results, seconds = _timed(gated, day)
        last = next((it for it in results if it.stage == "gate"), results[-1])
        told: dict[str, Any] = {
            "night": str(day),
            "days_pulled": sum(it.stage == "pull" for it in results),
            "said": last.reason,
            "seconds": {"gated": seconds},
        }
        if ungated is not gated:
            results, told["seconds"]["ungated"] = _timed(ungated, day, last_stage="evaluate")
        candidate = ungated.candidate(results)
        if candidate and ungated is not gated:
            append(ungated.storage, ungated.paths, "promotion", candidate, request=f"night {day}", why="no gate")
        after = {"gated": gated.champion, "ungated": candidate or self._served["ungated"]}
        told["promoted"] = {name: after[name] != self._served[name] for name in CHAINS}
        self._served = after
        return told | self._measured(day)

    def _measured(self, day: date) -> dict[str, Any]:
        models = {name: self._load(name) for name in CHAINS}
        tomorrow = self._day_after(day)
        scores = {
            name: training.embft_scores(model, tomorrow) for name, model in {**models, "base": self._base}.items()
        }
        scores["most_clicked"] = baselines.most_clicked_scores(tomorrow, scores["base"])
        scores["most_clicked_bm25"] = baselines.most_clicked_scores(tomorrow)
        ndcg = {name: tomorrow.evaluation.measure(these)["all"]["ndcg_at_10"] for name, these in scores.items()}
        return {
            "window_clicks": len(tomorrow.train),
            "next_day_clicks": int(sum(tomorrow.evaluation.weights["all"])),
            "next_day_ndcg_at_10": {name: round(ndcg[name], 5) for name in SERVED},
            "guard_ndcg_at_10": {name: round(self._guard_figure(name, model), 5) for name, model in models.items()}
            | {"base": round(self._guard_of["base"], 5)},
        }

    def _load(self, name: str) -> EmbeddingsModelInterface:
        served = self._served[name]
        return self._chains[name].load(served.weights) if served else self._base

    def _guard_figure(self, name: str, model: EmbeddingsModelInterface) -> float:
        served = self._served[name]
        digest = served.digest if served else "base"
        if digest not in self._guard_of:
            self._guard_of[digest] = self._measure(model, self._guard)
        return self._guard_of[digest]

    def _measure(self, model: EmbeddingsModelInterface, collection: clicks.Collection) -> float:
        return collection.evaluation.measure(training.embft_scores(model, collection))["all"]["ndcg_at_10"]

    def _day_after(self, day: date) -> clicks.Collection:
        """Give the next day's clicks as what is measured, and the window's as what was learned from."""
        window = [it for of, it in self._dated if day - timedelta(days=WINDOW_DAYS) < of <= day]
        counts = Counter(it for of, it in self._dated if of == day + timedelta(days=1))
        cases = [Case(click.query, {click.item: 1.0}, frozenset([click.item])) for click in counts]
        ranked = self._collection.evaluation
        items = dict(zip(ranked.item_ids, ranked.item_texts, strict=True))
        evaluation = Evaluation(cases, {"all": list(counts.values())}, items)
        return replace(self._collection, train=window, validation=[], evaluation=evaluation)


def _guard() -> clicks.Collection:
    items, judged = cranfield.read()
    cases = [
        Case(query, grades, frozenset(it for it, grade in grades.items() if grade >= 1)) for query, grades in judged
    ]
    texts = dict(zip(items.ids, items.items_by_ids(items.ids), strict=True))
    evaluation = Evaluation(cases, {"all": [1.0] * len(cases)}, texts)
    return clicks.Collection("cranfield", f"Cranfield: {len(cases)} questions", items, [], [], {}, evaluation)


def _timed(chain: Chain, day: date, last_stage: str = "publish") -> tuple[list[StageResult], dict[str, float]]:
    """Run a night up to a stage; give its results, and seconds by stage, all log days of `pull` together."""
    results: list[StageResult] = []
    seconds: Counter[str] = Counter()
    began = perf_counter()
    for result in run_night(MODEL, day, include=chain.include):
        now = perf_counter()
        seconds[result.stage] += now - began
        results.append(result)
        began = now
        if result.stage == last_stage:
            break
    return results, {stage: round(it, 2) for stage, it in seconds.items()}


def report(nights: Sequence[dict[str, Any]], data: str) -> None:
    """Print every figure of the nights."""
    weights = [it["next_day_clicks"] for it in nights]
    for name in SERVED:
        mean = statistics.fmean([it["next_day_ndcg_at_10"][name] for it in nights], weights)
        print_figure(
            f"nights.next_day_ndcg_at_10.{name}", round(mean, 4), "1", baseline=None, n=sum(weights), data=data
        )
    seconds = [sum(it["seconds"]["gated"].values()) for it in nights]
    ends = [_described(nights[:_ENDS], seconds[:_ENDS], "first"), _described(nights[-_ENDS:], seconds[-_ENDS:], "last")]
    said = "; ".join([data, "the gated pipeline in one process", *ends])
    print_figure(
        "nights.seconds_per_night", round(statistics.median(seconds), 1), "s", baseline=None, n=len(nights), data=said
    )
    for name in CHAINS:
        n_promoted = sum(it["promoted"][name] for it in nights)
        print_figure(f"nights.promotions.{name}", n_promoted, "nights", baseline=None, n=len(nights), data=data)
    for name in CHAINS:
        changes = [it["guard_ndcg_at_10"][name] / it["guard_ndcg_at_10"]["base"] - 1 for it in nights]
        of = "Cranfield's nDCG@10 under what serves after the last night, against the base's"
        said = f"{data}; {of}; lowest of all nights {min(changes):+.4f}"
        print_figure(f"nights.guard_change.{name}", round(changes[-1], 4), "share", baseline="base", n=1, data=said)


def _described(nights: Sequence[dict[str, Any]], seconds: Sequence[float], which: str) -> str:
    pulled = ", ".join(str(it["days_pulled"]) for it in nights)
    window = round(statistics.median(it["window_clicks"] for it in nights))
    n_promoted = sum(it["promoted"]["gated"] for it in nights)
    return (
        f"{which} {len(nights)} nights: median {statistics.median(seconds):.1f} s, log days pulled {pulled}, "
        f"{n_promoted} promoted, {window} clicks in the window"
    )


if __name__ == "__main__":
    sys.exit(main())
