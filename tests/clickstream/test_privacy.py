"""What is kept of people: hashes with a key, no private query, and nothing of them in the bytes of a bad line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embft.clickstream.privacy import CLIENT_KEY, ClientHash, RawLines, private_parts
from embft.errors import ConfigError
from embft.log_config import LogFields, Logs, Privacy
from tests.clickstream.good_lines import KEY, Read, line, read_day


@pytest.mark.parametrize(
    ("query", "hidden"),
    [
        ("mail jane.doe+x@example.co.uk please", "mail <email> please"),
        ("call +49 30 1234567", "call <phone>"),
        ("(555) 123-4567", "<phone>"),
        ("555-123-4567", "<phone>"),
        ("030 / 12345678", None),
        ("0171 2345678", "<phone>"),
        ("4111 1111 1111 1111", "<card>"),
        ("378282246310005 amex", "<card> amex"),
        # None of a person: an item number, a card's number that is none, a size, a year, an @ alone.
        ("4006381333931", "4006381333931"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("samsung 55 inch 4k 2024", "samsung 55 inch 4k 2024"),
        ("00012345678905", "00012345678905"),
        ("3m 2040-30-20", "3m 2040-30-20"),
        ("@home", "@home"),
        ("灯 14 900", "灯 14 900"),
    ],
)
def test_private_parts_are_hidden_and_item_numbers_are_not(query: str, hidden: str | None) -> None:
    assert private_parts(query) == (query if hidden is None else hidden)


@pytest.mark.parametrize(
    ("choice", "queries", "filtered"),
    [
        ("drop", ["lamp"], {"private_query": 1}),
        ("mask", ["lamp", "invoice of <email>"], {}),
        ("keep", ["lamp", "invoice of a.b@example.org"], {}),
    ],
)
def test_private_queries_are_dropped_masked_or_kept(
    read: Read, choice: str, queries: list[str], filtered: dict[str, int]
) -> None:
    logs = Logs(uri="s3://shop/{day}", privacy=Privacy(private_queries=choice))
    lines = line(query="lamp") + b"\n" + line(session_id="s2", query="Invoice of A.B@example.org")
    found = read(lines, logs=logs)
    assert found.sessions["query"].to_pylist() == queries
    assert found.accounting.filtered == filtered


def test_raw_ids_of_clients_are_written_nowhere(tmp_path: Path) -> None:
    secret, address, agent = "customer-4711", "203.0.113.9", "AgentOfSomebody/1.0"
    logs = Logs(uri="s3://shop/{day}", fields=LogFields(client="who.id", ip="ip", user_agent="ua"))
    person = {"who": {"id": secret}, "ip": address, "ua": agent, "client": None}
    good = line(session_id="good", **person)
    conflict = line(session_id="good", query="another", **person)
    bad = line(session_id="bad", time="yesterday", **person)
    broken = bad[: bad.index(b"customer") + 8] + b"\n" + bad.replace(b'"query"', b"query")
    late = line(session_id="late", query="me@example.org", time=None, **person)
    found = read_day({"a": b"\n".join([good, conflict, bad, broken, late])}, tmp_path, logs=logs)
    assert found.accounting.quarantined == 5
    assert found.sessions["client"].to_pylist() == KEY.of([secret])
    written = str(found.sessions.to_pylist()) + str(found.quarantine.to_pylist())
    for word in ("customer", "4711", address, agent, "me@example"):
        assert word not in written


def test_a_line_that_goes_to_quarantine_keeps_all_but_who_it_was() -> None:
    raw = json.dumps({"client": 'a"b\\c', "query": "lamp", "session": {"client": 12345}, "n": 1}).encode()
    hidden = RawLines(["client", "session.client", None]).hidden(raw)
    assert hidden == b'{"client": "<hidden>", "query": "lamp", "session": {"client": "<hidden>"}, "n": 1}'
    assert RawLines([None]).hidden(raw) == raw


def test_the_same_client_has_one_name_under_one_key_and_another_under_another() -> None:
    one, other = ClientHash("k" * 16), ClientHash("l" * 16)
    assert one.of(["a", "b", "a"])[0] == one.of(["a"])[0] == ClientHash("k" * 16).of(["a"])[0]
    assert len({*one.of(["a", "b"]), *other.of(["a", "b"])}) == 4
    assert one.fingerprint != other.fingerprint
    assert ClientHash(None).fingerprint is None


def test_a_missing_key_is_asked_for_only_where_the_log_names_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CLIENT_KEY, raising=False)
    nobody = ClientHash.from_environment()
    assert nobody.of([]) == []
    with pytest.raises(ConfigError, match=r"EMBFT_CLIENT_KEY.*openssl rand -hex 32.*logs\.fields\.client to null"):
        nobody.of(["a"])
    monkeypatch.setenv(CLIENT_KEY, "short")
    with pytest.raises(ConfigError, match="EMBFT_CLIENT_KEY has 5 characters"):
        ClientHash.from_environment()
