"""A version that is to serve: it loads where only its declared requirements are, and gives the model's vectors."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from embft import ExperimentsManager, SentenceTransformerModel, load_model
from embft.promotion.load_check import LOAD_CHECK_TAG, load_fault
from embft.promotion.registry import Registry, Version
from tests.finetuning.tiny_models import tiny_bert

DAY = date(2026, 3, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("model")
    SentenceTransformerModel(tiny_bert(home / "bert", prompts={"query": "query: "})).save(home / "model")
    return home / "model"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db", "tiny")


@pytest.fixture(scope="module")
def version(registry: Registry, folder: Path) -> Version:
    manager = ExperimentsManager(registry.tracking_uri, "tiny", artifact_location=str(folder.parent / "files"))
    with manager.run("night"):
        pass
    model_id = registry.log(folder, manager.run_id)
    return registry.make(model_id, manager.run_id, {"embft.digest": "d", "embft.day": DAY.isoformat()})


def tag_of(registry: Registry) -> str:
    return registry.versions()[0].tags[LOAD_CHECK_TAG]


def test_a_version_that_gives_the_models_vectors_passes_once_and_for_all(
    registry: Registry, version: Version, folder: Path
) -> None:
    assert load_fault(registry, version, load_model(folder).encode_queries) is None
    assert tag_of(registry).startswith("passed: vectors differ by at most ")

    def nobody_asks(_: Any) -> Any:
        raise AssertionError("it was checked already")

    (checked,) = registry.find("d", DAY)
    assert load_fault(registry, checked, nobody_asks) is None
