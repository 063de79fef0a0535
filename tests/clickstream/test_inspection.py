"""A log that nobody has described: what a look at it finds, and that the config it gives reads the log."""

from __future__ import annotations

import gzip
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from embft.cli import app
from embft.clickstream.days import objects_of
from embft.clickstream.inspection import Inspection, inspect_log, sampling
from embft.clickstream.inspection.partitions import place, templates_of
from embft.console_logs import harmless
from embft.errors import ConfigError, StorageRefused
from embft.log_config import Logs
from tests.buckets import new_bucket
from tests.clickstream.good_lines import line, read_day
from tests.realdata import CLICKS, DATA, needs_clicks

TODAY = date(2026, 4, 1)
UBI = DATA / "ubi_samples" / "ubi_queries_events.bulk.ndjson.gz"


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def inspect(folder: Path, objects: dict[str, bytes]) -> Inspection:
    """Write a log, look at it, and read its newest day as the printed config says."""
    for key, data in objects.items():
        (folder / "log" / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / "log" / key).write_bytes(data)
    return inspect_log(str(folder / "log"), today=TODAY)


def read_as_configured(found: Inspection, objects: dict[str, bytes], folder: Path) -> Any:
    """Read the log's newest day as the printed config says; it has nothing to complain about."""
    config = yaml.safe_load(found.config_yaml)
    assert config == found.config
    logs = Logs.model_validate(config["logs"])
    assert found.last_day is not None
    uris = [f"s3://your-bucket/{key}" for key in sorted(objects)]
    own = objects_of(found.last_day, logs, lambda prefix: [it for it in uris if it.startswith(prefix)], str)
    keys = [uri.removeprefix("s3://your-bucket/") for uri, _ in own]
    day = read_day({key: objects[key] for key in keys}, folder / "read", day=found.last_day, logs=logs)
    assert day.accounting.quarantined == 0
    assert found.accounting is not None
    assert found.accounting["quarantined"] == 0
    assert day.accounting.sessions > 0
    return day


def sessions_of(day: int, n: int = 3) -> bytes:
    rows = [line(time=f"2026-03-{day}T{hour + 10}:00:00Z", session_id=f"{day}-{hour}") for hour in range(n)]
    return b"\n".join(rows) + b"\n"


def test_a_log_with_the_standard_names_needs_its_address_alone(tmp_path: Path) -> None:
    objects = {f"logs/dt=2026-03-{day}/a.jsonl": sessions_of(day) for day in (10, 11, 14)}
    found = inspect(tmp_path, objects)
    assert found.config == {"logs": {"uri": "s3://your-bucket/logs/dt={day}"}}
    assert (found.format, found.containers) == ("sessions", {"JSON lines": 1})
    assert (found.first_day, found.last_day) == (date(2026, 3, 10), date(2026, 3, 14))
    assert found.missing_days == [date(2026, 3, 12), date(2026, 3, 13)]
    assert len(found.sessions) == 3
    read_as_configured(found, objects, tmp_path)


def test_nested_names_of_ones_own_and_numbers_as_ids(tmp_path: Path) -> None:
    rows = [
        {
            "meta": {"eventTime": 1773136800000 + n},  # 2026-03-10T10:00:00Z
            "search": {"term": f"lamp {n}", "results": [1, 2, 3], "page": 1},
            "click": {"clickedIds": [2]},
            "user": {"id": 4711},
            "requestId": 1000 + n,
        }
        for n in range(30)
    ]
    objects = {"2026/03/10/clicks.json.gz": gzip.compress(lines(*rows))}
    found = inspect(tmp_path, objects)
    assert found.config["logs"] == {
        "uri": "s3://your-bucket/{day:%Y/%m/%d}",
        "fields": {
            "query": "search.term",
            "time": "meta.eventTime",
            "client": "user.id",
            "shown": "search.results",
            "clicked": "click.clickedIds",
            "session_id": "requestId",
        },
    }
    day = read_as_configured(found, objects, tmp_path)
    assert day.sessions["clicked"].to_pylist()[0] == ["2"]


