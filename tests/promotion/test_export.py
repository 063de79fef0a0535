"""`embft export`: what other programs get gives the vectors of the registered version, prompts included."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import chdir
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from typer.testing import CliRunner

from embft import ExperimentsManager, SentenceTransformerModel, StaticEmbeddingsModel, load_model
from embft.cli import app
from embft.errors import ConfigError, DataRejected, TemporaryError
from embft.finetuning.models import EmbeddingsModelInterface, TextImageModel
from embft.promotion.export import Exported, export_model
from embft.promotion.export_readme import readme
from embft.promotion.onnx_graph import encoders_of
from embft.promotion.registry import Registry
from tests.buckets import new_bucket
from tests.finetuning.tiny_models import make_tokenizer, tiny_bert, tiny_clip

REPOSITORY = Path(__file__).parent.parent.parent
TEXTS = ["red shoe", "", "red " * 200, "红色 鞋 🎉", "a photo of hat"]
PROMPTS = {"query": "query: ", "document": "passage: a "}
SIDES = ("queries", "items")


class Registered:
    """An MLflow whose `demo` has a static champion, and other kinds of model behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        manager = ExperimentsManager(self.uri, "demo", artifact_location=str(folder / "files"))
        with manager.run("night", params={}):
            pass
        self.registry, self.run_id = Registry(self.uri, "demo"), manager.run_id
        weights = torch.randn(15, 8, generator=torch.Generator().manual_seed(0))
        self.add("static", StaticEmbeddingsModel(make_tokenizer().backend_tokenizer, weights, "query: ", ""))
        self.registry.set_alias("champion", "1")
        self.add("bert", SentenceTransformerModel(tiny_bert(folder / "tiny", layers=1, prompts=PROMPTS)))
        self.add("towers", SentenceTransformerModel.from_towers(_table(1), _table(2)))

    def add(self, name: str, model: EmbeddingsModelInterface) -> None:
        model.save(self.folder / name)
        self.registry.make(self.registry.log(self.folder / name, self.run_id), self.run_id, {"embft.day": "2026-11-24"})

    def vectors(self, name: str) -> list[Any]:
        model = load_model(self.folder / name)
        return [model.encode_queries(TEXTS), model.encode_items(TEXTS)]

    def export(self, output: Path, to: Any, version: str | None = None) -> Exported:
        return export_model(self.uri, "demo", to=to, output=output, version=version)


def _table(seed: int) -> SentenceTransformer:
    weights = np.random.default_rng(seed).normal(size=(15, 8)).astype(np.float32)
    modules = [StaticEmbedding(make_tokenizer(), embedding_weights=weights)]
    return SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    return Registered(tmp_path_factory.mktemp("mlflow"))


def by_readme(folder: Path) -> list[Callable[[list[str]], Any]]:
    """Run the code that the exported README shows, in its folder; gives what encodes queries and items."""
    _, code, _ = (folder / "README.md").read_text(encoding="utf-8").replace("```python", "```").split("```")
    found: dict[str, Any] = {}
    with chdir(folder):
        exec(code, found)
    model = found.get("model")
    return [model.encode_query, model.encode_document] if model else [found[f"encode_{side}"] for side in SIDES]


