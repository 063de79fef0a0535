"""Trainings that are stopped, killed, and killed again end in the very weights of one that nothing disturbed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from embft import (
    EmbeddingsFineTuner,
    FineTuningInput,
    FineTuningParams,
    FineTuningSettings,
    ItemsSet,
    MetricValue,
    PairedFineTuningInputsDataset,
    SentenceTransformerModel,
    StaticEmbeddingsModel,
    TextQueryRetriever,
    TrainingHistory,
    fit,
)
from embft.errors import ConfigError, TemporaryError
from embft.finetuning.checkpoints import CheckpointFolder
from embft.finetuning.models import EmbeddingsModelInterface
from embft.finetuning.order import EpochOrder
from tests.finetuning.conftest import make_tokenizer
from tests.finetuning.tiny_models import tiny_bert

N_BATCHES = 4
EPOCHS = 3
STEPS = N_BATCHES * EPOCHS


class Shot(BaseException):
    """Stands for SIGKILL: no `except Exception` may see it."""


class Interrupt:
    """A measure that does something to its own process at one training step; it measures nothing."""

    def __init__(self, step: int, how: Callable[[], None], *, in_validation: bool = False) -> None:
        self._step = step
        self._how = how
        self._in_validation = in_validation
        self.tuner: EmbeddingsFineTuner | None = None
        self.steps: list[int] = []

    def __call__(self, ranked: object) -> list[MetricValue]:
        assert self.tuner is not None
        if not self.tuner.training:
            if self._in_validation and self.tuner.steps_done == self._step:
                self._how()
            return []
        self.steps.append(self.tuner.steps_done)
        if not self._in_validation and self.tuner.steps_done == self._step:
            self._how()
        return []

    def of_validation(self, validation: object) -> list[MetricValue]:
        return []


def shoot() -> None:
    raise Shot


def tell_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def log() -> list[FineTuningInput]:
    """Seven clicked sessions in batches of two (the last batch is of one), and three without a click."""
    return [
        FineTuningInput("s1", "shoe", events=["gh"], results=["rs", "gh", "b"]),
        FineTuningInput("s2", "hat", events=["r"], results=["gh", "r", "g"]),
        FineTuningInput("s3", "red", events=["g", "b"], results=["r", "g", "b", "rs"]),
        FineTuningInput("s4", "green", events=["gh"], results=["g", "gh", "rs"]),
        FineTuningInput("s5", "blue hat", events=["b"], results=["gh", "b", "r"]),
        FineTuningInput("s6", "red hat", events=["rs"], results=["gh", "rs", "b"]),
        FineTuningInput("s7", "green shoe", events=["gh", "g"], results=["rs", "gh", "g", "b"]),
        FineTuningInput("s8", "blue", events=[], results=["b", "rs"]),
        FineTuningInput("s9", "blue shoe", events=[], results=["rs", "gh"]),
        FineTuningInput("s10", "hat red", events=[], results=["g", "r"]),
    ]


def static(folder: Path) -> EmbeddingsModelInterface:
    return StaticEmbeddingsModel(make_tokenizer(), torch.eye(7))


def transformer(folder: Path) -> EmbeddingsModelInterface:
    """With dropout, which draws from torch's random state in every step."""
    return SentenceTransformerModel(tiny_bert(folder / "bert"))


def train(
    make_model: Callable[[Path], EmbeddingsModelInterface],
    items: ItemsSet,
    log: Sequence[FineTuningInput],
    folder: Path,
    interrupt: Interrupt | None = None,
    *,
    store: CheckpointFolder | None = None,
    each_s: float = 1e-9,
    **settings: Any,
) -> tuple[TrainingHistory, dict[str, torch.Tensor]]:
    chosen = FineTuningSettings(
        **{
            "num_epochs": EPOCHS,
            "batch_size": 2,
            "devices": "cpu",
            "query_augmentations": ("misspell",),
            "augmented_share": 0.5,
            "metric_calculators": ("distance_shift", *([interrupt] if interrupt else [])),
            **settings,
        }
    )
    params = FineTuningParams(items_lr=0.01, not_irrelevant_only=False, negative_downsampling=0.5)
    model = make_model(folder)
    retriever = TextQueryRetriever()
    tuner = EmbeddingsFineTuner.create(model, chosen, {"train": items, "test": items}, retriever, params)
    if interrupt:
        interrupt.tuner = tuner
    clicked = PairedFineTuningInputsDataset(log)
    history = fit(
        tuner,
        clicked,
        PairedFineTuningInputsDataset(log[:4]),
        chosen,
        folder,
        patience=10,
        checkpoints=store,
        checkpoint_each_s=each_s,
    )
    return history, {name: it.detach().clone() for name, it in model.state_dict().items()}


