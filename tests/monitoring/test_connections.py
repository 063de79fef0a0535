"""Connections are read as Airflow reads them, and nothing of them is told."""

import json
import sys
from pathlib import Path

import pytest
from airflow.sdk import Connection as AirflowConnection

from embft.errors import ConfigError, TemporaryError
from embft.monitoring.connections import connection, parse_connection

TEXTS = [
    "smtp://me%40example.com:p%2Fss%20w%C3%B6rd@mail.example.com:587/?disable_ssl=true&from_email=a%40b.example",
    "slackwebhook://:T0%2FB0%2Fxyz@hooks.slack.com/https",
    "slackwebhook://:https%3A%2F%2Fhooks.slack.com%2Fservices%2FT0%2FB0%2Fxyz@/?timeout=30",
    "http://https%3A%2F%2Falerts.example.com%2FHook%2Fa1/",
    "http://https://alerts.example.com/path",
    "my-type://user@host",
    "smtp://@:25",
    "smtp://host/?__extra__=%7B%22disable_ssl%22%3A+true%2C+%22timeout%22%3A+20%7D",
    '{"conn_type": "smtp", "host": "mail", "port": "25", "extra": {"disable_tls": true, "note": "a \\" b"}}',
    ' {"conn_type": "my-type", "login": "me", "password": "p@ss", "extra": "{\\"a\\": [1]}", "schema": null}',
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_connection_reads_as_in_airflow(text: str) -> None:
    ours = parse_connection("x", text)
    text = text.strip()
    is_json = text.startswith("{")
    theirs = AirflowConnection.from_json(text, "x") if is_json else AirflowConnection.from_uri(text, "x")
    read = [ours.type, ours.host, ours.login, ours.password, ours.schema, ours.port, dict(ours.extra)]
    fields = [theirs.conn_type, theirs.host, theirs.login, theirs.password, theirs.schema]
    assert read == [*(it or "" for it in fields), theirs.port, theirs.extra_dejson]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3cr3t", "neither JSON nor an address"),
        ("smtp://u:s3cr3t@host:port", "neither JSON nor an address"),
        ('{"password": "s3cr3t", "port": "many"}', "port is no whole number"),
        ('{"password": "s3cr3t", "extra": "s3cr3t"}', "extra is no JSON"),
        ('{"password": "s3cr3t", "passwort": "s3cr3t"}', "no field 'passwort'"),
        ('{"password": ["s3cr3t"]}', "password is no text"),
        ('{"password": "s3cr3t"', "neither JSON"),
        ("a://b://c://s3cr3t", "neither JSON"),
    ],
)
def test_a_malformed_connection_is_told_without_what_it_holds(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match="connection 'mail'") as raised:
        parse_connection("mail", text)
    assert said in str(raised.value)
    assert "AIRFLOW_CONN_MAIL" in str(raised.value)
    assert "s3cr3t" not in str(raised.value)


def test_no_connection_shows_itself_and_answers_lose_its_secrets() -> None:
    found = parse_connection(
        "hook", "http://https%3A%2F%2Fme%3Apw12%40x.example%2FT0AB%2Ftok3n/?Authorization=Bearer+abcd"
    )
    assert repr(found) == "Connection('hook')"
    echoed = "no such hook /T0AB/tok3n for Bearer abcd at https://me:pw12@x.example/T0AB/tok3n"
    left = found.without_secrets(echoed)
    assert not [it for it in ("tok3n", "abcd", "pw12") if it in left]
    assert left.startswith("no such hook")


def test_airflow_is_asked_where_the_environment_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "airflow"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_MAIL is not set, and no Airflow is installed"):
        connection("mail")

    # What Airflow 3.3 prints: every value of the extra as text, and the address.
    printed = json.dumps([{"conn_id": "mail", "extra_dejson": {"disable_ssl": "True"}, "get_uri": TEXTS[0]}])
    program.write_text(f"#!/bin/sh\nif [ $3 = mail ]; then echo a warning; echo '{printed}'; else exit 1; fi\n")
    program.chmod(0o755)
    assert connection("mail") == parse_connection("mail", TEXTS[0])
    with pytest.raises(TemporaryError, match="run it by hand"):
        connection("other")
    program.write_text("#!/bin/sh\necho Connection not found. >&2; exit 1\n")
    with pytest.raises(ConfigError, match="airflow connections add other"):
        connection("other")

    monkeypatch.setenv("AIRFLOW_CONN_OTHER", TEXTS[1])
    assert connection("other").password == "T0/B0/xyz"
