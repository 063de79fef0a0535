"""Trainings that `test_devices.py` runs in one process, and this script in two."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from demo.services import free_port
from embft import (
    EmbeddingsFineTuner,
    FineTuningInput,
    FineTuningParams,
    FineTuningSettings,
    ItemsSet,
    PairedFineTuningInputsDataset,
    TextQueryRetriever,
    fit,
)
from embft.errors import EmbftError, TemporaryError
from embft.finetuning.checkpoints import CheckpointFolder
from embft.finetuning.models import SentenceTransformerModel, StaticEmbeddingsModel
from embft.finetuning.models.interface import EmbeddingsModelInterface
from embft.finetuning.processes import followers, is_follower, stay_with_leader
from tests.finetuning import conftest

ITEMS = ItemsSet(["r", "g", "b", "rs", "gh", "bh"], ["red", "green", "blue", "red shoe", "green hat", "blue hat"])
# Seven clicked sessions and one without a click: batches of 3 leave a last one of a single session.
SESSIONS = [
    FineTuningInput("s1", "shoe", events=["gh"], results=["rs", "gh", "b"]),
    FineTuningInput("s2", "hat", events=["r"], results=["gh", "r"]),
    FineTuningInput("s3", "red", events=["g", "b"], results=["r", "g", "b", "rs"]),
    FineTuningInput("s4", "blue", events=[], results=["b", "rs"]),
    FineTuningInput("s5", "blue hat", events=["rs"], results=["bh", "gh", "rs"]),
    FineTuningInput("s6", "green", events=["bh"], results=["g", "gh", "bh"]),
    FineTuningInput("s7", "green shoe", events=["r"], results=["rs", "g", "r"]),
    FineTuningInput("s8", "a red hat", events=["gh"], results=["r", "gh", "bh", "rs"]),
]

CASES: dict[str, dict[str, Any]] = {
    "transformer": {"loss_func": "catalogue_softmax", "catalogue_candidates": 3},
    "two towers with a frozen layer": {"loss_func": "listwise_softmax"},
    "sparse": {"loss_func": "in_batch_softmax"},
    "one session a batch": {"batch_size": 1, "loss_func": "listwise_softmax", "metric_calculators": ("ranking",)},
}
PARAMS: dict[str, FineTuningParams] = {
    "transformer": FineTuningParams(items_lr=3e-3, repeated_clicks="log"),
    "two towers with a frozen layer": FineTuningParams(items_lr=3e-3, query_lr=1e-3, num_fixed_layers=1),
    "sparse": FineTuningParams(items_lr=0.03),
    "one session a batch": FineTuningParams(items_lr=3e-3, negative_downsampling=0.5, not_irrelevant_only=False),
}


Trained = tuple[list[dict[str, Any]], dict[str, torch.Tensor]]
"""A training's validations and last weights."""


def train(name: str, folder: Path, *, kept: Path | None = None, stop_at: int | None = None, **changes: Any) -> Trained:
    """Train a case; with `stop_at`, the first process is told to stop in that step."""
    options = {"num_epochs": 3, "batch_size": 3, "devices": "cpu", "query_augmentations": ("misspell",)} | CASES[name]
    settings = FineTuningSettings(**(options | changes))
    model = _model(name, folder)
    splits = {"train": ITEMS, "test": ITEMS}
    tuner = EmbeddingsFineTuner.create(model, settings, splits, TextQueryRetriever(), PARAMS[name])
    pairs, validation = PairedFineTuningInputsDataset(SESSIONS), PairedFineTuningInputsDataset(SESSIONS[:5])
    if stop_at is not None and not is_follower():
        step = tuner._optimize

        def stopping(loss: torch.Tensor) -> None:
            if tuner.steps_done == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            step(loss)

        tuner._optimize = stopping  # type: ignore[method-assign]
    checkpoints = CheckpointFolder(kept) if kept else None
    patience = settings.num_epochs
    history = fit(
        tuner, pairs, validation, settings, folder / "checkpoints", patience=patience, checkpoints=checkpoints
    )
    return history.to_dict()["records"], {key: it.clone() for key, it in model.state_dict().items()}


def _model(name: str, folder: Path) -> EmbeddingsModelInterface:
    if name == "sparse":
        torch.manual_seed(0)
        return StaticEmbeddingsModel(conftest.make_tokenizer(), torch.randn(len(conftest.WORDS), 16))
    from tests.finetuning.tiny_models import tiny_bert  # seconds of imports, which the static model can do without

    model = SentenceTransformerModel(tiny_bert(folder / "bert"))
    if name.startswith("two towers"):
        model = SentenceTransformerModel.from_towers(
            tiny_bert(folder / "queries", seed=1), tiny_bert(folder / "items", seed=2)
        )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # what is left out is another in each process
    model.register_parameter("pooler", nn.Parameter(torch.ones(3)))  # no vector comes from it, so it has no gradient
    return model


def main(task: str, folder: Path) -> None:
    """Train all cases, or start a follower and train with it for as long as somebody lets them."""
    if task == "all":
        import_module("tests.finetuning.tiny_models")
        rank = fork_into_two()
        done = {name: train(name, folder / rank / name) for name in CASES}
        done["resumed"] = resume("transformer", folder / rank / "resumed", folder / "kept")
        torch.save(done, folder / f"{rank}.pt")
        return
    stay_with_leader()
    rank = os.environ.get("RANK", "0")
    command = [sys.executable, "-m", "tests.finetuning.together", task, str(folder)]
    try:
        with followers(command, 0 if is_follower() else 1, folder):
            train("sparse", folder / rank, num_epochs=1_000_000)
    except EmbftError as error:
        sys.exit(f"exit code {error.exit_code}: {error}")


def resume(name: str, folder: Path, kept: Path) -> Trained:
    """Train a case, interrupted in its fifth step."""
    with pytest.raises(TemporaryError, match=r"told to stop \(SIGTERM\) after 5 steps"):
        train(name, folder / "interrupted", kept=kept, stop_at=4)
    return train(name, folder, kept=kept)


def fork_into_two() -> str:
    """Become two processes as torchrun starts them, with one time of imports; give the rank of this one."""
    port = str(free_port())
    ranks = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    child = os.fork()
    rank = "0" if child else "1"
    os.environ |= ranks | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}
    if child:
        atexit.register(lambda: os.waitpid(child, 0)[1] and os._exit(1))
    return rank


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
