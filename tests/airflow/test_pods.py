"""The pod's operator by itself: a pod that is refused, a task that is told to stop early, and ends that are rare."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import models as k8s

from embft.airflow.cluster import LastLook
from embft.airflow.pod_end import PodEnd
from embft.airflow.pods import StagePodOperator
from embft.config import Runtime
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
    where = {"kubernetes_conn_id": None, "config_file": kubeconfig, "in_cluster": False}
    return StagePodOperator(
        task_id="fine_tune", stage="fine_tune", model="shop", include=str(project.include), **where, **options
    )


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
