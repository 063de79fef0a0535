"""Five consecutive nights on real clicks, all stages in one process."""

import json
from datetime import date, timedelta

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest

from embft.finetuning.models import load_model
from embft.monitoring.day import MonitoredDay
from embft.promotion.ledger import read_history
from embft.results import Champion, StageResult
from tests.pipeline.conftest import Project
from tests.realdata import needs_clicks

pytestmark = [pytest.mark.realdata, needs_clicks]

FIRST = date(2011, 10, 9)
NIGHTS = [FIRST + timedelta(days=number) for number in range(5)]
QUERIES = ["batman", "call of duty", "halo anniversary", "deportes", "方块"]

Nights = dict[date, list[StageResult]]


@pytest.fixture(scope="module")
def nights(xbox: Project) -> Nights:
    return {day: xbox.night(day) for day in NIGHTS}


def result(results: list[StageResult], stage: str) -> StageResult:
    return next(it for it in results if it.stage == stage)


def champions(xbox: Project) -> list[Champion]:
    steps = read_history(xbox.storage, xbox.paths).steps
    return [step.after for step in steps if step.took_effect and step.after]


def test_first_night_makes_a_champion_that_beats_the_base(nights: Nights) -> None:
    first = nights[FIRST]
    assert [it.stage for it in first if it.stage != "pull"] == [
        "plan",
        "validate_sessions",
        "preprocess_ranks",
        "validate_ranks",
        "fine_tune",
        "evaluate",
        "gate",
        "register",
        "publish",
    ]
    models = result(first, "evaluate").figures["models"]
    assert models["challenger"]["val_loss"] < models["base"]["val_loss"]
    assert models["challenger"]["ndcg_at_10"] > models["base"]["ndcg_at_10"] + 0.03


def test_every_night_ends_in_a_decision_with_its_reason(nights: Nights) -> None:
    for results in nights.values():
        gate = result(results, "gate")
        assert gate.reason
        assert gate.reason.startswith("passed" if gate.status == "done" else "rejected")
        last = "register" if gate.status == "done" else "gate"
        assert [it.stage for it in results[-2:]] == [last, "publish"]


def test_every_log_line_is_accounted_for(nights: Nights) -> None:
    pulls = [it for results in nights.values() for it in results if it.stage == "pull"]
    assert sum(it.figures["lines"] for it in pulls) > 5_000
    for it in pulls:
        parts = it.figures["used"] + it.figures["duplicates"] + it.figures["quarantined"]
        assert it.figures["lines"] == parts + sum(it.figures["filtered"].values())


def test_a_window_costs_one_new_day_a_night(nights: Nights) -> None:
    assert [len([it for it in results if it.stage == "pull"]) for results in nights.values()] == [14, 1, 1, 1, 1]


def test_train_precedes_validation_precedes_test_and_no_session_is_in_two(xbox: Project, nights: Nights) -> None:
    for day, results in nights.items():
        parts = {
            name: pq.read_table(fetched(xbox, result(results, "preprocess_ranks"), f"inputs/{name}.parquet"))
            for name in ("train", "validation", "test")
        }
        days = {name: [time.date() for time in part["time"].to_pylist()] for name, part in parts.items()}
        assert max(days["train"]) < min(days["validation"])
        assert max(days["validation"]) < min(days["test"])
        assert (min(days["test"]), max(days["test"])) == (day - timedelta(days=1), day)
        ids = [id_ for part in parts.values() for id_ in part["session_id"].to_pylist()]
        assert len(ids) == len(set(ids))


def test_ranks_compare_with_those_that_their_model_gave_before(nights: Nights) -> None:
    for day in NIGHTS:
        figures = result(nights[day], "validate_ranks").figures
        assert (figures["rank_drift"] is None) == (day == FIRST)
        assert figures["warnings"] == []
        assert figures["n_vectors"] == 437
        assert figures["test_lead_z"] > 20


def test_result_says_that_the_not_clicked_side_was_sampled(nights: Nights) -> None:
    said = result(nights[FIRST], "preprocess_ranks").figures["not_clicked"]
    assert said.startswith("sampled from the catalogue")


def test_night_run_again_does_no_work(xbox: Project, nights: Nights) -> None:
    for day in (FIRST, NIGHTS[-1]):
        again = xbox.night(day)
        assert [it.stage for it in again] == [it.stage for it in nights[day] if it.stage != "pull"]
        assert all(it.reused for it in again)


