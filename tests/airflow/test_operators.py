"""Stages on the worker, each run as a real subprocess."""

import os
import re
import signal
import threading
import time
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    DownstreamTasksSkipped,
)
from airflow.sdk.execution_time.timeout import timeout

from embft.airflow.operators import GateOperator, RejectedOperator, StageOperator
from embft.airflow.rollback import RollbackOperator
from embft.airflow.search import SearchOperator
from tests.airflow.conftest import make_context
from tests.airflow.project import Project


def operator(project: Project, stage: str = "evaluate", kind: Any = StageOperator, **options: Any) -> Any:
    return kind(task_id=stage, stage=stage, model="shop", include=str(project.include), **options)


def test_success_gives_the_results_uri_and_nothing_else(project: Project) -> None:
    task = operator(project)
    context = make_context(task)
    assert task.execute(context) == "s3://bucket/models/shop/runs/2026-11-10/evaluate/result.json"
    assert context["ti"].xcoms == {}


def test_the_command_is_what_a_person_would_type(project: Project) -> None:
    task = operator(project, "fine_tune")
    task.execute(make_context(task, force=True))
    [call] = project.calls()
    expected = ["-m", "embft", "fine-tune", "--model", "shop", "--day", "2026-11-10", "--json", "--force"]
    assert call["argv"] == expected
    assert task.command == [str(project.python), *expected]
    assert call["include"] == str(project.include)
    assert call["folder"] == str(project.root)


def test_plan_passes_the_form_on_and_gives_the_days(project: Project) -> None:
    task = operator(project, "plan")
    context = make_context(task, promote="never", window_days=20)
    assert task.execute(context) == ["2026-11-09", "2026-11-10"]
    assert context["ti"].xcoms == {"result": "s3://bucket/models/shop/runs/2026-11-10/plan/result.json"}
    assert project.calls()[0]["argv"][-4:] == ["--promote", "never", "--window-days", "20"]


@pytest.mark.parametrize(
    ("chosen", "run_type", "promoted"),
    [
        ("auto", "scheduled", "auto"),
        ("auto", "manual", "auto"),
        ("auto", "backfill", "never"),
        ("never", "backfill", "never"),
        ("force", "backfill", "force"),
        ("force", "manual", "force"),
    ],
)
def test_a_backfill_promotes_only_by_force(project: Project, chosen: str, run_type: str, promoted: str) -> None:
    task = operator(project, "plan")
    task.execute(make_context(task, run={"run_type": run_type}, promote=chosen))
    assert project.calls()[0]["argv"][-2:] == ["--promote", promoted]


def test_a_command_knows_who_acts(project: Project) -> None:
    with DAG("retrain_shop"):
        task = operator(project, "register")
        operator(project, "gate") >> operator(project, "approve") >> task
    context = make_context(task, run={"triggering_user_name": "eve\nbob, approved by root"})
    context["ti"].pulled["approve"] = {"responded_by_user": {"id": "7", "name": "Kim\x1b[31m " + "x" * 300}}
    context["run_id"] = "manual__" + "y" * 300
    task.execute(context)
    who = project.calls()[0]["actor"]
    assert len(who) == 200
    assert who.startswith("retrain_shop manual__yyy")
    assert ", started by eve bob, approved by root, approved by Kim[31m xxx" in who
    # Only what follows the question knows of its answer.
    later = operator(project, "publish")
    context["run_id"] = "manual__1"
    later.execute(context)
    assert project.calls()[-1]["actor"] == "retrain_shop manual__1, started by eve bob, approved by root"


def test_vectors_that_moved_tell_other_dags_which(project: Project) -> None:
    asset = Asset(name="shop_vectors", uri="s3://bucket/models/shop/vectors/current.json")
    task = operator(project, "publish", outlets=[asset])
    context = make_context(task)
    assert task.execute(context).endswith("/publish/result.json")
    assert context["outlet_events"][asset].extra == {"version": "3", "day": "2026-11-10", "items": 4}


def test_a_night_that_moves_no_pointer_skips_publish_and_says_why(project: Project) -> None:
    project.behave(publish={"figures": {"version": "3", "published": False}, "reason": "the catalogue has not changed"})
    task = operator(project, "publish", outlets=[Asset("shop_vectors")])
    context = make_context(task)
    with pytest.raises(AirflowSkipException, match=r"^the catalogue has not changed$"):
        task.execute(context)
    assert context["ti"].xcoms["return_value"].endswith("/publish/result.json")
    assert not context["outlet_events"]


