"""One POST to an address that is a secret: no redirect, no second try, and nothing of the address in what is said."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from embft.errors import ChannelAway, ConfigError, EmbftError, TemporaryError
from embft.monitoring.connections import Connection
from embft.monitoring.text import plain

WEB_TYPES = ("http", "https", "generic")
_TIMEOUT_S = (5, 10)
_ANSWER_CHARS = 200


def web_address(connection: Connection) -> str:
    """Give the address of an HTTP connection, as Airflow's HttpHook puts it together.

    Beyond that, the path of a connection written as an address (`https://host/path`), which Airflow calls its schema,
    is a path here.

    Args:
        connection: Of one of WEB_TYPES.

    Returns:
        The address: a secret.

    Raises:
        ConfigError: The connection has no host, or is of another type.
    """
    # Airflow makes a connection generic where the provider of its type is not installed.
    if connection.type not in WEB_TYPES:
        raise ConfigError(
            f"connection {connection.id!r} is of type {connection.type or 'none'!r}; a webhook needs "
            f"{', '.join(WEB_TYPES[:-1])} or {WEB_TYPES[-1]}"
        )
    if not connection.host:
        raise ConfigError(f"connection {connection.id!r} has no host; give it the whole address as its host")
    base, path = connection.host, ""
    if "://" not in base:
        is_scheme = connection.schema in ("http", "https", "")
        usual = "https" if connection.type == "https" else "http"
        base = f"{(is_scheme and connection.schema) or usual}://{base}"
        path = "" if is_scheme else f"/{connection.schema}"
    port = f":{connection.port}" if connection.port else ""
    return f"{base}{port}{path}"


def post(
    url: str, body: bytes, headers: Mapping[str, str], connection: Connection, proxies: Mapping[str, str] | None = None
) -> None:
    """Post once.

    Args:
        url: Where to.
        body: JSON.
        headers: Beside Content-Type.
        connection: Whose address it is: named in messages, and kept out of them.
        proxies: As of `requests`.

    Raises:
        ChannelAway: Nobody answered in time, or the answer was to wait (429).
        TemporaryError: The server has a fault (5xx).
        ConfigError: It refused, or the address cannot be used; a person must correct the connection.
    """
    problem: EmbftError
    named = f"connection {connection.id!r}"
    try:
        with requests.post(
            url,
            data=body,
            headers={"Content-Type": "application/json; charset=utf-8", **headers},
            timeout=_TIMEOUT_S,
            allow_redirects=False,
            proxies=dict(proxies or {}),
            stream=True,
        ) as answer:
            status = answer.status_code
            said = b"" if answer.ok else next(answer.iter_content(_ANSWER_CHARS), b"")
    except requests.RequestException as error:  # its text holds the address
        problem = _problem(error, url, named)
    except ValueError as error:  # of an address that `requests` does not foresee
        problem = ConfigError(f"{named} has an address that cannot be used ({type(error).__name__}); correct its host")
    else:
        if 200 <= status < 300:
            return
        problem = _refusal(status, plain(connection.without_secrets(said.decode(errors="replace")), 120), named)
    raise problem


def _problem(error: requests.RequestException, url: str, named: str) -> ChannelAway | ConfigError:
    if isinstance(error, requests.exceptions.InvalidHeader):
        return ConfigError(f"{named}: a header of its extra cannot be used; correct it in Airflow")
    if isinstance(error, ValueError):  # InvalidURL, MissingSchema, …
        return ConfigError(f"{named}: its address cannot be used ({type(error).__name__}); correct it in Airflow")
    host = urlsplit(url).hostname or "the address"
    if isinstance(error, requests.Timeout):
        return ChannelAway(f"{host} did not answer in time ({named})")
    if isinstance(error, requests.exceptions.ProxyError):
        return ChannelAway(f"the proxy before {host} did not answer ({named})")
    if isinstance(error, requests.exceptions.SSLError):
        return ChannelAway(f"the TLS certificate of {host} is not trusted here ({named})")
    return ChannelAway(f"{host} cannot be reached ({named}, {type(error).__name__})")


def _refusal(status: int, said: str, named: str) -> ChannelAway | TemporaryError | ConfigError:
    answer = f"{named} was answered {status}" + (f": {said}" if said else "")
    if status == 429:
        return ChannelAway(f"{answer}; it asks for patience")
    if status >= 500 or status == 408:
        return TemporaryError(f"{answer}; the fault is on that side")
    if 300 <= status < 400:
        return ConfigError(f"{answer}; redirects are not followed: give the connection the address it leads to")
    return ConfigError(f"{answer}; correct the address, the password or the headers of that connection in Airflow")
