"""The DAG files as Airflow reads them: complete, light, and safe from one broken config."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from embft.pod import GPU_STAGES
from tests.airflow.project import IMAGE, REPO, make_project

HEAVY = (
    "torch,pytorch_lightning,lightning,mlflow,datasets,great_expectations,pandas,sentence_transformers,boto3,kubernetes"
)
EDGES = sorted(
    [
        ["plan", "pull"],
        ["pull", "validate_sessions"],
        ["validate_sessions", "preprocess_ranks"],
        ["preprocess_ranks", "validate_ranks"],
        ["validate_ranks", "fine_tune"],
        ["fine_tune", "evaluate"],
        ["evaluate", "gate"],
        ["gate", "register"],
        ["gate", "rejected"],
        ["register", "publish"],
        ["rejected", "publish"],
        ["pull", "tell"],
        ["publish", "tell"],
    ]
)
KINDS = ("monitor", "retrain", "rollback")
ASKING = [["approve", "register"], *(["gate", "approve"] if it == ["gate", "register"] else it for it in EDGES)]
SEARCHING = [["search", "fine_tune"], ["validate_ranks", "search"]]


def read_dags(home: Path, include: Path | None, **env: str) -> dict[str, Any]:
    """Read the repo's DAG files in a fresh interpreter with an Airflow home of its own."""
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(REPO),
        **({"EMBFT_INCLUDE": str(include)} if include else {}),
        **env,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "EMBFT"))}
    script = Path(__file__).parent / "read_dags.py"
    command = [sys.executable, str(script), str(REPO / "dags"), HEAVY]
    ended = subprocess.run(command, env=kept | settings, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def pod(**stages: str) -> dict[str, Any]:
    return {"stages": stages, "kubernetes": {"image": IMAGE}}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A plain model, two that search in parallel (one with pods, which asks a person), and four broken configs."""
    root = tmp_path_factory.mktemp("dags")
    project = make_project(root / "project")
    project.add_model("shop", synthetic=True, description="Search of a shop.")
    places = pod(fine_tune="pod", pull="pod", gate="pod", publish="pod", monitor="pod")
    asks = {"max_val_loss": 1.0, "approval": {"timeout_hours": 2}}
    ranges = {"items_lr": {"low": 0.001, "high": 0.01}}
    project.add_model(
        "pods",
        runtime={**places, "pool": "gpus"},
        gate=asks,
        training={"search": {"trials_in_parallel": 2, "ranges": ranges}},
    )
    schedule = {"cron": "30 3 * * *", "timezone": "Europe/Berlin", "max_active_runs": 2}
    limits = {"retries": 0, "retry_delay_s": 5, "timeout_s": 60}
    told = {"monitoring": {"cron": "15 7 * * *"}, "alerts": {"deadline_hours": None}}
    training = {"search": {"trials_in_parallel": 3, "ranges": ranges}}
    project.add_model("berlin", schedule=schedule, runtime=limits, training=training, **told)
    project.add_model("misspelt", windw={"days": 3})
    project.add_model("badcron", schedule={"cron": "every night"})
    project.add_model("badmonitor", monitoring={"cron": "0 25 * * *"})
    lost = pod(fine_tune="pod")
    lost["kubernetes"] = lost["kubernetes"] | {"pod_template": "kubernetes/lost.yaml"}
    project.add_model("notemplate", runtime=lost)
    project.add_model("forever", runtime={"timeout_s": 10**15})
    return read_dags(root / "home", project.include)


def test_every_right_config_has_its_dag(found: dict[str, Any]) -> None:
    models = ("berlin", "pods", "shop")
    assert sorted(found["dags"]) == [f"{kind}_{model}" for kind in KINDS for model in models]


def test_broken_configs_are_import_errors_of_a_file_without_dags(found: dict[str, Any]) -> None:
    # An import error of retrain.py would make Airflow stop scheduling every model.
    assert list(found["errors"]) == ["check_configs.py"]
    message = found["errors"]["check_configs.py"]
    assert "misspelt.yaml" in message
    assert "windw: unknown key; did you mean 'window'?" in message
    assert "badcron.yaml: schedule.cron: is 'every night', which is no cron expression" in message
    assert "badmonitor.yaml: monitoring.cron: is '0 25 * * *', which is no cron expression" in message
    assert "runtime.kubernetes.pod_template of notemplate: " in message
    assert "kubernetes/lost.yaml does not exist" in message
    assert "runtime.timeout_s: Input should be less than or equal to 604800 (found 1000000000000000)" in message


@pytest.mark.parametrize("model", ["shop", "pods", "berlin"])
def test_tasks_and_edges_are_the_diagram(found: dict[str, Any], model: str) -> None:
    dag = found["dags"][f"retrain_{model}"]
    searching = SEARCHING if model != "shop" else []
    assert dag["edges"] == sorted([*(ASKING if model == "pods" else EDGES), *searching])
    mapped = [name for name, task in dag["tasks"].items() if task["is_mapped"]]
    assert sorted(mapped) == (["pull", "search"] if searching else ["pull"])
    rules = {name: task["trigger_rule"] for name, task in dag["tasks"].items()}
    expected = dict.fromkeys(rules, "all_success") | dict.fromkeys(["validate_sessions", "publish"], "none_failed")
    # A worker that fails stops no night.
    expected |= {"fine_tune": "all_done_min_one_success"} if searching else {}
    assert rules == expected | {"tell": "all_done_setup_success"}
    assert sorted(dag["can_skip"]) == (["approve", "gate"] if model == "pods" else ["gate"])


def test_stages_run_where_the_config_says(found: dict[str, Any]) -> None:
    kinds = {name: task["task_type"] for name, task in found["dags"]["retrain_pods"]["tasks"].items()}
    assert kinds["fine_tune"] == kinds["pull"] == "StagePodOperator"
    assert kinds["gate"] == "GatePodOperator"
    # Where fine_tune runs; there is no second setting.
    assert kinds["search"] == "SearchPodOperator"
    assert found["dags"]["retrain_berlin"]["tasks"]["search"]["task_type"] == "SearchOperator"
    assert kinds["evaluate"] == "StageOperator"
    assert kinds["rejected"] == "RejectedOperator"
    assert kinds["approve"] == "ApproveOperator"
    assert found["dags"]["rollback_pods"]["tasks"]["rollback"]["task_type"] == "RollbackPodOperator"
    assert found["dags"]["rollback_shop"]["tasks"]["rollback"]["task_type"] == "RollbackOperator"
    assert found["dags"]["monitor_pods"]["tasks"]["monitor"]["task_type"] == "MonitorPodOperator"
    assert found["dags"]["monitor_shop"]["tasks"]["monitor"]["task_type"] == "MonitorOperator"
    # Connections are Airflow's, so people are told from the worker.
    assert {found["dags"][f"{kind}_pods"]["tasks"]["tell"]["task_type"] for kind in KINDS} == {"TellOperator"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_ends_by_telling_people_which_never_turns_it_red(found: dict[str, Any], kind: str) -> None:
    dag = found["dags"][f"{kind}_berlin"]
    assert dag["teardowns"] == {"tell": False}
    assert not [edge for edge in dag["edges"] if edge[0] == "tell"]
    tell = dag["tasks"]["tell"]
    # Its retries and limit are its own: a channel that is away has nothing to do with the stages.
    assert (tell["retries"], tell["limit_s"]) == (3, 900)
    assert "**Red?**" in tell["doc_md"]


def test_a_champion_is_looked_at_every_day_by_a_dag_of_its_own(found: dict[str, Any]) -> None:
    dag = found["dags"]["monitor_berlin"]
    assert dag["edges"] == [["monitor", "tell"]]
    assert dag["timetable"] == {"expression": "15 7 * * *", "timezone": "Europe/Berlin"}
    assert found["dags"]["monitor_shop"]["timetable"] == {"expression": "0 6 * * *", "timezone": "UTC"}
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    assert dag["params"] == {"day": None, "force": False}
    assert all(dag["descriptions"].values())
    assert {task["pool"] for task in found["dags"]["monitor_pods"]["tasks"].values()} == {"default_pool"}
    assert "**Red?**" in dag["tasks"]["monitor"]["doc_md"]
    assert "embft monitor --model berlin --day" in dag["doc"]


def test_a_night_has_the_deadline_of_its_config(found: dict[str, Any]) -> None:
    [deadline] = found["dags"]["retrain_shop"]["deadlines"]
    assert deadline["hours"] == 5
    assert deadline["callback"] == "embft.airflow.deadline.missed"
    assert "is not over 5 hours after it was queued" in found["dags"]["retrain_shop"]["doc"]
    assert found["dags"]["retrain_berlin"]["deadlines"] == []
    assert "No night is told as late" in found["dags"]["retrain_berlin"]["doc"]
    assert found["dags"]["monitor_shop"]["deadlines"] == found["dags"]["rollback_shop"]["deadlines"] == []


def test_tasks_that_train_or_encode_wait_in_the_configs_pool(found: dict[str, Any]) -> None:
    pools = {name: task["pool"] for name, task in found["dags"]["retrain_pods"]["tasks"].items()}
    assert {name for name, pool in pools.items() if pool == "gpus"} == set(GPU_STAGES)
    assert {task["pool"] for task in found["dags"]["retrain_shop"]["tasks"].values()} == {"default_pool"}
    # Who rolls back does not wait for a training to end.
    assert found["dags"]["rollback_pods"]["tasks"]["rollback"]["pool"] == "default_pool"


def test_what_moves_the_pointer_to_the_vectors_tells_other_dags(found: dict[str, Any]) -> None:
    asset = [["shop_vectors", "s3://bucket/models/shop/vectors/current.json"]]
    outlets = {name: task["outlets"] for name, task in found["dags"]["retrain_shop"]["tasks"].items()}
    assert outlets == {name: [] for name in outlets} | {"publish": asset}
    assert found["dags"]["rollback_shop"]["tasks"]["rollback"]["outlets"] == asset


def test_a_rollback_is_started_by_hand_and_asks_why(found: dict[str, Any]) -> None:
    dag = found["dags"]["rollback_shop"]
    assert dag["timetable"] == {}
    # At night nobody should first have to find the switch.
    assert dag["paused"] is False
    assert dag["tags"] == ["embft", "rollback", "shop", "synthetic"]
    assert dag["retries"] >= 2
    assert "**Trigger**, and say in *Why* what was seen." in dag["doc"]
    assert dag["schemas"]["why"]["maxLength"] == 500
    assert dag["schemas"]["to"]["pattern"] == "^[1-9][0-9]{0,8}$"
    assert dag["tasks"]["rollback"]["retries"] == 3
    assert len(dag["tasks"]["rollback"]["doc_md"]) > 50


def test_dag_has_what_a_team_expects(found: dict[str, Any]) -> None:
    dag = found["dags"]["retrain_shop"]
    assert dag["tags"] == ["embft", "retrain", "shop", "synthetic"]
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert dag["start_date"] == "2026-01-01T00:00:00+00:00"
    assert dag["retries"] >= 2
    assert "Owner: **search-team**" in dag["doc"]
    assert "Synthetic" in dag["doc"]
    for name, task in dag["tasks"].items():
        assert task["owner"] == "search-team"
        assert len(task["doc_md"]) > 50, name
        assert task["retries"] == 3


def test_every_task_links_to_its_pages(found: dict[str, Any]) -> None:
    expected = ["Data Docs", "MLflow run", "Report", "Result"]
    for dag in found["dags"].values():
        assert all(links == expected for links in dag["links"].values())


def test_retries_and_limits_come_from_the_config(found: dict[str, Any]) -> None:
    dag = found["dags"]["retrain_berlin"]
    # The team's own check of default_args passes; the tasks do what the config says.
    assert dag["retries"] >= 2
    stages = [task for name, task in dag["tasks"].items() if name != "tell"]
    assert {task["retries"] for task in stages} == {0}
    assert {task["retry_delay_s"] for task in dag["tasks"].values()} == {5}
    assert {task["limit_s"] for task in stages} == {60}
    assert {task["retry_exponential_backoff"] for task in dag["tasks"].values()} == {2}


def test_timetable_comes_from_the_config(found: dict[str, Any]) -> None:
    dag = found["dags"]["retrain_berlin"]
    assert dag["timetable"] == {"expression": "30 3 * * *", "timezone": "Europe/Berlin"}
    assert dag["max_active_runs"] == 2
    assert dag["start_date"].startswith("2026-01-01T00:00:00+01:00") or dag["start_date"] == "2025-12-31T23:00:00+00:00"


def test_form_is_typed_explained_and_valid_as_it_stands(found: dict[str, Any]) -> None:
    dag = found["dags"]["retrain_shop"]
    assert dag["params"] == {"day": None, "promote": "auto", "window_days": None, "force": False}
    assert dag["schemas"]["promote"]["enum"] == ["auto", "never", "force"]
    assert "in a backfill it is registered only" in dag["schemas"]["promote"]["values_display"]["auto"]
    assert dag["schemas"]["window_days"] == {
        "type": ["null", "integer"],
        "minimum": 3,
        "maximum": 1000,
        "title": "Window in days",
    }
    assert dag["schemas"]["force"]["type"] == "boolean"
    assert dag["schemas"]["day"]["format"] == "date"
    assert all(schema["title"] for schema in dag["schemas"].values())
    assert all(dag["descriptions"].values())


def test_parsing_imports_nothing_heavy_and_is_fast(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    for number in range(20):
        project.add_model(f"model{number}")
    found = read_dags(tmp_path / "home", project.include)
    assert found["heavy"] == []
    assert len(found["dags"]) == len(KINDS) * 20
    assert found["errors"] == {}
    # Beyond Airflow's own import; generous, for busy machines.
    assert found["seconds"] < 2.0


def test_a_project_without_configs_says_so(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    found = read_dags(tmp_path / "home", project.include)
    assert found["dags"] == {}
    assert "a model needs one config" in found["errors"]["check_configs.py"]


def test_every_config_of_this_repo_has_its_dag(tmp_path: Path) -> None:
    models = sorted((REPO / "include" / "models").glob("*.yaml"))
    if not models:
        pytest.skip("this checkout has no config")
    found = read_dags(tmp_path / "home", None)
    assert found["errors"] == {}
    assert sorted(found["dags"]) == [f"{kind}_{path.stem}" for kind in KINDS for path in models]
    for path in models:
        owner = yaml.safe_load(path.read_text())["owner"]
        assert {task["owner"] for task in found["dags"][f"retrain_{path.stem}"]["tasks"].values()} == {owner}
