from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from embft import (
    CatalogueSoftmaxLoss,
    EmbeddingsFineTuner,
    FineTuningInput,
    FineTuningParams,
    FineTuningSettings,
    ItemsSet,
    PairedFineTuningInputsDataset,
    StaticEmbeddingsModel,
    TextQueryRetriever,
    TrainingHistory,
    fit,
    validation_loss,
)
from embft.errors import ConfigError, DataRejected
from embft.finetuning.catalogue import rank_catalogue
from embft.finetuning.threads import cpu_threads

Sessions = list[FineTuningInput]


def _copy(model: StaticEmbeddingsModel) -> StaticEmbeddingsModel:
    return StaticEmbeddingsModel(model.tokenizer, model.embedding.weight)


def _fit(
    model: StaticEmbeddingsModel,
    items: ItemsSet,
    sessions: Sessions,
    folder: Path,
    params: FineTuningParams | None = None,
    validation: Sessions | None = None,
    patience: int = 2,
    objective: FineTuningParams | None = None,
    limits: dict[str, Any] | None = None,
    **settings: Any,
) -> TrainingHistory:
    params = params or FineTuningParams(items_lr=0.1, not_irrelevant_only=False, negative_downsampling=0.5)
    options: dict[str, Any] = {"num_epochs": 4, "batch_size": 2, "devices": "cpu"} | settings
    chosen = FineTuningSettings(**options)
    items_sets = {"train": items, "test": items}
    tuner = EmbeddingsFineTuner.create(model, chosen, items_sets, TextQueryRetriever(), params, None, objective)
    train, held_out = PairedFineTuningInputsDataset(sessions), PairedFineTuningInputsDataset(validation or sessions)
    return fit(tuner, train, held_out, chosen, folder, patience=patience, **(limits or {}))


