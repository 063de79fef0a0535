"""What goes wrong at night, through the command line: exit code, one clear sentence, nothing half-done."""

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from demo.services import free_port
from embft.cli import app
from embft.results import StageResult
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import FIRST, ITEMS, NIGHT, day_sessions, make_shop, write_day, write_items


@pytest.fixture
def shop(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    bucket = new_bucket(s3)
    include = make_shop(tmp_path, bucket, s3, new_database(tmp_path))
    monkeypatch.setenv("EMBFT_INCLUDE", str(include))
    return Project(include, bucket, "tiny")


@pytest.fixture(scope="module")
def good(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose night has gone well; whoever changes it leaves it with a whole night again."""
    home = tmp_path_factory.mktemp("good")
    bucket = new_bucket(module_environment)
    return Project(make_shop(home, bucket, module_environment, new_database(home)), bucket, "tiny")


@pytest.fixture(scope="module")
def first_run(good: Project) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBFT_INCLUDE", str(good.include))
        return embft("night")


@pytest.fixture
def done(good: Project, first_run: Result, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same shop, as the one that commands are about."""
    monkeypatch.setenv("EMBFT_INCLUDE", str(good.include))
    return good


def embft(command: str, *options: str, day: date = NIGHT) -> Result:
    return CliRunner().invoke(app, [command, "--model", "tiny", "--day", day.isoformat(), *options])


def edit_config(shop: Project, change: Callable[[str], str]) -> None:
    path = shop.include / "models" / "tiny.yaml"
    path.write_text(change(path.read_text()))


def test_good_night_ends_in_a_champion(first_run: Result) -> None:
    assert first_run.exit_code == 0, first_run.output
    assert "publish tiny 2026-03-05: done" in first_run.output


def test_pages_of_simulated_clicks_say_so(done: Project, tmp_path: Path) -> None:
    for stage, page in (("validate_sessions", "docs/index.html"), ("validate_ranks", "docs/index.html")):
        uri = _result(done, stage).pages[page].uri
        assert b"tiny (synthetic data): " in (done.storage.read(uri) or b"")
    assert embft("report", "--to", str(tmp_path / "report.html")).exit_code == 0
    assert "synthetic data" in (tmp_path / "report.html").read_text()


def test_report_follows_what_it_shows_and_a_page_written_anew_trains_nothing(done: Project) -> None:
    attempts = {stage: _result(done, stage).attempt for stage in ("validate_ranks", "fine_tune", "gate")}
    edit_config(done, lambda text: text.replace("owner: search", "owner: the new owners"))
    assert embft("plan").exit_code == 0
    assert embft("validate-ranks", "--force").exit_code == 0
    assert embft("night").exit_code == 0
    assert _result(done, "validate_ranks").attempt != attempts["validate_ranks"]
    assert _result(done, "fine_tune").attempt == attempts["fine_tune"]
    report = done.storage.read(_result(done, "gate").outputs["report.html"].uri) or b""
    assert b"owner the new owners" in report


def _result(shop: Project, stage: str) -> StageResult:
    result = shop.storage.read_result(shop.paths.stage(NIGHT, stage))
    assert result is not None
    return result


def test_json_on_stdout_is_the_result_and_nothing_else(shop: Project) -> None:
    printed = json.loads(embft("plan", "--json").stdout)
    stored = json.loads(shop.storage.read(printed["uri"]) or b"")
    assert {**stored, "figures": printed["figures"]} == printed


def test_unknown_key_in_the_config_exits_2(shop: Project) -> None:
    edit_config(shop, lambda text: text + "windwo: {days: 3}\n")
    result = embft("plan")
    assert result.exit_code == 2
    assert "windwo: unknown key; did you mean 'window'?" in result.stderr


def test_unknown_model_lists_the_known_ones(shop: Project) -> None:
    result = CliRunner().invoke(app, ["plan", "--model", "tyni", "--day", "2026-03-05"])
    assert result.exit_code == 2
    assert "models here: tiny" in result.stderr


def test_day_that_is_no_day_exits_2(shop: Project) -> None:
    result = CliRunner().invoke(app, ["plan", "--model", "tiny", "--day", "yesterday"])
    assert result.exit_code == 2
    assert "YYYY-MM-DD" in result.stderr


def test_day_without_logs_exits_3_and_says_what_to_do(shop: Project) -> None:
    result = embft("plan", "--json", day=NIGHT + timedelta(days=1))
    assert result.exit_code == 3
    reason = json.loads(result.stdout)["reason"]
    assert "there is no log object for 2026-03-06 below s3://" in reason
    assert "clear the plan task" in reason
    assert embft("pull", day=NIGHT + timedelta(days=1)).exit_code == 3


def test_stage_before_its_turn_names_the_command_to_run_first(shop: Project) -> None:
    result = embft("evaluate")
    assert result.exit_code == 2
    assert "run `embft plan --model tiny --day 2026-03-05` first" in result.stderr


def test_window_without_a_click_exits_3(shop: Project) -> None:
    for number in range(5):
        day = FIRST + timedelta(days=number)
        write_day(shop.bucket, day, [{**it, "clicked": []} for it in day_sessions(day, 80)])
    result = embft("night", "--json")
    assert result.exit_code == 3
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["stage"] == "validate_sessions"
    assert "click" in last["reason"]


def test_object_that_is_not_gzip_is_set_aside_with_the_reason(shop: Project) -> None:
    shop.bucket.put(f"logs/dt={NIGHT}/part-001.jsonl.gz", b"PK\x03\x04 this is a zip")
    embft("plan")
    result = embft("pull", "--json")
    assert result.exit_code == 0
    figures = json.loads(result.stdout)["figures"]
    assert figures["quarantined_by_reason"] == {"not_gzip": 1}
    assert figures["lines"] == figures["used"] + figures["duplicates"] + figures["quarantined"]


def test_mostly_unreadable_day_exits_3_naming_the_day_and_the_limit(shop: Project) -> None:
    shop.bucket.put(f"logs/dt={NIGHT}/part-001.jsonl", b"{broken\n" * 40)
    result = embft("night", "--json")
    assert result.exit_code == 3
    reason = json.loads(result.stdout.splitlines()[-1])["reason"]
    assert "40 of 120 log lines of 2026-03-05 (33.3%) could not be read" in reason
    assert "validation.max_quarantined" in reason


def test_items_that_the_catalogue_lacks_exit_3_with_examples(shop: Project) -> None:
    write_items(shop.bucket, dict(list(ITEMS.items())[:8]))
    result = embft("night", "--json")
    assert result.exit_code == 3
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["stage"] == "validate_sessions"
    assert "catalogue" in last["reason"]
    assert any(id_ in last["reason"] for id_ in ITEMS)


def test_items_sold_out_since_do_not_stop_the_night_and_hostile_or_foreign_queries_survive_as_text(
    shop: Project,
) -> None:
    sessions = day_sessions(NIGHT, 80)
    queries = ["<script>alert(1)</script>", "蓝牙耳机", "=cmd|' /C calc'!A0"]
    for session, query in zip(sessions[1:], queries, strict=False):
        session["query"] = query
    for number, session in enumerate(sessions):
        session["shown"] = [*session["shown"], "sold-out"] if number else []
    sessions[0]["clicked"] = []
    write_day(shop.bucket, NIGHT, sessions)
    result = embft("night")
    assert result.exit_code == 0, result.output
    figures = json.loads(embft("preprocess-ranks", "--json").stdout)["figures"]
    assert figures["shown_ids_not_in_catalogue"] == 79
    assert figures["sessions_without_results"] == 1
    assert b"<script" not in (shop.storage.read(_result(shop, "gate").outputs["report.html"].uri) or b"")


def test_catalogue_that_is_missing_exits_2_with_its_address(shop: Project) -> None:
    shop.bucket.delete("items.jsonl")
    result = embft("night")
    assert result.exit_code == 2
    assert f"s3://{shop.bucket.name}/items.jsonl does not exist" in result.stderr


def test_wrong_credentials_exit_2_with_the_variables(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    result = embft("plan")
    assert result.exit_code == 2
    assert "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in result.stderr


def test_s3_that_is_away_exits_75(shop: Project) -> None:
    away = f"endpoint_url: http://127.0.0.1:{free_port()}"
    edit_config(shop, lambda text: re.sub(r"endpoint_url: \S+", away, text))
    result = embft("plan")
    assert result.exit_code == 75
    assert "does not answer" in result.stderr


def test_mlflow_down_at_register_is_temporary_and_registers_nothing(shop: Project) -> None:
    assert embft("night", "--promote", "never").exit_code == 0
    run = shop.storage.read_result(shop.paths.stage(NIGHT, "register"))
    assert run is not None
    shop.delete(run.uri)
    away = f"http://127.0.0.1:{free_port()}"
    config = shop.include / "models" / "tiny.yaml"
    before = config.read_text()
    plan = shop.storage.read_result(shop.paths.stage(NIGHT, "plan"))
    assert plan is not None
    frozen = plan.outputs["run.json"].uri
    original = shop.storage.read(frozen) or b""
    shop.storage.write(frozen, original.replace(f"sqlite:///{shop.include.parent}/mlflow.db".encode(), away.encode()))
    result = embft("register")
    assert result.exit_code == 75, result.output
    assert "is away" in result.stderr
    assert shop.storage.read_result(shop.paths.stage(NIGHT, "register")) is None
    assert shop.storage.objects(shop.paths.history) == []
    shop.storage.write(frozen, original)
    again = embft("register", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["figures"]["version"] == run.figures["version"]
    assert config.read_text() == before


def test_worse_model_is_rejected_with_exit_3_and_explained(shop: Project) -> None:
    edit_config(shop, lambda text: text.replace("min_relative_gain: 0.01", "min_relative_gain: 0.99"))
    result = embft("night", "--json")
    assert result.exit_code == 3
    assert [json.loads(line)["stage"] for line in result.stdout.splitlines()[-2:]] == ["gate", "publish"]
    explained = embft("gate", "--explain")
    assert explained.exit_code == 0
    assert "gate.min_relative_gain" in explained.stdout
    assert embft("register").exit_code == 3
    assert shop.storage.objects(shop.paths.history) == []


def test_vanished_output_is_made_again(done: Project) -> None:
    done.delete(_result(done, "fine_tune").outputs["history.json"].uri)
    assert json.loads(embft("fine-tune", "--json").stdout)["reused"] is False


def test_changed_log_object_is_pulled_again(done: Project) -> None:
    assert json.loads(embft("plan", "--json").stdout)["figures"]["days_to_pull"] == []
    write_day(done.bucket, NIGHT, day_sessions(NIGHT, 81))
    assert json.loads(embft("plan", "--json").stdout)["figures"]["days_to_pull"] == ["2026-03-05"]
    write_day(done.bucket, NIGHT, day_sessions(NIGHT, 80))
    assert json.loads(embft("plan", "--json").stdout)["figures"]["days_to_pull"] == []
