from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

import embft
from embft.errors import ConfigError
from embft.finetuning.losses import ListwiseSoftmaxLoss
from embft.finetuning.params import FineTuningParams, FineTuningSettings
from embft.finetuning.rankers import euclidean_distance
from embft.finetuning.registry import find_confidences, find_ranker, make_loss, make_metrics


def test_params_have_the_documented_fields() -> None:
    assert set(FineTuningParams.model_fields) == {
        "num_fixed_layers",
        "query_lr",
        "items_lr",
        "query_weight_decay",
        "items_weight_decay",
        "margin",
        "half_life_days",
        "repeated_clicks",
        "not_irrelevant_only",
        "negative_downsampling",
        "min_abs_difference_threshold",
        "max_abs_difference_threshold",
        "examples_order",
    }


def test_equal_settings_have_equal_ids_in_every_process() -> None:
    code = "import embft; print(embft.FineTuningSettings(confidence_calculator=embft.click_confidences).id)"
    ids = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert ids == {FineTuningSettings(confidence_calculator=embft.click_confidences).id + "\n"}


def test_settings_have_the_documented_fields() -> None:
    assert set(FineTuningSettings.model_fields) == {
        "loss_func",
        "metric_calculators",
        "ranker",
        "is_similarity",
        "confidence_calculator",
        "query_augmentations",
        "augmented_share",
        "catalogue_candidates",
        "step_size",
        "gamma",
        "num_epochs",
        "batch_size",
        "kept_passes",
        "test_each_n_inputs",
        "seed",
        "precision",
        "devices",
    }


def test_every_field_says_what_it_means() -> None:
    for model in (FineTuningParams, FineTuningSettings):
        assert all(field.description for field in model.model_fields.values())


def test_the_id_is_the_same_in_another_process_and_differs_by_content() -> None:
    code = "from embft.finetuning.params import FineTuningParams as P; print(P(margin=0.3, items_lr=1).id)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert FineTuningParams(items_lr=1.0, margin=0.3).id == other
    assert FineTuningParams(items_lr=1.0, margin=0.31).id != other
    assert len(other) == 64


def test_the_id_of_settings_counts_a_loss_object_by_its_numbers() -> None:
    same = FineTuningSettings(loss_func=ListwiseSoftmaxLoss(scale=5.0))
    assert same.id == FineTuningSettings(loss_func=ListwiseSoftmaxLoss(scale=5.0)).id
    assert same.id != FineTuningSettings(loss_func=ListwiseSoftmaxLoss(scale=6.0)).id


def test_all_negatives_and_no_unknown_key() -> None:
    assert FineTuningParams(negative_downsampling=1.0).negative_downsampling == 1.0
    with pytest.raises(ValidationError, match="learning_rate"):
        FineTuningParams(learning_rate=1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wrong",
    [
        {"negative_downsampling": 1.1},
        {"num_fixed_layers": -1},
        {"items_lr": 0.0},
        {"margin": float("nan")},
        {"min_abs_difference_threshold": 3.0},
        {"examples_order": []},
        {"examples_order": ["softest"]},
    ],
)
def test_params_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        FineTuningParams(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"step_size": 0},
        {"step_size": True},
        {"gamma": 1.0},
        {"batch_size": 0},
        {"precision": "64"},
        {"devices": "tpu"},
        {"devices": True},
        {"loss_func": "hinge"},
        {"ranker": "euclidean_distance"},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FineTuningSettings(**wrong)


def test_names_stand_for_objects_and_objects_for_themselves() -> None:
    loss = ListwiseSoftmaxLoss()
    assert make_loss(loss) is loss
    assert isinstance(make_loss("listwise_softmax"), ListwiseSoftmaxLoss)
    assert find_ranker("euclidean_distance") is euclidean_distance
    assert find_confidences("dummy_confidences").__name__ == "dummy_confidences"
    assert [type(metric).__name__ for metric in make_metrics(("distance_shift",))] == ["DistanceShift"]


def test_an_unknown_name_or_object_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'hinge'.*listwise_softmax"):
        make_loss("hinge")
    with pytest.raises(ConfigError, match="RankingLossInterface"):
        make_loss(len)
