"""A night that trains a transformer from S3: the base model lies there as a folder of sentence-transformers."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embft.finetuning.models import SentenceTransformerModel, load_model
from tests.buckets import new_bucket
from tests.finetuning.tiny_models import tiny_bert
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import ITEMS, NIGHT, WORDS, make_shop


@pytest.fixture
def shop(s3: str, tmp_path: Path) -> Project:
    bucket = new_bucket(s3)
    words = sorted({word for text in [*WORDS.values(), *ITEMS.values(), "query:"] for word in text.split()})
    model = SentenceTransformerModel(tiny_bert(tmp_path / "bert", words=words))
    model.query_prompt = "query: "
    model.save(tmp_path / "base")
    for path in (tmp_path / "base").rglob("*"):
        if path.is_file():
            bucket.put(f"base/{path.relative_to(tmp_path / 'base')}", path.read_bytes())
    include = make_shop(tmp_path, bucket, s3, new_database(tmp_path))
    config = include / "models" / "tiny.yaml"
    training = f"""\
training:
  base_model: s3://{bucket.name}/base
  params: {{items_lr: 0.002}}
  settings: {{devices: cpu, num_epochs: 5, loss_func: in_batch_softmax, batch_size: 64}}
"""
    text = config.read_text()
    start, end = text.index("training:"), text.index("gate:")
    config.write_text(text[:start] + training + text[end:].replace("max_val_loss: 3.0", "max_val_loss: 9.0"))
    return Project(include, bucket, "tiny")


def test_a_transformer_from_s3_is_trained_promoted_and_served_with_its_prompt(shop: Project, tmp_path: Path) -> None:
    night = {result.stage: result for result in shop.night(NIGHT)}
    judged = night["evaluate"].figures["models"]
    assert judged["challenger"]["val_loss"] < judged["base"]["val_loss"]
    assert night["gate"].status == "done", night["gate"].reason
    assert night["publish"].status == "done"

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    served = mlflow.pyfunc.load_model("models:/tiny@champion").predict(["couch"])
    folder = tmp_path / "challenger"
    for name, artifact in night["fine_tune"].outputs.items():
        if name.startswith("model/"):
            shop.storage.fetch(artifact, folder / name.removeprefix("model/"))
    plain = SentenceTransformer(str(folder), device="cpu")
    # What training, evaluation and serving put before a query is one and the same, and lies with the model.
    assert plain.prompts["query"] == "query: "
    as_query = plain.encode_query(["couch"])
    np.testing.assert_allclose(load_model(folder).encode_queries(["couch"]), as_query, atol=1e-5)
    np.testing.assert_allclose(served, as_query, atol=1e-5)
    assert np.abs(plain.encode(["couch"]) - as_query).max() > 1e-3

    assert shop.stage("plan", NIGHT).reused
    shop.bucket.put("base/README.md", b"a model that is put in its place is seen, and trained from")
    assert not shop.stage("plan", NIGHT).reused
