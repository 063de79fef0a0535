from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from datasets import DatasetDict
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

import embft
from embft import (
    EmbeddingsFineTuner,
    ExperimentsManager,
    FineTuningInput,
    FineTuningParams,
    FineTuningSettings,
    ItemsSet,
    ListwiseSoftmaxLoss,
    PairedFineTuningInputsDataset,
    StaticEmbeddingsModel,
    TextQueryRetriever,
)


class Notes(ExperimentsManager):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("sqlite://", "none")
        self.noted: list[tuple[str, float, int]] = []

    def log_metric(self, name: str, value: float, step: int) -> None:
        self.noted.append((name, value, step))


class TwoTowers(StaticEmbeddingsModel):
    """The tiny model with a second table for queries."""

    def __init__(self, one: StaticEmbeddingsModel) -> None:
        super().__init__(one.tokenizer, one.embedding.weight)
        self.queries = nn.EmbeddingBag.from_pretrained(one.embedding.weight.detach().clone(), freeze=False, sparse=True)

    @property
    def is_same_query_and_items(self) -> bool:
        return False

    def forward_query(self, texts: Sequence[str]) -> Tensor:
        ids = self._tokenize(texts)
        flat = torch.tensor([id_ for each in ids for id_ in each])
        lengths = torch.tensor([len(each) for each in ids])
        return nn.functional.normalize(self.queries(flat, lengths.cumsum(0) - lengths), dim=1)

    def query_parameters(self) -> list[nn.Parameter]:
        return list(self.queries.parameters())


