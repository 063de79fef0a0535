"""The weights of runs in MLflow's file store: kept, fetched, and removed.

A run's tag `embft.weights` says how its files stand: `uploading`, `kept`, `removing`, `removed`. Only `kept` counts:
an upload or a removal that was killed half way is seen, and not taken for done.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from embft.errors import ConfigError, DataRejected, EmbftError, TemporaryError
from embft.experiments.connection import Connection
from embft.experiments.reaching import environment_defaults, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

Answer = TypeVar("Answer")

STATE_TAG = "embft.weights"
DIGEST_TAG = "embft.weights_digest"
_FOLDER = "weights"  # not "model": a model logged under the run for the registry is listed by this name
# A server that passes files on answers when its own store has them: 5 s are too short for a file of a gigabyte.
_FILE_BOUNDS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "120", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class Savable(Protocol):
    """A model that can write itself to a folder."""

    def save(self, folder: str | Path) -> None:
        """Write everything that loading needs.

        Args:
            folder: Made where it does not exist.
        """
        ...


class SavedModel(NamedTuple):
    """A model's folder, and the digest of what lies in it."""

    folder: Path
    digest: str


@contextmanager
def saved(model: Savable) -> Iterator[SavedModel]:
    """Save a model to a folder that lives as long as the block.

    Args:
        model: To save.

    Yields:
        Folder and digest.
    """
    with tempfile.TemporaryDirectory(prefix="embft-weights-") as folder:
        model.save(folder)
        yield SavedModel(Path(folder), digest_of(Path(folder)))


def digest_of(folder: Path) -> str:
    """Sha256 over the names and the contents of all files below a folder, 64 hex digits.

    Args:
        folder: To read.

    Returns:
        The digest.
    """
    lines = []
    for path in sorted(it for it in folder.rglob("*") if it.is_file()):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Weights:
    """Weights of the runs of one experiment.

    Args:
        mlflow: The experiment.
        s3_endpoint: Where MLflow's client reaches S3, unless $MLFLOW_S3_ENDPOINT_URL says otherwise; None for AWS.
    """

    def __init__(self, mlflow: Connection, s3_endpoint: str | None = None) -> None:
        self._mlflow = mlflow
        self._environment = _FILE_BOUNDS | ({"MLFLOW_S3_ENDPOINT_URL": s3_endpoint} if s3_endpoint else {})

    def keep(self, run_id: str, model: SavedModel) -> None:
        """Upload a saved model under its run.

        Args:
            run_id: Of the run.
            model: To upload.

        Raises:
            ConfigError: The store of files refuses.
            TemporaryError: The store or MLflow stays away.
        """
        self._mlflow.set_tag(run_id, STATE_TAG, "uploading")
        self._mlflow.set_tag(run_id, DIGEST_TAG, model.digest)
        self._with_files(run_id, "keep the weights", lambda files: files.log_artifacts(str(model.folder), _FOLDER))
        self._mlflow.set_tag(run_id, STATE_TAG, "kept")

    def fetch(self, run_id: str, folder: Path) -> Path:
        """Download the weights of a run, and hold them against their digest.

        Args:
            run_id: Of the run.
            folder: Made where it does not exist; a new folder is made in it.

        Returns:
            The new folder.

        Raises:
            ConfigError: The run keeps no weights, or there is no such run.
            DataRejected: The files are not those that were uploaded.
            TemporaryError: The store or MLflow stays away.
        """
        tags = self._mlflow.call("find the run", lambda client: client.get_run(run_id).data.tags)
        if tags.get(STATE_TAG) != "kept":
            raise ConfigError(
                f"run {run_id} keeps no weights ({STATE_TAG} is {tags.get(STATE_TAG, 'not set')}); only the best run "
                "of an iteration and an initial model do: take the run id from `best_run()`"
            )
        folder.mkdir(parents=True, exist_ok=True)
        target = tempfile.mkdtemp(prefix=f"{run_id[:8]}-", dir=folder)

        def download(files: ArtifactRepository) -> None:
            if files.list_artifacts(_FOLDER):  # MLflow takes a missing folder for a file that fails to download
                files.download_artifacts(_FOLDER, target)

        self._with_files(run_id, "fetch the weights", download)
        found = Path(target) / _FOLDER
        if (digest := digest_of(found)) != tags.get(DIGEST_TAG):
            raise DataRejected(
                f"the weights of run {run_id} have digest {digest}, and {tags.get(DIGEST_TAG)} was uploaded: someone "
                "changed or deleted files in MLflow's store; train again, or put them back"
            )
        return found

    def remove_all_but(self, kept_run_id: str | None, runs: Iterable[Run]) -> None:
        """Delete the weights of runs: of those that have ended, for another may be uploading at this moment.

        Args:
            kept_run_id: Run whose weights stay; None if of none.
            runs: To look through, as just read from MLflow.

        Raises:
            ConfigError: The store of files refuses, or cannot delete.
            TemporaryError: The store or MLflow stays away; what is left is deleted the next time.
        """
        for run in runs:
            has_files = run.data.tags.get(STATE_TAG, "removed") != "removed"
            if has_files and run.info.run_id != kept_run_id and run.info.status != "RUNNING":
                self.remove(run.info.run_id)

    def remove(self, run_id: str) -> None:
        """Delete the weights of a run.

        Args:
            run_id: Of the run; nobody uploads weights of it at this moment.

        Raises:
            ConfigError: The store of files refuses, or cannot delete.
            TemporaryError: The store or MLflow stays away; the same call again deletes what is left.
        """
        self._mlflow.set_tag(run_id, STATE_TAG, "removing")
        self._with_files(run_id, "remove the weights", lambda files: files.delete_artifacts(_FOLDER))
        self._mlflow.set_tag(run_id, STATE_TAG, "removed")

    def _with_files(self, run_id: str, doing: str, work: Callable[[ArtifactRepository], Answer]) -> Answer:
        def with_client(client: MlflowClient) -> Answer:
            where = str(client.get_run(run_id).info.artifact_uri)
            with _explaining_store(where, doing):
                return work(self._mlflow.files(where))

        with environment_defaults(self._environment):
            return self._mlflow.call(doing, with_client)


