"""The pod's operator by itself: a pod that is refused, a task that is told to stop early, and ends that are rare."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.timeout import timeout
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException

from embft.airflow.cluster import LastLook
from embft.airflow.pod_end import PodEnd, has_ended, is_dying
from embft.airflow.pod_result import find_result, printed_result
from embft.airflow.pods import StagePodOperator
from embft.airflow.search_pod import SearchPodOperator
from embft.config import Runtime
from embft.paths import Paths
from embft.results import StageResult
from embft.storage import Storage
from tests.airflow.cluster import cluster_with_stand_in, moto_s3
from tests.airflow.conftest import make_context
from tests.airflow.fault_runs import add_model
from tests.airflow.project import IMAGE, Project, make_project
from tests.airflow.run_nights import pods, prepare

RUNTIME = Runtime.model_validate({"stages": {"fine_tune": "pod"}, "kubernetes": {"image": IMAGE}})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = make_project(tmp_path_factory.mktemp("pods") / "project")
    with moto_s3() as s3, cluster_with_stand_in(project, s3) as environment, pytest.MonkeyPatch.context() as patch:
        add_model(project, "shop", s3, deferrable=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield project


def operator(project: Project, **options: Any) -> Any:
    kubeconfig = str(project.root / "cluster" / "kubeconfig.yaml")
    where = {"kubernetes_conn_id": None, "config_file": kubeconfig, "in_cluster": False, **options}
    return StagePodOperator(task_id="fine_tune", stage="fine_tune", model="shop", include=str(project.include), **where)


def events(project: Project) -> list[str]:
    return [it["event"] for it in pods(project.root / "cluster")]


def begin(project: Project, **scenario: Any) -> None:
    prepare(project, project.root / "cluster", scenario)


def test_a_pod_that_the_cluster_refuses_is_not_tried_again(cluster: Project) -> None:
    begin(cluster)
    task = operator(cluster, labels={"team": "search & rank"})
    with pytest.raises(AirflowFailException, match=r"the cluster refuses the pod \(422\): .*search & rank.*; correct"):
        task.execute(make_context(task))
    assert events(cluster) == ["refused"]


def test_a_task_told_to_stop_while_its_pod_is_made_leaves_none(cluster: Project) -> None:
    begin(cluster, faults=[{"do": "answer", "status": 500, "times": 2}], stages={"fine_tune": {"sleep_s": 30}})
    task = operator(cluster)
    stopper = threading.Thread(target=lambda: (time.sleep(0.5), task.on_kill()))
    stopper.start()
    with pytest.raises(AirflowException, match="told to stop before its pod had started"):
        task.execute(make_context(task))
    stopper.join()
    until = time.monotonic() + 20
    while "deleted" not in events(cluster) and time.monotonic() < until:
        time.sleep(0.1)
    assert events(cluster) == ["created", "deleted"]


def on_day(task: Any, day: int, try_number: int = 1) -> dict[str, Any]:
    start = datetime(2026, 9, day, 2, tzinfo=UTC)
    context = make_context(task, run={"data_interval_start": start, "data_interval_end": start + timedelta(days=1)})
    context["ti"].try_number, context["ti"].max_tries = try_number, 2
    # The cluster counts a task's pods: the first one of each night meets its faults.
    context["run_id"] = f"night-{day}"
    return context


def leave_behind(project: Project, day: int) -> None:
    """Run a try whose worker dies as soon as it has created its pod, and wait for the stage's end."""
    task = operator(project, startup_check_interval_seconds=1)
    with (
        patch.object(type(task), "await_pod_start", side_effect=KeyboardInterrupt),
        patch.object(type(task), "cleanup"),
        pytest.raises(KeyboardInterrupt),
    ):
        task.execute(on_day(task, day))
    [pod] = task.client.list_namespaced_pod("embft").items
    until = time.monotonic() + 20
    while not has_ended(pod, "base") and time.monotonic() < until:
        time.sleep(0.1)
        [pod] = task.client.list_namespaced_pod("embft").items
    assert has_ended(pod, "base")


