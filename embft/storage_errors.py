"""What S3 and boto3 say, as one sentence and an exit code.

`StorageRefused` where a person must change something, `StorageUnavailable` where waiting may help.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from embft.errors import ObjectChanged, ObjectMissing, StorageRefused, StorageUnavailable

# What only a body raises when it breaks off. botocore never repeats these: it is done once the headers are there. Where
# the answer is an error with a body that breaks off, it does not even wrap what urllib3 raises.
CUT_BODY = (boto.IncompleteReadError, boto.ResponseStreamingError, HTTPError)
_BROKEN_OFF = (*CUT_BODY, boto.HTTPClientError, boto.ConnectionError, RetriesExceededError)
_CREDENTIALS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if you use one)"


def split_uri(uri: str) -> tuple[str, str]:
    """Split s3://bucket/key into bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextmanager
def explaining_s3(endpoint: str, uri: str) -> Iterator[None]:
    """Turn what boto3 raises into one sentence and an exit code; also for those who call it for us, as MLflow does.

    Args:
        endpoint: The S3 that the block talks to, for the message.
        uri: What it is asked for.

    Yields:
        Nothing.

    Raises:
        StorageRefused: A person must change something.
        StorageUnavailable: Waiting may help.
    """
    try:
        yield
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise StorageRefused(f"no S3 credentials for {uri}; {_CREDENTIALS}") from error
    except boto.ClientError as error:
        refusal = _translated(error, endpoint, uri)
        raise refusal from error
    except S3UploadFailedError as error:
        # boto3's uploader wraps the answer of S3 in an error of its own.
        cause = error.__context__
        if isinstance(cause, boto.ClientError):
            refusal = _translated(cause, endpoint, uri)
            raise refusal from error
        raise StorageUnavailable(f"S3 at {endpoint} broke off the upload of {uri}: {error}") from error
    except _BROKEN_OFF as error:
        raise StorageUnavailable(
            f"S3 at {endpoint} does not answer for {uri} ({type(error).__name__}); "
            "if it stays away, check storage.endpoint_url and the network"
        ) from error
    except ResponseParserError as error:
        raise StorageRefused(f"what answers at {endpoint} for {uri} is no S3; check storage.endpoint_url") from error
    except boto.BotoCoreError as error:
        problem = " ".join(str(error).split())
        raise StorageRefused(
            f"S3 at {endpoint} cannot be asked for {uri}: {problem}; "
            "check the address in the config and the AWS_* environment"
        ) from error


def _translated(error: boto.ClientError, endpoint: str, uri: str) -> StorageRefused | StorageUnavailable:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    bucket, key = split_uri(uri)
    # A listing has no key to miss.
    if code == "NoSuchBucket" or (status == 404 and (not key or error.operation_name == "ListObjectsV2")):
        return StorageRefused(f"bucket {bucket!r} does not exist at {endpoint} ({uri})")
    if code in {"RequestTimeTooSkewed", "RequestExpired"}:
        return StorageRefused(f"S3 at {endpoint} refused the time of this machine's clock ({uri}); set the clock (NTP)")
    if code in {"SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "AuthFailure"}:
        return StorageRefused(f"S3 at {endpoint} refused the credentials for {uri} ({code}); {_CREDENTIALS}")
    if status in {412, 416}:
        return ObjectChanged(f"{uri} was replaced while it was read ({status} {code}); run the command again")
    if status in {404, 410} or code == "NoSuchKey":
        return ObjectMissing(f"{uri} does not exist")
    if status == 403:
        return StorageRefused(
            f"S3 at {endpoint} forbids {error.operation_name} on {uri} ({code}); "
            f"{_CREDENTIALS}, then the rights of this user on the bucket"
        )
    if status >= 500 or status in {408, 429} or code in {"SlowDown", "Throttling", "RequestTimeout"}:
        return StorageUnavailable(f"S3 at {endpoint} answered {status} {code} for {uri}")
    return StorageRefused(f"S3 at {endpoint} answered {status} {code} to {error.operation_name} on {uri}")