@contextmanager
def _explaining_store(where: str, doing: str) -> Iterator[None]:
    """Turn what the store of files raises into ours: MLflow hands it on as it comes."""
    try:
        yield
    except Exception as error:
        ours = _as_ours(error, without_credentials(where), doing)
        if ours is None:
            raise
        raise ours from error


def _as_ours(error: Exception, where: str, doing: str) -> EmbftError | None:
    """Give our error for one of boto3, of requests or of the disk; None for MLflow's own and for a bug."""
    if isinstance(error, NotImplementedError):
        return ConfigError(f"MLflow cannot {doing} in {where}: its store does not support it; choose another")
    # By its name: only embft/storage.py imports boto3.
    library = type(error).__module__.partition(".")[0]
    if not isinstance(error, OSError) and library not in ("boto3", "botocore", "s3transfer"):
        return None
    problem = without_credentials(" ".join(str(error).split()))[:300]
    status = _status_of(error)
    refused = isinstance(error, PermissionError | FileNotFoundError) or "Credentials" in type(error).__name__
    if refused or (status is not None and 400 <= status < 500 and status not in (408, 429)):
        return ConfigError(f"the files of MLflow at {where} refused to {doing}: {problem}; check address and rights")
    return TemporaryError(f"the files of MLflow at {where} are away, cannot {doing}: {problem}; try again later")


def _status_of(error: BaseException | None) -> int | None:
    """Find the HTTP status in an error of requests or boto3, or in the one it was raised about."""
    while error is not None:
        answer: Any = getattr(error, "response", None)
        if isinstance(answer, dict):
            return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        if answer is not None:
            return int(answer.status_code)
        error = error.__cause__ or error.__context__
    return None
