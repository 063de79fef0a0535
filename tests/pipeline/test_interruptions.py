"""Nights that are killed, stopped, raced or edited half-way: whatever happened, a re-run ends in one whole state."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient

from embft.config import STAGES
from embft.promotion.history import version_of
from embft.promotion.ledger import read_history
from embft.promotion.registry import Registry
from embft.results import StageResult
from embft.storage import Storage
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import FIRST, NIGHT, day_sessions, make_shop, write_day

NEXT_NIGHT = NIGHT + timedelta(days=1)


class Killed(BaseException):
    """Stands for SIGKILL: no `except Exception` may see it, and no clean-up of ours may depend on it."""


class Survivor(NamedTuple):
    """A stage that was killed just before its result was written, and then ran again."""

    left: StageResult | None
    again: StageResult


@pytest.fixture(scope="module")
def survivors() -> dict[str, Survivor]:
    """What became of the stages of `NIGHT`; filled by `shop`."""
    return {}


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory, survivors: dict[str, Survivor]) -> Project:
    """A shop with one finished night, `NIGHT`, each stage killed once; and logs of a day before and after."""
    home = tmp_path_factory.mktemp("tiny")
    bucket = new_bucket(module_environment)
    include = make_shop(home, bucket, module_environment, new_database(home))
    for day in (FIRST - timedelta(days=1), NEXT_NIGHT):
        write_day(bucket, day, day_sessions(day, 80))
    project = Project(include, bucket, "tiny")
    for name in STAGES:
        if name == "validate_sessions":
            for back in range(1, 5):
                project.stage("pull", NIGHT, log_day=NIGHT - timedelta(days=back))
        with pytest.MonkeyPatch.context() as patch:
            killed(patch, Storage, "write", before=True, uri_ends_with="/result.json")
            with pytest.raises(Killed):
                project.stage(name, NIGHT)
        left = project.storage.read_result(project.paths.stage(NIGHT, name))  # none for pull: kept by log day
        survivors[name] = Survivor(left, project.stage(name, NIGHT))
    return project


@pytest.fixture
def config(shop: Project) -> Iterator[Path]:
    """The model's config, put back afterwards together with the plan of `NIGHT`."""
    path = shop.include / "models" / "tiny.yaml"
    before = path.read_text()
    yield path
    path.write_text(before)
    shop.stage("plan", NIGHT)


def client(shop: Project) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{shop.include.parent}/mlflow.db")


def versions(shop: Project, day: date) -> list[str]:
    found = client(shop).search_model_versions("name='tiny'")
    return [str(it.version) for it in found if it.tags["embft.day"] == day.isoformat()]


def serving(shop: Project) -> str:
    return str(client(shop).get_model_version_by_alias("tiny", "champion").version)


def assert_one_champion(shop: Project, day: date) -> None:
    (version,) = versions(shop, day)
    assert version == serving(shop) == version_of(read_history(shop.storage, shop.paths).champion)


def assert_whole(shop: Project, result: StageResult, folder: Path) -> None:
    for number, artifact in enumerate(result.outputs.values()):
        shop.storage.fetch(artifact, folder / str(number))  # checks the digest


def killed(
    patch: pytest.MonkeyPatch, owner: Any, name: str, *, before: bool = False, uri_ends_with: str | None = None
) -> None:
    """Let a function be the last (or, with `before`, the first not) to run."""
    original: Callable[..., Any] = getattr(owner, name)

    def run(*args: Any, **options: Any) -> Any:
        meant = uri_ends_with is None or args[1].endswith(uri_ends_with)
        if meant and before:
            raise Killed
        value = original(*args, **options)
        if meant:
            raise Killed
        return value

    patch.setattr(owner, name, run)


def test_stage_killed_before_its_result_leaves_none_and_a_rerun_completes_the_night(
    shop: Project, survivors: dict[str, Survivor], tmp_path: Path
) -> None:
    assert list(survivors) == list(STAGES)
    for name, (left, again) in survivors.items():
        assert left is None, name
        assert (again.status, again.reused) == ("done", False), name
        assert_whole(shop, again, tmp_path / name)
    assert all(it.reused for it in shop.night(NIGHT))
    assert_one_champion(shop, NIGHT)
    pointer = json.loads(shop.storage.read(shop.paths.current_vectors) or b"")
    assert pointer["version"] == serving(shop)


def test_forced_stage_killed_before_its_result_keeps_the_old_one(shop: Project, tmp_path: Path) -> None:
    for name in STAGES:
        before = shop.stage(name, NIGHT)
        assert before.reused, name
        with pytest.MonkeyPatch.context() as patch:
            killed(patch, Storage, "write", before=True, uri_ends_with="/result.json")
            with pytest.raises(Killed):
                shop.stage(name, NIGHT, force=True)
        after = shop.stage(name, NIGHT)
        assert after == before, name
        assert_whole(shop, after, tmp_path / name)
    assert_one_champion(shop, NIGHT)


