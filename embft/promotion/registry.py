"""The MLflow model registry: one version for each accepted night, and the aliases that say which one serves.

The version holds an ordinary SentenceTransformer folder with safetensors weights: `mlflow.pyfunc.load_model` serves
it, and so does `SentenceTransformer(path)`. The only module here that imports mlflow.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, NamedTuple

from embft.experiments.reaching import HTTP_BOUNDS, environment_defaults, explaining_files, reaching_mlflow
from embft.storage_errors import explaining_s3

DAY_TAG, DIGEST_TAG = "embft.day", "embft.digest"
_SERVED_WITH = ("mlflow", "sentence-transformers", "torch", "transformers", "tokenizers", "safetensors", "numpy")
_MAX_TAG_CHARS = 5000


class Version(NamedTuple):
    """A version that exists in MLflow."""

    number: str
    tags: Mapping[str, str]
    source: str


class Registry:
    """Versions of one model.

    Args:
        tracking_uri: MLflow's.
        model: Name of the registered model.
        s3_endpoint: Where MLflow's client reaches S3, unless $MLFLOW_S3_ENDPOINT_URL says otherwise; None for AWS.
    """

    def __init__(self, tracking_uri: str, model: str, *, s3_endpoint: str | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.model = model
        self._s3_endpoint = s3_endpoint

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs, unless its environment says so already, to reach MLflow and its files as this one."""
        return HTTP_BOUNDS | ({"MLFLOW_S3_ENDPOINT_URL": self._s3_endpoint} if self._s3_endpoint else {})

    def versions(self) -> list[Version]:
        """List what exists, the oldest first.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self.tracking_uri, "list the model's versions"):
            found = self._client().search_model_versions(f"name='{self.model}'")
            listed = [Version(str(it.version), dict(it.tags), str(it.source)) for it in found]
            return sorted(listed, key=lambda it: int(it.number))

    def find(self, digest: str, day: date) -> list[Version]:
        """Find the versions that were made of a night's model; more than one, where processes made one at once.

        Args:
            digest: Of the model's files, see `weights_digest`.
            day: The night's day.

        Returns:
            The versions, the oldest first.

        Raises:
            TemporaryError: MLflow is away.
        """
        wanted = {DIGEST_TAG: digest, DAY_TAG: day.isoformat()}
        return [it for it in self.versions() if wanted.items() <= it.tags.items()]

    def log(self, folder: Path, run_id: str) -> str:
        """Put a saved model into MLflow, under its training run. It is no version yet.

        Args:
            folder: The SentenceTransformer folder.
            run_id: MLflow run of the training.

        Returns:
            MLflow's id of the model.

        Raises:
            TemporaryError: MLflow, or its store of files, is away.
        """
        import mlflow

        model = _read(folder)
        with reaching_mlflow(self.tracking_uri, "register the model"), self._reaching_files(run_id) as where:
            mlflow.set_tracking_uri(self.tracking_uri)
            return _log(model, run_id, self._client(), _requirements(folder, where))

    def make(self, model_id: str, run_id: str, tags: Mapping[str, str]) -> Version:
        """Make a version of a logged model.

        Args:
            model_id: As of `log`.
            run_id: MLflow run of the training.
            tags: Lineage; what is longer than MLflow allows is cut.

        Returns:
            The version.

        Raises:
            TemporaryError: MLflow is away.
        """
        cut = {name: value[:_MAX_TAG_CHARS] for name, value in tags.items()}
        source = f"models:/{model_id}"
        with reaching_mlflow(self.tracking_uri, "register the model"):
            # Not by `register_model`, which would ask the registry that $MLFLOW_REGISTRY_URI names.
            client = self._client()
            with _UnlessIt("RESOURCE_ALREADY_EXISTS"):
                client.create_registered_model(self.model)
            made = client.create_model_version(self.model, source, run_id, tags=cut, model_id=model_id)
            return Version(str(made.version), cut, source)

    def drop(self, version: str) -> None:
        """Delete a version, such as one that a rival process was quicker to make; it may be gone already.

        Args:
            version: The version.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self.tracking_uri, f"drop version {version}"), _UnlessIt("RESOURCE_DOES_NOT_EXIST"):
            self._client().delete_model_version(self.model, version)

    def tag(self, version: str, name: str, value: str) -> None:
        """Set a tag of a version.

        Args:
            version: The version.
            name: Of the tag.
            value: Of the tag; what is longer than MLflow allows is cut.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self.tracking_uri, f"tag version {version}"):
            self._client().set_model_version_tag(self.model, version, name, value[:_MAX_TAG_CHARS])

    def aliases(self) -> dict[str, str]:
        """Say which version each alias names; nothing where there is no such model.

        Raises:
            TemporaryError: MLflow is away.
        """
        found: Mapping[str, Any] = {}
        with reaching_mlflow(self.tracking_uri, "read the aliases"), _UnlessIt("RESOURCE_DOES_NOT_EXIST"):
            found = self._client().get_registered_model(self.model).aliases
        return {alias: str(version) for alias, version in found.items()}

    def set_alias(self, alias: str, version: str) -> None:
        """Let an alias (`champion`, `previous`, `challenger`) name a version; one that is gone it does not name.

        Args:
            alias: The alias.
            version: The version.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self.tracking_uri, f"set the alias {alias}"), _UnlessIt("RESOURCE_DOES_NOT_EXIST"):
            self._client().set_registered_model_alias(self.model, alias, version)

    def delete_alias(self, alias: str) -> None:
        """Let an alias name nothing any more.

        Args:
            alias: The alias.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self.tracking_uri, f"delete the alias {alias}"), _UnlessIt("RESOURCE_DOES_NOT_EXIST"):
            self._client().delete_registered_model_alias(self.model, alias)

    def fetch(self, version: Version, name: str, folder: Path) -> Path:
        """Download one file of a version's model.

        Args:
            version: The version.
            name: The file's.
            folder: Where to.

        Returns:
            The file.

        Raises:
            ConfigError: MLflow has no such file, or does not give it.
            TemporaryError: MLflow, or its store of files, is away.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        what = f"version {version.number} of {self.model!r}"
        with reaching_mlflow(self.tracking_uri, f"fetch {name} of {what}"):
            logged = self._client().get_logged_model(version.source.removeprefix("models:/"))
            where = str(logged.artifact_location)
            with (
                environment_defaults(self.environment),
                explaining_s3(self._endpoint, where),
                explaining_files(what, where, "delete that version in MLflow, and run register again"),
            ):
                files = get_artifact_repository(where, tracking_uri=self.tracking_uri)
                return Path(files.download_artifacts(name, str(folder)))

    @property
    def _endpoint(self) -> str:
        return os.environ.get("MLFLOW_S3_ENDPOINT_URL") or self._s3_endpoint or "MLflow's own endpoint"

    @contextmanager
    def _reaching_files(self, run_id: str) -> Iterator[str]:
        """MLflow's client writes a model's files itself, with an S3 client of its own that knows no config of ours."""
        where = str(self._client().get_run(run_id).info.artifact_uri)
        with environment_defaults(self.environment), explaining_s3(self._endpoint, where):
            yield where

    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)