def test_training_lowers_the_validation_loss_and_the_history_says_so(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    history = _fit(tiny_model, items, sessions, tmp_path)
    assert history.best_val_loss < history.start_val_loss
    assert [record.epoch for record in history.records] == [-1, 0, 1, 2, 3]
    # 3 clicked sessions in batches of 2: two steps an epoch.
    assert [record.step for record in history.records] == [0, 2, 4, 6, 8]
    assert history.records[0].train_loss is None
    assert history.steps == 8
    assert not history.stopped_early
    assert json.loads(json.dumps(history.to_dict()))["start_val_loss"] == history.start_val_loss


def test_when_its_time_is_over_a_training_makes_a_last_validation_and_keeps_its_best_weights(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    history = _fit(tiny_model, items, sessions, tmp_path, limits={"max_seconds": 0.0}, batch_size=1)
    assert [record.step for record in history.records] == [0, 1]  # within the first epoch of 3 steps
    assert (history.out_of_time, history.stopped_early, history.pruned) == (True, False, False)
    assert history.best_val_loss == min(it.val_loss for it in history.records)
    whole = _fit(tiny_model, items, sessions, tmp_path / "whole", limits={"max_seconds": 1e6})
    assert (whole.steps, whole.out_of_time) == (8, False)


def test_a_training_that_is_called_hopeless_stops_at_that_validation(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    asked: list[float] = []

    def is_hopeless(loss: float) -> bool:
        asked.append(loss)
        return len(asked) == 2

    history = _fit(tiny_model, items, sessions, tmp_path, limits={"is_hopeless": is_hopeless})
    assert asked == [it.val_loss for it in history.records[1:]]  # not asked about the start
    assert (len(asked), history.pruned, history.stopped_early) == (2, True, False)


def test_the_objective_and_not_what_is_trained_with_measures_the_validation_loss(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    objective = FineTuningParams(margin=0.2, not_irrelevant_only=True)
    starts, ends = [], []
    for number, margin in enumerate((0.0, 0.5)):
        params = FineTuningParams(items_lr=0.1, margin=margin, not_irrelevant_only=bool(number))
        model = _copy(tiny_model)
        history = _fit(model, items, sessions, tmp_path / str(number), params, objective=objective)
        starts.append(history.start_val_loss)
        ends.append(model.embedding.weight)
    assert starts[0] == starts[1]
    assert not torch.equal(*ends)
    without = _fit(_copy(tiny_model), items, sessions, tmp_path / "own", FineTuningParams(margin=0.5))
    assert without.start_val_loss != starts[0]


def test_the_same_seed_gives_identical_weights_and_another_one_others(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    trained: list[torch.Tensor] = []
    for seed in (1, 1, 2):
        model = _copy(tiny_model)
        torch.manual_seed(len(trained))  # what the caller does with its own random state does not matter
        _fit(model, items, sessions, tmp_path / str(len(trained)), seed=seed)
        trained.append(model.embedding.weight.detach())
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_a_static_model_trains_on_one_thread_and_the_callers_choice_comes_back(
    tiny_model: StaticEmbeddingsModel,
    items: ItemsSet,
    sessions: Sessions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = EmbeddingsFineTuner._optimize
    seen: set[int] = set()

    def note_threads(tuner: EmbeddingsFineTuner, loss: torch.Tensor) -> None:
        seen.add(torch.get_num_threads())
        step(tuner, loss)

    monkeypatch.setattr(EmbeddingsFineTuner, "_optimize", note_threads)
    with cpu_threads(2):
        _fit(tiny_model, items, sessions, tmp_path, num_epochs=1)
        assert torch.get_num_threads() == 2
    assert seen == {1}


def test_the_callers_random_state_is_left_alone(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    state, was_deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    _fit(tiny_model, items, sessions, tmp_path, num_epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == was_deterministic


def test_training_that_stops_within_its_first_epoch_stopped_early(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    contrary = [FineTuningInput(s.session_id, s.query, s.not_events, s.results) for s in sessions[:3]]
    params, often = FineTuningParams(items_lr=0.1), {"batch_size": 1, "test_each_n_inputs": 1}
    history = _fit(tiny_model, items, sessions, tmp_path, params, validation=contrary, patience=1, **often)
    assert {record.epoch for record in history.records} == {-1, 0}
    assert history.stopped_early


@pytest.mark.parametrize("lr", [0.01, 0.3, 3.0])
def test_the_model_ends_with_the_weights_of_its_lowest_validation_loss(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path, lr: float
) -> None:
    params = FineTuningParams(items_lr=lr)
    history = _fit(tiny_model, items, sessions, tmp_path, params, num_epochs=6, patience=9)
    best = min(history.records, key=lambda record: record.val_loss)
    assert (history.best_val_loss, history.best_step) == (best.val_loss, best.step)
    retriever, loss_func = TextQueryRetriever(), CatalogueSoftmaxLoss()
    loss = validation_loss(tiny_model, sessions, items, retriever, loss_func, params, batch_size=2)  # as in training
    assert loss.mean == pytest.approx(best.val_loss, rel=1e-5)


def test_a_model_that_only_gets_worse_stops_and_keeps_the_weights_of_the_start(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    # In the validation sessions the clicks are the other way round: each step of training makes them worse.
    contrary = [FineTuningInput(s.session_id, s.query, s.not_events, s.results) for s in sessions[:3]]
    before = tiny_model.embedding.weight.detach().clone()
    params = FineTuningParams(items_lr=0.1)
    history = _fit(tiny_model, items, sessions, tmp_path, params, validation=contrary, num_epochs=30)
    assert history.stopped_early
    assert [record.epoch for record in history.records] == [-1, 0, 1, 2]
    assert (history.best_step, history.best_val_loss) == (0, history.start_val_loss)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(kept["model.embedding.weight"], before)
    assert torch.equal(tiny_model.embedding.weight.detach(), before)


def test_ranking_measures_of_the_whole_catalogue_are_followed_where_wanted(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    history = _fit(tiny_model, items, sessions, tmp_path, metric_calculators=("ranking",))
    at_start = rank_catalogue(
        StaticEmbeddingsModel(tiny_model.tokenizer, torch.eye(7)), sessions[:3], items, TextQueryRetriever()
    )
    for name, values in at_start.items():
        assert history.records[0].metrics[f"val_{name}"] == pytest.approx(values.mean())
    assert history.records[-1].metrics["val_mrr_at_10"] > history.records[0].metrics["val_mrr_at_10"]


def test_validation_between_epochs(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    history = _fit(tiny_model, items, sessions, tmp_path, num_epochs=2, batch_size=1, test_each_n_inputs=2, patience=9)
    assert [record.step for record in history.records] == [0, 2, 4, 6]


def test_nothing_is_printed_to_stdout(
    tiny_model: StaticEmbeddingsModel,
    items: ItemsSet,
    sessions: Sessions,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _fit(tiny_model, items, sessions, tmp_path, num_epochs=1)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("broken_after", "kept_step"), [(1, 0), (3, 2)])
def test_a_loss_turned_nan_stops_training_and_the_last_good_weights_are_kept(
    tiny_model: StaticEmbeddingsModel,
    items: ItemsSet,
    sessions: Sessions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken_after: int,
    kept_step: int,
) -> None:
    step = EmbeddingsFineTuner._optimize
    done: list[int] = []

    def break_the_weights_late(tuner: EmbeddingsFineTuner, loss: torch.Tensor) -> None:
        step(tuner, loss)
        done.append(1)
        if len(done) == broken_after:
            with torch.no_grad():
                for weights in tuner.model.item_parameters():
                    weights.fill_(math.nan)

    monkeypatch.setattr(EmbeddingsFineTuner, "_optimize", break_the_weights_late)
    with pytest.raises(
        DataRejected, match=f"loss became nan at step {broken_after}.*'s.*step {kept_step} again.*best.ckpt"
    ):
        _fit(tiny_model, items, sessions, tmp_path)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())
    assert torch.equal(tiny_model.embedding.weight, kept["model.embedding.weight"])


def test_clicks_alone_train_with_negatives_from_the_batch_and_are_refused_by_a_loss_that_needs_shown_items(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, tmp_path: Path
) -> None:
    clicks = [FineTuningInput("1", "shoe", ["gh"], []), FineTuningInput("2", "hat", ["r"], [])]
    with pytest.raises(DataRejected, match=r"none of 2 training sessions has a not-clicked.*catalogue_softmax"):
        _fit(tiny_model, items, clicks, tmp_path, FineTuningParams(items_lr=0.1), loss_func="listwise_softmax")
    params = FineTuningParams(items_lr=0.1)
    history = _fit(tiny_model, items, clicks, tmp_path, params, loss_func="in_batch_softmax")
    assert history.best_val_loss < history.start_val_loss


def test_a_machine_that_cannot_run_the_settings_says_so(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="devices is 64"):
        _fit(tiny_model, items, sessions, tmp_path, devices=64)
    with pytest.raises(ConfigError, match="precision is bf16-mixed on a CPU"):
        _fit(tiny_model, items, sessions, tmp_path, precision="bf16-mixed")


def test_a_wrong_gamma_stops_before_training(
    tiny_model: StaticEmbeddingsModel, items: ItemsSet, sessions: Sessions, tmp_path: Path
) -> None:
    settings = FineTuningSettings(devices="cpu").model_copy(update={"gamma": 1})
    items_sets = {"train": items, "test": items}
    tuner = EmbeddingsFineTuner.create(tiny_model, settings, items_sets, TextQueryRetriever(), FineTuningParams())
    dataset = PairedFineTuningInputsDataset(sessions)
    with pytest.raises(ConfigError, match="gamma is 1"):
        fit(tuner, dataset, dataset, settings, tmp_path)
