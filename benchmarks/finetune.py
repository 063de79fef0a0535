"""Speed and memory of fine-tuning on real clicks, as ratios to other ways of doing the same.

All train the same model on the same newest Best Buy clicks, in batches of one size, for the in-batch softmax (which
sentence-transformers calls MultipleNegativesRankingLoss). Ours is `embft.fit` with its DataLoader, measures and
Lightning; on both sides imports, loading and validation are outside the clock, and tokenising is inside. Every side has
one thread, for a second one waits whenever another process has its core. The contenders run in turn, several rounds; a
ratio is the median over rounds of ours ÷ the other's clicks per second in that round, above 1 where ours is faster.

The baselines: `vs_torch_loop`, a PyTorch loop that a good engineer would write by hand, with the same distinct texts,
loss and optimiser; `vs_per_session`, a loop that calls the model for each session's texts on their own, transformers
padded to 512 tokens; `vs_sentence_transformers`, its Trainer.

Memory is the largest resident size of a process that trains a few steps; `kept_1` and `kept_all` are the setting
`kept_passes`, 1 and None, the others have its default.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import embft
from benchmarks import clicks, loops, training
from benchmarks.figures import print_figure
from embft.finetuning.threads import cpu_threads

ROUNDS = 5
BASELINES = {
    "vs_torch_loop": "plain PyTorch loop",
    "vs_per_session": "loop with a model call per text",
    "vs_sentence_transformers": "sentence-transformers Trainer, MultipleNegativesRankingLoss",
}

KEPT: dict[str, dict[str, Any]] = {
    "default": {},
    "kept_1": {"kept_passes": 1},
    "kept_all": {"kept_passes": None},
}


@dataclass(frozen=True)
class Sizes:
    """How much is trained.

    Args:
        n_clicks: Clicks of ours, the torch loop and sentence-transformers.
        n_per_session: Clicks of the slow loop.
        per_session_batch: Its batch; a transformer keeps all its padded texts until the step.
        how: Batch size, epochs and learning rate.
        memory_batches: Batch sizes at which memory is measured.
        kept_batches: Batch sizes at which it is measured with `kept_passes` of 1 and of None as well.
    """

    n_clicks: int
    n_per_session: int
    per_session_batch: int
    how: dict[str, Any]
    memory_batches: tuple[int, ...]
    kept_batches: tuple[int, ...] = ()


SIZES = {
    "static": Sizes(20_000, 2_000, 256, {"batch_size": 256, "epochs": 3, "lr": 0.01}, (64, 256, 1024)),
    "minilm": Sizes(384, 8, 8, {"batch_size": 64, "epochs": 1, "lr": 5e-5}, (16, 64, 256), (64, 256, 1024)),
}


class TimedTuner(embft.EmbeddingsFineTuner):
    """A fine-tuner that sums up the seconds of its training epochs, from their start to the end of their last step."""

    seconds = 0.0

    def on_train_epoch_start(self) -> None:
        """Start the clock."""
        super().on_train_epoch_start()
        self._since = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Read the clock."""
        now = perf_counter()
        self.seconds += now - self._since
        self._since = now


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the contenders in turn, then measure memory; print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=list(SIZES))
    memory_of = ("MODEL", "BATCH", "KEPT")
    parser.add_argument("--memory-of", nargs=3, metavar=memory_of, help="only train, and print the MiB taken")
    parser.add_argument("--no-speed", action="store_true", help="measure memory alone")
    options = parser.parse_args(arguments)
    if not clicks.has_data():
        print(
            "finetune: no Best Buy clicks or no Home Depot grades in the data folder; set EMBFT_DATA", file=sys.stderr
        )
        return 2
    if options.memory_of:
        model, batch_size, kept = options.memory_of
        print(_train_and_weigh(model, int(batch_size), KEPT[kept]))
        return 0
    collection = clicks.best_buy()
    for model in options.models:
        if not options.no_speed:
            _report_speed(model, collection)
        for batch_size in SIZES[model].memory_batches:
            _report_memory(model, batch_size)
        for kept in ("kept_1", "kept_all"):
            for batch_size in SIZES[model].kept_batches:
                _report_memory(model, batch_size, kept)
    return 0


