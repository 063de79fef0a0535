"""Nights by Airflow: the real DAG file, each stage the real command in its own process, real S3, real MLflow.

All nights run in one process of Airflow, one after the other; what a test needs is run when it first asks for it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo.services import SECRET_KEY, s3_environment
from embft.config import STAGES
from embft.results import StageResult
from tests.airflow.process import Night, airflow_process, states
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.realdata import needs_clicks
from tests.shop import ITEMS, NIGHT, WORDS, make_shop

pytestmark = pytest.mark.airflow

NEW_DAYS = [str(NIGHT - timedelta(days=1)), str(NIGHT)]
FILES, RUNS = "http://files.test", "http://mlflow.test"
SEARCH = "  search: {trials: 2, trials_in_parallel: 2, ranges: {items_lr: {choices: [0.02, 0.03, 0.04]}}}\n"
LINKS = {f"_link_{name}" for name in ("result", "mlflow_run", "report", "data_docs", "decision")}
Airflow = Callable[[Mapping[str, Any]], Night]


@dataclass(frozen=True)
class Done:
    """A night as Airflow saw it, and the stages' results as they stood right after it."""

    night: Night
    results: dict[str, StageResult]

    @property
    def states(self) -> dict[str, str]:
        return states(self.night)

    @property
    def uris(self) -> dict[tuple[str, int], Any]:
        """What each task instance left for others: under `result` for `plan`, else as its return value."""
        return {
            (task, index): value
            for task, index, key, value in self.night["xcoms"]
            if key == ("result" if task == "plan" else "return_value")
        }

    @property
    def pages(self) -> dict[tuple[str, str], str]:
        """Each button that a task shows, and its address."""
        xcoms = self.night["xcoms"]
        return {(task, key.removeprefix("_link_")): value for task, _, key, value in xcoms if key in LINKS and value}