def losses(history: TrainingHistory) -> list[tuple[int, int, float, float | None]]:
    return [(it.epoch, it.step, it.val_loss, it.train_loss) for it in history.records]


def assert_equal(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        assert torch.equal(values, others[name]), name


@pytest.mark.parametrize(
    ("make_model", "validation"),
    [
        (static, {}),
        (static, {"test_each_n_inputs": 2, "loss_func": "catalogue_softmax", "catalogue_candidates": 3}),
        (static, {"test_each_n_inputs": 6}),
        (transformer, {"test_each_n_inputs": 6}),
    ],
)
def test_training_shot_at_any_step_ends_bit_for_bit_like_an_undisturbed_one(
    items: ItemsSet,
    log: list[FineTuningInput],
    tmp_path: Path,
    make_model: Callable[[Path], EmbeddingsModelInterface],
    validation: dict[str, Any],
) -> None:
    expected, weights = train(make_model, items, log, tmp_path / "whole", **validation)
    assert expected.resumed_at == ()
    for step in range(STEPS):
        folder = tmp_path / str(step)
        store = CheckpointFolder(folder / "kept")
        shot = Interrupt(step, shoot)
        with pytest.raises(Shot):
            train(make_model, items, log, folder, shot, store=store, **validation)
        again = Interrupt(-1, shoot)
        history, resumed = train(make_model, items, log, folder / "again", again, store=store, **validation)
        assert losses(history) == losses(expected), step
        assert_equal(resumed, weights)
        assert again.steps == list(range(step, STEPS))  # the step that was shot, and none before it, is done again
        assert history.resumed_at == (step,)
        assert (history.steps, history.best_step) == (STEPS, expected.best_step)


def test_training_told_to_stop_ends_with_a_checkpoint_after_the_step_and_loses_none(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path
) -> None:
    expected, weights = train(transformer, items, log, tmp_path / "whole")
    store = CheckpointFolder(tmp_path / "kept")
    before = signal.getsignal(signal.SIGTERM)
    told = Interrupt(5, tell_to_stop)
    with pytest.raises(TemporaryError, match=r"told to stop \(SIGTERM\) after 6 steps; they are kept"):
        train(transformer, items, log, tmp_path / "told", told, store=store, each_s=1000)
    assert signal.getsignal(signal.SIGTERM) is before
    again = Interrupt(-1, shoot)
    history, resumed = train(transformer, items, log, tmp_path / "again", again, store=store, each_s=1000)
    assert again.steps == list(range(6, STEPS))
    assert_equal(resumed, weights)
    assert losses(history) == losses(expected)


def test_training_told_to_stop_within_a_validation_ends_it_first(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path
) -> None:
    expected, weights = train(static, items, log, tmp_path / "whole")
    store = CheckpointFolder(tmp_path / "kept")
    told = Interrupt(N_BATCHES, tell_to_stop, in_validation=True)
    with pytest.raises(TemporaryError, match="after 4 steps"):
        train(static, items, log, tmp_path / "told", told, store=store, each_s=1000)
    history, resumed = train(static, items, log, tmp_path / "again", store=store, each_s=1000)
    assert history.resumed_at == (N_BATCHES,)
    assert losses(history) == losses(expected)
    assert_equal(resumed, weights)


def test_a_long_validation_is_broken_off_once_the_process_was_told_to_stop(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embft.finetuning.checkpoints._PATIENCE_S", 0.0)
    store = CheckpointFolder(tmp_path / "kept")
    told = Interrupt(N_BATCHES, tell_to_stop, in_validation=True)
    with pytest.raises(TemporaryError, match="within a validation"):
        train(static, items, log, tmp_path / "told", told, store=store)
    history, _ = train(static, items, log, tmp_path / "again", store=store)
    assert history.resumed_at == (N_BATCHES - 1,)  # the last checkpoint was before the step that the validation follows


def test_five_interruptions_in_a_row_are_no_more_than_one(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path
) -> None:
    expected, weights = train(transformer, items, log, tmp_path / "whole")
    store = CheckpointFolder(tmp_path / "kept")
    for number, (step, how) in enumerate(
        [(1, shoot), (1, tell_to_stop), (6, tell_to_stop), (7, shoot), (STEPS - 1, shoot)]
    ):
        with pytest.raises((Shot, TemporaryError)):
            train(transformer, items, log, tmp_path / str(number), Interrupt(step, how), store=store)
    history, resumed = train(transformer, items, log, tmp_path / "last", store=store)
    assert history.resumed_at == (1, 2, 7, 7, STEPS - 1)
    assert losses(history) == losses(expected)
    assert_equal(resumed, weights)


def test_two_checkpoints_are_kept_and_hold_no_code(items: ItemsSet, log: list[FineTuningInput], tmp_path: Path) -> None:
    store = CheckpointFolder(tmp_path / "kept")
    train(static, items, log, tmp_path, store=store)
    files = sorted(it.name for it in (tmp_path / "kept").iterdir())
    assert files == [f"{STEPS - 2:012d}-steps.ckpt", f"{STEPS - 1:012d}-steps.ckpt"]
    newest = store.newest()
    assert newest is not None
    content = torch.load(newest, weights_only=True)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "embft"} <= content.keys()


def test_checkpoints_are_as_far_apart_as_asked(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr("embft.finetuning.checkpoints.time.monotonic", lambda: clock["now"])

    def tick() -> None:
        clock["now"] += 25.0

    class Store(CheckpointFolder):
        steps: list[int] = []  # noqa: RUF012

        def keep(self, path: Path, step: int) -> None:
            self.steps.append(step)
            super().keep(path, step)

    class Ticking(Interrupt):
        def __call__(self, ranked: object) -> list[MetricValue]:
            if self.tuner is not None and self.tuner.training:
                tick()
            return []

    store = Store(tmp_path / "kept")
    train(static, items, log, tmp_path, Ticking(-1, shoot), store=store, each_s=80)
    # 25 s a step: each 80 s, and at an epoch's begin (steps 4 and 8) where the last is a minute old.
    assert store.steps == [4, 8]


def test_training_outside_the_main_thread_keeps_checkpoints_too(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path
) -> None:
    store = CheckpointFolder(tmp_path / "kept")
    thread = threading.Thread(target=train, args=(static, items, log, tmp_path), kwargs={"store": store})
    thread.start()
    thread.join()
    assert store.newest() is not None


@pytest.mark.parametrize("left", [0, 2000])
def test_a_newest_checkpoint_that_was_cut_off_is_passed_over(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path, caplog: pytest.LogCaptureFixture, left: int
) -> None:
    """As a machine leaves it that lost its power while it wrote."""
    expected, weights = train(static, items, log, tmp_path / "whole")
    store = CheckpointFolder(tmp_path / "kept")
    with pytest.raises(Shot):
        train(static, items, log, tmp_path, Interrupt(5, shoot), store=store)
    newest = tmp_path / "kept" / f"{5:012d}-steps.ckpt"
    newest.write_bytes(newest.read_bytes()[:left])
    history, resumed = train(static, items, log, tmp_path / "again", store=store)
    assert history.resumed_at == (4,)
    assert_equal(resumed, weights)
    assert losses(history) == losses(expected)
    assert "cannot be read, so training goes on from the one before it" in caplog.text


@pytest.mark.parametrize(
    "changed", [{"batch_size": 7}, {"num_epochs": 2}, {"step_size": 3}, {"loss_func": "prob_margin"}]
)
def test_checkpoints_of_another_training_are_refused(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path, changed: dict[str, Any]
) -> None:
    """A training that is over leaves its last two: the next one in that folder would begin where it ended."""
    store = CheckpointFolder(tmp_path / "kept")
    train(static, items, log, tmp_path, store=store)
    with pytest.raises(ConfigError, match="of a training with other sessions, items or settings"):
        train(static, items, log, tmp_path, store=store, **changed)
    with pytest.raises(ConfigError, match="of a training with other sessions, items or settings"):
        train(static, items, log[:-1], tmp_path, store=store)


def test_checkpoints_may_be_kept_on_another_file_system(
    items: ItemsSet, log: list[FineTuningInput], tmp_path: Path
) -> None:
    """Such as a volume that outlives the pod, or the machine's main memory as here."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        train(static, items, log, tmp_path, store=CheckpointFolder(elsewhere))
        assert len(list(Path(elsewhere).iterdir())) == 2


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_an_epochs_order_follows_from_seed_and_epoch_and_skips_what_was_taken(epoch: int) -> None:
    order = EpochOrder(10, seed=3)
    order.set_epoch(epoch)
    whole = list(order)
    assert sorted(whole) == list(range(10))
    again = EpochOrder(10, seed=3)
    again.skip(epoch, 4)
    again.set_epoch(epoch)
    assert list(again) == whole[4:]
    assert len(again) == 10
    again.set_epoch(epoch + 1)
    assert len(list(again)) == 10


def test_history_with_its_resumptions_is_json(items: ItemsSet, log: list[FineTuningInput], tmp_path: Path) -> None:
    store = CheckpointFolder(tmp_path / "kept")
    with pytest.raises(Shot):
        train(static, items, log, tmp_path, Interrupt(3, shoot), store=store)
    history, _ = train(static, items, log, tmp_path, store=store)
    assert json.loads(json.dumps(history.to_dict()))["resumed_at"] == [3]
