"""Logs of every format tell the same truth: what was planted is found again by counting."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from embft.cli import app
from embft.clickstream.damage import Packer
from embft.clickstream.shop import Shop
from embft.clickstream.simulator import simulate
from embft.clickstream.values import normalised
from embft.errors import ConfigError
from embft.log_config import LogFormat

FIRST = date(2026, 3, 8)
FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
EVENTS_FOLDER = {"sessions": "logs/", "events": "logs/", "ubi": "logs/ubi_events/"}


def made(shop: Shop, log_format: LogFormat = "sessions", **options: Any) -> dict[str, bytes]:
    sizes: dict[str, Any] = {"days": 2, "sessions_per_day": 100, "seed": 7}
    return dict(simulate(shop, first_day=FIRST, log_format=log_format, **sizes | options))


def lines(content: bytes) -> list[bytes]:
    return gzip.decompress(content).splitlines()


def records(logs: dict[str, bytes], part: str = "") -> Iterator[dict[str, Any]]:
    """Give each line once, with the deliveries of one line counted as one."""
    keys = [key for key in logs if key.startswith("logs/") and part in key]
    return map(json.loads, dict.fromkeys(line for key in keys for line in lines(logs[key])))


def clicks(logs: dict[str, bytes], log_format: LogFormat, part: str = "") -> set[tuple[str, str]]:
    """Give search and item of every click."""
    found = list(records(logs, part))
    if log_format == "sessions":
        return {(record["session_id"], item) for record in found for item in record["clicked"]}
    if log_format == "events":
        return {(record["search_id"], record["item"]) for record in found if record["action"] == "click"}
    events = [record for record in found if record.get("action_name") == "click"]
    return {(record["query_id"], record["event_attributes"]["object"]["object_id"]) for record in events}


def searches(logs: dict[str, bytes], log_format: LogFormat) -> dict[str, str]:
    """Give search → query."""
    name, query = {
        "sessions": ("session_id", "query"),
        "events": ("search_id", "query"),
        "ubi": ("query_id", "user_query"),
    }[log_format]
    return {record[name]: record[query] for record in records(logs) if query in record}


def test_what_is_written_by_default_stays_as_it_was(shop: Shop) -> None:
    # The README's figures come from these logs. Compared unpacked: another zlib may pack otherwise.
    logs = made(shop, days=1, sessions_per_day=600)
    told = b"\n".join(line for key in logs if key.startswith("logs/") for line in lines(logs[key]))
    assert sha256(told).hexdigest() == "73c333c18041af004af741f797a9ad6bb132aa36162715778638479e8398987e"


@pytest.mark.parametrize("log_format", FORMATS)
def test_same_seed_gives_the_same_bytes_in_every_format(shop: Shop, log_format: LogFormat) -> None:
    options: dict[str, Any] = {"late_share": 0.2, "truth": True, "broken_day": FIRST + timedelta(days=1)}
    logs = made(shop, log_format, **options)
    assert made(shop, log_format, **options) == logs
    assert made(shop, log_format, **options, seed=8) != logs
    for record in records({key: content for key, content in logs.items() if f"dt={FIRST}/" in key}):
        assert record["synthetic"] is True


def test_every_format_tells_of_the_same_searches_and_clicks(shop: Shop) -> None:
    told = [
        (searches(logs, log_format), clicks(logs, log_format))
        for log_format in FORMATS
        for logs in [made(shop, log_format, late_share=0.3, bot_share=0.2)]
    ]
    assert len(told[0][0]) == 2 * (100 + 20)
    assert len(told[0][1]) > 50
    assert told[0] == told[1] == told[2]


@given(late_share=st.floats(0, 1), bot_share=st.floats(0, 2), n_people=st.integers(1, 30), seed=st.integers(0, 99))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_any_options_lose_no_search(shop: Shop, late_share: float, bot_share: float, n_people: int, seed: int) -> None:
    options: dict[str, Any] = {"bot_share": bot_share, "sessions_per_day": n_people, "seed": seed, "days": 1}
    for log_format in FORMATS:
        logs = made(shop, log_format, late_share=late_share, **options)
        assert len(searches(logs, log_format)) == n_people + round(n_people * bot_share)
        assert clicks(logs, log_format) == clicks(made(shop, **options), "sessions")


@pytest.mark.parametrize("log_format", FORMATS)
def test_late_lines_lie_in_the_next_days_first_object_and_only_there(shop: Shop, log_format: LogFormat) -> None:
    logs = made(shop, log_format, late_share=0.3, days=1, sessions_per_day=300)
    today, tomorrow = (sorted(key for key in logs if f"dt={FIRST + timedelta(days=n)}/" in key) for n in (0, 1))
    assert tomorrow == [f"{EVENTS_FOLDER[log_format]}dt={FIRST + timedelta(days=1)}/late-000.jsonl.gz"]
    late = lines(logs[tomorrow[0]])
    assert not set(late) & {line for key in today for line in lines(logs[key])}
    assert all(f'"{FIRST}T'.encode() in line for line in late)
    n_all, n_late = len(clicks(logs, log_format)), len(clicks(logs, log_format, "late-000"))
    assert 0.2 < n_late / n_all < 0.4
    if log_format != "sessions":
        actions = {record.get("action") or record["action_name"] for record in records(logs, "late-000")}
        assert actions == {"click", "add_to_cart", "purchase"}


@pytest.mark.parametrize("log_format", FORMATS)
def test_some_lines_are_delivered_twice(shop: Shop, log_format: LogFormat) -> None:
    logs = made(shop, log_format, days=1, sessions_per_day=300)
    folders = {key.split("dt=")[0] for key in logs if key.startswith("logs/")}
    for folder in folders:
        first, second = ({*lines(logs[f"{folder}dt={FIRST}/part-00{part}.jsonl.gz"])} for part in (0, 1))
        assert 0 < len(first & second) < 0.03 * len(first | second)


@pytest.mark.parametrize("log_format", FORMATS)
def test_broken_day_is_damaged_in_every_format(shop: Shop, log_format: LogFormat) -> None:
    logs = made(shop, log_format, days=1, broken_day=FIRST)
    broken = []
    for key in (key for key in logs if key.startswith("logs/")):
        try:
            lines(logs[key])
        except EOFError:
            broken.append(key)
    assert broken == [f"{EVENTS_FOLDER[log_format]}dt={FIRST}/part-001.jsonl.gz"]


def test_events_follow_the_search_and_lead_on_to_purchases(shop: Shop) -> None:
    logs = made(shop, "events", days=1, sessions_per_day=400, bot_share=0)
    of_search: dict[str, list[dict[str, Any]]] = {}
    for record in records(logs):
        of_search.setdefault(record["search_id"], []).append(record)
    ids = [record["event_id"] for told in of_search.values() for record in told]
    assert len(set(ids)) == len(ids)
    counted: Counter[str] = Counter()
    for told in of_search.values():
        assert [record["action"] for record in told[:11]] == ["search"] + ["impression"] * 10
        assert [record["position"] for record in told[1:11]] == list(range(1, 11))
        assert all(record["time"] >= told[0]["time"] for record in told)
        for before, record in pairwise(told):
            counted[record["action"]] += 1
            if record["action"] in ("add_to_cart", "purchase"):
                assert (before["item"], before["time"]) <= (record["item"], record["time"])
    assert counted["click"] > counted["add_to_cart"] > counted["purchase"] > 0


@pytest.fixture(scope="module")
def planted(shop: Shop) -> dict[str, bytes]:
    options: dict[str, Any] = {"propensities": [0.9, 0.6, 0.4, 0.2], "trust_noise": 0, "truth": True}
    return made(shop, days=2, sessions_per_day=4500, bot_share=0, late_share=0.1, **options)


def relevance(logs: dict[str, bytes]) -> dict[tuple[str, str], float]:
    table = pq.read_table(io.BytesIO(logs["truth/relevance.parquet"]))
    assert table.schema.names == ["query", "item", "relevance"]
    return {(row["query"], row["item"]): row["relevance"] for row in table.to_pylist()}


def test_planted_propensities_are_found_by_counting(planted: dict[str, bytes]) -> None:
    truth = json.loads(planted["truth/propensities.json"])
    assert truth["click_model"] == "position"
    assert truth["propensities"] == [0.9, 0.6, 0.4, *[0.2] * 7]
    known = relevance(planted)
    n_clicked, attraction = np.zeros(10), np.zeros(10)
    for record in records(planted):
        query = normalised(record["query"])
        attraction += [known.get((query, item), 0.01) for item in record["shown"]]
        n_clicked += [item in record["clicked"] for item in record["shown"]]
    # Expected clicks are propensity · relevance: the ratio of the sums is the propensity.
    np.testing.assert_allclose(n_clicked / attraction, truth["propensities"], atol=0.04)


def test_planted_relevance_is_found_by_counting(planted: dict[str, bytes]) -> None:
    known = relevance(planted)
    assert 0.01 < min(known.values()) < max(known.values()) <= 0.95
    propensity = json.loads(planted["truth/propensities.json"])["propensities"]
    looked, clicked = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for record in records(planted):
        for item, share in zip(record["shown"], propensity, strict=True):
            looked[normalised(record["query"]), item] += share
            clicked[normalised(record["query"]), item] += item in record["clicked"]
    common = [pair for pair in known if looked[pair] >= 15]
    errors = [clicked[pair] / looked[pair] - known[pair] for pair in common]
    assert len(common) > 50
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.13


def test_cascade_ends_with_a_click_and_tells_how_often_ranks_are_reached(shop: Shop) -> None:
    logs = made(shop, click_model="cascade", truth=True, days=1, sessions_per_day=3000, bot_share=0)
    told = list(records(logs))
    assert all(len(record["clicked"]) <= 1 for record in told)
    truth = json.loads(logs["truth/propensities.json"])
    assert truth["click_model"] == "cascade"
    reached = np.zeros(10)
    for record in told:
        stop = record["shown"].index(record["clicked"][0]) if record["clicked"] else 9
        reached[: stop + 1] += 1
    np.testing.assert_allclose(reached / len(told), truth["propensities"], atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_format": "csv"}, "log_format is 'csv'; it must be one of sessions, events, ubi"),
        ({"late_share": 1.1}, "late_share is 1.1; it must be from 0 to 1"),
        ({"bot_share": -0.1}, "bot_share is -0.1; it must be 0 or more"),
        ({"propensities": [2]}, "propensities holds 2.0 at rank 1"),
    ],
)
def test_wrong_options_are_refused(shop: Shop, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(shop, **options)


def test_command_line_takes_every_option(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBFT_INCLUDE", str(Path(__file__).parents[2] / "include"))
    size = ["--first-day", str(FIRST), "--days", "2", "--sessions-per-day", "100"]
    options = ["--format", "ubi", "--propensities", "1,0.6", "--trust-noise", "0", "--late-share", "0.3", "--bots", "0"]
    command = ["simulate", "--to", str(tmp_path), *size, *options, "--truth"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    expected = made(shop, "ubi", propensities=[1, 0.6], trust_noise=0, late_share=0.3, bot_share=0, truth=True)
    assert {key: (tmp_path / key).read_bytes() for key in expected} == expected
    assert CliRunner().invoke(app, [*command, "--click-model", "cascade"]).exit_code == 2
    refused = CliRunner().invoke(app, [*command, "--propensities", "1,many"])
    assert refused.exit_code == 2
    assert "is not a list of numbers" in refused.stderr


@given(parts=st.lists(st.binary(max_size=2000), max_size=30))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_lines_packed_as_they_come_are_what_packing_at_once_gives(parts: list[bytes]) -> None:
    packer = Packer()
    for part in parts * 40:
        packer.add(part)
    assert packer.close() == gzip.compress(b"".join(parts * 40), mtime=0)
