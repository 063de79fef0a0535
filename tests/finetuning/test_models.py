from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from embft.errors import ConfigError
from embft.finetuning.models import StaticEmbeddingsModel, load_model

TEXTS = ["halo", "", "Call of Duty: Black Ops", "a b", "halo", "unusual ♥ text", "word " * 300]


@pytest.fixture(scope="module")
def wordllama() -> StaticEmbeddingsModel:
    model = load_model("wordllama")
    assert isinstance(model, StaticEmbeddingsModel)
    return model


def test_a_vector_is_the_unit_length_mean_of_the_words(tiny_model: StaticEmbeddingsModel) -> None:
    # red red hat → (2, 1) on their axes, divided by sqrt(5).
    (vector,) = tiny_model.encode_items(["red red hat"])
    assert vector.tolist() == pytest.approx([0, 2 / 5**0.5, 0, 0, 0, 1 / 5**0.5, 0])


def test_no_padding_is_averaged_in_and_no_text_depends_on_its_neighbours(wordllama: StaticEmbeddingsModel) -> None:
    together = wordllama.encode_queries(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        token_ids = wordllama.tokenizer.encode(text, add_special_tokens=False).ids
        mean = wordllama.embedding.weight.detach()[token_ids].sum(0) / max(1, len(token_ids))
        expected = mean / mean.norm().clamp_min(1e-12)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-6)


def test_a_tokenizer_that_pads_is_made_to_stop(tiny_model: StaticEmbeddingsModel) -> None:
    tokenizer = tiny_model.tokenizer
    tokenizer.enable_padding(pad_id=1, pad_token="red", length=8)
    tokenizer.enable_truncation(1)
    again = StaticEmbeddingsModel(tokenizer, torch.eye(7))
    np.testing.assert_array_equal(again.encode_items(["hat shoe"]), tiny_model.encode_items(["shoe hat"]))


def test_each_distinct_text_is_encoded_once_in_chunks_of_like_length(
    tiny_model: StaticEmbeddingsModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks: list[list[str]] = []
    forward = tiny_model.forward_items

    def note(texts: list[str]) -> torch.Tensor:
        chunks.append(list(texts))
        return forward(texts)

    monkeypatch.setattr(tiny_model, "forward_items", note)
    texts = ["green hat", "red", "hat", "red", "red shoe"]
    vectors = tiny_model.encode_items(texts, chunk_size=2)
    assert chunks == [["hat", "red"], ["red shoe", "green hat"]]
    np.testing.assert_array_equal(vectors, np.concatenate([tiny_model.encode_items([text]) for text in texts]))


def test_encoding_leaves_training_mode_and_gradients_alone(tiny_model: StaticEmbeddingsModel) -> None:
    tiny_model.train()
    assert not tiny_model.is_named_inputs
    tiny_model.encode_queries(["red"])
    assert tiny_model.training
    assert tiny_model.forward_query(["red"]).requires_grad
    assert tiny_model.encode_queries([]).shape == (0, 7)
    with pytest.raises(ConfigError, match="chunk_size is 0"):
        tiny_model.encode_queries(["red"], chunk_size=0)


def test_prompts_are_part_of_the_model_and_saved_with_it(tmp_path: Path, tiny_model: StaticEmbeddingsModel) -> None:
    tiny_model.query_prompt = "query: "
    tiny_model.save(tmp_path)
    loaded = load_model(tmp_path)
    np.testing.assert_array_equal(loaded.encode_queries(["red"]), tiny_model.encode_items(["query: red"]))
    np.testing.assert_array_equal(loaded.encode_items(["red"]), tiny_model.encode_items(["red"]))


def test_a_saved_folder_is_a_sentence_transformer_with_the_same_vectors(
    tmp_path: Path, wordllama: StaticEmbeddingsModel
) -> None:
    from sentence_transformers import SentenceTransformer

    model = StaticEmbeddingsModel(wordllama.tokenizer, wordllama.embedding.weight, "query: ", "passage: ")
    model.save(tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(theirs.encode_query(TEXTS), model.encode_queries(TEXTS), atol=1e-5)
    np.testing.assert_allclose(theirs.encode_document(TEXTS), model.encode_items(TEXTS), atol=1e-5)
    np.testing.assert_allclose(theirs.encode(TEXTS), wordllama.encode_items(TEXTS), atol=1e-5)


def test_a_folder_saved_by_sentence_transformers_loads(tmp_path: Path, wordllama: StaticEmbeddingsModel) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    weights = wordllama.embedding.weight.detach()
    theirs = SentenceTransformer(modules=[StaticEmbedding(wordllama.tokenizer, embedding_weights=weights)])
    theirs.save(str(tmp_path))
    expected = theirs.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(load_model(tmp_path).encode_items(TEXTS), expected, atol=1e-5)


def test_modules_of_a_static_model_may_have_folders_of_their_own(
    tmp_path: Path, tiny_model: StaticEmbeddingsModel
) -> None:
    tiny_model.save(tmp_path)
    (tmp_path / "0_StaticEmbedding").mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).rename(tmp_path / "0_StaticEmbedding" / name)
    first, normalize = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([first | {"path": "0_StaticEmbedding"}, normalize]))
    np.testing.assert_array_equal(load_model(tmp_path).encode_items(["red"]), tiny_model.encode_items(["red"]))


