"""Versions of a registered model, and their files: what an export needs of MLflow, which it only reads."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from embft.errors import ConfigError, TemporaryError
from embft.experiments.reaching import environment_defaults, reaching_mlflow, without_credentials
from embft.storage_errors import explaining_s3

CHAMPION = "champion"
_MOST_NAMED = 20
# How stores of files say no, in the text that is all MLflow keeps of it: S3's codes, and a web server's.
_NO = r"\((40[0-9]|NoSuch\w+|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch)\)|\b40[0-9] Client Error"


class FoundVersion(NamedTuple):
    """A version of a registered model.

    Args:
        model: Name of the registered model.
        version: The version.
        day: Day of the night that made it, YYYY-MM-DD; None for a version that no night made.
        uri: Where its files lie.
    """

    model: str
    version: str
    day: str | None
    uri: str


def find_version(tracking_uri: str, model: str, version: str | None = None) -> FoundVersion:
    """Find a version of a model.

    Args:
        tracking_uri: MLflow's.
        model: Name of the registered model.
        version: The version; None for the one that the alias `champion` names.

    Returns:
        The version.

    Raises:
        ConfigError: There is no such model, alias or version; the message names what there is.
        TemporaryError: MLflow is away.
    """
    from mlflow import MlflowClient

    with reaching_mlflow(tracking_uri, f"look for the versions of {model!r}"):
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        aliases = _aliases(client, model, without_credentials(tracking_uri))
        versions = {str(it.version): it for it in client.search_model_versions(f"name='{model}'")}
        wanted = version or aliases.get(CHAMPION)
        if wanted not in versions:
            problem = _missing(version, aliases)
            raise ConfigError(f"{model!r} in MLflow has {problem}; {_what_there_is(versions, aliases)}")
        uri = str(client.get_model_version_download_uri(model, wanted))
        return FoundVersion(model, wanted, versions[wanted].tags.get("embft.day"), uri)


def download(tracking_uri: str, found: FoundVersion, to: Path, *, s3_endpoint: str | None = None) -> Path:
    """Download a version's files.

    Args:
        tracking_uri: MLflow's.
        found: As `find_version` gave it.
        to: An empty folder.
        s3_endpoint: Where MLflow's client reaches S3, unless $MLFLOW_S3_ENDPOINT_URL says otherwise; None for AWS.

    Returns:
        The SentenceTransformer folder among the files.

    Raises:
        ConfigError: The files are gone, S3 refuses them, or none of them is a SentenceTransformer folder.
        TemporaryError: MLflow or S3 is away.
    """
    from mlflow.artifacts import download_artifacts

    what = f"version {found.version} of {found.model!r}"
    endpoint = {"MLFLOW_S3_ENDPOINT_URL": s3_endpoint} if s3_endpoint else {}
    with environment_defaults({**endpoint, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
        asked = os.environ.get("MLFLOW_S3_ENDPOINT_URL") or "MLflow's own endpoint"
        # Not by models:/…, which would ask the registry that $MLFLOW_REGISTRY_URI names.
        with (
            reaching_mlflow(tracking_uri, f"download {what}"),
            explaining_s3(asked, found.uri),
            _explaining_files(what, found.uri),
        ):
            download_artifacts(artifact_uri=found.uri, dst_path=str(to), tracking_uri=tracking_uri)
    # A listing of a prefix without objects is an empty one, and no error.
    folders = sorted((path.parent for path in to.rglob("modules.json")), key=lambda path: len(path.parts))
    if not folders:
        files = sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file())
        holds = f"only {', '.join(files[:_MOST_NAMED])}" if files else "no file any more"
        raise ConfigError(
            f"{what} has {holds} at {found.uri}, and no SentenceTransformer folder (modules.json); register the model "
            "again, or name another --version"
        )
    return folders[0]


def _aliases(client: Any, model: str, address: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        registered = client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        names = [it.name for it in client.search_registered_models(max_results=_MOST_NAMED)]
        there = f"it has {', '.join(map(repr, names))}" if names else "it has none yet"
        raise ConfigError(
            f"MLflow at {address} has no registered model {model!r}; {there}: run a night that passes the gate, or "
            "check `mlflow.tracking_uri`"
        ) from None
    return {alias: str(version) for alias, version in registered.aliases.items()}


def _missing(version: str | None, aliases: dict[str, str]) -> str:
    if version is not None:
        return f"no version {version!r}"
    if CHAMPION in aliases:
        return f"the alias {CHAMPION!r} on version {aliases[CHAMPION]}, which was deleted"
    return f"no alias {CHAMPION!r}"


def _what_there_is(versions: dict[str, Any], aliases: dict[str, str]) -> str:
    newest = sorted(versions, key=int, reverse=True)[:_MOST_NAMED]
    named = [f"{alias} is {version}" for alias, version in sorted(aliases.items())]
    if not newest:
        return "it has no version: run a night that passes the gate"
    return f"its newest versions are {', '.join(newest)} ({', '.join(named) or 'no alias'}): name one by --version"


@contextmanager
def _explaining_files(what: str, uri: str) -> Iterator[None]:
    """Turn what reading a store of files raises, which says nothing of MLflow's own address, into ours.

    Raises:
        ConfigError: They are gone or refused.
        MlflowException: It is not about the files.
        TemporaryError: They cannot be read for now.
    """
    from mlflow.exceptions import MlflowException
    from requests import HTTPError

    where = without_credentials(uri)
    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise ConfigError(f"the files of {what} at {where} are gone; name another --version") from error
        if "failures occurred" not in str(error):  # MLflow's server itself, not a file
            raise
        problem = without_credentials(" ".join(str(error).split()))[:400]
        if re.search(_NO, problem):
            raise ConfigError(f"cannot download {what} from {where}: {problem}; name another --version") from error
        raise TemporaryError(f"cannot download {what} from {where}: {problem}; try again later") from error
    except HTTPError as error:
        problem = without_credentials(" ".join(str(error).split()))[:300]
        status = 500 if error.response is None else error.response.status_code
        kind = TemporaryError if status >= 500 or status == 429 else ConfigError
        raise kind(f"MLflow's server does not give the files of {what}: {problem}; check its store of files") from error
