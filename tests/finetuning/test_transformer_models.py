from __future__ import annotations

import copy
import filecmp
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from embft import (
    EmbeddingsFineTuner,
    FineTuningInput,
    FineTuningParams,
    FineTuningSettings,
    ItemsSet,
    PairedFineTuningInputsDataset,
    SentenceTransformerModel,
    StaticEmbeddingsModel,
    TextQueryRetriever,
    fit,
    load_model,
)
from embft.errors import ConfigError
from tests.finetuning.tiny_models import tiny_bert

TEXTS = ["red", "green shoe " * 25, "", "blue hat", "red", "a photo of a hat", "shoe " * 200]


def _largest_difference(left: object, right: object) -> float:
    return float(np.abs(np.asarray(left) - np.asarray(right)).max())


@pytest.fixture
def shared(tmp_path: Path) -> SentenceTransformerModel:
    prompts = {"query": "query: ", "document": "passage: "}
    return SentenceTransformerModel(tiny_bert(tmp_path / "shared", prompts=prompts))


@pytest.fixture
def separate(tmp_path: Path) -> SentenceTransformerModel:
    query = tiny_bert(tmp_path / "query", layers=3, seed=1, prompts={"query": "query: "})
    items = tiny_bert(tmp_path / "items", layers=2, seed=2, prompts={"document": "passage: "})
    return SentenceTransformerModel.from_towers(query, items)


@pytest.fixture(params=["shared", "separate"])
def model(request: pytest.FixtureRequest) -> SentenceTransformerModel:
    chosen: SentenceTransformerModel = request.getfixturevalue(request.param)
    return chosen


def test_vectors_are_those_of_encode_query_and_encode_document(model: SentenceTransformerModel) -> None:
    model.eval()
    theirs = model.model
    assert (
        _largest_difference(model.forward_query(TEXTS).detach(), theirs.encode_query(TEXTS, normalize_embeddings=True))
        < 1e-5
    )
    expected = theirs.encode_document(TEXTS, normalize_embeddings=True)
    assert _largest_difference(model.forward_items(TEXTS).detach(), expected) < 1e-5
    assert _largest_difference(model.encode_items(TEXTS), expected) < 1e-5
    assert model.forward_items([]).shape == model.encode_items([]).shape == (0, 32)


def test_prompts_are_put_before_the_text(shared: SentenceTransformerModel) -> None:
    as_query, as_item = shared.encode_queries(["red hat"]), shared.encode_items(["red hat"])
    shared.query_prompt = shared.item_prompt = ""
    assert _largest_difference(as_query, shared.encode_queries(["query: red hat"])) < 1e-6
    assert _largest_difference(as_item, shared.encode_items(["passage: red hat"])) < 1e-6
    assert _largest_difference(as_query, as_item) > 1e-3


def test_a_prompt_that_is_not_averaged_is_left_out_of_the_mean(tmp_path: Path) -> None:
    theirs = tiny_bert(tmp_path, include_prompt=False, prompts={"query": "query: "})
    model = SentenceTransformerModel(theirs)
    expected = theirs.encode_query(TEXTS[:2], normalize_embeddings=True)
    assert _largest_difference(model.encode_queries(TEXTS[:2]), expected) < 1e-6
    assert _largest_difference(model.encode_queries(["red"]), model.encode_items(["query: red"])) > 1e-3


