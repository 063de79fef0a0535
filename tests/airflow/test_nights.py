"""Whole nights by `dag.test()`: every stage a real subprocess, `fine_tune` in a pod of an emulated cluster, S3 by moto.

All nights run in one process, since Airflow's start costs more than a night.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client as k8s

from embft.config import STAGES
from tests.airflow.cluster import cluster_with_stand_in, moto_s3
from tests.airflow.process import airflow_process, states
from tests.airflow.project import IMAGE, Project, make_project

pytestmark = pytest.mark.airflow

REPORT = {"links": {"Report": "http://browse.test/report(1).html"}}
QUIET = {"figures": {"version": "3", "published": False}, "reason": "the catalogue has not changed"}
REJECTED = {"exit": 3, "status": "rejected", "reason": "loss 0.71 is above 0.60"}
OLD = {"started_utc": "2020-01-01T00:00:00Z"}
SILENT = {"writes": False, "prints_result": False}
MISSING = {"uri": "s3://bucket/models/shop/gone", "size_bytes": 7, "sha256": "0" * 64}
DAY = "2026-11-{:02d}T02:00:00+00:00"
SCENARIOS: list[dict[str, Any]] = [
    {"name": "promoted", "conf": {"promote": "never", "window_days": 9}},
    {"name": "rejected", "stages": {"plan": {"figures": {"days_to_pull": []}}, "gate": REJECTED}},
    {"name": "worker away for now", "stages": {"evaluate": [{"exit": 75, "prints": False, "says": ["error: S3"]}, {}]}},
    {"name": "worker rejects", "stages": {"validate_sessions": {**REJECTED, "links": {"Data Docs": "http://docs/1"}}}},
    {"name": "pod rejects", "stages": {"fine_tune": REJECTED}},
    {"name": "pod config wrong", "stages": {"fine_tune": {**SILENT, "exit": 2, "says": ["error: no such base"]}}},
    {"name": "pod away for now", "stages": {"fine_tune": [{**SILENT, "exit": 75, "says": ["error: MLflow"]}, {}]}},
    {"name": "pod without result", "stages": {"fine_tune": SILENT}},
    {"name": "pod with an old result", "stages": {"fine_tune": {**OLD, "prints_result": False}}},
    {"name": "pod reuses a result", "stages": {"fine_tune": {**OLD, "reused": True}}},
    {"name": "pod without an output", "stages": {"fine_tune": {"outputs": {"model": MISSING}}}},
    {"name": "pod with another input", "stages": {"fine_tune": {"inputs": {"preprocess_ranks/x.parquet": "1" * 64}}}},
    {"name": "all in pods, promoted", "dag": "retrain_pods"},
    {"name": "all deferred, promoted", "dag": "retrain_deferred"},
    {"name": "all deferred, rejected", "dag": "retrain_deferred", "stages": {"gate": REJECTED}},
    {"name": "all in pods, rejected", "dag": "retrain_pods", "stages": {"gate": REJECTED}},
    {"name": "a searcher fails", "dag": "retrain_searching", "stages": {"search": [{**SILENT, "exit": 2}, {}]}},
    {"name": "nothing to search", "dag": "retrain_searching", "stages": {"validate_ranks": REJECTED}},
    {"name": "register fails", "stages": {"register": {"exit": 2}}},
    {"name": "rolled back", "dag": "rollback_shop", "logical_date": None, "conf": {"why": "no shoes"}},
    {"name": "rolled back in a pod", "dag": "rollback_pods", "logical_date": None, "conf": {"why": "no $(SHOES)"}},
    # Three runs by hand, in which a person has a say; so each shows two things.
    {
        **{"name": "by hand, no logical date", "logical_date": None, "run_after": "2026-10-11T12:00:00+00:00"},
        **{"dag": "retrain_asking", "conf": {"promote": "never"}, "stages": {"publish": QUIET}},
    },
    {
        **{"name": "by hand at noon", "logical_date": "2026-10-21T12:00:00+00:00"},
        **{"dag": "retrain_asking", "answer": "Approve", "stages": {"gate": REPORT}},
    },
    {
        **{"name": "by hand, day named", "logical_date": "2026-10-22T12:00:00+00:00", "conf": {"day": "2026-05-01"}},
        **{"dag": "retrain_asking", "answer": "Reject"},
    },
]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with moto_s3() as url:
        yield url


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, s3: str) -> Project:
    project = make_project(tmp_path_factory.mktemp("nights") / "project")
    kubernetes = {
        "image": IMAGE,
        "connection_id": "cluster",
        "gpus": 2,
        "memory": "32Gi",
        "node_selector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu"}],
        "env_from_secret": "embft-secrets",
    }
    runtime = {"retries": 1, "retry_delay_s": 0, "stages": {"fine_tune": "pod"}, "kubernetes": kubernetes}
    artifacts = {"artifacts": "s3://bucket/models", "endpoint_url": s3, "browse_url": "http://browse.test"}
    project.add_model(storage=artifacts, runtime={"python": str(project.python), **runtime})
    everywhere = {"stages": dict.fromkeys(STAGES, "pod")}
    # `rejected` runs on the worker.
    nowhere = {**runtime, **everywhere, "python": str(project.python)}
    project.add_model("pods", storage=artifacts, runtime=nowhere)
    deferrable = {"kubernetes": {**kubernetes, "deferrable": True}}
    search = {"search": {"trials_in_parallel": 2, "ranges": {"items_lr": {"low": 0.001, "high": 0.01}}}}
    workers = {"python": str(project.python), **runtime}
    project.add_model("searching", storage=artifacts, training=search, runtime=workers)
    asks = {"max_val_loss": 1.0, "approval": {"timeout_hours": 1}}
    project.add_model("asking", storage=artifacts, gate=asks, runtime=workers)
    project.add_model("deferred", storage=artifacts, training=search, runtime={**nowhere, **deferrable})
    return project


@pytest.fixture(scope="module")
def nights(shop: Project, s3: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    dated = [
        {"logical_date": DAY.format(number + 1), "dag": "retrain_shop", **it} for number, it in enumerate(SCENARIOS)
    ]
    home = tmp_path_factory.mktemp("airflow-home")
    with (
        cluster_with_stand_in(shop, s3) as environment,
        airflow_process(home, environment, stand_in=shop.root) as run,
    ):
        return {it["name"]: run(it) for it in dated}


def tries(night: dict[str, Any], stage: str) -> int:
    return sum(call["stage"] == stage and not call["explain"] for call in night["calls"])


def days(night: dict[str, Any]) -> set[str]:
    return {call["argv"][call["argv"].index("--day") + 1] for call in night["calls"]}


def test_a_night_goes_from_plan_to_publish(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["promoted"]
    assert night["state"] == "success", night["log"][-3000:]
    assert states(night) == {**dict.fromkeys(states(night), "success"), "rejected": "skipped"}
    pulled = [call["argv"][-1] for call in night["calls"] if call["stage"] == "pull"]
    assert sorted(pulled) == ["2026-11-09", "2026-11-10"]  # mapped tasks run in no promised order
    assert night["calls"][0]["argv"][-4:] == ["--promote", "never", "--window-days", "9"]


def test_xcom_holds_uris_and_days_alone(nights: dict[str, dict[str, Any]]) -> None:
    for task, _, key, value in nights["promoted"]["xcoms"]:
        if key.startswith("_link_") or key in {"pod_name", "pod_namespace", "skipmixin_key"}:
            continue  # Airflow's own
        if (task, key) == ("plan", "return_value"):
            assert value == ["2026-11-09", "2026-11-10"]
        else:
            assert key in {"return_value", "result"}
            assert value.startswith("s3://bucket/models/shop/")
            assert value.endswith("/result.json")


def test_links_are_stored_when_the_task_ends_also_badly(nights: dict[str, dict[str, Any]]) -> None:
    stored = {(task, key): value for task, _, key, value in nights["worker rejects"]["xcoms"]}
    assert stored["validate_sessions", "_link_data_docs"] == "http://docs/1"
    assert stored["validate_sessions", "_link_report"] == ""
    pod = {(task, key): value for task, _, key, value in nights["promoted"]["xcoms"]}
    where = "http://browse.test/bucket/models/shop/runs/2026-10-31/fine_tune/result.json"
    assert pod["fine_tune", "_link_result"] == where


def test_no_day_to_pull_and_a_rejected_challenger_are_a_green_night(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["rejected"]
    assert night["state"] == "success"
    skipped = {task for task, state in states(night).items() if state == "skipped"}
    assert skipped == {"pull", "register"}
    assert states(night)["rejected"] == "success"
    assert "the challenger is worse than the champion" in night["log"]


def actors(night: dict[str, Any], stage: str) -> list[str]:
    return [call["actor"] for call in night["calls"] if call["stage"] == stage]


def test_an_approved_model_is_registered_in_the_approvers_name(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["by hand at noon"]
    assert states(night) == {**dict.fromkeys(states(night), "success"), "rejected": "skipped"}, night["log"][-3000:]
    [who] = actors(night, "register")
    assert who.startswith("retrain_asking manual__")
    assert who.endswith(", started by dag_test, approved by Kim")
    # What logs say is shown, never rendered.
    assert "**Better** on {{ ti }}." in night["log"]
    assert "[The night's report](<http://browse.test/" in night["log"]


def test_a_persons_no_keeps_the_champion_and_its_vectors_fresh(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["by hand, day named"]
    assert night["state"] == "success"
    assert {task for task, state in states(night).items() if state == "skipped"} == {"register", "rejected"}
    assert states(night)["publish"] == "success"


def test_a_run_that_promotes_nothing_asks_nobody(nights: dict[str, dict[str, Any]]) -> None:
    assert states(nights["by hand, no logical date"])["register"] == "success"
    assert "so nobody is asked" in nights["by hand, no logical date"]["log"]


def test_a_searcher_that_fails_stays_red_and_stops_nothing(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["a searcher fails"]
    assert night["state"] == "success", night["log"][-3000:]
    by_worker = {index: state for task, index, state, _ in night["tasks"] if task == "search"}
    assert sorted(by_worker) == [0, 1]
    assert sorted(by_worker.values()) == ["failed", "success"]
    others = {task: state for task, state in states(night).items() if task != "search"}
    assert others == {**dict.fromkeys(others, "success"), "rejected": "skipped"}
    assert [it["task"] for it in night["tellings"][0]["run"]["failed"]] == ["search"]
    asked = [" ".join(call["argv"][2:]) for call in night["calls"] if call["stage"] == "search"]
    day = night["calls"][0]["argv"][6]
    assert sorted(asked) == [f"search --model searching --day {day} --worker {it} --json" for it in (0, 1)]
    # In pods of their own, which people and the cluster can tell apart.
    labels = [it["body"]["metadata"]["labels"] for it in night["pods"] if it["event"] == "created"]
    told = sorted((it["embft-stage"], it.get("embft-worker"), it.get("map_index")) for it in labels)
    assert told == [("fine_tune", None, None), ("search", "0", "0"), ("search", "1", "1")]


def test_rejected_ranks_stop_a_night_before_its_search(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["nothing to search"]
    assert night["state"] == "failed"
    after = {task: states(night)[task] for task in ("search", "fine_tune", "publish")}
    assert after == dict.fromkeys(after, "upstream_failed")


def test_publish_waits_for_a_register_that_fails(nights: dict[str, dict[str, Any]]) -> None:
    assert states(nights["register fails"])["register"] == "failed"
    assert states(nights["register fails"])["publish"] == "upstream_failed"


@pytest.mark.parametrize(
    ("name", "told"), [("promoted", ["3"]), ("by hand, no logical date", []), ("rolled back", ["2"])]
)
def test_downstream_dags_hear_of_vectors_that_moved(
    nights: dict[str, dict[str, Any]], name: str, told: list[str]
) -> None:
    assert nights[name]["state"] == "success"
    assert [it["version"] for it in nights[name]["told"]] == told


def test_a_rollback_in_a_pod_says_who_and_why_and_takes_no_gpu(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["rolled back in a pod"]
    assert states(night) == {"rollback": "success", "tell": "success"}, night["log"][-3000:]
    [created] = [it["body"]["spec"]["containers"][0] for it in night["pods"] if it["event"] == "created"]
    # Kubernetes would put a variable of the pod in the place of $(SHOES).
    assert "--why=no $$(SHOES)" in created["args"]
    assert "nvidia.com/gpu" not in created["resources"]["limits"]
    assert {it["name"]: it["value"] for it in created["env"]}["EMBFT_ACTOR"].startswith("rollback_pods manual__")
    assert [it["version"] for it in night["told"]] == ["2"]


def test_temporary_failures_are_retried_on_the_worker_and_in_a_pod(nights: dict[str, dict[str, Any]]) -> None:
    assert nights["worker away for now"]["state"] == "success"
    assert tries(nights["worker away for now"], "evaluate") == 2
    assert nights["pod away for now"]["state"] == "success"
    assert tries(nights["pod away for now"], "fine_tune") == 2


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        ("worker rejects", "validate_sessions", "loss 0.71 is above 0.60"),
        ("pod rejects", "fine_tune", "loss 0.71 is above 0.60"),
        ("pod config wrong", "fine_tune", "no such base"),
    ],
)
def test_what_a_retry_cannot_help_fails_at_once(
    nights: dict[str, dict[str, Any]], name: str, stage: str, message: str
) -> None:
    night = nights[name]
    assert night["state"] == "failed"
    assert states(night)[stage] == "failed"
    assert tries(night, stage) == 1
    assert message in night["log"]
    assert states(night)["publish"] == "upstream_failed"


@pytest.mark.parametrize("name", ["pod without result", "pod with an old result"])
def test_a_pod_that_succeeded_without_this_runs_result_is_a_failure(
    nights: dict[str, dict[str, Any]], name: str
) -> None:
    night = nights[name]
    assert states(night)["fine_tune"] == "failed"
    assert tries(night, "fine_tune") == 2
    assert "the pod succeeded, but its stage left no result of this run" in night["log"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pod without an output", "names s3://bucket/models/shop/gone with 7 bytes, but S3 holds no such object"),
        ("pod with another input", "was made from preprocess_ranks/x.parquet with sha256 1111"),
    ],
)
def test_a_result_that_does_not_fit_is_made_again(nights: dict[str, dict[str, Any]], name: str, message: str) -> None:
    assert states(nights[name])["fine_tune"] == "failed"
    assert tries(nights[name], "fine_tune") == 2
    assert message in nights[name]["log"]


def test_a_reused_result_is_this_runs(nights: dict[str, dict[str, Any]]) -> None:
    night = nights["pod reuses a result"]
    assert night["state"] == "success", night["log"][-3000:]
    assert tries(night, "fine_tune") == 1


@pytest.mark.parametrize(("where", "searchers"), [("all in pods", 0), ("all deferred", 2)])
def test_any_stage_runs_in_a_pod(nights: dict[str, dict[str, Any]], where: str, searchers: int) -> None:
    promoted, rejected = nights[f"{where}, promoted"], nights[f"{where}, rejected"]
    assert promoted["state"] == "success", promoted["log"][-3000:]
    assert states(promoted) == {**dict.fromkeys(states(promoted), "success"), "rejected": "skipped"}
    # Two days of `pull`, and each other stage once; where trials are trained in parallel, two workers of the search.
    assert len([it for it in promoted["pods"] if it["event"] == "created"]) == len(STAGES) + 1 + searchers
    assert tries(promoted, "search") == searchers
    assert states(rejected)["register"] == "skipped"
    gpus = {
        it["body"]["metadata"]["labels"]["embft-stage"]: "nvidia.com/gpu" in str(it["body"]["spec"]["containers"])
        for it in promoted["pods"]
    }
    assert not gpus["pull"]
    assert gpus["fine_tune"]


@pytest.mark.parametrize("name", [it["name"] for it in SCENARIOS])
def test_no_pod_outlives_its_task(nights: dict[str, dict[str, Any]], name: str) -> None:
    events = nights[name]["pods"]
    created = [it["name"] for it in events if it["event"] == "created"]
    assert sorted(created) == sorted(it["name"] for it in events if it["event"] == "deleted")
    assert len(created) >= tries(nights[name], "fine_tune")


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("by hand, no logical date", "2026-10-10"),
        ("by hand at noon", "2026-10-20"),
        ("by hand, day named", "2026-05-01"),
    ],
)
def test_day_of_a_run_by_hand(nights: dict[str, dict[str, Any]], name: str, day: str) -> None:
    assert nights[name]["state"] == "success"
    assert days(nights[name]) == {day}


@pytest.fixture
def posted(nights: dict[str, dict[str, Any]]) -> k8s.V1Pod:
    """What was sent to the cluster, read back through the Kubernetes client's own models, which check it."""
    body = next(it["body"] for it in nights["promoted"]["pods"] if it["event"] == "created")
    pod: k8s.V1Pod = k8s.ApiClient()._ApiClient__deserialize(body, "V1Pod")
    return pod


