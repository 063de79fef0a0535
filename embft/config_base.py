"""What every section of a config is made of: strict models, and the types of addresses, time zones and amounts."""

import re
from functools import cache
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Strict(BaseModel):
    """Base of every config section: unknown keys are refused, and nothing changes after loading.

    Numbers are finite: a night's config is kept as JSON, which has no word for others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _s3_uri(value: str) -> str:
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?", value):
        raise ValueError("expected s3://bucket/prefix")
    return value.rstrip("/")


def _without_credentials(value: str) -> str:
    if re.search(r"://[^/]*:[^/]*@", value):
        raise ValueError("holds credentials; give them by environment variables (AWS_*, MLFLOW_TRACKING_USERNAME …)")
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    try:
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number, or too big a one
        good = False
    if not good or re.search(r"\s", value):
        raise ValueError("expected http://host:port or https://host")
    return value


def _s3_object(value: str) -> str:
    if value.count("/") < 3:
        raise ValueError("expected an object, s3://bucket/key")
    return value


# Looking through the system's files takes a quarter of the time that a config takes to load.
_timezones = cache(available_timezones)


def _timezone(value: str) -> str:
    if value not in _timezones():
        raise ValueError("expected an IANA time zone such as Europe/Berlin or UTC")
    return value


def _matching(pattern: str, expected: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return AfterValidator(check)


def _kubernetes_name(value: str) -> str:
    if len(value) > 253 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", value):
        raise ValueError("expected a name of Kubernetes: small letters, digits, - and ., such as gpu-jobs")
    return value


_LABEL_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if slash:
        _kubernetes_name(prefix)
    if not re.fullmatch(_LABEL_NAME, name):
        raise ValueError("expected a label's key: letters, digits, -, _ and ., such as nvidia.com/gpu")
    return value


# YAML 1.1 reads an unquoted `off` as false.
OffIsAWord = BeforeValidator(lambda value: "off" if value is False else value)
S3Uri = Annotated[str, AfterValidator(_s3_uri)]
S3Object = Annotated[S3Uri, AfterValidator(_s3_object)]
SafeUrl = Annotated[str, AfterValidator(_without_credentials)]
WebUrl = Annotated[SafeUrl, AfterValidator(_http_url)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Cores = Annotated[
    str,
    Field(coerce_numbers_to_str=True),  # YAML reads `cpu: 4` as a number
    _matching(r"(?=.*[1-9])([0-9]+(\.[0-9]{1,3})?|[0-9]+m)", "a number of cores, such as 4, 0.5 or 500m"),
]
# Kubernetes takes a bare number for bytes and `m` for thousandths of a byte; both are slips of the pen here.
Memory = Annotated[
    str,
    _matching(
        r"(?=.*[1-9])[0-9]+(\.[0-9]+)?([MGT]i?)",
        "an amount with Mi, Gi, Ti, M, G or T, and no space or B, such as 16Gi or 512Mi",
    ),
]
KubernetesName = Annotated[str, AfterValidator(_kubernetes_name)]
Namespace = Annotated[
    str,
    _matching(
        r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a namespace: up to 63 small letters, digits and -, such as embft"
    ),
]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, _matching(f"({_LABEL_NAME})?", "a label's value: up to 63 letters, digits, -, _ and .")]
