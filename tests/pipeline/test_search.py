"""A night that searches: what is tried first, budgets, what fails, and what is left of it in MLflow and S3."""

import json
from datetime import date, timedelta
from typing import Any

import pytest

from embft.config import STAGES, Training, config_path, load_config
from embft.errors import DataRejected
from embft.experiments.manager import ExperimentsManager
from embft.experiments.trials import TrialRun
from embft.finetuning.trials import read_trials
from embft.promotion.ledger import append
from embft.results import Champion, StageResult
from embft.stages import search
from embft.stages.candidates import Candidates, TrialParams
from embft.stages.models import experiment_of
from tests.buckets import new_bucket
from tests.experiments.trainings import TextModel, kept_files, runs_of
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.pipeline.test_resumption import small_model
from tests.shop import NIGHT, make_shop

RANGES = "ranges: {items_lr: {low: 1.0e-3, high: 0.1, log: true}, margin: {choices: [0.0, 0.2]}}"
SEARCH = f"search: {{trials: 5, {RANGES}}}"


class Shop:
    """A shop whose night has come to `fine_tune`, and whose training can be changed."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._path = config_path(project.include, project.model)
        self._config = self._path.read_text()

    @property
    def tracking_uri(self) -> str:
        return load_config(self._path).mlflow.tracking_uri

    @property
    def manager(self) -> ExperimentsManager:
        return experiment_of(load_config(self._path), self.project.paths)

    def plan(self, training: str) -> None:
        self._path.write_text(self._config.replace("training:\n", f"training:\n  {training}\n"))
        self.project.stage("plan", NIGHT)
        for name in STAGES[STAGES.index("validate_sessions") : STAGES.index("fine_tune")]:
            self.project.stage(name, NIGHT)

    def train(self, training: str) -> StageResult:
        self.plan(training)
        return self.project.stage("fine_tune", NIGHT)

    def trials(self, result: StageResult) -> list[dict[str, Any]]:
        content = self.project.storage.read(result.outputs["trials.json"].uri)
        assert content is not None
        read_trials(content)
        trials: list[dict[str, Any]] = json.loads(content)
        return trials

    def history(self, result: StageResult) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.project.storage.read(result.outputs["history.json"].uri) or b"")
        return content

    def n_runs(self) -> int:
        return len(runs_of(self.tracking_uri, "tiny"))


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    home = tmp_path_factory.mktemp("search")
    bucket = new_bucket(module_environment)
    include = make_shop(home, bucket, module_environment, new_database(home))
    config = include / "models" / "tiny.yaml"
    small_model().save(home / "model")
    settings = f"num_epochs: 6, batch_size: 64}}\n  base_model: {home / 'model'}"
    config.write_text(config.read_text().replace("num_epochs: 3}", settings))
    project = Project(include, bucket, "tiny")
    project.stage("plan", NIGHT)
    for back in range(5):
        project.stage("pull", NIGHT, log_day=NIGHT - timedelta(days=back))
    return Shop(project)


@pytest.fixture(scope="module")
def searched(shop: Shop) -> StageResult:
    """A night after one whose trials are in MLflow, some of them nothing for today."""
    manager = shop.manager
    with manager.iteration(f"another {NIGHT - timedelta(days=1)} abc"):  # a model of the same experiment
        manager.run_once(TrialParams(items_lr=0.09, margin=0.0), lambda: (TextModel("x"), 0.0))
    with manager.iteration(f"tiny {NIGHT} abc"):  # a night like this one, but for its inputs
        manager.run_once(TrialParams(items_lr=0.08, margin=0.0), lambda: (TextModel("x"), 0.0))
    with manager.iteration(f"tiny {NIGHT - timedelta(days=1)} abc"):
        for quality, tried in enumerate(
            [
                TrialParams(items_lr=0.5, margin=0.2),  # not in today's ranges
                TrialParams(items_lr=0.02, margin=0.2, negative_downsampling=0.5),  # what is not searched is today's
                TrialParams(items_lr=0.05, margin=0.0),
                TrialParams(items_lr=0.07, margin=0.0),  # the fourth
            ]
        ):
            manager.run_once(tried, lambda quality=quality: (TextModel("x"), float(quality)))  # type: ignore[misc]
    return shop.train(f"params: {{items_lr: 0.004}}\n  {SEARCH}")


def test_the_first_trials_are_the_best_of_the_night_before_then_the_configs_then_the_samplers(
    shop: Shop, searched: StageResult
) -> None:
    trials = shop.trials(searched)
    assert [it["from"] for it in trials] == ["earlier nights", "earlier nights", "config", "sampler", "sampler"]
    assert [it["params"] for it in trials[:3]] == [
        {"items_lr": 0.02, "margin": 0.2},
        {"items_lr": 0.05, "margin": 0.0},
        {"items_lr": 0.004, "margin": 0.0},  # left to the loss
    ]
    assert all(1e-3 <= it["params"]["items_lr"] <= 0.1 for it in trials)
    assert len({it["params_id"] for it in trials}) == 5
    today = runs_of(shop.tracking_uri, "tiny")[6:]
    assert {it.data.params["negative_downsampling"] for it in today} == {"1.0"}


def test_the_best_trial_is_the_result_and_mlflow_keeps_no_copy_of_it(shop: Shop, searched: StageResult) -> None:
    trials, history = shop.trials(searched), shop.history(searched)
    best = min((it for it in trials if it["state"] == "finished"), key=lambda it: it["quality"])
    assert searched.figures["mlflow_run_id"] == best["mlflow_run_id"]
    assert searched.figures["best_val_loss"] == history["best_val_loss"]
    # What is compared, and kept, is the trained model with the base mixed in.
    assert best["quality"] == searched.figures["mixtures"][str(searched.figures["new_share"])]
    assert best["seconds"] > history["seconds"]  # to mix takes time of the budget
    assert best["curve"] == [[it["step"], pytest.approx(it["val_loss"])] for it in history["records"]]
    told = searched.figures["search"]
    assert (told["trials"], told["best"], told["objective"]) == (5, best["params_id"], "validation loss")
    assert told["pruned"] == sum(it["state"] == "pruned" for it in trials)
    assert set(told["importances"]) in (set(), {"items_lr", "margin"})
    # Losses of all trials are measured with one margin: where they start from is the same.
    assert len({it["curve"][0][1] for it in trials}) == 1
    runs = {it.info.run_id: it for it in runs_of(shop.tracking_uri, "tiny")}
    today = [runs[it["mlflow_run_id"]] for it in trials]
    assert [it.info.status for it in today] == ["FINISHED"] * 5
    assert [kept_files(shop.tracking_uri, it) for it in today] == [set()] * 5
    assert runs[best["mlflow_run_id"]].data.tags["embft.result"] == searched.uri
    assert list(shop.project.storage.objects(shop.project.paths.all_checkpoints)) == []


def test_the_same_night_is_not_trained_again_unless_it_is_forced(shop: Shop, searched: StageResult) -> None:
    before = shop.n_runs()
    assert shop.project.stage("fine_tune", NIGHT).reused
    helped = search.run("tiny", NIGHT, include=shop.project.include, worker=0)
    assert (helped.is_over, helped.trained) == (True, ())
    assert shop.n_runs() == before
    again = shop.project.stage("fine_tune", NIGHT, force=True)
    assert shop.n_runs() == before + 5
    for first, second in zip(shop.trials(searched), shop.trials(again), strict=True):
        assert second["params"] == first["params"]  # the sampler is seeded
        assert second["curve"] == first["curve"]
    assert {it: again.outputs[it].sha256 for it in again.outputs if it.startswith("model/")} == {
        it: searched.outputs[it].sha256 for it in searched.outputs if it.startswith("model/")
    }


def test_a_helper_keeps_its_time_and_fine_tune_goes_on_with_what_is_left(shop: Shop) -> None:
    shop.plan(f"search: {{trials: 4, minutes: 1.0e-6, trials_in_parallel: 2, earlier: 0, {RANGES}}}")
    helped = search.run("tiny", NIGHT, include=shop.project.include, worker=0)
    assert [it.came_from for it in helped.trained] == ["config"]
    assert helped.search is not None
    assert helped.search.trials == 1
    before = shop.n_runs()
    result = shop.project.stage("fine_tune", NIGHT)
    (trial,) = shop.trials(result)  # no time was left for another
    assert shop.n_runs() == before
    assert trial["mlflow_run_id"] == helped.trained[0].mlflow_run_id == result.figures["mlflow_run_id"]
    history = shop.history(result)
    assert history["out_of_time"]
    assert history["steps"] == 1
    assert len(history["records"]) == 2  # the last validation was made all the same
    assert not history["stopped_early"]

    shop.plan(f"search: {{trials: 4, minutes: 1.0e-6, trials_in_parallel: 3, earlier: 0, {RANGES}}}")
    assert shop.project.stage("fine_tune", NIGHT).reused, "how many train at once is not what the result depends on"


def test_what_the_loss_chose_for_a_setting_is_not_tried_a_second_time_by_its_number() -> None:
    training = Training.model_validate({"search": {"trials": 9, "ranges": {"margin": {"choices": [0.0, 0.2]}}}})
    candidates = Candidates(training, has_champion=False, earlier=lambda count: [])
    runs: list[TrialRun] = []
    while proposed := candidates.next(runs, lambda them: [candidates.told_of(it, ()) for it in them], 0):
        params, origin = proposed
        margin = 0.0 if params.margin is None else params.margin
        content, logged = params.model_dump(mode="json"), {"margin": str(margin)}
        run = TrialRun(
            f"{len(runs)}", params.id, content, logged, "finished", "", origin, margin, 1.0, None, False, None
        )
        runs.append(run)
    assert [it.logged["margin"] for it in runs] == ["0.0", "0.2"]


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(shop: Shop) -> None:
    huge = "params: {items_lr: 1.0e+38}\n  search: {trials: 3, earlier: 0, ranges: {items_lr: {choices: [1.0e+38, "
    result = shop.train(f"{huge}0.01]}}}}}}")
    trials = shop.trials(result)
    assert [it["state"] for it in trials] == ["failed", "finished"]  # both choices were tried, and nothing is left
    assert (trials[0]["quality"], result.figures["search"]["trials"]) == (None, 2)
    assert result.figures["search"]["best"] == trials[1]["params_id"]

    for _ in range(2):  # whoever runs it again wants it tried again
        before = shop.n_runs()
        with pytest.raises(DataRejected, match=r"all 2 trials of the night failed: the .* loss became"):
            shop.train(f"{huge}2.0e+38]}}}}}}")
        assert shop.n_runs() == before + 2


def test_without_a_search_the_night_is_one_trial_and_uploads_no_model_to_mlflow(shop: Shop) -> None:
    before = shop.n_runs()
    result = shop.train("params: {items_lr: 0.01}")
    assert "trials.json" not in result.outputs
    assert "search" not in result.figures
    assert shop.n_runs() == before + 1
    run = runs_of(shop.tracking_uri, "tiny")[-1]
    assert kept_files(shop.tracking_uri, run) == set()
    assert "embft.weights_digest" not in run.data.tags


def test_champion_and_base_compete_where_both_may_be_started_from(shop: Shop, searched: StageResult) -> None:
    project = shop.project
    only_base = shop.train("start_from: both")
    assert (only_base.figures["started_from"], "search" in only_base.figures) == ("base", False)
    weights = {it.removeprefix("model/"): searched.outputs[it] for it in searched.outputs if it.startswith("model/")}
    champion = Champion(
        model="tiny", version="1", day=date(2026, 3, 1), mlflow_run_id="x", weights=weights, val_loss=1.0
    )
    append(project.storage, project.paths, "promotion", champion, leaves=None, request="x", why="better")
    result = shop.train("start_from: both")  # without a search: two trials
    trials = shop.trials(result)
    assert [it["params"] for it in trials] == [{"start_from": "champion"}, {"start_from": "base"}]
    best = min(trials, key=lambda it: it["quality"])
    assert result.figures["started_from"] == best["params"]["start_from"]
    assert trials[0]["curve"][0] != trials[1]["curve"][0]

    searching = shop.train(f"start_from: both\n  {SEARCH.replace('trials: 5', 'trials: 4')}")
    trials = shop.trials(searching)
    configured = [it["params"]["start_from"] for it in trials if it["from"] == "config"]
    assert (configured, len(trials)) == (["champion", "base"], 4)