def _configure(folder: Path, **values: object) -> None:
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_prompt_of_items_has_many_names_and_may_be_null(tmp_path: Path, tiny_model: StaticEmbeddingsModel) -> None:
    tiny_model.save(tmp_path)
    for prompts, expected in (
        ({"query": "q: ", "document": "", "passage": "passage: "}, ("q: ", "passage: ")),
        ({"query": None, "document": None}, ("", "")),
        ({"document": "d: ", "passage": "p: "}, ("", "d: ")),
    ):
        _configure(tmp_path, prompts=prompts)
        loaded = load_model(tmp_path)
        assert (loaded.query_prompt, loaded.item_prompt) == expected


def test_settings_that_are_a_list_or_cut_vectors_off_are_refused(
    tmp_path: Path, tiny_model: StaticEmbeddingsModel
) -> None:
    tiny_model.save(tmp_path)
    _configure(tmp_path, truncate_dim=7)
    assert load_model(tmp_path).dim == 7
    _configure(tmp_path, truncate_dim=4)
    with pytest.raises(ConfigError, match="truncate_dim is 4, and its vectors have 7 numbers"):
        load_model(tmp_path)
    (tmp_path / "config_sentence_transformers.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"holds \[\]; it must be an object"):
        load_model(tmp_path)


def test_a_model_on_disk_is_safetensors_and_json_only(tmp_path: Path, tiny_model: StaticEmbeddingsModel) -> None:
    tiny_model.save(tmp_path)
    tiny_model.save(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_freezing_freezes_and_unfixing_frees(tiny_model: StaticEmbeddingsModel) -> None:
    def is_free() -> bool:
        return tiny_model.embedding.weight.requires_grad

    tiny_model.fix_layers(1)
    frozen = not is_free()
    tiny_model.unfix()
    assert frozen
    assert is_free()
    with pytest.raises(ConfigError, match=r"num_fixed_layers is 2.*1 layer"):
        tiny_model.fix_layers(2)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no modules\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "modules.json"])
def test_a_broken_file_is_named(tmp_path: Path, tiny_model: StaticEmbeddingsModel, name: str) -> None:
    tiny_model.save(tmp_path)
    (tmp_path / name).write_bytes(b"{broken")
    with pytest.raises(ConfigError, match=name):
        load_model(tmp_path)


def test_weights_and_tokenizer_of_different_models_are_refused(
    tmp_path: Path, tiny_model: StaticEmbeddingsModel
) -> None:
    tiny_model.save(tmp_path)
    save_file({"embedding.weight": torch.zeros(3, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"\(3, 2\).*7 tokens"):
        load_model(tmp_path)
    save_file({"other": torch.zeros(3, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="'other'"):
        load_model(tmp_path)