def test_a_result_of_no_use_that_nobody_watched_is_made_again_at_once(cluster: Project) -> None:
    stale = {"inputs": {"preprocess_ranks/x.parquet": "1" * 64}}
    begin(cluster, stages={"fine_tune": [stale, {}]})
    leave_behind(cluster, day=1)
    task = operator(cluster)
    assert task.execute(on_day(task, 1, try_number=2)).endswith("/2026-09-01/fine_tune/result.json")
    assert events(cluster) == ["created", "deleted", "created", "deleted"]


def test_a_pod_that_ended_unwatched_is_not_joined_while_it_is_removed(cluster: Project) -> None:
    fails = {"exit": 75, "prints": False, "says": ["error: S3 is away"]}
    begin(cluster, stages={"fine_tune": [fails, {}]}, faults=[{"do": "sidecar"}])
    leave_behind(cluster, day=2)
    task = operator(cluster)
    assert task.execute(on_day(task, 2, try_number=2)).endswith("/2026-09-02/fine_tune/result.json")
    assert [it for it in events(cluster) if it == "created"] == ["created", "created"]


def refusing(task: Any, calls: list[int], times: int) -> Any:
    """Let the cluster forbid reading a pod, from the second reading on; the first is of its start."""
    real = task.client.read_namespaced_pod

    def read(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if 1 < len(calls) <= 1 + times:
            raise ApiException(status=403, reason="Forbidden")
        return real(*args, **options)

    return patch.object(task.client, "read_namespaced_pod", read)


def test_a_right_that_is_missing_for_a_moment_costs_no_pod(cluster: Project) -> None:
    begin(cluster, stages={"fine_tune": {"sleep_s": 3}})
    task = operator(cluster, startup_check_interval_seconds=1)
    with refusing(task, [], 2):
        assert task.execute(on_day(task, 21)).endswith("/fine_tune/result.json")
    # An ended pod of the test before this one may be removed meanwhile.
    assert events(cluster).count("created") == 1
    assert not task.client.list_namespaced_pod("embft").items


def test_a_pod_that_we_may_not_read_is_left_to_the_retry(cluster: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embft.airflow.cluster.REFUSED_S", 0.5)
    begin(cluster, stages={"fine_tune": {"sleep_s": 6}})
    first = operator(cluster, startup_check_interval_seconds=1)
    with refusing(first, [], 1000), pytest.raises(AirflowException, match=r"is away or refuses.*left running"):
        first.execute(on_day(first, 22))
    assert events(cluster) == ["created"]
    second = operator(cluster, startup_check_interval_seconds=1)
    assert second.execute(on_day(second, 22, try_number=2)).endswith("/fine_tune/result.json")
    assert events(cluster) == ["created", "deleted"]


def test_a_task_whose_trigger_died_for_good_takes_what_is_done_and_leaves_no_pod(cluster: Project) -> None:
    begin(cluster)
    leave_behind(cluster, 23)
    task = operator(cluster)
    uri = task.resume_execution("__fail__", {"error": "Trigger timeout"}, on_day(task, 23, try_number=3))
    assert uri.endswith("/fine_tune/result.json")
    assert events(cluster) == ["created", "deleted"]
    begin(cluster, stages={"fine_tune": {"writes": False, "prints_result": False}})
    leave_behind(cluster, 24)
    with pytest.raises(AirflowException, match="Trigger timeout"):  # another try comes, and judges it
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, on_day(task, 24, try_number=2))
    assert events(cluster) == ["created"]
    with pytest.raises(AirflowException, match="left no result of this run"):
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, on_day(task, 24, try_number=3))
    assert events(cluster) == ["created", "deleted"]


def test_mapped_tasks_tell_their_log_days_apart(cluster: Project) -> None:
    """After a clear, the same index may mean another day."""
    task = operator(cluster, log_day="2026-11-09 3")
    task._begin(on_day(task, 25))
    assert "embft-log-day=2026-11-09" in task._build_find_pod_label_selector(on_day(task, 25))


def searcher(project: Project, worker: int, try_number: int = 1) -> tuple[Any, dict[str, Any]]:
    """A worker of the search, and its context: that of the mapped task's instance."""
    task = SearchPodOperator(
        **{"task_id": "search", "model": "shop", "include": str(project.include), "worker": worker},
        **{"kubernetes_conn_id": None, "config_file": str(project.root / "cluster" / "kubeconfig.yaml")},
        **{"in_cluster": False, "startup_check_interval_seconds": 1},
    )
    context = on_day(task, 26, try_number)
    context["ti"].map_index = worker
    return task, context