def test_rivals_that_register_the_same_night_agree_on_one_version(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = serving(shop)
    look, answers = Registry.find, iter([[]])  # the rival looked before the first version was made
    monkeypatch.setattr(Registry, "find", lambda *args: next(answers, look(*args)))
    assert shop.stage("register", NIGHT, force=True).figures["version"] == first
    assert_one_champion(shop, NIGHT)


def test_backfill_of_an_older_day_leaves_the_champion_and_its_vectors(shop: Project) -> None:
    older, champion = NIGHT - timedelta(days=1), serving(shop)
    pointer = shop.storage.read(shop.paths.current_vectors)
    results = {it.stage: it for it in shop.night(older)}
    assert results["register"].figures["promoted"] is False
    assert f"learned from the newer day {NIGHT}" in (results["register"].reason or "")
    assert results["publish"].figures["published"] is False
    assert len(versions(shop, older)) == 1
    assert serving(shop) == champion
    assert len(read_history(shop.storage, shop.paths).changes) == 1
    assert shop.storage.read(shop.paths.current_vectors) == pointer


def test_config_edited_after_plan_changes_the_next_plan_and_no_later_stage(shop: Project, config: Path) -> None:
    shop.night(NIGHT)  # a night that was backfilled since is one more that validations compare with
    limits = shop.stage("gate", NIGHT).figures["rules"]
    text = config.read_text()
    edits = {"days: 5": "days: 3", "max_val_loss: 3.0": "max_val_loss: 0.001", "epochs: 3": "epochs: 2"}
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    for name in STAGES[2:]:
        assert shop.stage(name, NIGHT).reused, name
    assert shop.stage("gate", NIGHT, force=True).figures["rules"] == limits
    assert shop.stage("plan", NIGHT).reused is False
    assert shop.spec(NIGHT).config.gate.max_val_loss == 0.001
    assert len(shop.spec(NIGHT).window) == 3


def started(shop: Project, command: str, day: date, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "embft", command, "--model", "tiny", "--day", day.isoformat(), *options],
        env={**os.environ, "EMBFT_INCLUDE": str(shop.include)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_run_one_stage_at_once_both_succeed(shop: Project, tmp_path: Path) -> None:
    old = shop.stage("preprocess_ranks", NIGHT)
    rivals = [started(shop, "preprocess-ranks", NIGHT, "--force", "--json") for _ in range(2)]
    printed = [json.loads(rival.communicate(timeout=60)[0]) for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0]
    attempts = {it["attempt"] for it in printed}
    assert len(attempts) == 2
    standing = shop.stage("preprocess_ranks", NIGHT)
    assert standing.reused
    assert standing.attempt in attempts
    assert {name: it.sha256 for name, it in standing.outputs.items()} == {
        name: it.sha256 for name, it in old.outputs.items()
    }
    assert_whole(shop, standing, tmp_path)


def training(shop: Project, day: date) -> "subprocess.Popen[str]":
    """A real `fine-tune`, on its way: MLflow has a run of it that trains."""
    already = len(running(shop, day))
    process = started(shop, "fine-tune", day)
    deadline = time.monotonic() + 60
    while len(running(shop, day)) == already:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def running(shop: Project, day: date) -> list[Any]:
    experiment = client(shop).get_experiment_by_name("tiny")
    assert experiment is not None
    wanted = f"attributes.status = 'RUNNING' and tags.`embft.day` = '{day}'"
    return list(client(shop).search_runs([experiment.experiment_id], wanted))


def test_real_training_told_to_stop_exits_75_and_killed_outright_leaves_nothing(shop: Project, config: Path) -> None:
    brief = config.read_text()
    config.write_text(brief.replace("num_epochs: 3}", "num_epochs: 5000}\n  params: {items_lr: 1.0e-6}"))
    for name in STAGES[: STAGES.index("fine_tune")]:
        shop.stage(name, NEXT_NIGHT)

    before = shop.storage.read_result(shop.paths.stage(NEXT_NIGHT, "fine_tune"))
    told = training(shop, NEXT_NIGHT)
    told.send_signal(signal.SIGTERM)
    _, errors = told.communicate(timeout=60)
    assert told.returncode == 75, errors
    # Before its first step there is nothing to keep.
    assert re.search(r"error: (training was told to stop \(SIGTERM\) after|stopped by SIGTERM before)", errors)
    assert "Traceback" not in errors
    assert running(shop, NEXT_NIGHT) == []  # MLflow was told that the run was killed

    shot = training(shop, NEXT_NIGHT)
    shot.kill()
    shot.communicate(timeout=60)
    assert shot.returncode == -signal.SIGKILL
    assert shop.storage.read_result(shop.paths.stage(NEXT_NIGHT, "fine_tune")) == before

    config.write_text(brief)
    shop.stage("plan", NEXT_NIGHT)
    assert shop.stage("fine_tune", NEXT_NIGHT).status == "done"
