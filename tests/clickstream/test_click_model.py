"""Click models: what is drawn agrees with the formulas, and with what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from embft.clickstream.click_model import CascadeModel, ClickModel, PositionBasedModel, click_model_of
from embft.errors import ConfigError

ATTRACTION = np.array([[0.9, 0.5, 0.2, 0.8]])
MANY = np.tile(ATTRACTION, (40_000, 1))


@pytest.mark.parametrize(
    "model",
    [
        PositionBasedModel(),
        PositionBasedModel(propensities=[1, 0.6, 0.4], trust_noise=0),
        PositionBasedModel(propensities=[0.5], trust_noise=0.2),
        CascadeModel(),
        CascadeModel(continuation=0.4),
    ],
)
def test_clicks_are_as_frequent_as_the_formula_says(model: PositionBasedModel | CascadeModel) -> None:
    drawn = model.clicks(MANY, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), model.click_probabilities(ATTRACTION)[0], atol=0.01)


def test_given_propensities_by_hand() -> None:
    # Ranks beyond the last take the last: 0.4 at ranks 3 and 4.
    model = PositionBasedModel(propensities=np.array([1, 0.6, 0.4]), trust_noise=0)
    np.testing.assert_array_equal(model.examination(4), [1, 0.6, 0.4, 0.4])
    np.testing.assert_allclose(model.click_probabilities(ATTRACTION), [[0.9, 0.3, 0.08, 0.32]])
    np.testing.assert_array_equal(model.looked_at(MANY[:2]), [[1, 0.6, 0.4, 0.4]] * 2)
    assert model == PositionBasedModel(propensities=[1, 0.6, 0.4], trust_noise=0)


def test_cascade_by_hand() -> None:
    # Rank 2 is looked at by those whom rank 1 did not stop: 1 − 0.9 · (1 − 0.5) = 0.55; rank 3: 0.55 · 0.75.
    model = CascadeModel(continuation=0.5)
    np.testing.assert_allclose(model.looked_at(ATTRACTION)[0, :3], [1, 0.55, 0.4125])
    np.testing.assert_allclose(model.click_probabilities(ATTRACTION)[0, :3], [0.9, 0.275, 0.0825])


def test_cascade_ends_with_its_first_click_or_never() -> None:
    assert (CascadeModel(continuation=0).clicks(MANY, np.random.default_rng(0)).sum(1) <= 1).all()
    # Who always goes on clicks every result as often as it attracts.
    always = CascadeModel(continuation=1).clicks(MANY, np.random.default_rng(0))
    np.testing.assert_allclose(always.mean(0), ATTRACTION[0], atol=0.01)


def test_names_give_models() -> None:
    models: list[ClickModel] = [click_model_of("position", propensities=[1], trust_noise=0), click_model_of("cascade")]
    assert models == [PositionBasedModel(trust_noise=0, propensities=[1]), CascadeModel()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "pbm"}, "click_model is 'pbm'; it must be one of position, cascade"),
        ({"name": "position", "propensities": [1, 0]}, "propensities holds 0.0 at rank 2"),
        ({"name": "position", "propensities": [float("nan")]}, "propensities holds nan at rank 1"),
        ({"name": "position", "propensities": []}, "propensities is empty"),
        ({"name": "position", "trust_noise": 1.5}, "trust_noise is 1.5; it must be from 0 to 1"),
        ({"name": "cascade", "propensities": [1]}, "only 'position' takes propensities"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        click_model_of(**options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="continuation is -1"):
        CascadeModel(continuation=-1)