@pytest.fixture(scope="module")
def airflow(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    environment = s3_environment(module_environment)
    with airflow_process(tmp_path_factory.mktemp("airflow-home"), environment) as run:
        yield run


@pytest.fixture(scope="module")
def tiny(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny shop, with a web address for its files and for MLflow; two tasks train its trials."""
    home = tmp_path_factory.mktemp("tiny")
    bucket = new_bucket(module_environment)
    include = make_shop(home, bucket, module_environment, new_database(home))
    edit_config(include, "storage:\n", f"storage:\n  browse_url: {FILES}\n")
    edit_config(include, "mlflow:\n", f"mlflow:\n  ui_url: {RUNS}\n")
    edit_config(include, "training:\n", f"training:\n{SEARCH}")
    return Project(include, bucket, "tiny")


@pytest.fixture(scope="module")
def promoted(airflow: Airflow, tiny: Project) -> Done:
    """A night for which the first three days of five were pulled before."""
    pull_before(tiny, NIGHT - timedelta(days=len(NEW_DAYS)))
    return run_night(airflow, tiny, NIGHT, hour=2)


@pytest.fixture(scope="module")
def rejected(airflow: Airflow, tiny: Project, promoted: Done) -> Done:
    """The same night again, asked for at noon, after somebody raised the bar."""
    edit_config(tiny.include, "min_relative_gain: 0.01", "min_relative_gain: 0.99")
    return run_night(airflow, tiny, NIGHT, hour=12)


@pytest.fixture(scope="module")
def real(airflow: Airflow, xbox: Project) -> Done:
    """A night on the real clicks, for which all days but its own were pulled before."""
    night = date(2011, 10, 9)
    pull_before(xbox, night - timedelta(days=1))
    return run_night(airflow, xbox, night, hour=2)


def pull_before(project: Project, day: date) -> None:
    """Plan a night and pull its days by hand: in one process that is much faster than in one for each day."""
    for log_day in project.stage("plan", day).figures["days_to_pull"]:
        project.stage("pull", day, log_day=date.fromisoformat(log_day))


def run_night(airflow: Airflow, project: Project, day: date, *, hour: int) -> Done:
    night = airflow(
        {
            "name": f"{project.model} {day}",
            "dag": f"retrain_{project.model}",
            "include": str(project.include),
            "logical_date": f"{day + timedelta(days=1)}T{hour:02d}:00:00+00:00",
        }
    )
    stored = {stage: project.storage.read_result(project.paths.stage(day, stage)) for stage in STAGES}
    return Done(night, {stage: result for stage, result in stored.items() if result})


def edit_config(include: Path, old: str, new: str) -> None:
    path = include / "models" / "tiny.yaml"
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))


def published(project: Project) -> tuple[dict[str, Any], list[str], np.ndarray]:
    """What serves: the pointer, and the ids and vectors that it names."""
    pointer = json.loads(project.storage.read(project.paths.current_vectors) or b"")
    shards = [pa.BufferReader(project.storage.read(shard["uri"]) or b"") for shard in pointer["shards"]]
    table = pa.concat_tables([pq.read_table(shard) for shard in shards])
    return pointer, table["id"].to_pylist(), np.array(table["vector"].to_pylist())


def test_good_night_goes_from_plan_to_publish(promoted: Done) -> None:
    assert promoted.night["state"] == "success", promoted.night["log"][-5000:]
    assert promoted.states == {**dict.fromkeys([*STAGES, "search", "tell"], "success"), "rejected": "skipped"}
    assert [task for task, *_ in promoted.night["tasks"]].count("pull") == len(NEW_DAYS)
    assert [task for task, *_ in promoted.night["tasks"]].count("search") == 2
    assert {tries for _, _, state, tries in promoted.night["tasks"] if state == "success"} == {1}


def test_the_searchs_workers_train_all_trials_and_fine_tune_none(promoted: Done, tiny: Project) -> None:
    summary = promoted.results["fine_tune"].figures["search"]
    assert summary["trials"] == 2
    mlflow.set_tracking_uri(tiny.spec(NIGHT).config.mlflow.tracking_uri)
    runs = mlflow.search_runs(
        experiment_names=["tiny"], filter_string="tags.`embft.trial` LIKE '%'", output_format="list"
    )
    assert len(runs) == len({it.data.tags["embft.params_id"] for it in runs}) == 2
    assert {it.data.tags["embft.worker"] for it in runs} <= {"search 0", "search 1"}
    assert promoted.results["fine_tune"].figures["mlflow_run_id"] in {it.info.run_id for it in runs}


def test_xcom_holds_the_uri_of_each_stages_result_and_nothing_else(promoted: Done, tiny: Project) -> None:
    for (task, _), uri in promoted.uris.items():
        assert uri.startswith(f"s3://{tiny.bucket.name}/models/tiny/")
        stored = StageResult.model_validate_json(tiny.storage.read(uri) or b"")
        assert (stored.stage, stored.uri, stored.status) == (task, uri, "done")
    pulls = {("pull", number) for number in range(len(NEW_DAYS))}
    assert set(promoted.uris) == {(stage, -1) for stage in STAGES if stage != "pull"} | pulls
    assert len(set(promoted.uris.values())) == len(promoted.uris)
    own = LINKS | {"skipmixin_key"}  # Airflow's
    others = [it for it in promoted.night["xcoms"] if it[2] not in own and it[3] not in promoted.uris.values()]
    assert others == [["plan", -1, "return_value", NEW_DAYS]]


def test_links_open_what_the_stages_wrote(promoted: Done, tiny: Project) -> None:
    for stage in STAGES:
        assert (stage, "result") in promoted.pages
    assert {stage for stage, name in promoted.pages if name == "data_docs"} == {"validate_sessions", "validate_ranks"}
    assert {stage for stage, name in promoted.pages if name == "mlflow_run"} == {"fine_tune", "evaluate", "register"}
    assert ("gate", "report") in promoted.pages
    run_id = promoted.results["fine_tune"].figures["mlflow_run_id"]
    for (_, name), address in promoted.pages.items():
        if name == "mlflow_run":
            assert address.startswith(RUNS)
            assert f"/runs/{run_id}?" in address
        else:
            assert tiny.storage.read(address.replace(f"{FILES}/", "s3://")), address


def test_registered_champion_finds_what_shoppers_mean_among_the_published_vectors(
    promoted: Done, tiny: Project
) -> None:
    pointer, ids, vectors = published(tiny)
    assert pointer["version"] == promoted.results["register"].figures["version"]
    assert sorted(ids) == sorted(ITEMS)
    mlflow.set_tracking_uri(tiny.spec(NIGHT).config.mlflow.tracking_uri)
    served = mlflow.pyfunc.load_model("models:/tiny@champion").predict(list(WORDS.values()))
    best = [ITEMS[ids[number]] for number in (np.asarray(served) @ vectors.T).argmax(axis=1)]
    assert [text.split()[0] for text in best] == list(WORDS)


def test_no_secret_reaches_the_log_or_xcom(promoted: Done) -> None:
    assert "embft plan --model tiny" in promoted.night["log"]
    assert SECRET_KEY not in json.dumps(promoted.night)


def test_worse_challenger_is_a_green_night_that_says_why(rejected: Done) -> None:
    assert rejected.night["state"] == "success", rejected.night["log"][-5000:]
    skipped = {"pull", "register"}  # the champion's vectors follow the catalogue nevertheless
    assert rejected.states == {
        stage: "skipped" if stage in skipped else "success" for stage in (*STAGES, "search", "rejected", "tell")
    }
    assert rejected.results["gate"].status == "rejected"
    assert str(rejected.results["gate"].reason) in rejected.night["log"]
    assert "gate.min_relative_gain" in rejected.night["log"]


def test_night_again_with_another_gate_trains_nothing_anew(promoted: Done, rejected: Done) -> None:
    attempts = {stage: it.attempt for stage, it in promoted.results.items()}
    changed = {stage for stage, it in rejected.results.items() if it.attempt != attempts[stage]}
    assert changed == {"plan", "gate"}
    assert "fine_tune has its result; worker 0 had nothing to do" in rejected.night["log"]


def test_rejected_challenger_leaves_what_serves_alone(promoted: Done, rejected: Done, tiny: Project) -> None:
    version = promoted.results["register"].figures["version"]
    mlflow.set_tracking_uri(tiny.spec(NIGHT).config.mlflow.tracking_uri)
    client = mlflow.MlflowClient()
    assert [str(it.version) for it in client.search_model_versions("name='tiny'")] == [version]
    assert str(client.get_model_version_by_alias("tiny", "champion").version) == version
    assert published(tiny)[0]["version"] == version


@pytest.mark.realdata
@needs_clicks
def test_night_on_real_clicks_pulls_one_day_and_ends_in_a_decision(real: Done) -> None:
    assert real.night["state"] == "success", real.night["log"][-5000:]
    assert [task for task, *_ in real.night["tasks"]].count("pull") == 1
    gate = real.results["gate"]
    passed = gate.status == "done"
    assert str(gate.reason).startswith("passed" if passed else "rejected")
    ends = {"register": passed, "publish": passed, "rejected": not passed}
    took = {task: "success" if ran else "skipped" for task, ran in ends.items()}
    assert real.states == {**dict.fromkeys([*STAGES, "tell"], "success"), **took}


@pytest.mark.realdata
@needs_clicks
def test_night_that_airflow_ran_is_found_done_by_the_command_line(real: Done, xbox: Project) -> None:
    again = xbox.night(real.results["gate"].day)
    expected = [stage for stage in STAGES if stage in real.results and stage != "pull"]
    assert [it.stage for it in again] == expected
    assert all(it.reused for it in again)
    assert [it.attempt for it in again] == [real.results[stage].attempt for stage in expected]
