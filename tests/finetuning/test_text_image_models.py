from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embft import SentenceTransformerModel, TextImageModel, load_model
from embft.errors import ConfigError, DataRejected
from tests.finetuning.tiny_models import tiny_bert, tiny_clip

COLOURS = [(200, 20, 20), (20, 200, 20), (20, 20, 200)]
TEXTS = ["a photo of a red shoe", "blue", "green hat " * 20]


@pytest.fixture
def model(tmp_path: Path) -> TextImageModel:
    return TextImageModel(tiny_clip(tmp_path / "clip"))


@pytest.fixture
def images() -> list[Image.Image]:
    return [Image.new("RGB", (48, 32), colour) for colour in COLOURS]


def test_texts_and_images_get_the_vectors_of_sentence_transformers(
    model: TextImageModel, images: list[Image.Image]
) -> None:
    model.query_prompt = "a photo of "
    expected = model.model.encode_query(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(model.encode_queries(TEXTS), expected, atol=1e-5)
    vectors = model.encode_items([*images, images[0]])
    np.testing.assert_allclose(vectors[:3], model.model.encode_document(images, normalize_embeddings=True), atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_an_image_may_be_given_by_its_path(model: TextImageModel, images: list[Image.Image], tmp_path: Path) -> None:
    images[1].save(tmp_path / "green.png")
    path = tmp_path / "green.png"
    by_path = model.encode_items([str(path), path])
    np.testing.assert_allclose(by_path, model.encode_items([images[1]] * 2), atol=1e-6)


def test_a_catalogue_makes_nothing_fetch_an_address(model: TextImageModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'https://shop\.example/shoe\.png' is an address"):
        model.encode_items(["https://shop.example/shoe.png"])
    with pytest.raises(DataRejected, match=r"cannot read the image 'data:image"):
        model.encode_items(["data:image/png;base64,AAAA"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataRejected, match=r"text\.png"):
        model.encode_items([tmp_path / "text.png"])
    assert model.training  # as it was before


def test_a_query_that_looks_like_an_image_is_a_text(model: TextImageModel, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "red.png")
    for query in ("https://shop.example/shoe.png", str(tmp_path / "red.png")):
        # Words that the tokenizer does not know.
        np.testing.assert_allclose(model.encode_queries([query]), model.encode_queries(["unknown"]), atol=1e-6)


def test_each_part_is_a_tower_of_its_own_and_a_step_moves_both(
    model: TextImageModel, images: list[Image.Image]
) -> None:
    query, items = model.query_parameters(), model.item_parameters()
    assert not model.is_same_query_and_items
    assert not set(query) & set(items)
    assert model.num_layers == 2
    model.fix_layers(1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizers = [torch.optim.Adam([it for it in tower if it.requires_grad], lr=0.01) for tower in (query, items)]
    (model.forward_query(TEXTS) * model.forward_items(images)).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert {name.split(".")[3] for name in moved} == {
        "text_model",
        "text_projection",
        "vision_model",
        "visual_projection",
    }
    assert not any("embeddings" in name or "layers.0." in name for name in moved)


def test_a_saved_folder_loads_as_a_text_image_model_with_the_same_vectors(
    model: TextImageModel, images: list[Image.Image], tmp_path: Path
) -> None:
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert isinstance(loaded, TextImageModel)
    np.testing.assert_allclose(loaded.encode_queries(TEXTS), model.encode_queries(TEXTS), atol=1e-6)
    np.testing.assert_allclose(loaded.encode_items(images), model.encode_items(images), atol=1e-6)


def test_a_model_without_a_vision_part_is_refused(tmp_path: Path) -> None:
    theirs = tiny_bert(tmp_path)
    with pytest.raises(ConfigError, match=r"\['text'\].*needs a text part and a vision part"):
        TextImageModel(theirs)
    assert SentenceTransformerModel(theirs).num_layers == 2


def test_a_model_that_cuts_its_vectors_off_is_refused(tmp_path: Path) -> None:
    theirs = tiny_clip(tmp_path)
    theirs.truncate_dim = 8
    with pytest.raises(ConfigError, match="truncate_dim is 8, and its vectors have 16 numbers"):
        TextImageModel(theirs)