def events(action: str = "event_type", **names: str) -> list[dict[str, Any]]:
    search = {"ts": "2026-03-10T10:00:00Z", "q": "lamp", "query_id": "s1", action: "search", "sku": None}
    click = {"ts": "2026-03-10T10:00:09Z", "query_id": "s1", action: names.get("click", "product_click"), "sku": 7}
    return [search, click, {**click, action: "scroll"}, {**click, action: "addToCart", "sku": 8}]


def test_events_with_actions_of_ones_own_and_hour_folders(tmp_path: Path) -> None:
    objects = {f"web/dt=2026-03-10/hour={hour:02d}/x.jsonl": lines(*events()) for hour in (10, 11)}
    found = inspect(tmp_path, objects)
    assert found.format == "events"
    assert found.config["logs"] == {
        "uri": "s3://your-bucket/web/dt={day}/hour={hour}",
        "format": "events",
        "fields": {"query": "q", "time": "ts", "action": "event_type", "item": "sku", "search_id": "query_id"},
        "actions": {
            "search": ["search", "on_search"],
            "impression": ["impression"],
            "click": ["click", "item_click", "product_click"],
            "add_to_cart": ["add_to_cart", "addToCart"],
            "purchase": ["purchase"],  # none in the sample
        },
    }
    assert found.other_actions == {"scroll": 1}
    assert any("joined within the sample" in it for it in found.notes)
    day = read_as_configured(found, objects, tmp_path)
    assert day.sessions["clicked"].to_pylist() == [["7", "8"]]


def test_ubi_in_two_prefixes(tmp_path: Path) -> None:
    query = {"query_id": "a", "user_query": "lamp", "client_id": "c", "timestamp": "2026-03-10T10:00:00Z"}
    event = {
        "action_name": "click",
        "query_id": "a",
        "client_id": "c",
        "timestamp": "2026-03-10T10:00:05+0000",
        "event_attributes": {"object": {"object_id": "x"}, "position": {"ordinal": 0}},
    }
    objects = {
        "ubi_queries/2026-03-10/q.ndjson": lines(query | {"query_response_hit_ids": ["x", "y"]}),
        "ubi_events/2026-03-10/e.ndjson": lines({"index": {"_index": "ubi_events"}}, event),
    }
    found = inspect(tmp_path, objects)
    uris = ["s3://your-bucket/ubi_events/{day}", "s3://your-bucket/ubi_queries/{day}"]
    assert found.config["logs"] == {"uri": uris, "format": "ubi"}
    day = read_as_configured(found, objects, tmp_path)
    assert day.sessions["shown"].to_pylist() == [["x", "y"]]
    queries = inspect_log(str(tmp_path / "log" / "ubi_queries"), today=TODAY)
    assert any("no UBI events are in the sample" in it for it in queries.notes)


def test_ubi_whose_actions_say_nothing_of_a_search(tmp_path: Path) -> None:
    query = {"query_id": "a", "user_query": "lamp", "client_id": "c", "timestamp": "2026-03-10T10:00:00Z"}
    event = {key: query[key] for key in ("query_id", "client_id", "timestamp")} | {"action_name": "logout"}
    found = inspect(tmp_path, {"2026-03-10/q.ndjson": lines(query, event)})
    assert found.config["logs"] == {"uri": "s3://your-bucket/{day}", "format": "ubi"}


def test_parquet(tmp_path: Path) -> None:
    rows = [json.loads(it) for it in sessions_of(10).splitlines()]
    for row in rows:
        row["keywords"] = row.pop("query")
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    objects = {"dt=2026-03-10/a.parquet": buffer.getvalue()}
    found = inspect(tmp_path, objects)
    assert found.containers == {"Parquet": 1}
    assert found.config["logs"]["fields"] == {"query": "keywords"}
    read_as_configured(found, objects, tmp_path)


