"""A webhook gets JSON as documented, signed so that its receiver can tell, with the log's texts untouched."""

import json
import re
from pathlib import Path

import pytest

from embft.alerts_config import NotifierChannel
from embft.errors import ConfigError
from embft.monitoring.connections import Connection, parse_connection
from embft.monitoring.http_post import web_address
from embft.monitoring.message import Message
from embft.monitoring.notifier import filled_in
from embft.monitoring.webhook import alert_schema, send_webhook
from tests.monitoring.hostile import HOSTILE, message, quoting
from tests.monitoring.receivers import web_receiver

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_every_text_arrives_untouched_and_once_more_as_harmless_text() -> None:
    with web_receiver() as receiver:
        hook = Connection(
            "hook", type="http", host=f"{receiver.url}/in", password="k3y", extra={"X-Team": "search", "timeout": 3}
        )
        for text in HOSTILE.values():
            send_webhook(message(quoting(text)), hook)
    for post, text in zip(receiver.posts, HOSTILE.values(), strict=True):
        body = post.json
        assert body["schema"] == "embft.alert/1"
        assert body["words"]["title"] == body["words"]["details"][0] == text
        assert len(body["text"]) < 20_000
        assert not set(body["text"]) & set("\x00\x1b\u202e\u2066\u2028\r")
        assert not [it for it in body["text"].splitlines() if it.startswith(("=", "+", "@"))]
        told = {name: value for name, value in body.items() if name not in ("schema", "text")}
        assert Message.model_validate(told) == message(quoting(text))
    headers = receiver.posts[0].headers
    assert headers["X-Team"] == "search"
    assert headers["X-Embft-Id"] == body["id"]
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert "timeout" not in headers


def test_the_documented_lines_verify_a_signature() -> None:
    documented = re.search(r"```python\n(import hashlib.*?)```", (DOCS / "alerts.md").read_text(), re.DOTALL)
    assert documented
    names: dict[str, object] = {}
    exec(documented[1], names)
    verified = names["is_from_embft"]
    assert callable(verified)
    with web_receiver() as receiver:
        send_webhook(message(), Connection("hook", type="http", host=receiver.url, password="k3y"))
        send_webhook(message(), Connection("hook", type="http", host=receiver.url))
    signed, unsigned = receiver.posts
    assert verified(signed.headers, signed.body, b"k3y")
    assert not verified(signed.headers, signed.body + b" ", b"k3y")
    assert not verified(signed.headers, signed.body, b"other")
    assert not verified({**signed.headers, "X-Embft-Timestamp": "1700000000"}, signed.body, b"k3y")
    assert not verified(unsigned.headers, unsigned.body, b"k3y")


def test_the_documented_schema_is_the_one_that_is_sent() -> None:
    assert json.loads((DOCS / "alert.schema.json").read_text()) == alert_schema()
    assert '"additionalProperties": false' not in (DOCS / "alert.schema.json").read_text()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://alerts.example.com:8080/https", "https://alerts.example.com:8080"),
        ("http://alerts.example.com", "http://alerts.example.com"),
        ("generic://https%3A%2F%2Falerts.example.com%2Fhook", "https://alerts.example.com/hook"),
        ("generic://alerts.example.com", "http://alerts.example.com"),
        ("http://https%3A%2F%2Falerts.example.com%2Fhook%3Ftoken%3D1", "https://alerts.example.com/hook?token=1"),
        ("https://alerts.example.com/hooks/Ab1", "https://alerts.example.com/hooks/Ab1"),
    ],
)
def test_addresses_are_those_of_airflows_http_hook_and_plain_ones(text: str, address: str) -> None:
    assert web_address(parse_connection("x", text)) == address


def test_a_header_that_is_none_is_told() -> None:
    for extra in ({"X-A": ["b"]}, {"X-A": "s3cr3t\nX-B: c"}):
        with pytest.raises(ConfigError, match=r"connection 'x'.*extra") as raised:
            send_webhook(message(), Connection("x", type="http", host="http://127.0.0.1:9", extra=extra))
        assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_notifier_renders_what_people_typed(name: str) -> None:
    from airflow.sdk import BaseNotifier

    class Kept(BaseNotifier):
        template_fields = ("text", "blocks", "own")
        template_ext = (".html", ".example")

        def __init__(self, text: str, blocks: object, own: str) -> None:
            self.text, self.blocks, self.own = text, blocks, own
            super().__init__()

        def notify(self, context: object) -> None:
            """Do nothing: rendering is over by now."""

    arguments = {"text": "{{title}}{", "blocks": [{"text": {"text": "{text}"}}], "own": "{link}"}
    channel = NotifierChannel(type="notifier", notifier="a.B", arguments=arguments)
    filled = filled_in(channel.arguments, message(quoting(HOSTILE[name])))
    notifier = Kept(**json.loads(json.dumps(filled)))
    notifier({"var": {"value": {"secret": "s3cr3t"}}, "y": ["s3cr3t"], "title": "s3cr3t"})
    # Airflow rendered it, and nothing changed.
    assert (notifier.text, notifier.blocks, notifier.own) == (filled["text"], filled["blocks"], filled["own"])
    assert filled["own"] == "https://airflow.example.com/run?a=1&b=2"
    assert not set(filled["blocks"][0]["text"]["text"]) & set("<>`*[]~")
    assert not re.search(r"(?<!\w)@\w", filled["blocks"][0]["text"]["text"])


def test_arguments_without_a_place_are_left_alone() -> None:
    untouched = {"to": "a@b.example", "html": "{{ ds }} {name}", "number": 3, "none": None}
    assert filled_in(untouched, message()) == untouched
    filled = filled_in({"t": "{severity} {model}: {title}"}, message(quoting("see a.html")))
    assert filled["t"] == "warning shop: see a.html "
