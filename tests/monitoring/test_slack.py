"""Slack gets blocks within its limits, and no text of a log means anything to it."""

import json
import re
from typing import Any

import pytest

from embft.errors import ChannelAway, ConfigError, TemporaryError
from embft.monitoring.connections import Connection, parse_connection
from embft.monitoring.slack import send_slack, slack_address, slack_json
from tests.monitoring.hostile import HOSTILE, message, quoting
from tests.monitoring.receivers import web_receiver

LINK = re.compile(r"<https://airflow\.example\.com/run\?a=1&amp;b=2\|[^<>|]*>")


def texts_of(block: Any) -> list[dict[str, Any]]:
    return [it for it in [block.get("text"), *block.get("elements", ())] if it]


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_of_a_log_mean_nothing_to_slack(name: str) -> None:
    raw = slack_json(message(quoting(HOSTILE[name])))
    body = json.loads(raw)
    assert len(raw) < 40_000
    assert (body["unfurl_links"], body["unfurl_media"]) == (False, False)
    assert 4 <= len(body["blocks"]) <= 50
    assert len(body["blocks"][0]["text"]["text"]) <= 150
    every = [text for block in body["blocks"] for text in texts_of(block)]
    for text in [*every, {"type": "mrkdwn", "text": body["text"], "verbatim": True}]:
        content = text["text"]
        assert 1 <= len(content) <= 3_000
        # Nothing but our own link is between signs that Slack obeys, and no entity is cut in two.
        assert not re.search("[<>]", LINK.sub("", content))
        assert not re.search(r"&(?!amp;|lt;|gt;)", content)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u2028\u202a-\u202e\u2066-\u2069\u200f]", content)
        if text["type"] == "plain_text":
            assert text["emoji"] is False
        else:
            assert text["verbatim"] is True
            # Only our own signs format: in pairs around our own words, or around a block of code.
            assert content.count("`") % 3 == 0
            assert "".join(content.split("```")[::2]).count("*") % 2 == 0
            outside = "".join(content.split("```")[::2])
            assert not re.search(r"@(here|channel|everyone)|~|(?<!\w)_\w|\w_(?!\w)", outside)
    codes = [part for it in every for part in it["text"].split("```")[1::2]]
    assert codes
    assert not [it for it in codes if "`" in it]


def test_a_message_says_all_that_there_is_to_say() -> None:
    body = json.loads(slack_json(message(quoting("new_in stock"), state="changed", severity="critical", number=2)))
    shown = "\n".join(text["text"] for block in body["blocks"] for text in texts_of(block))
    assert body["text"] == "🟥 new_in stock"
    assert "*CRITICAL* · changed · shop · 2026-03-10" in shown
    assert "█ · ▁" in shown
    assert "newest 0.610, limit 0.700, before 0.720 to 0.720" in shown
    assert "• *new_in stock*: new_in stock" in shown
    assert "```new_in stock```" in shown
    assert LINK.search(shown)
    assert "javascript" not in shown
    over = json.loads(slack_json(message(state="recovered", synthetic=True)))
    assert over["text"].startswith("🟩 [simulated clicks] ")
    assert over["blocks"][1]["elements"][0]["text"].startswith("*RECOVERED* · was warning")


def test_a_webhooks_address_is_put_together_as_airflow_does() -> None:
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
    from airflow.sdk import Connection as AirflowConnection

    for text in (
        "slackwebhook://:T0%2FB0%2Fxyz@",
        "slackwebhook://:T0%2FB0%2Fxyz@chat.example.com/http",
        "slackwebhook://:%2FT0%2FB0%2Fxyz@https%3A%2F%2Fchat.example.com%2Fhooks%2F",
        "slackwebhook://:https%3A%2F%2Fhooks.slack.com%2Fservices%2FT0%2FB0%2Fxyz@",
    ):
        hook = SlackWebhookHook(slack_webhook_conn_id="x")
        theirs = hook._build_conn_params(AirflowConnection.from_uri(text, "x"))["url"]
        assert slack_address(parse_connection("x", text)) == theirs
    path = parse_connection("x", "https://hooks.slack.com/services/T0/B0/xyz")
    assert slack_address(path) == "https://hooks.slack.com/services/T0/B0/xyz"


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, ChannelAway), (503, TemporaryError), (404, ConfigError), (400, ConfigError), (302, ConfigError)],
)
def test_a_refusal_says_what_to_do_and_not_the_address(status: int, error: type[Exception]) -> None:
    with web_receiver() as receiver:
        receiver.status, receiver.answer = status, b"no_service: "
        hook = Connection("slack", type="slackwebhook", password=f"{receiver.url}/services/T0AB/s3cr3t")
        with pytest.raises(error, match="'slack' was answered") as raised:
            send_slack(message(), hook)
        assert type(raised.value) is error
        assert "s3cr3t" not in str(raised.value)
        assert raised.value.__context__ is None
        assert [it.path for it in receiver.posts] == ["/services/T0AB/s3cr3t"]
    with pytest.raises(ChannelAway, match=r"127\.0\.0\.1 cannot be reached") as raised:
        send_slack(message(), hook)
    assert "s3cr3t" not in str(raised.value)
    # Not even the chain of causes holds the address: a traceback would print it.
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    "text", ["smtp://host", "slackwebhook://host", "http://", "slackwebhook://:htp%3A%2F%2Fs3cr3t@"]
)
def test_a_connection_that_cannot_be_used_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="connection 'x'") as raised:
        send_slack(message(), parse_connection("x", text))
    assert "s3cr3t" not in str(raised.value)
