"""Messages as JSON to any web address, signed where the connection has a password."""

import hashlib
import hmac
import time
from typing import Any, Literal

from pydantic import Field

from embft.errors import ConfigError
from embft.monitoring.connections import Connection
from embft.monitoring.http_post import post, web_address
from embft.monitoring.message import Message
from embft.monitoring.text import text_of

# What Airflow's HttpHook takes for itself; all else of the extra is headers.
_NOT_HEADERS = (
    "stream", "cert", "proxies", "proxy", "timeout", "verify", "verify_ssl", "allow_redirects", "max_redirects",
    "trust_env", "check_response",
)  # fmt: skip


class Alert(Message):
    """The JSON that a webhook gets: the message, untouched, and the same in plain text."""

    form: Literal["embft.alert/1"] = Field(
        "embft.alert/1", alias="schema", description="Changes where a field goes away."
    )
    text: str = Field(description="The whole message for people; no hidden characters, no line begins as a formula.")


def alert_json(message: Message) -> bytes:
    """Write a message as its receivers get it.

    Args:
        message: The message.

    Returns:
        UTF-8 JSON, as docs/alert.schema.json says.
    """
    alert = Alert(**dict(message), text=text_of(message))
    return alert.model_dump_json(by_alias=True).encode()


def alert_schema() -> dict[str, Any]:
    """Give the JSON Schema of what is sent. Fields may be added: a receiver must not refuse those it does not know."""
    schema = Alert.model_json_schema(by_alias=True, mode="serialization")
    opened: dict[str, Any] = _open({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    return opened


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Sign a body and the time it was sent at.

    Args:
        secret: Password of the connection.
        timestamp: Of X-Embft-Timestamp.
        body: As sent.

    Returns:
        Value of X-Embft-Signature.
    """
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


def send_webhook(message: Message, connection: Connection) -> None:
    """Post a message.

    Args:
        message: The message.
        connection: Of type http, https or generic.

    Raises:
        ChannelAway: Nobody answered.
        TemporaryError: The server has a fault.
        ConfigError: It refused, or the connection cannot be used.
    """
    body, timestamp = alert_json(message), str(int(time.time()))
    headers = _headers(connection)
    headers |= {"X-Embft-Id": message.id, "X-Embft-Timestamp": timestamp}
    if connection.password:
        headers["X-Embft-Signature"] = signature(connection.password, timestamp, body)
    post(web_address(connection), body, headers, connection, _proxies(connection))


def _headers(connection: Connection) -> dict[str, str]:
    own = {name: value for name, value in connection.extra.items() if name not in _NOT_HEADERS}
    if wrong := [name for name, value in own.items() if not isinstance(value, str | int | float)]:
        raise ConfigError(f"connection {connection.id!r}: {wrong[0]!r} of its extra is no header; expected a text")
    return {name: str(value) for name, value in own.items()}


def _proxies(connection: Connection) -> dict[str, str]:
    found = connection.extra.get("proxies") or connection.extra.get("proxy") or {}
    return found if isinstance(found, dict) else {"http": str(found), "https": str(found)}


def _open(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _open(it) for name, it in schema.items() if name != "additionalProperties" or it is not False}
    return [_open(it) for it in schema] if isinstance(schema, list) else schema
