"""What everything that asks MLflow shares: bounded HTTP retries, and MLflow's errors turned into ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from embft.errors import ConfigError, EmbftError, TemporaryError

# MLflow's own defaults (7 retries with growing waits, 120 s each) add up to many minutes before it says that the
# server is away. These add up to about 18 s at worst. A value that the user has set in the environment stands.
HTTP_BOUNDS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}

# How stores of files say no, in the text that is all MLflow keeps of it: S3's codes, and a web server's.
_NO = r"\((40[0-9]|NoSuch\w+|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch)\)|\b40[0-9] Client Error"


@contextmanager
def reaching_mlflow(tracking_uri: str, doing: str) -> Iterator[None]:
    """Bound MLflow's retries, and turn its errors into ours.

    Args:
        tracking_uri: Of the MLflow that the block talks to.
        doing: What the block does, for the message: "begin a run".

    Yields:
        Nothing.

    Raises:
        ConfigError: MLflow refuses, or its address cannot be used.
        TemporaryError: MLflow, or the database behind it, is away.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    with environment_defaults(HTTP_BOUNDS):
        try:
            yield
        except MlflowException as error:
            ours: EmbftError = _as_ours(error, without_credentials(tracking_uri), doing)
            # Not "from error": MLflow's own message repeats the address with its password.
            raise ours from None
        except OperationalError as error:
            problem = without_credentials(str(error.orig))[:300]
            raise TemporaryError(
                f"the database of MLflow at {without_credentials(tracking_uri)} is away, cannot {doing}: {problem}; "
                "try again later, and if it stays away, check `mlflow.tracking_uri`"
            ) from None
        except (ImportError, SQLAlchemyError, FileNotFoundError, PermissionError) as error:
            problem = without_credentials((str(error).splitlines() or [""])[0])[:300]
            raise ConfigError(
                f"MLflow at {without_credentials(tracking_uri)} cannot {doing}: {problem}; check "
                "`mlflow.tracking_uri`, and that its folder exists or its database's driver is installed"
            ) from None


def _as_ours(error: Any, address: str, doing: str) -> EmbftError:
    """Server error or no answer: temporary. An answer that says no: for a person to change."""
    from mlflow.exceptions import RestException

    first_line = without_credentials((str(error).splitlines() or [""])[0])[:300]
    status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else 500
    foreign = re.search(r"failed with error code 4(?!29)\d\d", first_line)  # a web server, but no MLflow
    if foreign or (isinstance(error, RestException) and status < 500 and status != 429):
        return ConfigError(f"MLflow at {address} refused to {doing}: {first_line}; check the address and the rights")
    if "API request to" in first_line or status >= 500 or status == 429:
        return TemporaryError(f"MLflow at {address} is away, cannot {doing}: {first_line}; try again later")
    return ConfigError(f"MLflow at {address} cannot {doing}: {first_line}; check `mlflow.tracking_uri`")


def without_credentials(text: str) -> str:
    """Take `user:password@` out of every address in a text."""
    # A password may hold a slash, which drivers of databases take as it is; a port does not.
    return re.sub(r"://(?:[^/\s]*|[^:/\s]*:(?!\d+/)\S*)@", "://", text)


@contextmanager
def environment_defaults(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the block, those that are not set already.

    Args:
        defaults: Name → value.

    Yields:
        Nothing.
    """
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def explaining_files(what: str, uri: str, remedy: str) -> Iterator[None]:
    """Turn what reading a store of files raises, which says nothing of MLflow's own address, into ours.

    Args:
        what: Whose files, for the message: "version 3 of 'shop'".
        uri: Where they lie.
        remedy: What to do where they are gone or refused.

    Yields:
        Nothing.

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
            raise ConfigError(f"the files of {what} at {where} are gone; {remedy}") from error
        if "failures occurred" not in str(error):  # MLflow's server itself, not a file
            raise
        problem = without_credentials(" ".join(str(error).split()))[:400]
        if re.search(_NO, problem):
            raise ConfigError(f"cannot download {what} from {where}: {problem}; {remedy}") from error
        raise TemporaryError(f"cannot download {what} from {where}: {problem}; try again later") from error
    except HTTPError as error:
        problem = without_credentials(" ".join(str(error).split()))[:300]
        status = 500 if error.response is None else error.response.status_code
        kind = TemporaryError if status >= 500 or status == 429 else ConfigError
        raise kind(f"MLflow's server does not give the files of {what}: {problem}; check its store of files") from error