@pytest.mark.faults
def test_a_searchs_worker_goes_on_with_its_own_pod_and_with_no_other(cluster: Project) -> None:
    begin(cluster, stages={"search": {"awaits": "go", "awaits_s": 30}})
    lost, context = searcher(cluster, 0)
    with (
        patch.object(type(lost), "await_pod_start", side_effect=KeyboardInterrupt),
        patch.object(type(lost), "cleanup"),
        pytest.raises(KeyboardInterrupt),
    ):
        lost.execute(context)
    (cluster.python.parent / "go").touch()
    # The first worker's pod runs, or has ended unread; it is of the same run, task and stage.
    for worker, try_number in ((1, 1), (0, 2)):
        task, context = searcher(cluster, worker, try_number)
        task.execute(context)
    assert not task.client.list_namespaced_pod("embft").items
    created = [it["body"] for it in pods(cluster.root / "cluster") if it["event"] == "created"]
    assert [it["metadata"]["labels"]["embft-worker"] for it in created] == ["0", "1"]
    commands = [" ".join(it["argv"][2:]) for it in cluster.calls()]
    assert sorted(commands) == [f"search --model shop --day 2026-09-26 --worker {it} --json" for it in (0, 1)]
    assert "nvidia.com/gpu" in created[0]["spec"]["containers"][0]["resources"]["limits"]


def test_another_airflow_in_the_same_namespace_keeps_its_pods(cluster: Project, tmp_path: Path) -> None:
    begin(cluster, stages={"fine_tune": [{"sleep_s": 6}, {}]})
    staging = make_project(tmp_path / "staging")
    config = (cluster.include / "models" / "shop.yaml").read_text()
    (staging.include / "models" / "shop.yaml").write_text(config.replace("s3://bucket/models", "s3://bucket/staging"))
    task = operator(cluster)
    results: list[str] = []
    production = threading.Thread(target=lambda: results.append(task.execute(on_day(task, 7))))
    production.start()
    until = time.monotonic() + 20
    while "created" not in events(cluster) and time.monotonic() < until:
        time.sleep(0.1)
    kubeconfig = str(cluster.root / "cluster" / "kubeconfig.yaml")
    other = operator(staging, config_file=kubeconfig)
    # The stand-in writes to one place alone, which is not staging's.
    with pytest.raises(AirflowException, match="left no result of this run"):
        other.execute(on_day(other, 7))
    assert not results
    production.join()
    assert results == ["s3://bucket/models/shop/runs/2026-09-07/fine_tune/result.json"]
    assert events(cluster).count("created") == 2


def test_what_runs_beside_the_stage_is_not_waited_for(cluster: Project) -> None:
    begin(cluster, faults=[{"do": "sidecar"}])
    task = operator(cluster)
    with timeout(60):
        assert task.execute(on_day(task, 3)).endswith("/2026-09-03/fine_tune/result.json")
    assert not [it for it in task.client.list_namespaced_pod("embft").items if not is_dying(it)]


def test_a_task_that_comes_to_its_time_limit_says_which(cluster: Project) -> None:
    begin(cluster, stages={"fine_tune": {"steps": 12, "pauses_at": 3, "pause_s": 30}})
    task = operator(cluster)
    with pytest.raises(AirflowException, match=r"time limit and ended its pod; .*runtime\.timeout_s"), timeout(4):
        task.execute(on_day(task, 8))
    assert not [it for it in task.client.list_namespaced_pod("embft").items if not is_dying(it)]


def test_a_namespace_that_does_not_exist_is_named(cluster: Project) -> None:
    begin(cluster, faults=[{"do": "answer", "status": 404, "times": 9, "message": 'namespaces "embft" not found'}])
    task = operator(cluster)
    with pytest.raises(AirflowException, match=r'^the cluster made no pod \(404\): namespaces "embft" not found; if'):
        task.execute(on_day(task, 4))


