"""Versions of a registered model, and their files: what an export needs of MLflow, which it only reads."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from embft.errors import ConfigError
from embft.experiments.reaching import environment_defaults, explaining_files, reaching_mlflow, without_credentials
from embft.promotion.registry import DAY_TAG
from embft.storage_errors import explaining_s3

CHAMPION = "champion"
_MOST_NAMED = 20


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
        return FoundVersion(model, wanted, versions[wanted].tags.get(DAY_TAG), uri)


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
            explaining_files(what, found.uri, "name another --version"),
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
