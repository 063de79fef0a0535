"""`embft validate`: one suite on one table by hand says what a night would say, and why."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from embft.cli import app
from tests.include import REPOSITORY
from tests.shop import ITEMS
from tests.validation.good_nights import Shop, new_shop, profile, sessions_of, write_nights, write_result

DAY = date(2026, 3, 20)


@pytest.fixture(autouse=True)
def _include(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBFT_INCLUDE", str(REPOSITORY / "include"))


@pytest.fixture
def shop(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = new_shop(tmp_path, s3)
    monkeypatch.setenv("EMBFT_INCLUDE", str(shop.include))
    return shop


def validate(*options: object) -> Result:
    return CliRunner(env={"COLUMNS": "300"}).invoke(app, ["validate", *map(str, options)])


def judged(*options: object, exit_code: int = 0) -> dict[str, Any]:
    result = validate(*options, "--json")
    assert result.exit_code == exit_code, result.output
    told: dict[str, Any] = json.loads(result.stdout)  # one object, and nothing else
    return told


def rule(told: dict[str, Any], name: str) -> dict[str, Any]:
    return next(it for it in told["rules"] if it["name"] == name)


def written(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


def changed(table: pa.Table, row: int, **values: Any) -> pa.Table:
    rows = table.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_shared_rules_judge_sessions_and_say_what_they_could_not_judge(tmp_path: Path) -> None:
    table = changed(sessions_of(DAY), 3, query="")
    told = judged("--suite", "sessions", "--input", written(tmp_path / "s.parquet", table))
    assert (told["rows"], told["reasons"]) == (80, [])
    assert rule(told, "query_present")["broken_rows"] == 1
    assert rule(told, "query_present")["examples"] == [f"'{DAY}-3'"]
    assert "no catalogue" in rule(told, "clicks_in_catalogue")["skipped"]
    assert rule(told, "volume")["skipped"] == "no earlier night to compare with"
    assert told["figures"]["sessions"] == {"checked": 80, "set_aside": 1, "left_out": 0, "clicked": 69}


def test_table_that_would_stop_a_night_ends_with_3_and_the_reason(tmp_path: Path) -> None:
    table = sessions_of(DAY)
    table = table.set_column(table.schema.get_field_index("query"), "query", pa.array([""] * 80))
    result = validate("--suite", "sessions", "--input", written(tmp_path / "s.parquet", table))
    assert result.exit_code == 3
    assert "sessions: would stop a night" in result.stdout
    assert f"80 of 80 sessions of {DAY} (100.0 %) were set aside" in result.stdout
    assert "Broken rules" in result.stdout


def test_no_rows_at_all_are_a_reason_and_no_traceback(tmp_path: Path) -> None:
    told = judged("--suite", "sessions", "--input", written(tmp_path / "s.parquet", sessions_of(DAY)[:0]), exit_code=3)
    assert told["rows"] == 0
    assert any("the window has no usable session" in reason for reason in told["reasons"])


def test_what_a_terminal_obeys_in_the_data_is_escaped(tmp_path: Path) -> None:
    table = changed(sessions_of(DAY), 3, session_id="\x1b[2J\u202e", query="")
    result = validate("--suite", "sessions", "--input", written(tmp_path / "s.parquet", table))
    assert "x1b[2J" in result.stdout
    assert "\x1b[2J" not in result.stdout
    assert "\u202e" not in result.stdout


def test_catalogue_of_json_lines_names_what_could_not_be_read(tmp_path: Path) -> None:
    lines = [{"id": f"a{n}", "text": f"game {n}" if n else ""} for n in range(40)]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(it) + "\n" for it in lines) + "no json\n")
    told = judged("--suite", "catalogue", "--input", path)
    assert rule(told, "text_present")["examples"] == ["'a0'"]
    assert told["notes"] == ["1 of 41 lines of the catalogue cannot be read: not_json 1"]


def test_catalogue_of_parquet_with_nulls_breaks_the_rules_on_empty_texts(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", None], "text": ["x", None, "y"]})
    told = judged("--suite", "catalogue", "--input", written(tmp_path / "items.parquet", table), exit_code=3)
    assert told["figures"]["items"] == {"checked": 3, "set_aside": 2}


RANKS = {"session_id": ["a", "b"], "results": [["x", "y"]] * 2, "clicked": [["x"]] * 2, "ranks": [[0.5, 0.1]] * 2}


def test_ranks_that_are_missing_stop_a_night(tmp_path: Path) -> None:
    good = judged("--suite", "ranks", "--input", written(tmp_path / "good.parquet", pa.table(RANKS)))
    assert (good["rows"], rule(good, "filled")["success"]) == (2, True)
    assert "shows neither the other parts nor the vectors" in rule(good, "sessions_present")["skipped"]
    bad = written(tmp_path / "bad.parquet", pa.table({**RANKS, "ranks": [[0.5, 0.1], [0.5, None]]}))
    told = judged("--suite", "ranks", "--input", bad, exit_code=3)
    assert rule(told, "filled")["examples"] == ["'b'"]


def test_result_of_preprocess_ranks_names_every_part_and_the_vectors(shop: Shop, tmp_path: Path) -> None:
    prefix = shop.paths.stage(DAY, "preprocess_ranks")
    files = {
        f"inputs/{part}.parquet": written(tmp_path / part, pa.table({**RANKS, "session_id": [f"{part}1", f"{part}2"]}))
        for part in ("train", "validation", "test")
    }
    files["inputs/test.parquet"] = written(tmp_path / "test", pa.table(RANKS).slice(0, 0))
    vectors = pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2))
    files["items/vectors.parquet"] = written(tmp_path / "vectors", pa.table({"id": ["x", "y"], "vector": vectors}))
    outputs = shop.storage.upload_all(files, f"{prefix}/attempts/1")
    uri = write_result(shop, "preprocess_ranks", DAY, prefix, outputs, {"ranked_by": "base"})
    told = judged("--suite", "ranks", "--input", uri, exit_code=3)
    assert told["rows"] == 4
    assert told["figures"]["n_vectors"] == 2
    assert "smallest_part is 0" in told["reasons"][0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suite", "sessions", "--input", "nowhere.parquet"], "nowhere.parquet is no file"),
        (["--suite", "sessions", "--input", "{junk}"], "cannot be read as Parquet"),
        (["--suite", "sessions", "--input", "{ranks}"], "has no column day, time, query"),
        (["--suite", "catalogue", "--input", "{ranks}"], "has no column id, text"),
        (["--suite", "sessions", "--input", "{junk}", "--model", "none"], "no model 'none'"),
        (["--suite", "sessions"], "give --suite and --input"),
        (["--init"], "--init goes with --model"),
    ],
)
def test_what_cannot_be_judged_is_a_sentence_and_ends_with_2(options: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    ranks = {"session_id": ["a"], "results": [["x"]], "clicked": [["x"]], "ranks": [[0.5]]}
    places = {"junk": tmp_path / "junk", "ranks": written(tmp_path / "r.parquet", pa.table(ranks))}
    result = validate(*(it.format(**places) for it in options))
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("suite", "column", "values", "said"),
    [
        *(("sessions", it, None, f"nulls in the column {it} (1 of 80 rows); put") for it in ("query", "time", "day")),
        ("sessions", "session_id", None, "nulls in the column session_id (1 of 80 rows)"),
        ("sessions", "time", ["noon"] * 80, "string in the column time; write it as timestamp[us, tz=UTC]"),
        ("ranks", "clicked", [["x"], None], "nulls in the column clicked (1 of 2 rows)"),
        ("ranks", "ranks", ["near", "far"], "string in the column ranks; write it as list<"),
        ("ranks", "ranks", [["near"], ["far"]], "list<element: string> in the column ranks; write it as list<"),
    ],
)
def test_column_that_cannot_be_judged_is_named(
    suite: str, column: str, values: list[Any] | None, said: str, tmp_path: Path
) -> None:
    table = sessions_of(DAY) if suite == "sessions" else pa.table(RANKS)
    values = values or [None, *table[column].to_pylist()[1:]]
    at = table.schema.get_field_index(column)
    source = written(tmp_path / "t.parquet", table.set_column(at, column, pa.array(values)))
    result = validate("--suite", suite, "--input", source)
    assert result.exit_code == 2
    assert f"t.parquet has {said}" in " ".join(result.stderr.split())


def test_model_brings_its_catalogue_its_overrides_and_its_earlier_nights(shop: Shop, tmp_path: Path) -> None:
    write_nights(shop, [profile(DAY - timedelta(days=back)) for back in range(1, 15)])
    table = changed(sessions_of(DAY, 20), 1, clicked=["nowhere"])
    source = written(tmp_path / "s.parquet", table)
    told = judged("--suite", "sessions", "--input", source, "--model", "tiny", exit_code=3)
    assert rule(told, "clicks_in_catalogue")["broken_rows"] == 1
    (volume,) = rule(told, "volume")["broken_days"].values()
    assert volume.startswith("n_sessions is 19, usually 80 (median of 10 earlier days)")
    assert any(volume in reason for reason in told["reasons"])

    config = shop.include / "models" / "tiny.yaml"
    config.write_text(config.read_text() + "validation: {overrides: {sessions: {volume: {off: true}}}}\n")
    told = judged("--suite", "sessions", "--input", source, "--model", "tiny", exit_code=3)
    assert not any("rule volume)" in reason for reason in told["reasons"])


def test_nights_of_the_day_itself_and_after_are_no_reference(shop: Shop, tmp_path: Path) -> None:
    write_nights(shop, [profile(DAY + timedelta(days=ahead)) for ahead in range(14)])
    source = written(tmp_path / "s.parquet", sessions_of(DAY))
    told = judged("--suite", "sessions", "--input", source, "--model", "tiny")
    assert rule(told, "volume")["skipped"] == "no earlier night to compare with"


def test_reference_that_vanished_is_replaced_by_an_older_one_or_told(shop: Shop, tmp_path: Path) -> None:
    write_nights(shop, [profile(DAY), profile(DAY + timedelta(days=1))])
    items = pa.table({"id": list(ITEMS)[:20], "text": [f"new {it}" for it in list(ITEMS)[:20]]})
    options = ("--suite", "catalogue", "--input", written(tmp_path / "i.parquet", items), "--model", "tiny")
    assert not rule(judged(*options, exit_code=3), "items_stay")["success"]
    left = [it.uri for it in shop.storage.objects(shop.paths.root) if it.uri.endswith("items.parquet")]
    shop.storage.remove(left[-1:])
    assert not rule(judged(*options, exit_code=3), "items_stay")["success"]
    shop.storage.remove(left)
    assert rule(judged(*options), "items_stay")["skipped"] == "no earlier night to compare with"


def test_stage_result_in_s3_names_the_table(shop: Shop) -> None:
    write_nights(shop, [profile(DAY)])
    uri = shop.paths.result(shop.paths.stage(DAY, "validate_sessions"))
    assert judged("--suite", "catalogue", "--input", uri)["rows"] == len(ITEMS)
    result = validate("--suite", "ranks", "--input", uri)
    assert result.exit_code == 2
    assert "names no inputs/train.parquet; it names items.parquet" in result.stderr
    assert validate("--suite", "ranks", "--input", f"{shop.paths.root}/none/result.json").exit_code == 2


@pytest.mark.parametrize(
    ("stage", "suite", "name"),
    [
        ("preprocess_ranks", "ranks", "inputs/train.parquet"),
        ("pull", "sessions", "sessions.parquet"),
        ("validate_sessions", "catalogue", "items.parquet"),
    ],
)
def test_result_of_a_stage_that_rejected_its_data_is_a_sentence(stage: str, suite: str, name: str, shop: Shop) -> None:
    uri = write_result(shop, stage, DAY, shop.paths.stage(DAY, stage), {}, {}, "rejected")
    result = validate("--suite", suite, "--input", uri)
    assert result.exit_code == 2
    assert f"{uri} names no {name}; it names nothing" in " ".join(result.stderr.split())


def test_day_as_pull_left_it_is_judged_with_what_became_of_its_lines(shop: Shop, tmp_path: Path) -> None:
    prefix = shop.paths.sessions(DAY, "0" * 64)
    files = {
        "sessions.parquet": written(tmp_path / "s.parquet", sessions_of(DAY)),
        "quarantine.parquet": tmp_path / "q",
    }
    files["quarantine.parquet"].write_text("")
    figures = {
        "sessions": 80,
        "lines": 100,
        "used": 80,
        "duplicates": 0,
        "filtered": {},
        "quarantined": 20,
        "quarantined_by_reason": {"not_json": 20},
    }
    outputs = shop.storage.upload_all(files, f"{prefix}/attempts/1")
    uri = write_result(shop, "pull", DAY, prefix, outputs, figures)
    told = judged("--suite", "sessions", "--input", uri, exit_code=3)
    assert f"20 of 100 log lines of {DAY} (20.0%) could not be read" in told["reasons"][0]


def test_data_docs_are_left_where_they_are_asked_for(tmp_path: Path) -> None:
    source = written(tmp_path / "s.parquet", sessions_of(DAY))
    judged("--suite", "sessions", "--input", source, "--docs", tmp_path / "pages")
    assert (tmp_path / "pages" / "index.html").exists()
    assert (tmp_path / "pages" / "sessions.html").exists()
    result = validate("--suite", "sessions", "--input", source, "--docs", source)
    assert result.exit_code == 2
    assert "s.parquet cannot be written" in result.stderr