@pytest.fixture
def make_tuner(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> Any:
    def make(model: StaticEmbeddingsModel = tiny_model, params: Any = None, **options: Any) -> EmbeddingsFineTuner:
        params = params or FineTuningParams(items_lr=0.1, query_lr=0.1)
        items_sets = DatasetDict({"train": items, "test": items})
        return EmbeddingsFineTuner(model, items_sets, TextQueryRetriever(), ListwiseSoftmaxLoss(), params, **options)

    return make


@pytest.fixture
def pairs(sessions: list[FineTuningInput]) -> list[tuple[FineTuningInput, FineTuningInput | None]]:
    return list(PairedFineTuningInputsDataset(sessions))


def _attach(tuner: EmbeddingsFineTuner, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """Give the tuner its optimisers as a Trainer would, without one."""
    optimizers, schedulers = tuner.configure_optimizers()
    monkeypatch.setattr(tuner, "optimizers", lambda: optimizers if len(optimizers) > 1 else optimizers[0])
    monkeypatch.setattr(tuner, "lr_schedulers", lambda: schedulers if len(schedulers) > 1 else schedulers[0])
    monkeypatch.setattr(tuner, "manual_backward", lambda loss: loss.backward())
    return optimizers, schedulers


def test_the_documented_example_runs_as_written(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    model, items_sets, query_retriever = tiny_model, DatasetDict({"train": items, "test": items}), TextQueryRetriever()
    loss_func, params, tracker = ListwiseSoftmaxLoss(), FineTuningParams(), ExperimentsManager("sqlite://", "none")

    tuner = EmbeddingsFineTuner(model, items_sets, query_retriever, loss_func, params, tracker)

    assert [type(calculator).__name__ for calculator in tuner.metric_calculators] == ["DistanceShift"]
    assert (params.margin, tuner.loss_func.margin) == (None, 0.2)  # what suits this loss
    assert loss_func.margin == 0.0  # the caller's object may serve another tuner


def test_preprocessing_fills_in_every_rank(make_tuner: Any, sessions: list[FineTuningInput]) -> None:
    dataset = PairedFineTuningInputsDataset(sessions)
    given = DatasetDict({"train": dataset})
    assert make_tuner().preprocess_inputs(given) is given
    assert all(session.has_all_ranks for session in [*dataset.not_irrelevant, *dataset.irrelevant])
    with pytest.raises(embft.errors.ConfigError, match="'dev' has no items"):
        make_tuner().preprocess_inputs({"dev": dataset})


def test_shared_towers_have_one_optimiser_and_separate_ones_two(
    make_tuner: Any, tiny_model: StaticEmbeddingsModel
) -> None:
    optimizers, schedulers = make_tuner().configure_optimizers()
    assert len(optimizers) == len(schedulers) == 1
    params = FineTuningParams(items_lr=0.1, query_lr=0.2)
    optimizers, schedulers = make_tuner(TwoTowers(tiny_model), params).configure_optimizers()
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.1, 0.2]
    assert [scheduler.optimizer for scheduler in schedulers] == optimizers


def test_a_learning_rate_that_is_not_given_suits_the_kind_of_model(make_tuner: Any) -> None:
    optimizers, _ = make_tuner(params=FineTuningParams()).configure_optimizers()
    assert optimizers[0].param_groups[0]["lr"] == 0.005


@pytest.mark.parametrize("step_size", [0, -1, 1.5, True, None, math.nan])
def test_a_wrong_step_size_is_refused(make_tuner: Any, step_size: Any) -> None:
    with pytest.raises(embft.errors.ConfigError, match=f"step_size is {step_size!r}"):
        make_tuner(step_size=step_size).configure_optimizers()


@pytest.mark.parametrize("gamma", [0.0, 1, 1.0, True, -0.5, math.nan, None])
def test_a_wrong_gamma_is_refused(make_tuner: Any, gamma: Any) -> None:
    with pytest.raises(embft.errors.ConfigError, match=f"gamma is {gamma!r}"):
        make_tuner(gamma=gamma).configure_optimizers()


def test_the_scheduler_is_stepped(make_tuner: Any, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = make_tuner(step_size=2, gamma=0.5)
    optimizers, _ = _attach(tuner, monkeypatch)
    rates = []
    for step in range(5):
        tuner.training_step(pairs, step)
        rates.append(optimizers[0].param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.05, 0.05, 0.025, 0.025])


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_training_lowers_the_loss(
    make_tuner: Any, pairs: Any, monkeypatch: pytest.MonkeyPatch, weight_decay: float
) -> None:
    tuner = make_tuner(params=FineTuningParams(items_lr=0.1, items_weight_decay=weight_decay))
    _attach(tuner, monkeypatch)
    losses = [tuner.training_step(pairs, step).item() for step in range(30)]
    assert losses[-1] < losses[0] / 2


def test_both_towers_are_trained(
    make_tuner: Any, tiny_model: StaticEmbeddingsModel, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TwoTowers(tiny_model)
    tuner = make_tuner(model)
    _attach(tuner, monkeypatch)
    before = model.queries.weight.detach().clone(), model.embedding.weight.detach().clone()
    tuner.training_step(pairs, 0)
    assert not torch.equal(before[0], model.queries.weight)
    assert not torch.equal(before[1], model.embedding.weight)


def test_frozen_layers_are_not_trained(make_tuner: Any, tiny_model: StaticEmbeddingsModel) -> None:
    tuner = make_tuner(params=FineTuningParams(num_fixed_layers=1))
    assert not tiny_model.embedding.weight.requires_grad
    with pytest.raises(embft.errors.ConfigError, match="every layer is frozen"):
        tuner.configure_optimizers()


def test_a_batch_without_a_pair_changes_nothing(
    make_tuner: Any, tiny_model: StaticEmbeddingsModel, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = make_tuner()
    _attach(tuner, monkeypatch)
    tuner.training_step(pairs, 0)  # so that Adam has a momentum
    before = tiny_model.embedding.weight.detach().clone()
    loss = tuner.training_step([(FineTuningInput("all", "red", ["r"], ["r"]), None)], 1)
    assert loss.item() == 0.0
    torch.testing.assert_close(tiny_model.embedding.weight.detach(), before)


def test_a_loss_that_is_no_number_stops_with_the_sessions_names_and_leaves_the_weights(
    make_tuner: Any, tiny_model: StaticEmbeddingsModel, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = make_tuner()
    _attach(tuner, monkeypatch)
    before = tiny_model.embedding.weight.detach().clone()
    monkeypatch.setattr(tuner, "loss_func", lambda features: features.positive_ranks.sum() * math.nan)
    with pytest.raises(embft.errors.DataRejected, match=r"became nan at step 0.*'s1', 's2', 's3'"):
        tuner.training_step(pairs, 0)
    torch.testing.assert_close(tiny_model.embedding.weight.detach(), before)


def test_validation_loss_is_a_mean_over_sessions_whatever_the_batches(make_tuner: Any, pairs: Any) -> None:
    tuner = make_tuner().eval()
    tuner.validation_step(pairs, 0)
    at_once = tuner.on_validation_epoch_end()
    tuner.validation_step(pairs[:2], 0)
    tuner.validation_step(pairs[2], 1)  # a single pair is accepted
    assert tuner.on_validation_epoch_end() == pytest.approx(at_once)

    sessions = [clicked for clicked, _ in pairs]
    same = embft.validation_loss(
        tuner.model, sessions, tuner.items_sets["test"], TextQueryRetriever(), tuner.loss_func, tuner.fine_tuning_params
    )
    assert same.mean == pytest.approx(at_once, rel=1e-6)


def test_the_accumulator_is_reset_and_an_empty_validation_is_rejected(make_tuner: Any, pairs: Any) -> None:
    tuner = make_tuner().eval()
    tuner.validation_step(pairs, 0)
    tuner.on_validation_epoch_end()
    with pytest.raises(embft.errors.DataRejected, match="none of 0 validation sessions has a click"):
        tuner.on_validation_epoch_end()


def test_what_a_broken_validation_left_is_not_in_the_next_one(make_tuner: Any, pairs: Any, items: ItemsSet) -> None:
    tuner = make_tuner().train()
    tuner.validation_step(pairs[:1], 0)
    with pytest.raises(embft.errors.DataRejected, match="session 'odd': item 'zebra'"):
        tuner.validation_step([(FineTuningInput("odd", "red", ["zebra"], []), None)], 1)
    assert tuner.training
    tuner.on_validation_epoch_start()
    tuner.validation_step(pairs[1:], 0)
    got = tuner.on_validation_epoch_end()
    tuner.validation_step(pairs[1:], 0)
    assert tuner.on_validation_epoch_end() == got


def test_a_batch_without_a_pair_is_not_in_the_training_loss(
    make_tuner: Any, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = make_tuner()
    _attach(tuner, monkeypatch)
    loss = tuner.training_step(pairs, 0)
    tuner.training_step([(FineTuningInput("all", "red", ["r"], ["r"]), None)], 1)
    assert tuner.train_measures.mean("loss") == pytest.approx(loss.item())
    assert tuner.steps_done == 1


def test_validation_has_no_gradient_and_no_downsampling_in_whatever_mode(make_tuner: Any, pairs: Any) -> None:
    full = make_tuner().validation_step(pairs, 0)
    tuner = make_tuner(params=FineTuningParams(negative_downsampling=0.0)).train()
    loss = tuner.validation_step(pairs, 0)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(full.item())
    assert tuner.training


def test_measures_reach_the_tracker_at_their_step(
    make_tuner: Any, tiny_model: StaticEmbeddingsModel, pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Notes()
    tuner = make_tuner(TwoTowers(tiny_model), tracker=tracker)
    tuner.preprocess_inputs({"train": PairedFineTuningInputsDataset([clicked for clicked, _ in pairs])})
    _attach(tuner, monkeypatch)
    tuner.train().training_step(pairs, 0)
    tuner.eval().validation_step(pairs, 0)
    tuner.on_validation_epoch_end()
    names = [name for name, _, _ in tracker.noted]
    # One step, though two towers have two optimisers.
    assert {step for _, _, step in tracker.noted} == {1}
    measures = ["loss", "not_irrelevant_dist_shift", "irrelevant_dist_shift"]
    assert names == [f"train_{name}" for name in measures] + [f"val_{name}" for name in measures]


def test_val_loss_is_seen_by_lightnings_own_callbacks(make_tuner: Any, pairs: Any, tmp_path: Path) -> None:
    # The fault: it was never logged, so early stopping never stopped and no checkpoint was the best.
    kept = ModelCheckpoint(tmp_path, monitor="val_loss", save_top_k=1)
    stopping = EarlyStopping("val_loss", patience=1, min_delta=1e9)  # no fall of the loss is ever enough
    trainer = pl.Trainer(max_epochs=9, accelerator="cpu", callbacks=[kept, stopping], logger=False)
    loader = DataLoader(pairs, batch_size=2, collate_fn=list)
    trainer.fit(make_tuner(), loader, loader)
    assert trainer.current_epoch == 2
    assert kept.best_model_score is not None
    assert 0 < kept.best_model_score.item() <= trainer.callback_metrics["val_loss"].item()


@pytest.mark.parametrize("position", range(5))
def test_an_argument_of_the_wrong_kind_is_named(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, position: int
) -> None:
    items_sets = {"train": items, "test": items}
    arguments: list[Any] = [tiny_model, items_sets, TextQueryRetriever(), ListwiseSoftmaxLoss(), FineTuningParams()]
    arguments[position] = "wrong"
    with pytest.raises(embft.errors.ConfigError, match="is a str; EmbeddingsFineTuner needs"):
        EmbeddingsFineTuner(*arguments)


def test_items_for_both_splits_are_needed(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    with pytest.raises(embft.errors.ConfigError, match="lacks \\['test'\\]"):
        EmbeddingsFineTuner(
            tiny_model, {"train": items}, TextQueryRetriever(), ListwiseSoftmaxLoss(), FineTuningParams()
        )


def test_create_resolves_the_names_of_settings(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    settings = FineTuningSettings(
        loss_func="cosine_prob_margin", ranker="euclidean_distance", is_similarity=False, step_size=7, gamma=0.3
    )
    items_sets = {"train": items, "test": items}
    tuner = EmbeddingsFineTuner.create(tiny_model, settings, items_sets, TextQueryRetriever(), FineTuningParams(), None)
    assert type(tuner.loss_func).__name__ == "CosineProbMarginRankingLoss"
    assert tuner.features_extractor.ranker.__name__ == "euclidean_distance"
    assert (tuner.features_extractor.is_similarity, tuner.step_size, tuner.gamma) == (False, 7, 0.3)