def test_a_passage_prompt_is_the_prompt_of_items(tmp_path: Path) -> None:
    # encode_document of sentence-transformers 6.2 passes over "passage", for every model has an empty "document".
    model = SentenceTransformerModel(tiny_bert(tmp_path / "bert", prompts={"passage": "passage: "}))
    model.save(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert model.item_prompt == "passage: "
    assert _largest_difference(theirs.encode_document(["red"]), model.encode_items(["red"])) < 1e-5


def test_a_text_has_one_vector_alone_and_beside_longer_ones(model: SentenceTransformerModel) -> None:
    together = model.encode_queries(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert _largest_difference(vector, model.encode_queries([text])[0]) < 1e-6


@pytest.fixture
def seen_shapes(shared: SentenceTransformerModel) -> Iterator[list[tuple[int, int]]]:
    """Rows and tokens of each pass. sentence-transformers calls `forward` itself, past the hooks of the whole."""
    shapes: list[tuple[int, int]] = []
    embeddings = shared.model.transformers_model.embeddings
    hook = embeddings.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    yield shapes
    hook.remove()


def test_a_pass_is_padded_to_its_own_longest_text_only(
    shared: SentenceTransformerModel, seen_shapes: list[tuple[int, int]]
) -> None:
    shared.item_prompt = ""
    shared.forward_items(["red " * 40, "red hat", *["red"] * 70, "red " * 2000])
    # [CLS] and [SEP] are two more tokens each; 64 is the most tokens that this tokenizer gives.
    assert seen_shapes == [(64, 3), (7, 4), (1, 42), (1, 64)]
    seen_shapes.clear()
    shared.forward_items(["red", "red hat"])
    assert seen_shapes == [(2, 4)]


def test_passes_that_are_computed_again_give_the_gradient_of_all_kept_in_less_memory(
    model: SentenceTransformerModel,
) -> None:
    texts = [f"{'red ' * length}{number}" for length in (1, 20, 40, 55) for number in range(16)]
    losses, gradients, next_draws, n_held = [], [], [], []
    for kept_passes in (None, 1):
        model.kept_passes = kept_passes
        model.zero_grad()
        torch.manual_seed(0)  # of dropout
        held: list[int] = []

        def hold(tensor: torch.Tensor, held: list[int] = held) -> torch.Tensor:
            held.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            loss = (model.forward_query(texts) @ model.forward_items(texts).T).logsumexp(1).mean()
        loss.backward()
        losses.append(loss)
        gradients.append([weight.grad for weight in model.parameters() if weight.requires_grad])
        next_draws.append(torch.rand(3))
        n_held.append(sum(held))
    assert torch.equal(*losses)
    for kept, again in zip(*gradients, strict=True):
        assert torch.equal(kept, again)
    assert torch.equal(*next_draws)
    assert n_held[1] < n_held[0] / 2


def test_frozen_layers_stay_and_the_others_move_in_a_step(model: SentenceTransformerModel) -> None:
    model.fix_layers(1)
    before = copy.deepcopy(model.state_dict())
    for parameters in (model.query_parameters(), model.item_parameters()):
        free = [parameter for parameter in parameters if parameter.requires_grad]
        optimizer = torch.optim.Adam(free, lr=0.1)
        (model.forward_query(["red"]) * model.forward_items(["hat"])).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved
    assert not any("embeddings" in name or "layer.0." in name for name in moved)
    for tower in {name.partition(".encoder")[0] for name in before if "layer.1." in name}:
        assert any(name.startswith(tower) for name in moved)


def test_layers_begin_with_the_embeddings_and_end_before_the_pooler(shared: SentenceTransformerModel) -> None:
    names = {parameter: name for name, parameter in shared.model.named_parameters()}
    first, second = ({names[parameter] for parameter in layer} for layer in shared.layer_parameters())
    assert {"embeddings", "encoder"} == {name.split(".")[2] for name in first}
    assert all(".encoder.layer.1." in name for name in second)
    with pytest.raises(ConfigError, match=r"num_fixed_layers is 3.*2 layer"):
        shared.fix_layers(3)


def test_towers_of_different_depth_count_the_layers_of_the_shallower(separate: SentenceTransformerModel) -> None:
    assert separate.num_layers == 2
    names = {parameter: name for name, parameter in separate.model.named_parameters()}
    routes = [{names[parameter].split(".")[2] for parameter in layer} for layer in separate.layer_parameters()]
    assert routes == [{"query", "document"}] * 2


def test_separate_towers_share_no_parameter(
    shared: SentenceTransformerModel, separate: SentenceTransformerModel
) -> None:
    assert shared.is_same_query_and_items
    assert shared.is_named_inputs
    assert not separate.is_same_query_and_items
    query, items = set(separate.query_parameters()), set(separate.item_parameters())
    assert not query & items
    assert query | items == set(separate.parameters())


def test_what_both_towers_use_is_trained_with_the_items(tmp_path: Path) -> None:
    query, items = tiny_bert(tmp_path / "query", seed=1), tiny_bert(tmp_path / "items", seed=2)
    router = Router.for_query_document(list(query.children()), list(items.children()))
    model = SentenceTransformerModel(SentenceTransformer(modules=[router, Dense(32, 8)], device="cpu"))
    projection = set(model.model[1].parameters())
    assert model.dim == 8
    assert projection <= set(model.item_parameters())
    assert not projection & set(model.query_parameters())


def test_towers_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    query, items = tiny_bert(tmp_path / "query", dim=32), tiny_bert(tmp_path / "items", dim=16)
    with pytest.raises(ConfigError, match=r"query tower gives 32 .* item tower 16"):
        SentenceTransformerModel.from_towers(query, items)
    with pytest.raises(ConfigError, match="are one model"):
        SentenceTransformerModel.from_towers(query, query)
    modules = list(query.children())
    elsewhere = SentenceTransformer(modules=[Router({"text": modules, "image": modules})], device="cpu")
    with pytest.raises(ConfigError, match=r"routes \['image', 'text'\]"):
        SentenceTransformerModel(elsewhere)


def test_a_saved_folder_gives_the_same_vectors_here_and_in_sentence_transformers(
    model: SentenceTransformerModel, tmp_path: Path
) -> None:
    model.query_prompt = "a photo of "
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert isinstance(loaded, SentenceTransformerModel)
    assert (loaded.query_prompt, loaded.item_prompt) == ("a photo of ", "passage: ")
    assert loaded.is_same_query_and_items == model.is_same_query_and_items
    for vectors in (loaded.encode_queries(TEXTS), theirs.encode_query(TEXTS)):
        assert _largest_difference(vectors, model.encode_queries(TEXTS)) < 1e-5
    for vectors in (loaded.encode_items(TEXTS), theirs.encode_document(TEXTS)):
        assert _largest_difference(vectors, model.encode_items(TEXTS)) < 1e-5


def test_saves_are_byte_equal_whatever_was_encoded_and_wherever_they_lie(
    model: SentenceTransformerModel, tmp_path: Path
) -> None:
    model.save(tmp_path / "first")
    model.encode_items(TEXTS)
    model.save(tmp_path / "second")
    again = load_model(tmp_path / "second")
    again.encode_queries(TEXTS)
    again.save(tmp_path / "second")  # over the files that the weights were read from
    files = sorted(str(path.relative_to(tmp_path / "first")) for path in (tmp_path / "first").rglob("*.*"))
    assert {Path(name).suffix for name in files} == {".json", ".safetensors"}
    assert len(files) == len(list((tmp_path / "second").rglob("*.*")))
    assert filecmp.cmpfiles(tmp_path / "first", tmp_path / "second", files, shallow=False)[0] == files


def test_half_precision_on_disk_is_trained_in_float32(tmp_path: Path) -> None:
    tiny_bert(tmp_path / "bert").bfloat16().save(str(tmp_path / "half"), create_model_card=False)
    model = load_model(tmp_path / "half")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in SentenceTransformerModel(tiny_bert(tmp_path).half()).parameters()} == {
        torch.float32
    }


def test_a_static_embedding_may_be_a_tower(tiny_model: StaticEmbeddingsModel, tmp_path: Path) -> None:
    static = StaticEmbedding(tiny_model.tokenizer, embedding_weights=tiny_model.embedding.weight.detach().clone())
    alone = SentenceTransformerModel(SentenceTransformer(modules=[static], device="cpu"))
    assert alone.num_layers == 1
    assert _largest_difference(alone.encode_items(["red red hat"]), tiny_model.encode_items(["red red hat"])) < 1e-6
    alone.save(tmp_path / "saved")
    assert isinstance(load_model(tmp_path / "saved"), StaticEmbeddingsModel)

    narrow = SentenceTransformer(modules=[*tiny_bert(tmp_path / "bert").children(), Dense(32, 7)], device="cpu")
    mixed = SentenceTransformerModel.from_towers(SentenceTransformer(modules=[static], device="cpu"), narrow)
    mixed.save(tmp_path / "mixed")
    loaded = load_model(tmp_path / "mixed")
    assert loaded.num_layers == 1
    assert _largest_difference(loaded.encode_queries(["red hat"]), mixed.encode_queries(["red hat"])) < 1e-6
    assert _largest_difference(loaded.encode_items(["red hat"]), mixed.encode_items(["red hat"])) < 1e-6


def test_training_a_transformer_lowers_the_validation_loss(
    model: SentenceTransformerModel, items: ItemsSet, sessions: list[FineTuningInput], tmp_path: Path
) -> None:
    settings = FineTuningSettings(num_epochs=4, batch_size=2, devices="cpu")
    params = FineTuningParams(items_lr=3e-3, query_lr=3e-3, num_fixed_layers=1)
    splits = {"train": items, "test": items}
    tuner = EmbeddingsFineTuner.create(model, settings, splits, TextQueryRetriever(), params)
    pairs = PairedFineTuningInputsDataset(sessions)
    history = fit(tuner, pairs, pairs, settings, tmp_path / "checkpoints", patience=4)
    assert history.best_val_loss < history.start_val_loss


def test_a_model_with_all_its_layers_frozen_has_nothing_to_train(
    shared: SentenceTransformerModel, items: ItemsSet
) -> None:
    params = FineTuningParams(num_fixed_layers=2)
    splits = {"train": items, "test": items}
    tuner = EmbeddingsFineTuner.create(shared, FineTuningSettings(), splits, TextQueryRetriever(), params)
    with pytest.raises(ConfigError, match="every layer is frozen"):
        tuner.configure_optimizers()


def test_minilm_comes_with_its_package() -> None:
    model = load_model("minilm")
    assert isinstance(model, SentenceTransformerModel)
    assert (model.dim, model.num_layers, model.is_same_query_and_items) == (384, 6, True)
    sofa, couch, laptop = model.encode_items(["a comfortable sofa", "a cosy couch", "a gaming laptop"])
    assert sofa @ couch > 0.6 > 0.3 > sofa @ laptop