def test_a_visit_is_no_search_and_a_count_no_click(tmp_path: Path) -> None:
    rows = [
        {
            "session_id": n % 3,
            "query": f"lamp {n}",
            "time": "2026-03-10T10:00:00Z",
            "clicked": n % 2,
            "clicked_ids": ["a"],
        }
        for n in range(30)
    ]
    objects = {"dt=2026-03-10/a.jsonl": lines(*rows)}
    found = inspect(tmp_path, objects)
    assert found.config["logs"]["fields"] == {"client": "session_id", "clicked": "clicked_ids", "session_id": None}
    read_as_configured(found, objects, tmp_path)


@pytest.mark.parametrize(
    ("keys", "template"),
    [
        (["a/dt=2026-03-10/x.gz", "a/dt=2026-03-11/y.gz"], "a/dt={day}"),
        (["a/2026/03/10/17/x-2026-03-10-17-05.gz"], "a/{day:%Y/%m/%d}/{hour}"),
        (["events-2026-03-10.jsonl.gz", "events-2026-03-11.jsonl.gz"], "events-{day}.jsonl.gz"),
        (["e.20260310-23.0001.gz", "e.20260310-22.0002.gz"], "e.{day:%Y%m%d}-{hour}.*.gz"),
        (
            ["year=2026/month=3/day=9/x", "year=2026/month=12/day=10/x"],
            "year={day:%Y}/month={day:%-m}/day={day:%-d}",
        ),
    ],
)
def test_the_day_is_found_in_keys(keys: list[str], template: str) -> None:
    placed = [place(key) for key in keys]
    assert templates_of([it for it in placed if it]) == [template]
    logs = Logs(uri=f"s3://shop/{template}")
    for key, it in zip(keys, placed, strict=True):
        assert it is not None
        assert objects_of(it.day, logs, lambda _, key=key: [f"s3://shop/{key}"], str)


def test_a_key_without_a_day() -> None:
    assert place("logs/part-1234-20269999.gz") is None


def test_the_folder_of_one_day_and_what_lies_beside_a_log(tmp_path: Path) -> None:
    objects = {"shop/dt=2026-03-10/a.jsonl": sessions_of(10), "shop/items.jsonl": lines({"id": 1, "text": "lamp"})}
    found = inspect(tmp_path, objects)
    assert (found.objects, found.problem) == (1, None)
    assert "no day stands in the keys of 1 other objects: they are no part of the log" in found.notes
    one = inspect_log(str(tmp_path / "log" / "shop" / "dt=2026-03-10"), today=TODAY)
    assert one.config["logs"]["uri"] == "s3://your-bucket/dt={day}"
    assert one.sessions == [{**it, "client": one.sessions[0]["client"]} for it in found.sessions]
    assert one.sessions[0]["client"] != found.sessions[0]["client"]  # a key for each look


def test_days_of_another_zone_and_late_events(tmp_path: Path) -> None:
    rows = [json.loads(line(time=f"2026-03-{at}:00:00Z", session_id=at)) for at in ("09T23", "10T12", "10T22")]
    objects = {"dt=2026-03-10/a.jsonl": lines(*rows)}
    found = inspect(tmp_path / "zone", objects)
    assert found.config["logs"]["timezone"] == "Etc/GMT-1"
    assert any("begin at 23:00 UTC" in it for it in found.notes)
    read_as_configured(found, objects, tmp_path)

    late = [*events(), {**events()[1], "ts": "2026-03-10T00:10:00Z"}, {**events()[1], "ts": "2026-03-11T01:30:00Z"}]
    found = inspect(tmp_path / "late", {"dt=2026-03-10/a.jsonl": lines(*late)})
    assert found.config["logs"]["settle_hours"] == 2
    assert found.accounting is not None
    assert found.accounting["quarantined"] == 0


def test_only_a_bounded_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_BYTES", 20_000)
    monkeypatch.setattr(sampling, "MAX_LINES", 500)
    big = b"\n".join(line(session_id=str(n)) for n in range(5000)) + b"\n"
    objects = {f"dt=2026-03-10/{n:03d}.jsonl": sessions_of(10, 1) for n in range(40)}
    objects["dt=2026-03-10/a.jsonl"] = objects["dt=2026-03-10/b.jsonl"] = big
    objects["dt=2026-03-10/c.jsonl.gz"] = gzip.compress(big)
    found = inspect(tmp_path, objects)
    assert (found.objects, found.sampled_objects) == (43, sampling.MAX_OBJECTS)
    assert found.sampled_bytes <= 20_000
    assert 100 < found.sampled_lines <= 500
    assert found.accounting is not None
    assert found.accounting["quarantined"] == 0