def test_a_searchs_worker_says_what_it_did_and_leaves_no_result(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    def search(**behaviour: Any) -> Any:
        project.behave(search=behaviour)
        task = SearchOperator(task_id="search", model="shop", include=str(project.include), worker=1)
        task.execute(context := make_context(task, force=True))
        assert context["ti"].xcoms == {}

    search()
    expected = ["-m", "embft", "search", "--model", "shop", "--day", "2026-11-10", "--worker", "1", "--json", "--force"]
    assert project.calls()[0]["argv"] == expected
    assert "worker 1 ended 1 trials; the night has 3" in capsys.readouterr().out
    # Cleared after the night: what it would train is not needed any more.
    search(is_over=True, trained=[], search=None)
    assert "fine_tune has its result; worker 1 had nothing to do" in capsys.readouterr().out
    with pytest.raises(AirflowException, match=r"^MLflow is away$") as caught:
        search(exit=75, prints=False, says=["error: MLflow is away"])
    assert not isinstance(caught.value, AirflowFailException)
    with pytest.raises(AirflowFailException, match=r"printed no result but ''"):
        search(prints=False)


@pytest.mark.parametrize(("form", "to"), [({"to": None}, []), ({"to": "7"}, ["--to", "7"])])
def test_a_rollback_is_one_request_however_often_it_runs(
    project: Project, form: dict[str, Any], to: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    task = operator(project, "rollback", RollbackOperator, outlets=[Asset("shop_vectors")])
    why = "--to=1\n; nobody finds shoes"
    task.execute(make_context(task, why=why, **form))
    expected = ["-m", "embft", "rollback", "--model", "shop", *to, f"--why={why}"]
    assert project.calls()[0]["argv"] == [*expected, "--request=retrain_shop scheduled__x", "--json"]
    assert f"version {(to or ['', '2'])[1]} serves again" in capsys.readouterr().out


def test_a_rollback_to_the_version_that_serves_tells_nobody(project: Project) -> None:
    project.behave(rollback={"number": None, "said": "version 3 serves already"})
    task = operator(project, "rollback", RollbackOperator, outlets=[Asset("shop_vectors")])
    with pytest.raises(AirflowSkipException, match=r"^version 3 serves already$"):
        task.execute(make_context(task, why="x"))


@pytest.mark.parametrize(
    ("behaviour", "message", "retried"),
    [
        ({"exit": 75, "prints": False, "says": ["error: S3 is away"]}, "S3 is away", True),
        ({"exit": 2, "prints": False, "says": ["error: no version 7; there is 1, 2"]}, "no version 7", False),
        ({"prints": False}, "printed no result but ''", False),
    ],
)
def test_a_rollback_that_fails_says_why(
    project: Project, behaviour: dict[str, Any], message: str, retried: bool
) -> None:
    project.behave(rollback=behaviour)
    task = operator(project, "rollback", RollbackOperator)
    with pytest.raises(AirflowException, match=message) as caught:
        task.execute(make_context(task, why="x"))
    assert isinstance(caught.value, AirflowFailException) is not retried


@pytest.mark.parametrize(("name", "options"), [("2026-11-09", []), ("2026-11-09 3", ["--part", "3"])])
def test_pull_names_its_log_day_and_the_part_of_a_big_one(project: Project, name: str, options: list[str]) -> None:
    task = operator(project, "pull", log_day=name)
    assert task.execute(make_context(task)).startswith("s3://bucket/models/shop/sessions/2026-11-09/")
    assert project.calls()[0]["argv"][-2 - len(options) :] == ["--log-day", "2026-11-09", *options]


@pytest.mark.parametrize(
    ("code", "retried"),
    [(1, False), (2, False), (3, False), (75, True), (137, True), (139, False)],
)
def test_exit_code_decides_about_the_retry(project: Project, code: int, retried: bool) -> None:
    said = "error: bucket 'xyz' does not exist at http://s3"
    project.behave(evaluate={"exit": code, "prints": False, "says": ["12:00:00 INFO a: begins", said]})
    task = operator(project)
    with pytest.raises(AirflowException, match="bucket 'xyz' does not exist at http://s3") as caught:
        task.execute(make_context(task))
    assert isinstance(caught.value, AirflowFailException) is not retried


@pytest.mark.parametrize(
    ("number", "retried"), [(signal.SIGTERM, True), (signal.SIGKILL, True), (signal.SIGABRT, False)]
)
def test_a_killed_stage_is_retried_a_crashed_one_is_not(
    project: Project, number: signal.Signals, retried: bool
) -> None:
    project.behave(evaluate={"prints": False, "dies_by": int(number)})
    task = operator(project)
    with pytest.raises(AirflowException, match=number.name) as caught:
        task.execute(make_context(task))
    assert isinstance(caught.value, AirflowFailException) is not retried


def test_a_faulty_config_is_told_with_every_line(project: Project) -> None:
    says = ["error: shop.yaml:3: windw: unknown key", "shop.yaml:9: gate: is missing"]
    project.behave(evaluate={"exit": 2, "prints": False, "says": says})
    with pytest.raises(AirflowFailException) as caught:
        operator(project).execute(make_context(operator(project)))
    assert str(caught.value) == "shop.yaml:3: windw: unknown key\nshop.yaml:9: gate: is missing"


def test_a_traceback_gives_its_last_line(project: Project) -> None:
    says = ["Traceback (most recent call last):", '  File "x.py", line 1', "ValueError: rank is NaN"]
    project.behave(evaluate={"exit": 1, "prints": False, "says": says})
    with pytest.raises(AirflowFailException, match=r"^ValueError: rank is NaN \(.*exit code 1"):
        operator(project).execute(make_context(operator(project)))


def test_a_boxed_usage_error_gives_its_words(project: Project) -> None:
    says = ["Usage: embft evaluate", "╭─ Error ─────╮", "│ No such option: --x   │", "╰─────────────╯"]
    project.behave(evaluate={"exit": 2, "prints": False, "says": says})
    with pytest.raises(AirflowFailException, match=r"^No such option: --x$"):
        operator(project).execute(make_context(operator(project)))


def test_a_rejecting_stage_gives_its_reason_and_keeps_its_links(project: Project) -> None:
    links = {"Data Docs": "https://docs.test/1"}
    project.behave(
        validate_sessions={"exit": 3, "status": "rejected", "reason": "7 % of queries empty", "links": links}
    )
    task = operator(project, "validate_sessions")
    with pytest.raises(AirflowFailException, match=r"^7 % of queries empty$"):
        task.execute(make_context(task))
    assert task.links["Data Docs"] == "https://docs.test/1"


def test_exit_0_without_a_result_is_a_bug(project: Project) -> None:
    project.behave(evaluate={"prints_result": False})
    with pytest.raises(AirflowFailException, match="printed no result of evaluate"):
        operator(project).execute(make_context(operator(project)))


def test_a_missing_interpreter_names_the_setting(project: Project) -> None:
    project.add_model(runtime={"python": "/nowhere/python"})
    with pytest.raises(AirflowFailException, match=r"'/nowhere/python' cannot be run .* correct runtime\.python in"):
        operator(project).execute(make_context(operator(project)))


def test_lines_reach_the_log_while_the_stage_runs_and_are_never_formats(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    says = ["12:00:00 WARNING embft: query '%s %d {x}' set aside", "epoch 1\repoch 2"]
    project.behave(evaluate={"says": says})
    task = operator(project)
    task.execute(make_context(task))
    logged = capsys.readouterr().out
    assert re.search(r"\[warning *\] 12:00:00 WARNING embft: query '%s %d \{x\}' set aside", logged)
    assert re.search(r"\[info *\] epoch 1\b", logged)
    assert re.search(r"\[info *\] epoch 2\b", logged)


def test_on_kill_ends_the_stage_and_its_children(project: Project) -> None:
    project.behave(evaluate={"sleep_s": 60, "spawns": True})
    task = operator(project)
    started = project.python.parent / "started"

    def kill_when_started() -> None:
        while not (started.exists() and started.read_text()):
            time.sleep(0.05)
        task.on_kill()

    killer = threading.Thread(target=kill_when_started)
    killer.start()
    begun = time.monotonic()
    with pytest.raises(AirflowException, match="SIGTERM"):
        task.execute(make_context(task))
    killer.join()
    assert time.monotonic() - begun < 20
    assert group_is_gone(int(started.read_text()))


def test_a_time_limit_ends_the_stage(project: Project) -> None:
    project.behave(evaluate={"sleep_s": 60, "spawns": True})
    task = operator(project)
    # As the task runner does for `execution_timeout`.
    with pytest.raises(AirflowTaskTimeout), timeout(2):
        task.execute(make_context(task))
    assert group_is_gone(int((project.python.parent / "started").read_text()))


def group_is_gone(group: int) -> bool:
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("accepted", ["register", "approve"])
@pytest.mark.parametrize("behaviour", [{}, {"exit": 3, "status": "rejected", "reason": "worse"}])
def test_gate_branches_by_its_result(project: Project, behaviour: dict[str, Any], accepted: str) -> None:
    project.behave(gate=behaviour)
    skipped = accepted if behaviour else "rejected"
    with DAG("retrain_shop"):
        gate = operator(project, "gate", GateOperator)
        gate >> [operator(project, accepted), RejectedOperator(**rejected_arguments(project))]
    context = make_context(gate)
    with pytest.raises(DownstreamTasksSkipped) as caught:
        gate.execute(context)
    assert caught.value.tasks == [(skipped, -1)]
    assert context["ti"].xcoms["return_value"] == "s3://bucket/models/shop/runs/2026-11-10/gate/result.json"


def test_gate_that_could_not_judge_fails(project: Project) -> None:
    project.behave(gate={"exit": 3, "prints": False, "says": ["error: evaluate rejected shop of 2026-11-10: NaN"]})
    task = operator(project, "gate", GateOperator)
    with pytest.raises(AirflowFailException, match="evaluate rejected shop"):
        task.execute(make_context(task))


def rejected_arguments(project: Project) -> dict[str, str]:
    return {"task_id": "rejected", "stage": "gate", "model": "shop", "include": str(project.include)}


def test_rejected_says_why_in_the_log(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    task = RejectedOperator(**rejected_arguments(project))
    assert task.execute(make_context(task)) is None
    assert "the challenger is worse than the champion" in capsys.readouterr().out
    assert project.calls()[0]["argv"] == ["-m", "embft", "gate", "--model", "shop", "--day", "2026-11-10", "--explain"]