def test_lines_of_stderr_do_not_break_the_printed_result() -> None:
    facts = {"stage": "fine_tune", "model": "shop", "day": "2026-11-10", "uri": "s3://b/r.json", "attempt": "1"}
    result = StageResult.model_validate(
        {
            **{**facts, "status": "done", "inputs": {"a": "1"}, "settings_digest": "2", "code_version": "3"},
            **{"outputs": {}, "figures": {}, "started_utc": datetime.now(UTC), "finished_utc": datetime.now(UTC)},
        }
    )
    lines = result.to_json().decode().splitlines()
    for place in range(len(lines) + 1):
        mixed = [*lines[:place], "12:00:00 INFO embft.stages: done", '{"level": "info"}', *lines[place:]]
        assert printed_result(["step 1", *mixed]) == result


def test_a_result_printed_of_another_place_is_not_believed(cluster: Project) -> None:
    begin(cluster)
    task = operator(cluster)
    task.execute(on_day(task, 5))
    config = task.read_config()
    storage, paths = Storage(config.storage), Paths(config.storage.artifacts, "shop")
    other = storage.read_result(paths.stage(date(2026, 9, 5), "fine_tune"))
    assert other
    day, now = date(2026, 9, 6), datetime.now(UTC)
    assert find_result(config, "fine_tune", date(2026, 9, 5), other, now) == other
    assert find_result(config, "fine_tune", day, other, now) is None


def seen(**status: Any) -> LastLook:
    return LastLook(k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="p"), status=k8s.V1PodStatus(**status)))


def container(**state: Any) -> list[k8s.V1ContainerStatus]:
    common = {"name": "base", "ready": False, "restart_count": 0, "image": "x", "image_id": "x"}
    return [k8s.V1ContainerStatus(**common, state=k8s.V1ContainerState(**state))]


def waiting(reason: str, message: str) -> list[k8s.V1ContainerStatus]:
    return container(waiting=k8s.V1ContainerStateWaiting(reason=reason, message=message))


SCHEDULED = [k8s.V1PodCondition(type="PodScheduled", status="True")]


@pytest.mark.parametrize(
    ("look", "message", "retried"),
    [
        (
            seen(
                phase="Pending", container_statuses=waiting("InvalidImageName", "couldn't parse"), conditions=SCHEDULED
            ),
            r"can never be pulled \(InvalidImageName: couldn't parse\); correct runtime\.kubernetes\.image$",
            False,
        ),
        (
            seen(
                phase="Pending",
                container_statuses=waiting("CreateContainerConfigError", 'secret "embft" not found'),
                conditions=SCHEDULED,
            ),
            r'did not start within .*startup_timeout_s, which is 1800 \(CreateContainerConfigError: secret "embft" not',
            True,
        ),
        (
            seen(phase="Failed", reason="UnexpectedAdmissionError", message="no healthy nvidia.com/gpu"),
            r"before its stage had a result \(UnexpectedAdmissionError: no healthy nvidia\.com/gpu\)",
            True,
        ),
        (
            seen(
                phase="Failed",
                container_statuses=container(
                    terminated=k8s.V1ContainerStateTerminated(exit_code=1, message="error: x")
                ),
            ),
            r"^x \(the stage ended with exit code 1: a bug",
            False,
        ),
        (LastLook(None, trouble=RuntimeError("no route")), r"^no pod came of this try: no route$", True),
    ],
)
def test_rare_ends_are_named(look: LastLook, message: str, retried: bool) -> None:
    with pytest.raises(AirflowException, match=message) as caught:
        PodEnd(look, "base", RUNTIME).fail()
    assert isinstance(caught.value, AirflowFailException) is not retried


def test_an_oom_of_an_evicted_pod_is_an_eviction() -> None:
    killed = k8s.V1ContainerStateTerminated(exit_code=137, reason="OOMKilled", finished_at=datetime.now(UTC))
    look = seen(
        phase="Failed", reason="Evicted", message="low on memory", container_statuses=container(terminated=killed)
    )
    with pytest.raises(AirflowException, match=r"the node evicted the pod \(Evicted: low on memory\)") as caught:
        PodEnd(look, "base", RUNTIME).fail()
    assert not isinstance(caught.value, AirflowFailException)


def test_the_pod_has_its_stages_time_and_that_of_its_image(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    add_model(project, "shop", "http://127.0.0.1:1", deferrable=True, timeout_s=100)
    task = operator(project)
    assert (task.schedule_timeout_seconds, task.startup_timeout_seconds) == (3, 30)
    assert task.active_deadline_seconds == 130
    assert task.deferrable
    assert task.logging_interval == 60