def test_what_cannot_be_told_still_gives_a_config(tmp_path: Path) -> None:
    objects = {"dt=2026-03-10/a.jsonl": lines({"query": "lamp", "docs": [{"id": 1}], "clicked": ["a"]})}
    found = inspect(tmp_path, objects)
    assert found.problem is not None
    assert "no field was found for time" in found.problem
    assert {it.path for it in found.keys} == {"query", "docs", "clicked"}
    assert "time: time  # FILL IN" in found.config_yaml
    Logs.model_validate(yaml.safe_load(found.config_yaml)["logs"])


def test_what_has_a_fields_name_and_other_values_is_named(tmp_path: Path) -> None:
    row = {"query": ["lamp"], "time": 1773136800000000, "clicked": ["a"]}
    found = inspect(tmp_path, {"dt=2026-03-10/a.jsonl": lines(row)})
    assert found.missing == ["query", "time"]
    assert found.notes[1] == "query: query holds a list of 1; expected a text"
    assert found.notes[0].startswith("time: time holds 1773136800000000; expected ISO 8601")


def test_keys_that_yaml_or_configs_would_trip_over(tmp_path: Path) -> None:
    found = inspect(tmp_path / "a", {"it's #1?/2026-03-10/a.jsonl": sessions_of(10)})
    assert any("the keys hold what no config takes" in it for it in found.notes)
    assert yaml.safe_load(found.config_yaml) == found.config
    found = inspect(tmp_path / "lines", {"a\nb/2026-03-10/a.jsonl": sessions_of(10)})
    assert any("a line break in a key" in it for it in found.notes)
    found = inspect(tmp_path / "b", {f"it's - é\x1b: {n}/2026-03-10/a.jsonl": sessions_of(10) for n in "abc"})
    assert len(found.config["logs"]["uri"]) == 3
    assert found.config_yaml.isascii()
    assert yaml.safe_load(found.config_yaml) == found.config


@pytest.mark.parametrize(
    "garbage", [b"\0\xff" * 5000, b"[1,\n2]", b"\x1f\x8bgarbage", b"PAR1garbage", b"\n\n\n", b"hi"]
)
def test_what_is_no_log_is_said_to_be_none(tmp_path: Path, garbage: bytes) -> None:
    found = inspect(tmp_path, {"dt=2026-03-10/a": garbage})
    assert found.problem is not None
    assert "no log" in found.problem
    Logs.model_validate(yaml.safe_load(found.config_yaml)["logs"])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no log: 0 objects"):
        inspect_log(str(tmp_path), today=TODAY)
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(ConfigError, match="holds no log: 1 objects lie there, all empty or hidden"):
        inspect_log(str(tmp_path), today=TODAY)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        inspect_log(str(tmp_path / "absent"), today=TODAY)
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        inspect_log("gs://shop/logs", today=TODAY)
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        inspect_log("s3://No_Bucket/logs", today=TODAY)


NASTY = "<script>alert(1)</script> [bold red]\x1b]0;owned\x07\x1b[2J\u202e\u200b\ud800"


