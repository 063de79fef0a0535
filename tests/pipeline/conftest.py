"""A project, a bucket and an MLflow of its own for each module that runs nights."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from demo.services import s3_environment
from embft.config import config_path, load_config
from embft.paths import Paths
from embft.promotion import load_check
from embft.results import RunSpec, StageResult
from embft.stages.night import run_named, run_night
from embft.stages.stage import read_run
from embft.storage import Storage
from tests import realdata
from tests.buckets import Bucket, new_bucket
from tests.mlflow_database import new_database


@dataclass(frozen=True)
class Project:
    """One model's config, where its logs lie, and its nights."""

    include: Path
    bucket: Bucket
    model: str

    @property
    def storage(self) -> Storage:
        return Storage(load_config(config_path(self.include, self.model)).storage)

    @property
    def paths(self) -> Paths:
        return Paths(load_config(config_path(self.include, self.model)).storage.artifacts, self.model)

    def delete(self, uri: str) -> None:
        """Take an object away, as a person or a lifecycle rule might."""
        self.bucket.delete(uri.split("/", 3)[3])

    def night(self, day: date, **options: Any) -> list[StageResult]:
        return list(run_night(self.model, day, include=self.include, **options))

    def stage(self, name: str, day: date, **options: Any) -> StageResult:
        return run_named(name, self.model, day, include=self.include, **options)

    def spec(self, day: date) -> RunSpec:
        return read_run(self.storage, self.paths, day)


@pytest.fixture(scope="module", autouse=True)
def no_load_check() -> Iterator[None]:
    """The process that loads a version takes seconds for each night; test_load_check.py lets it run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_check, "_difference", lambda *_: 0.0)
        yield


@pytest.fixture(scope="module")
def module_environment(s3_endpoint: tuple[str, Path]) -> Iterator[str]:
    """The environment that reaches the S3 server, for a whole module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(s3_endpoint[0]).items():
            patch.setenv(name, value)
        yield s3_endpoint[0]


@pytest.fixture(scope="module")
def xbox(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The real clicks as daily objects, and a project that learns from them."""
    home = tmp_path_factory.mktemp("xbox")
    bucket = new_bucket(module_environment)
    realdata.lay_out(bucket)
    include = realdata.make_include(home, bucket=bucket.name, endpoint=module_environment, mlflow=new_database(home))
    return Project(include, bucket, "xbox")