def test_the_champion_is_exported_as_a_folder_by_default(
    registered: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBFT_INCLUDE", str(REPOSITORY / "include"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.uri)
    output = tmp_path / "new" / "out"
    command = ["export", "--model", "demo", "--to", "folder", "--output", str(output)]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said == {"output": str(output), **json.loads((output / "embft.json").read_text())}
    assert (said["model"], said["version"], said["day"], said["dimensions"]) == ("demo", "1", "2026-11-24", 8)
    assert [said[side]["prompt"] for side in SIDES] == ["query: ", ""]
    assert '`"query: "` is put before every text' in (output / "README.md").read_text()
    assert {path.stat().st_mode & 0o444 for path in output.iterdir()} == {0o444}
    plain = load_model(output)
    for got in ([it(TEXTS) for it in by_readme(output)], [plain.encode_queries(TEXTS), plain.encode_items(TEXTS)]):
        np.testing.assert_allclose(got, registered.vectors("static"), atol=1e-5)
    assert [path.name for path in output.parent.iterdir()] == ["out"]

    again = CliRunner().invoke(app, command)
    assert (again.exit_code, "nothing is overwritten" in again.stderr) == (2, True)


@pytest.mark.parametrize(("version", "name"), [("1", "static"), ("2", "bert"), ("3", "towers")])
def test_onnx_gives_the_same_vectors_by_its_own_readme(
    registered: Registered, tmp_path: Path, version: str, name: str
) -> None:
    (tmp_path / "out").mkdir()
    folder, about = registered.export(tmp_path / "out", "onnx", version)
    graphs = {"queries.onnx", "items.onnx"} if name == "towers" else {"model.onnx"}
    assert {path.name for path in folder.iterdir()} == {*graphs, "tokenizer.json", "embft.json", "README.md"}
    assert about["largest_difference"] <= 1e-5
    for encode, wanted in zip(by_readme(folder), registered.vectors(name), strict=True):
        np.testing.assert_allclose(encode(TEXTS), wanted, atol=1e-5)
        np.testing.assert_allclose(encode([""]), wanted[1:2], atol=1e-5)


def test_the_docs_show_the_code_of_the_readme() -> None:
    side = {"prompt": ""}
    text = readme(
        {"model": "", "version": "", "day": "", "format": "onnx", "dimensions": 8} | dict.fromkeys(SIDES, side)
    )
    code = text[text.index("def encoder(side)") : text.index("print(")]
    assert code in (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")


def test_a_prompt_that_pooling_leaves_out_is_left_out_in_onnx(tmp_path: Path) -> None:
    theirs = tiny_bert(tmp_path / "bert", layers=1, include_prompt=False, prompts=PROMPTS)
    queries, items = encoders_of(SentenceTransformerModel(theirs))
    assert (queries.graph.n_skipped, items.graph.n_skipped) == (2, 3)  # [CLS] query: | [CLS] passage: a
    features = theirs.preprocess(["red hat", "hat"], prompt="query: ")
    wanted = theirs.encode_query(["red hat", "hat"], show_progress_bar=False)
    with torch.inference_mode():
        got = queries.graph(*(features[name] for name in queries.inputs))
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_folder_that_serves_other_vectors_is_not_left_behind(registered: Registered, tmp_path: Path) -> None:
    theirs = tiny_bert(tmp_path / "bert", layers=1)  # ends without Normalize: its vectors are longer than 1
    theirs.save(str(tmp_path / "plain"))
    logged = registered.registry.log(tmp_path / "plain", registered.run_id)
    version = registered.registry.make(logged, registered.run_id, {}).number
    with pytest.raises(DataRejected, match="other vectors of queries"):
        registered.export(tmp_path / "out", "folder", version)
    assert {path.name for path in tmp_path.iterdir()} == {"bert", "plain"}


def test_what_is_not_registered_is_refused_with_what_there_is(registered: Registered, tmp_path: Path) -> None:
    client, out = MlflowClient(registered.uri, registered.uri), tmp_path / "out"
    with pytest.raises(ConfigError, match=r"no version 'x'; its newest versions are .*2, 1 \(champion is 1\)"):
        registered.export(out, "folder", "x")
    with pytest.raises(ConfigError, match=r"no registered model 'shop'; it has 'demo'"):
        export_model(registered.uri, "shop", to="folder", output=out)
    client.create_registered_model("empty")
    with pytest.raises(ConfigError, match=r"no alias 'champion'; it has no version"):
        export_model(registered.uri, "empty", to="folder", output=out)
    client.delete_registered_model("empty")
    assert list(tmp_path.iterdir()) == []


def test_files_in_s3_are_reached_and_missed(registered: Registered, s3: str, tmp_path: Path) -> None:
    bucket = new_bucket(s3)
    manager = ExperimentsManager(
        registered.uri, "in-s3", artifact_location=f"s3://{bucket.name}/mlflow", s3_endpoint=s3
    )
    with manager.run("night", params={}):
        pass
    registry = Registry(registered.uri, "in-s3", s3_endpoint=s3)
    logged = registry.log(registered.folder / "static", manager.run_id)
    registry.set_alias("champion", registry.make(logged, manager.run_id, {}).number)
    folder, about = export_model(registered.uri, "in-s3", to="folder", output=tmp_path / "out", s3_endpoint=s3)
    assert about["day"] is None
    np.testing.assert_allclose(load_model(folder).encode_queries(TEXTS), registered.vectors("static")[0], atol=1e-5)
    for found in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]:
        bucket.delete(found["Key"])
    with pytest.raises(ConfigError, match=r"cannot download version 1 of 'in-s3' from s3://.*Not Found; name another"):
        export_model(registered.uri, "in-s3", to="folder", output=tmp_path / "none", s3_endpoint=s3)
    MlflowClient(registered.uri, registered.uri).delete_registered_model("in-s3")


def test_mlflow_away_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TemporaryError, match="is away, cannot look for the versions of 'demo'"):
        export_model("http://127.0.0.1:9", "demo", to="folder", output=tmp_path / "out")


def test_missing_packages_are_named_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = util.find_spec
    monkeypatch.setattr("embft.promotion.export.find_spec", lambda name: None if name == "onnxscript" else real(name))
    with pytest.raises(ConfigError, match=r"needs onnxscript, not installed here: pip install 'embft\[export\]'"):
        export_model("http://127.0.0.1:9", "demo", to="onnx", output=tmp_path / "out")


def test_images_are_refused_for_onnx(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TextImageModel cannot be exported to ONNX"):
        encoders_of(TextImageModel(tiny_clip(tmp_path)))