def test_registered_champion_gives_the_vectors_of_its_safetensors(
    xbox: Project, nights: Nights, tmp_path_factory: pytest.TempPathFactory
) -> None:
    champion = champions(xbox)[-1]
    folder = tmp_path_factory.mktemp("champion")
    for name, artifact in champion.weights.items():
        xbox.storage.fetch(artifact, folder / name)
    tracking_uri = xbox.spec(champion.day).config.mlflow.tracking_uri
    mlflow.set_tracking_uri(tracking_uri)
    served = mlflow.pyfunc.load_model("models:/xbox@champion")
    assert mlflow.MlflowClient().get_model_version_by_alias("xbox", "champion").version == int(champion.version)
    np.testing.assert_allclose(served.predict(QUERIES), load_model(folder).encode_queries(QUERIES), atol=1e-5)


def test_served_folder_holds_safetensors_and_no_pickle(xbox: Project, nights: Nights) -> None:
    weights = champions(xbox)[-1].weights
    assert "model.safetensors" in {name.rpartition("/")[2] for name in weights}
    stored = [item.uri for item in xbox.storage.objects(f"{xbox.paths.root}")]
    assert not [uri for uri in stored if uri.endswith((".pkl", ".pickle", ".pt", ".bin", ".ckpt"))]


def test_published_vectors_are_those_of_the_champion(xbox: Project, nights: Nights) -> None:
    champion = champions(xbox)[-1]
    pointer = json.loads(xbox.storage.read(xbox.paths.current_vectors) or b"")
    assert pointer["version"] == champion.version
    assert pointer["items"] == 437


def test_champion_of_a_night_is_an_earlier_one(xbox: Project, nights: Nights) -> None:
    promoted = {it.day: it.version for it in champions(xbox)}
    for day in NIGHTS:
        earlier = [version for promoted_on, version in promoted.items() if promoted_on < day]
        champion = xbox.spec(day).champion
        assert (champion.version if champion else None) == (earlier[-1] if earlier else None)


def test_a_monitored_day_finds_of_its_clicks_what_the_night_found_of_them(xbox: Project, nights: Nights) -> None:
    day = NIGHTS[-1]
    monitored = xbox.stage("monitor", day)
    figures = MonitoredDay.model_validate(monitored.figures)
    champion = xbox.spec(day).champion
    assert champion is not None
    assert (figures.status, figures.champion) == ("measured", champion.version)
    ours = pq.read_table(fetched(xbox, monitored, "per_query.parquet")).to_pylist()
    theirs = pq.read_table(fetched(xbox, result(nights[day], "evaluate"), "per_query.parquet")).to_pylist()
    night = {it["session_id"]: it for it in theirs}
    both = [it for it in ours if it["session_id"] in night]
    # What the night's rules set aside is measured here, for it was clicked all the same.
    assert len(both) >= 0.95 * len(ours) > 100
    for it in both:
        for model in ("champion", "base"):
            measure = f"{model}.ndcg_at_10"
            assert it[measure] == pytest.approx(night[it["session_id"]][measure], abs=1e-6)
    assert figures.promised["all"].errors["ndcg_at_10"] == pytest.approx(0.015, abs=0.01)
    assert figures.traffic.unseen_share == sum("unseen" in it["slices"] for it in ours) / len(ours) > 0


def test_forced_night_gives_the_same_decision(xbox: Project, nights: Nights) -> None:
    before = result(nights[NIGHTS[1]], "gate")
    forced = xbox.night(NIGHTS[1], force=True)
    after = result(forced, "gate")
    assert not any(it.reused for it in forced)
    assert (after.status, after.reason) == (before.status, before.reason)


def test_late_backfill_does_not_take_the_alias(xbox: Project, nights: Nights) -> None:
    newest = champions(xbox)[-1]
    backfilled = xbox.night(FIRST - timedelta(days=3))
    register = result(backfilled, "register")
    assert register.figures["promoted"] is False
    assert "newer day" in str(register.reason)
    assert champions(xbox)[-1] == newest


def fetched(xbox: Project, it: StageResult, name: str) -> str:
    artifact = it.outputs[name]
    return str(xbox.storage.fetch(artifact, xbox.include.parent / "fetched" / artifact.sha256))
