"""The task that tells people: what it knows of its run, what it gives the command, and what it makes of its end."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from embft.airflow.process import Ended
from embft.airflow.quote import quotable
from embft.airflow.tell import TellOperator, tell
from embft.config import StorageConfig, load_config
from embft.monitoring import outbox
from embft.monitoring.gauge import Gauge
from embft.paths import Paths
from embft.storage import Storage
from tests.airflow.cluster import moto_s3
from tests.airflow.conftest import make_context
from tests.airflow.process import airflow_process, states
from tests.airflow.project import Project, make_project

PATHS = Paths("s3://bucket/models", "shop")
CHAT = {"type": "webhook", "connection": "chat"}
SECRET = "s3cret-in-a-connection"
S3_AWAY = {"exit": 75, "prints": False, "says": ["error: S3 is away"]}
NO_COLUMN = {"exit": 2, "prints": False, "says": ["12:00 INFO at work", "error: no column `clicks`" + "!" * 3000]}
REJECTED = {"exit": 3, "status": "rejected", "reason": "worse"}
CHAT_AWAY = {"exit": 75, "says": ["error: chat is away"]}
SCENARIOS: list[dict[str, Any]] = [
    {"name": "one day of two is not pulled", "stages": {"pull": [NO_COLUMN, {"sleep_s": 2}]}},
    {
        **{"name": "temporary for too long", "stages": {"evaluate": S3_AWAY}},
        "connections": [{"conn_id": "chat", "conn_type": "http", "host": "chat.test", "password": SECRET}],
    },
    {"name": "killed without a word", "stages": {"evaluate": [S3_AWAY, {"dies_by": 9, "says": ["at work"]}]}},
    {"name": "rejected, a channel is away", "stages": {"gate": REJECTED, "tell": [CHAT_AWAY, {}]}},
    {"name": "a channel stays away", "dag": "monitor_shop", "stages": {"tell": CHAT_AWAY}},
    {
        **{"name": "monitored", "dag": "monitor_shop", "logical_date": None},
        **{"run_after": "2026-10-11T05:00:00+00:00"},
    },
    {"name": "not monitored", "dag": "monitor_shop", "stages": {"monitor": NO_COLUMN}},
    {"name": "rolled back", "dag": "rollback_shop", "logical_date": None, "conf": {"why": "x"}},
    {
        **{"name": "not rolled back", "dag": "rollback_shop", "logical_date": None, "conf": {"why": "x"}},
        "stages": {"rollback": S3_AWAY},
    },
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    project = make_project(tmp_path_factory.mktemp("tell") / "project")
    project.add_model(runtime={"python": str(project.python), "retries": 1, "retry_delay_s": 0})
    project.route({"chat": CHAT, "other": {"type": "slack", "connection": "gone"}}, to="chat")
    environment = {"EMBFT_INCLUDE": str(project.include), "AIRFLOW__API__BASE_URL": "http://airflow.test/"}
    home = tmp_path_factory.mktemp("airflow-home")
    with airflow_process(home, environment, stand_in=project.root) as run:
        yield {
            it["name"]: run({"logical_date": f"2026-11-{day:02d}T02:00:00+00:00", "dag": "retrain_shop", **it})
            for day, it in enumerate(SCENARIOS, start=1)
        }


def told(run: dict[str, Any]) -> dict[str, Any]:
    """What the command was told of the run, the one time that it ran."""
    [telling] = run["tellings"]
    facts: dict[str, Any] = telling["run"]
    return facts


@pytest.mark.airflow
def test_a_task_that_failed_for_good_is_told_with_its_own_sentence(runs: dict[str, dict[str, Any]]) -> None:
    run = runs["one day of two is not pulled"]
    assert run["state"] == "failed"
    assert states(run)["tell"] == "success", run["log"][-3000:]
    # The other day was still being pulled when all that follows was off.
    assert states(run)["pull"] == "failed and success"
    facts = told(run)
    page = f"http://airflow.test/dags/retrain_shop/runs/{quote(facts['run_id'])}"
    assert (facts["kind"], facts["day"], facts["url"]) == ("retrain", "2026-10-31", page)
    [failed] = facts["failed"]
    assert failed["task"] == "pull"
    assert failed["tries"] == 1
    assert failed["said"] == ("no column `clicks`" + "!" * 3000)[:2000]
    assert failed["log_url"] in {f"{page}/tasks/pull/mapped/{index}?try_number=1" for index in (0, 1)}


@pytest.mark.airflow
def test_a_failure_is_told_once_after_its_last_try(runs: dict[str, dict[str, Any]]) -> None:
    run = runs["temporary for too long"]
    [failed] = told(run)["failed"]
    assert (failed["task"], failed["tries"], failed["said"]) == ("evaluate", 2, "S3 is away")
    assert run["state"] == "failed"


@pytest.mark.airflow
def test_a_connection_reaches_the_command_by_its_environment_alone(runs: dict[str, dict[str, Any]]) -> None:
    run = runs["temporary for too long"]
    [telling] = run["tellings"]
    assert json.loads(telling["connections"]["AIRFLOW_CONN_CHAT"]) == {
        "conn_type": "http",
        "host": "chat.test",
        "password": SECRET,
    }
    assert "AIRFLOW_CONN_GONE" not in telling["connections"]
    assert SECRET not in run["log"]
    assert SECRET not in json.dumps([telling["argv"], run["xcoms"]])


@pytest.mark.airflow
def test_a_killed_stage_is_told_in_the_words_of_its_last_try(runs: dict[str, dict[str, Any]]) -> None:
    [failed] = told(runs["killed without a word"])["failed"]
    assert failed["tries"] == 2
    assert failed["said"].startswith("the stage was killed (SIGKILL); most often the machine ran out of memory")


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("name", "state", "tries"), [("rejected, a channel is away", "success", 2), ("a channel stays away", "failed", 4)]
)
def test_a_channel_that_is_away_is_tried_again_and_leaves_the_nights_state(
    runs: dict[str, dict[str, Any]], name: str, state: str, tries: int
) -> None:
    run = runs[name]
    assert run["state"] == "success"
    assert states(run)["tell"] == state
    assert len(run["tellings"]) == tries
    assert "chat is away" in run["log"]
    # A rejected model is no failure.
    assert {json.dumps(it["run"]["failed"]) for it in run["tellings"]} == {"[]"}


@pytest.mark.airflow
def test_every_kind_of_run_is_told(runs: dict[str, dict[str, Any]]) -> None:
    facts = {name: told(runs[name]) for name in ("monitored", "not monitored", "rolled back", "not rolled back")}
    assert [(it["kind"], it["day"]) for it in facts.values()] == [
        # The monitoring's own cron says which day is over: at 05:00 the one before yesterday's.
        ("monitor", "2026-10-09"),
        ("monitor", "2026-11-05"),
        ("rollback", None),
        ("rollback", None),
    ]
    failed = {name: [(each["task"], each["tries"]) for each in it["failed"]] for name, it in facts.items()}
    # A run without a logical date keeps its tries to itself; the sentence says which one it was.
    assert failed["not rolled back"] == [("rollback", 2)]
    assert failed["not monitored"] == [("monitor", 1)]
    assert failed["monitored"] == failed["rolled back"] == []
    assert runs["not monitored"]["state"] == "failed"
    [call] = runs["monitored"]["calls"]
    assert call["argv"] == ["-m", "embft", "monitor", "--model", "shop", "--day", "2026-10-09", "--json"]


def operator(project: Project) -> TellOperator:
    return TellOperator(task_id="tell", kind="retrain", model="shop", include=str(project.include))


def backfill(task: TellOperator) -> Any:
    return make_context(task, run={"run_type": "backfill"})


def test_a_backfill_tells_nothing_of_its_nights(project: Project) -> None:
    task = operator(project)
    task.execute(backfill(task))
    [telling] = project.told()
    assert telling["run"] is None
    assert telling["argv"] == ["-m", "embft", "alerts", "tell", "--model", "shop", "--json"]
    assert telling["include"] == str(project.include)


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        ({"exit": 75, "says": ["error: chat is away; kept"]}, AirflowException, "^chat is away; kept$"),
        ({"exit": 2, "says": ["error: no connection gone"]}, AirflowFailException, "^no connection gone$"),
        ({"prints": False}, AirflowFailException, "`embft alerts tell --json` printed no result but b''"),
    ],
)
def test_what_cannot_be_told_is_said_and_retried_where_that_helps(
    project: Project, behaviour: dict[str, Any], error: type[Exception], message: str
) -> None:
    project.behave(tell=behaviour)
    task = operator(project)
    with pytest.raises(AirflowException, match=message) as raised:
        task.execute(backfill(task))
    assert type(raised.value) is error


def test_a_broken_alerts_file_is_left_to_the_command_which_writes_its_messages_first(project: Project) -> None:
    (project.include / "alerts.yaml").write_text("channels: 7\n")
    task = operator(project)
    task.execute(backfill(task))
    assert len(project.told()) == 1


@pytest.fixture
def s3(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(outbox, "_SETTLES_S", 0)
    with moto_s3() as endpoint:
        where = {"artifacts": "s3://bucket/models", "endpoint_url": endpoint}
        project.add_model(storage=where)
        storage = Storage(StorageConfig(**where))
        storage.remove([it.uri for it in storage.objects("s3://bucket")])  # an earlier test's: moto keeps them
        yield storage


def call(channel: str, message: str, path: Path, **changes: str) -> dict[str, Any]:
    arguments = {"path": str(path), "text": changes.get("text", message)}
    notifier = changes.get("notifier", "tests.airflow.notifiers.FileNotifier")
    return {"message": message, "channel": channel, "notifier": notifier, "arguments": arguments}


@pytest.mark.parametrize(
    ("command", "notifier", "error", "message"),
    [
        (0, "tests.airflow.notifiers.FileNotifier", AirflowException, "channel broken: .*the chat is away"),
        (75, "tests.airflow.notifiers.FileNotifier", AirflowException, "mail is away; channel broken: .*chat is away"),
        # What may work later is tried again, whatever else a person must correct.
        (2, "tests.airflow.notifiers.FileNotifier", AirflowException, "mail is away; channel broken: .*chat is away"),
        (0, "no.such.Notifier", AirflowFailException, "channel broken: there is no notifier no.such.Notifier"),
    ],
)
def test_airflows_notifiers_are_called_in_order_and_what_they_took_is_marked(
    project: Project, tmp_path: Path, s3: Storage, command: int, notifier: str, error: type[Exception], message: str
) -> None:
    calls = [
        call("broken", "1", tmp_path / "broken", text="fail", notifier=notifier),
        call("broken", "2", tmp_path / "broken"),
        call("good", "1", tmp_path / "good", text="{{}}"),
        call("good", "2", tmp_path / "good"),
    ]
    project.behave(tell={"calls": calls, "exit": command, "says": ["error: mail is away"]})
    task = operator(project)
    with pytest.raises(AirflowException, match=message) as raised:
        task.execute(backfill(task))
    assert type(raised.value) is error
    # Nobody reads the second message where the first did not arrive.
    assert not (tmp_path / "broken").exists()
    assert (tmp_path / "good").read_text() == "{{}}\n2\n"
    sent = {it.uri for it in s3.objects(PATHS.all_sent)}
    assert sent == {PATHS.sent("1", "good"), PATHS.sent("2", "good")}


def test_a_notifier_is_called_once_where_two_runs_tell_at_once(project: Project, tmp_path: Path, s3: Storage) -> None:
    project.behave(tell={"calls": [call("chat", "1", tmp_path / "chat")]})
    task = operator(project)
    other = outbox.Claims(s3, PATHS, "chat", ["1"], datetime.now(UTC) - timedelta(minutes=1))
    with pytest.raises(AirflowException, match="channel chat: another run is calling it"):
        task.execute(backfill(task))
    outbox.mark_sent(s3, PATHS, "1", "chat")
    task.execute(backfill(task))
    assert not (tmp_path / "chat").exists()
    # A run that could not send leaves nothing in the way of the next.
    assert [it.uri for it in s3.objects(PATHS.claims("1", "chat"))] == [other._uris["1"]]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AirflowFailException("loss is 0.7"), "loss is 0.7"),
        (AirflowTaskTimeout("Timeout, PID: 7"), "the task came to its time limit, which is runtime.timeout_s of"),
        (AirflowSkipException("nothing to publish"), None),
    ],
)
def test_a_task_keeps_the_sentence_it_fails_with(project: Project, error: BaseException, said: str | None) -> None:
    context = make_context(operator(project))
    with pytest.raises(type(error)), quotable(context):  # type: ignore[arg-type]
        raise error
    kept = context["ti"].xcoms.get("error")
    assert (kept is None) == (said is None)
    assert kept is None or (kept["try"] == 1 and kept["said"].startswith(said))


def test_figures_are_sent_by_a_task_and_not_by_the_triggerer_which_would_repeat_them_for_ever(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(project.add_model())
    gauge = {"name": "embft_measure", "labels": {"slice": "all"}, "figure": 0.7}
    ended = Ended(0, json.dumps({"calls": [], "gauges": [gauge]}).encode(), ())
    sent: list[Gauge] = []
    tell(lambda *_: ended, config, project.include, None, lambda _, gauges: sent.extend(gauges))
    assert [(it.name, it.figure) for it in sent] == [("embft_measure", 0.7)]

    by_airflow: list[object] = []
    monkeypatch.setattr("airflow.sdk.observability.stats.gauge", lambda *found, **_: by_airflow.append(found))
    tell(lambda *_: ended, config, project.include, None)
    assert by_airflow == []
