"""The command line around the stages: what a person tries first."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embft.cli import app
from embft.config import STAGES
from embft.paths import stage_command
from tests.buckets import new_bucket

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _include(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBFT_INCLUDE", str(REPOSITORY / "include"))


def test_every_stage_is_a_command() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    assert all(stage_command(stage) in said for stage in STAGES)


def test_simulated_logs_say_in_every_line_that_they_are_synthetic(tmp_path: Path) -> None:
    options = ["--first-day", "2026-03-01", "--days", "2", "--sessions-per-day", "50"]
    result = CliRunner().invoke(app, ["simulate", "--to", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    logs = sorted(tmp_path.glob("logs/dt=*/*.gz"))
    lines = [json.loads(line) for path in logs for line in gzip.open(path, "rt", encoding="utf-8")]
    assert {path.parent.name for path in logs} == {"dt=2026-03-01", "dt=2026-03-02"}
    assert len(lines) > 100
    assert all(line["synthetic"] is True for line in lines)
    assert (tmp_path / "catalogue" / "items.jsonl").exists()


@pytest.mark.parametrize(
    ("place", "message"), [("s3://Bad_Bucket/x", "expected s3://bucket/prefix"), ("{file}", "cannot be written")]
)
def test_simulation_to_no_place_is_one_sentence(place: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    options = ["--first-day", "2026-03-01", "--days", "1", "--sessions-per-day", "20"]
    result = CliRunner().invoke(app, ["simulate", "--to", place.format(file=tmp_path / "file"), *options])
    assert result.exit_code == 2
    assert "--to" in result.stderr
    assert message in result.stderr


def test_simulation_goes_to_s3_by_the_environment(s3: str) -> None:
    bucket = new_bucket(s3)
    options = ["--first-day", "2026-03-01", "--days", "1", "--sessions-per-day", "20"]
    result = CliRunner().invoke(app, ["simulate", "--to", f"s3://{bucket.name}/shop", *options])
    assert result.exit_code == 0, result.output
    listed = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    assert f"s3://{bucket.name}/{listed[0]['Key']}" in result.stdout


def test_config_show_prints_the_resolved_config() -> None:
    shown = json.loads(CliRunner().invoke(app, ["config", "show", "--model", "demo"]).stdout)
    assert shown["training"]["settings"]["loss_func"] == "catalogue_softmax"
    assert shown["validation"]["suites"]["ranks"]


def test_module_runs_as_a_process() -> None:
    done = subprocess.run([sys.executable, "-m", "embft", "config", "schema"], capture_output=True, check=True)
    assert json.loads(done.stdout)["title"] == "ModelConfig"


def test_a_suite_by_hand_says_what_it_found_and_nothing_of_its_libraries(tmp_path: Path) -> None:
    catalogue = tmp_path / "items.jsonl"
    catalogue.write_text('{"id": "a", "text": "a lamp"}\n{"id": "b", "text": ""}\n')
    command = [sys.executable, "-m", "embft", "validate", "--suite", "catalogue", "--input", str(catalogue)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 3
    assert "catalogue: would stop a night" in done.stdout
    assert done.stderr == ""


LOSES_ITS_STOP = """
import os, signal, sys, time, weakref
from embft import cli

class Thing:
    pass

def stop(_):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

@cli.app.command("lose")
def lose():
    thing = Thing()
    reference = weakref.ref(thing, stop)
    del thing
    time.sleep(30)
    print("went on")

sys.argv = ["embft", "lose"]
cli.main()
"""


def test_being_told_to_stop_is_not_lost_where_python_drops_exceptions() -> None:
    """As in the callback of a weak reference: a library's, when the signal comes."""
    done = subprocess.run(
        [sys.executable, "-c", LOSES_ITS_STOP], capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == "error: stopped by SIGTERM before it was done; run the same command again\n"