def train_by_fit(model_name: str, train: Sequence[clicks.Click], collection: clicks.Collection, **how: Any) -> float:
    """Train by `embft.fit`.

    Args:
        model_name: "static" or "minilm".
        train: Clicks to learn from.
        collection: Their items.
        how: `batch_size`, `epochs`, `lr`, and other settings.

    Returns:
        Clicks per second of the training steps.
    """
    others = {name: value for name, value in how.items() if name not in ("epochs", "lr")}
    settings = embft.FineTuningSettings(loss_func="in_batch_softmax", devices="cpu", num_epochs=how["epochs"], **others)
    params = embft.FineTuningParams(query_lr=how["lr"], items_lr=how["lr"], margin=loops.MARGIN)
    items_sets = {"train": collection.items, "test": collection.items}
    parts = [
        embft.PairedFineTuningInputsDataset(clicks.sessions_of(part, collection, n_negatives=0))
        for part in (train, collection.validation[:16])
    ]
    tuner = TimedTuner(
        training.load(model_name),
        items_sets,
        embft.TextQueryRetriever(),
        embft.InBatchSoftmaxLoss(scale=loops.SCALE),
        params,
    )
    with tempfile.TemporaryDirectory() as folder:
        embft.fit(tuner, *parts, settings, folder, patience=how["epochs"] + 1)
    return len(train) * how["epochs"] / tuner.seconds


def _report_speed(model: str, collection: clicks.Collection) -> None:
    sizes = SIZES[model]
    train, few = collection.train[-sizes.n_clicks :], collection.train[-sizes.n_per_session :]
    slow = {**sizes.how, "batch_size": sizes.per_session_batch, "epochs": 1}
    with tempfile.TemporaryDirectory() as folder, cpu_threads(1):
        training.load(model).save(folder)
        contenders: dict[str, Callable[[], float]] = {
            "ours": partial(train_by_fit, model, train, collection, **sizes.how),
            "vs_torch_loop": partial(loops.torch_loop, model, train, collection, **sizes.how),
            "vs_per_session": partial(loops.per_session_loop, model, few, collection, **slow),
            "vs_sentence_transformers": partial(
                loops.sentence_transformers_loop, Path(folder), train, collection, **sizes.how
            ),
        }
        train_by_fit(model, few, collection, **slow)  # the first training pays for imports
        rounds = [{name: run() for name, run in contenders.items()} for _ in range(ROUNDS)]
    for measured in rounds:
        speeds = ", ".join(f"{name} {speed:.1f}" for name, speed in measured.items())
        print(f"finetune: {model} clicks/s: {speeds}", file=sys.stderr, flush=True)
    data = f"{len(train)} newest Best Buy clicks, batches of {sizes.how['batch_size']}, in-batch softmax"
    for name, baseline in BASELINES.items():
        ratio = statistics.median(measured["ours"] / measured[name] for measured in rounds)
        print_figure(f"finetune.{model}.{name}", round(ratio, 3), "1", baseline=baseline, n=ROUNDS, data=data)
    speed = statistics.median(measured["ours"] for measured in rounds)
    print_figure(f"finetune.{model}.sessions_per_s", round(speed, 1), "1/s", baseline=None, n=ROUNDS, data=data)


def _report_memory(model: str, batch_size: int, kept: str = "default") -> None:
    command = [sys.executable, "-m", "benchmarks.finetune", "--memory-of", model, str(batch_size), kept]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    part = "" if kept == "default" else f"{kept}."
    name = f"finetune.{model}.peak_rss_mb.{part}batch_{batch_size}"
    data = "a process that trains 3 steps on Best Buy clicks, in-batch softmax, imports in it"
    print_figure(name, round(float(done.stdout.split()[-1])), "MiB", baseline=None, n=1, data=data)


def _train_and_weigh(model: str, batch_size: int, kept: dict[str, Any]) -> float:
    collection = clicks.best_buy()
    how = {**SIZES[model].how, "batch_size": batch_size, "epochs": 1, **kept}
    train_by_fit(model, collection.train[-3 * batch_size :], collection, **how)
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
