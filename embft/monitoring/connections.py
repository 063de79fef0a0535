"""Airflow's connections, without Airflow: from AIRFLOW_CONN_<ID>, else from its `airflow connections get`.

Whatever one holds is a secret, addresses too: a Slack webhook's address is its password. Nothing here puts any of it
into a message, a log line or a repr.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from embft.errors import ConfigError, TemporaryError

_PREFIX = "AIRFLOW_CONN_"
_CLI_TIMEOUT_S = 60
# Where Airflow's own form of an address keeps an extra that is more than plain texts.
_EXTRA_KEY = "__extra__"
# Shorter ones (`on`, `25`) would blacken half of a message, and tell a reader what they are by their absence.
_SHORTEST_SECRET = 4


@dataclass(frozen=True, repr=False)
class Connection:
    """One connection, fields as Airflow names them; `type` is its `conn_type`."""

    id: str
    type: str = ""
    host: str = ""
    login: str = ""
    password: str = ""
    port: int | None = None
    schema: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Connection({self.id!r})"

    def without_secrets(self, text: str) -> str:
        """Black out whatever the connection holds, in what a server answered.

        Args:
            text: Any.

        Returns:
            It with `…` in place of login, password, path, and values of the extra.
        """
        held = [self.password, *self.password.split("/"), self.login, self.schema, *_texts(self.extra)]
        host = urlsplit(self.host) if "://" in self.host else None
        if host is not None:
            held += [self.host, host.path, host.query, host.username or "", host.password or "", *host.path.split("/")]
        forms = {form for it in held for form in (it, quote(it), quote(it, safe=""))}
        for secret in sorted(forms, key=len, reverse=True):
            if len(secret.strip("/")) >= _SHORTEST_SECRET and secret not in ("https", "http"):
                text = text.replace(secret, "…")
        return text


def connection(connection_id: str) -> Connection:
    """Find a connection: in the environment, as Airflow does first, else by asking the Airflow of this interpreter.

    Args:
        connection_id: Its id.

    Returns:
        The connection.

    Raises:
        ConfigError: There is none of that id, or it is malformed.
        TemporaryError: Airflow did not answer.
    """
    value = os.environ.get(f"{_PREFIX}{connection_id.upper()}", "").strip()
    if value:
        return parse_connection(connection_id, value)
    program = Path(sys.executable).parent / "airflow"
    if not program.exists():
        raise ConfigError(
            f"there is no connection {connection_id!r}: {_PREFIX}{connection_id.upper()} is not set, and no Airflow is "
            f"installed beside {sys.executable} to ask; set that variable to JSON or to an address"
        )
    return parse_connection(connection_id, _asked(program, connection_id))


def parse_connection(connection_id: str, value: str) -> Connection:
    """Read a connection's text as Airflow 3 does.

    Args:
        connection_id: Its id.
        value: JSON, or an address: `smtp://login:password@host:587/?disable_ssl=true`.

    Returns:
        The connection.

    Raises:
        ConfigError: It is neither; the message says where, and none of what it holds.
    """
    value = value.strip()
    try:
        return _from_json(connection_id, value) if value.startswith("{") else _from_uri(connection_id, value)
    except _Malformed as error:
        problem = str(error)
    except ValueError:  # of json, urlsplit and int: they quote what they could not read
        problem = "it is neither JSON nor an address such as smtp://login:password@host:587"
    raise ConfigError(
        f"connection {connection_id!r} is malformed: {problem}; correct it in Airflow (Admin, Connections), or in "
        f"{_PREFIX}{connection_id.upper()}"
    )


class _Malformed(Exception):
    """What is wrong with a connection's text, in words that hold none of it."""


def _from_json(connection_id: str, value: str) -> Connection:
    fields = json.loads(value)
    known = ("conn_type", "description", "host", "login", "password", "schema", "port", "extra")
    if unknown := sorted(set(fields) - {*known, "conn_id"}):
        raise _Malformed(f"there is no field {unknown[0]!r}; it has {', '.join(known)}")
    texts = {name: fields.get(name) or "" for name in ("conn_type", "host", "login", "password", "schema")}
    if wrong := [name for name, it in texts.items() if not isinstance(it, str)]:
        raise _Malformed(f"{wrong[0]} is no text")
    return Connection(
        id=connection_id,
        type=texts["conn_type"].replace("-", "_"),
        host=texts["host"],
        login=texts["login"],
        password=texts["password"],
        schema=texts["schema"],
        port=_port(fields.get("port")),
        extra=_extra(fields.get("extra")),
    )


def _from_uri(connection_id: str, value: str) -> Connection:
    scheme, separator, rest = value.partition("://")
    if not separator or not scheme or rest.count("://") > 1:
        raise _Malformed("it is neither JSON nor an address such as smtp://login:password@host:587")
    # `http://https://host`: a second scheme belongs to the host.
    protocol, second, _ = rest.partition("://")
    is_protocol = bool(second) and not set(protocol) & set("@:/?")
    parts = urlsplit(rest if is_protocol else f"//{rest}")
    host = _host(parts)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Connection(
        id=connection_id,
        type=scheme.lower().replace("-", "_"),
        host=f"{parts.scheme}://{host}" if is_protocol and host else host,
        login=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        schema=unquote(parts.path[1:]),
        port=parts.port,
        extra=_extra(query.get(_EXTRA_KEY, query)),
    )


def _host(parts: SplitResult) -> str:
    """Give the host as it is written: `hostname` is in small letters, which a quoted path must not become."""
    address = parts.netloc.rpartition("@")[2]
    return unquote(address if address.startswith("[") else address.partition(":")[0]) or unquote(parts.hostname or "")


def _port(value: Any) -> int | None:
    try:
        return int(value) if value else None
    except (ValueError, TypeError):
        raise _Malformed("port is no whole number") from None


def _extra(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) and value else value or {}
    except ValueError:
        raise _Malformed("extra is no JSON") from None
    if not isinstance(found, dict):
        raise _Malformed("extra is no JSON object")
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for it in value.values() for text in _texts(it)]
    if isinstance(value, list):
        return [text for it in value for text in _texts(it)]
    return [value, *value.split()] if isinstance(value, str) else []


def _asked(program: Path, connection_id: str) -> str:
    """Ask Airflow. Its JSON turns every value of the extra into text; its address keeps them.

    Raises:
        ConfigError: It has no such connection.
        TemporaryError: It did not answer.
    """
    command = [str(program), "connections", "get", connection_id, "--output", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CLI_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise TemporaryError(
            f"airflow connections get {connection_id} gave no answer within {_CLI_TIMEOUT_S} s; or set "
            f"{_PREFIX}{connection_id.upper()}"
        ) from None
    if "Connection not found" in done.stderr + done.stdout:
        raise ConfigError(
            f"Airflow has no connection {connection_id!r}; make it: airflow connections add {connection_id} "
            "--conn-type … --conn-host … (docs/alerts.md has a line for each kind of channel)"
        )
    found = [line for line in done.stdout.splitlines() if line.startswith("[{")]
    try:
        uri: str = json.loads(found[-1])[0]["get_uri"]
    except (IndexError, KeyError, ValueError):
        # What Airflow prints may hold the connection.
        raise TemporaryError(
            f"airflow connections get {connection_id} ended with exit code {done.returncode} and no connection; run "
            f"it by hand to see why, or set {_PREFIX}{connection_id.upper()}"
        ) from None
    return uri