class _UnlessIt:
    """Takes one error of MLflow for none: what was to be made exists already, or what was to go is gone."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        from mlflow.exceptions import MlflowException

        return isinstance(error, MlflowException) and error.error_code == self._code


def _read(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    kwargs = {"use_safetensors": True}
    return _taking_queries(SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=kwargs))


def _log(model: Any, run_id: str, client: Any, requirements: list[str]) -> str:
    """Log a model under a run; gives MLflow's id of it.

    Not by `log_model` within `start_run(run_id=…)`: that opens the finished run again, and an error on the way ends
    it as FAILED, so that the training counts no more and its weights are removed.
    """
    import mlflow
    from mlflow.models import Model, infer_signature

    run = client.get_run(run_id)
    # Made by `Model.log`, it would lie in the experiment that happens to be the active one, with that one's files.
    made = client.create_logged_model(run.info.experiment_id, "model", run_id, params=run.data.params)
    example = ["an example query"]
    Model.log(
        artifact_path=None,
        model_id=made.model_id,
        flavor=mlflow.sentence_transformers,
        model=model,
        run_id=run_id,
        signature=infer_signature(example, model.encode(example, show_progress_bar=False)),
        input_example=example,
        pip_requirements=requirements,
    )
    return str(made.model_id)


def _requirements(folder: Path, where: str) -> list[str]:
    """Pin what loading the model needs: also for images where it takes some, and for S3 where its files lie there."""
    of_images = ["pillow"] if list(folder.rglob("*processor_config.json")) else []
    of_files = ["boto3"] if where.startswith("s3://") else []
    return [f"{name}=={_public(installed(name))}" for name in (*_SERVED_WITH, *of_images, *of_files)]


def _taking_queries(model: Any) -> Any:
    """Let a plain `encode`, which is all that MLflow's predict calls, take a text for a query.

    A prompt that was trained with and is left out in serving spoils the ranking, and nobody is told; so does one of
    items, which the model may name as its own default.
    """
    from sentence_transformers.base.modules import Router

    model.default_prompt_name = "query" if model.prompts.get("query") else None
    first = next(model.children())
    if isinstance(first, Router):
        first.default_route = "query"
    return model


def _public(version: str) -> str:
    """Drop a build's local part (2.13.0+cpu): no index serves it."""
    return version.partition("+")[0]
