"""Airflow's own notifiers by name, with text that somebody typed into a search box."""

import io
import json
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from demo.services import free_port
from embft.airflow.notify import main, notify
from embft.errors import ConfigError, TemporaryError

FILE = "tests.airflow.notifiers.FileNotifier"
SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
TYPED = "nDCG fell for {{ 7 * 7 }}{% raw %} <script> {{ conn.mail.password }}"


class Inbox:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    kept = Inbox()
    port = free_port()
    server = Controller(kept, hostname="127.0.0.1", port=port)
    server.start()
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port}
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "embft@example.com"}
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps({**connection, "extra": extra}))
    try:
        yield kept
    finally:
        server.stop()


def test_airflows_mail_notifier_sends_what_was_typed_and_renders_none_of_it(inbox: Inbox) -> None:
    notify(SMTP, {"smtp_conn_id": "mail", "to": "team@example.com", "subject": TYPED, "html_content": TYPED})
    [mail] = inbox.mails
    assert mail["to"] == "team@example.com"
    assert mail["from"] == "embft@example.com"
    assert mail["subject"] == TYPED
    body = mail.get_body()
    assert body is not None
    assert body.get_content().strip() == TYPED


def test_what_was_typed_names_no_template_file(tmp_path: Path) -> None:
    # Airflow reads a template's text from a file where it ends like a file's name.
    notify(FILE, {"path": str(tmp_path / "told"), "text": "no result for {{ macros }} readme.txt"})
    assert (tmp_path / "told").read_text() == "no result for {{ macros }} readme.txt\n"


@pytest.mark.parametrize(
    ("notifier", "arguments", "message"),
    [
        ("no.such.Notifier", {}, "there is no notifier no.such.Notifier: No module named 'no'"),
        ("tests.airflow.notifiers.Gone", {}, "there is no notifier tests.airflow.notifiers.Gone"),
        ("pathlib.Path", {}, "pathlib.Path is no notifier of Airflow"),
        (FILE, {"txt": "x"}, r"FileNotifier does not take these arguments \(txt\): .*; correct them in include/alerts"),
    ],
)
def test_a_notifier_that_is_misspelt_is_named(notifier: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        notify(notifier, arguments)


def test_a_notifier_that_fails_may_be_called_again(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="FileNotifier failed: RuntimeError: the chat is away"):
        notify(FILE, {"path": str(tmp_path), "text": "fail"})


def test_by_hand_a_call_comes_on_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(notifier: str) -> int:
        arguments = {"path": str(tmp_path / "told"), "text": TYPED}
        call = {"message": "1", "channel": "x", "notifier": notifier, "arguments": arguments}
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(call)))
        return main()

    assert run(FILE) == 0
    assert (tmp_path / "told").read_text() == TYPED + "\n"
    assert run("no.such.Notifier") == 2
    assert capsys.readouterr().err.startswith("error: there is no notifier no.such.Notifier")