def test_a_strangers_text_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    rows = [
        json.loads(line(query="<script>x</script>[red]\x1b[2J\u202e", client="client-4711", user_agent="agent-x")),
        json.loads(line(query="mail me@shop.example", session_id="s2", client="client-4711", ip="192.0.2.77")),
        {NASTY: 1, "query": 5, "time": NASTY, "client": ["client-4711"], "clicked": ["\x1b[31m"]},
    ]
    rows += [json.loads(line(session_id=str(n), client="client-4711")) for n in range(40)]
    inspect(tmp_path, {"dt=2026-03-10/\x1b[2Ja.jsonl": lines(*rows)})
    shown = CliRunner().invoke(app, ["logs", "inspect", str(tmp_path / "log")], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert all(it.isprintable() or it == "\n" for it in shown.output)
    assert "<script>x</script>[red]\\x1b[2J\\u202e" in shown.output
    for private in ("client-4711", "agent-x", "192.0.2.77", "me@shop.example"):
        assert private not in shown.output
    as_json = CliRunner().invoke(app, ["logs", "inspect", str(tmp_path / "log"), "--json"])
    assert as_json.stdout.isascii()
    assert as_json.stdout.count("\n") == 1
    assert json.loads(as_json.stdout)["accounting"]["quarantined"] > 0
    for private in ("client-4711", "agent-x", "192.0.2.77", "me@shop.example"):
        assert private not in as_json.stdout
    assert harmless(NASTY) == "<script>alert(1)</script> [bold red]\\x1b]0;owned\\x07\\x1b[2J\\u202e\\u200b\\ud800"


def test_the_exit_code_tells_that_it_cannot_tell(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"\x1b[2J": 1}))
    told = CliRunner().invoke(app, ["logs", "inspect", str(tmp_path / "a.jsonl"), "--json"])
    assert told.exit_code == 3
    assert json.loads(told.stdout)["problem"] in told.stderr
    assert CliRunner().invoke(app, ["logs", "inspect", str(tmp_path / "b.jsonl")]).exit_code == 2


def test_a_log_in_s3(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_BYTES", 500_000)
    bucket = new_bucket(s3)
    for day in (10, 11):
        bucket.put(f"shop/logs/dt=2026-03-{day}/a.jsonl.gz", gzip.compress(sessions_of(day)))
    bucket.put("shop/logs/dt=2026-03-11/b.jsonl", b"\n".join(line(session_id=str(n)) for n in range(10_000)))
    bucket.put("shop/logs2/dt=2026-03-12/a.jsonl.gz", b"another log")
    found = inspect_log(f"s3://{bucket.name}/shop/logs", today=TODAY)
    assert found.config == {"logs": {"uri": f"s3://{bucket.name}/shop/logs/dt={{day}}"}}
    assert (found.objects, found.last_day, len(found.sessions)) == (3, date(2026, 3, 11), 3)
    assert found.size_bytes > 500_000 >= found.sampled_bytes
    one = inspect_log(f"s3://{bucket.name}/shop/logs/dt=2026-03-10/a.jsonl.gz", today=TODAY)
    assert (one.objects, one.config) == (1, found.config)
    with pytest.raises(StorageRefused, match="does not exist"):
        inspect_log("s3://no-such-bucket/logs", today=TODAY)


def test_what_unpacks_to_much_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_BYTES", 50_000)
    long = b"\n".join(line(session_id=str(n), more="x" * 10_000) for n in range(500))
    found = inspect(tmp_path, {"dt=2026-03-10/a.jsonl.gz": gzip.compress(long)})
    assert 10 < found.sampled_lines < 25  # 10 kB each, of 4 · 50 kB
    assert (found.problem, len(found.sessions)) == (None, 10)


@pytest.mark.realdata
@pytest.mark.skipif(not UBI.exists(), reason=f"no {UBI}")
def test_the_ubi_export_of_chorus() -> None:
    found = inspect_log(str(UBI), today=TODAY)
    assert (found.format, found.problem) == ("ubi", None)
    assert found.accounting is not None
    assert found.accounting["quarantined"] == 0
    assert found.accounting["sessions"] > 10
    assert "type_filter" in found.other_actions


@pytest.mark.realdata
@needs_clicks
def test_the_clicks_of_best_buy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MAX_LINES", 5000)
    found = inspect_log(str(CLICKS / "clicks_train.jsonl.gz"), today=TODAY)
    assert found.config["logs"]["fields"] == {"client": "session"}
    assert any(it.startswith("100% of the times state no zone") for it in found.notes)
    assert found.accounting is not None
    assert found.accounting["quarantined"] == 0