def test_pod_runs_the_workers_command(posted: k8s.V1Pod, nights: dict[str, dict[str, Any]]) -> None:
    container = posted.spec.containers[0]
    assert container.command == ["python"]
    assert container.args == ["-m", "embft", "fine-tune", "--model", "shop", "--day", "2026-10-31", "--json"]
    worker = next(call["argv"] for call in nights["promoted"]["calls"] if call["stage"] == "evaluate")
    assert [word.replace("evaluate", "fine-tune") for word in worker] == container.args


def test_pod_is_what_the_config_says(posted: k8s.V1Pod) -> None:
    [container] = posted.spec.containers
    assert container.image == IMAGE
    expected = {"cpu": "4", "memory": "32Gi", "nvidia.com/gpu": "2"}
    assert container.resources.limits == container.resources.requests == expected
    assert posted.spec.node_selector == {"pool": "gpu"}
    assert [(it.key, it.operator, it.effect) for it in posted.spec.tolerations] == [
        ("nvidia.com/gpu", "Exists", "NoSchedule")
    ]
    assert container.env_from[0].secret_ref.name == "embft-secrets"
    labels = posted.metadata.labels
    assert (labels["embft-model"], labels["embft-stage"], labels["embft-day"]) == ("shop", "fine_tune", "2026-10-31")
    assert labels["try_number"] == "1"
    assert posted.metadata.name.startswith("embft-shop-fine-tune")
    assert posted.spec.active_deadline_seconds == 1800 + 6 * 3600


def test_pod_keeps_what_the_template_says(posted: k8s.V1Pod) -> None:
    spec, container = posted.spec, posted.spec.containers[0]
    assert spec.restart_policy == "Never"
    assert spec.automount_service_account_token is False
    assert spec.security_context.run_as_non_root is True
    assert spec.security_context.seccomp_profile.type == "RuntimeDefault"
    assert container.security_context.read_only_root_filesystem is True
    assert container.security_context.allow_privilege_escalation is False
    assert container.security_context.capabilities.drop == ["ALL"]
    assert {mount.mount_path: mount.name for mount in container.volume_mounts} == {"/tmp": "scratch", "/dev/shm": "shm"}
    assert {volume.name: volume.empty_dir.medium for volume in spec.volumes} == {"scratch": None, "shm": "Memory"}
    assert "EMBFT_INCLUDE" in {item.name for item in container.env}
    assert spec.termination_grace_period_seconds == 120


def test_nothing_secret_is_spelt_in_the_pod(nights: dict[str, dict[str, Any]]) -> None:
    for event in nights["promoted"]["pods"]:
        assert "secret" not in json.dumps(event["body"]).replace("secretRef", "").replace("embft-secrets", "")
