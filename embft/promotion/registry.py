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
from typing import Any

from embft.experiments.reaching import environment_defaults, reaching_mlflow
from embft.storage_errors import explaining_s3

_SERVED_WITH = ("sentence-transformers", "torch", "transformers", "tokenizers", "numpy")


class Registry:
    """Versions of one model.

    Args:
        tracking_uri: MLflow's.
        model: Name of the registered model.
        s3_endpoint: Where MLflow's client reaches S3, unless $MLFLOW_S3_ENDPOINT_URL says otherwise; None for AWS.
    """

    def __init__(self, tracking_uri: str, model: str, *, s3_endpoint: str | None = None) -> None:
        self._tracking_uri = tracking_uri
        self._model = model
        self._s3_endpoint = s3_endpoint

    def find(self, challenger_digest: str, day: date) -> str | None:
        """Find the version that was made of a night's challenger, if there is one; the first, if there are more.

        Args:
            challenger_digest: Digest of the challenger's files.
            day: The night's day.

        Returns:
            The version, or None.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self._tracking_uri, "look for the model version"):
            versions = self._client().search_model_versions(f"name='{self._model}'")
            wanted = {"embft.challenger": challenger_digest, "embft.day": day.isoformat()}
            found = [int(it.version) for it in versions if wanted.items() <= it.tags.items()]
            return str(min(found)) if found else None

    def add(self, folder: Path, run_id: str, tags: Mapping[str, str]) -> str:
        """Log a saved model under its training run, and make a version of it.

        Args:
            folder: The SentenceTransformer folder.
            run_id: MLflow run of the training.
            tags: Lineage.

        Returns:
            The version.

        Raises:
            TemporaryError: MLflow is away; no version was made.
        """
        import mlflow

        model = _read(folder)
        with reaching_mlflow(self._tracking_uri, "register the model"), self._reaching_files(run_id):
            mlflow.set_tracking_uri(self._tracking_uri)
            model_id = _log(model, run_id, self._client())
            # The version is made last: killed before this line, nothing is registered.
            return self._make_version(model_id, run_id, tags)

    def drop(self, version: str) -> None:
        """Delete a version: one that a rival process was quicker to make.

        Args:
            version: The version.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self._tracking_uri, f"drop version {version}"):
            self._client().delete_model_version(self._model, version)

    def set_alias(self, alias: str, version: str) -> None:
        """Let an alias (`champion`, `challenger`) name a version.

        Args:
            alias: The alias.
            version: The version.

        Raises:
            TemporaryError: MLflow is away.
        """
        with reaching_mlflow(self._tracking_uri, f"set the alias {alias}"):
            self._client().set_registered_model_alias(self._model, alias, version)

    def _make_version(self, model_id: str, run_id: str, tags: Mapping[str, str]) -> str:
        from mlflow.exceptions import MlflowException

        # Not by `register_model`, which would ask the registry that $MLFLOW_REGISTRY_URI names.
        client = self._client()
        try:
            client.create_registered_model(self._model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            self._model, f"models:/{model_id}", run_id, tags=dict(tags), model_id=model_id
        )
        return str(made.version)

    @contextmanager
    def _reaching_files(self, run_id: str) -> Iterator[None]:
        """MLflow's client writes a model's files itself, with an S3 client of its own that knows no config of ours."""
        where = str(self._client().get_run(run_id).info.artifact_uri)
        with environment_defaults({"MLFLOW_S3_ENDPOINT_URL": self._s3_endpoint} if self._s3_endpoint else {}):
            endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") or "MLflow's own endpoint"
            with explaining_s3(endpoint, where):
                yield

    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._tracking_uri, registry_uri=self._tracking_uri)


def _read(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    kwargs = {"use_safetensors": True}
    return _taking_queries(SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=kwargs))


def _log(model: Any, run_id: str, client: Any) -> str:
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
        pip_requirements=[f"{name}=={_public(installed(name))}" for name in _SERVED_WITH],
    )
    return str(made.model_id)


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
