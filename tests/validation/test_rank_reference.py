"""`rank_reference`: only ranks that the same model gave, on an earlier night, under the same settings, compare."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest

from embft.config import ModelConfig
from embft.paths import Paths
from embft.results import Artifact, Champion, RunSpec, StageResult, weights_digest
from embft.stages.rank_reference import rank_reference, shaped_by
from embft.storage import Storage

NIGHT = date(2011, 10, 20)
PATHS = Paths("s3://embft/models", "shop")
NOON = datetime(2011, 10, 21, 12, tzinfo=UTC)
WEIGHTS = {"model.safetensors": Artifact(uri="s3://embft/model.safetensors", size_bytes=1, sha256="feed")}


class Results:
    """The results that a bucket holds, and nothing else of S3."""

    def __init__(self, *results: StageResult) -> None:
        self.by_prefix = {PATHS.stage(it.day, it.stage): it for it in results}

    def read_result(self, prefix: str) -> StageResult | None:
        return self.by_prefix.get(prefix)


def spec(champion_of: date | None = None, **training: Any) -> RunSpec:
    config = {
        "name": "shop",
        "owner": "search-team",
        "schedule": {"start_date": "2011-10-01"},
        "storage": {"artifacts": "s3://embft/models"},
        "logs": {"uri": "s3://shop/logs/dt={day}"},
        "catalogue": {"uri": "s3://shop/items.jsonl"},
        "gate": {"max_val_loss": 3.0},
        "mlflow": {"tracking_uri": "http://mlflow.test"},
        "training": training,
    }
    champion = champion_of and Champion(
        model="shop",
        version="7",
        day=champion_of,
        mlflow_run_id="r7",
        weights=WEIGHTS,
        val_loss=1.0,
    )
    return RunSpec(
        model="shop",
        day=NIGHT,
        config=ModelConfig.model_validate(config),
        promote="auto",
        window=(),
        champion=champion or None,
    )


def evaluated(day: date, run: RunSpec, *, sha256: str = "feed", status: str = "done", told: bool = True) -> StageResult:
    candidate = weights_digest({name: it.model_copy(update={"sha256": sha256}) for name, it in WEIGHTS.items()})
    models = {name: {"n": 5, "whose": f"{name} of {day}"} for name in ("base", "candidate")}
    distribution = {"shaped_by": shaped_by(run), "candidate": candidate, "models": models}
    return StageResult(
        stage="evaluate",
        model="shop",
        day=day,
        uri="s3://embft/result.json",
        attempt="a",
        status=status,  # type: ignore[arg-type]
        inputs={},
        settings_digest="",
        code_version="",
        outputs={},
        figures={"rank_distribution": distribution} if told else {},
        started_utc=NOON,
        finished_utc=NOON,
    )


def reference(run: RunSpec, *results: StageResult) -> Any:
    return rank_reference(cast(Storage, Results(*results)), PATHS, run)


def before(days: int) -> date:
    return NIGHT - timedelta(days=days)


def test_a_champions_ranks_compare_with_those_of_the_candidate_that_it_was() -> None:
    run = spec(champion_of=before(3))
    found = reference(run, evaluated(before(3), run), evaluated(before(1), run), evaluated(NIGHT, run))
    assert found["whose"] == f"candidate of {before(3)}"
    assert found["of"] == "the candidate on 2011-10-17"


@pytest.mark.parametrize("other", [{"sha256": "beef"}, {"told": False}])
def test_an_evaluation_of_another_model_is_no_reference(other: dict[str, Any]) -> None:
    run = spec(champion_of=before(3))
    assert str(before(3)) in reference(run, evaluated(before(3), run, **other))


def test_a_champion_whose_evaluation_is_gone_has_no_reference() -> None:
    run = spec(champion_of=before(3))
    assert reference(run, evaluated(before(2), run)).startswith("no result of evaluate of 2011-10-17")


def test_without_a_champion_the_base_compares_with_itself_on_the_newest_earlier_night() -> None:
    run = spec()
    nights = [evaluated(NIGHT + timedelta(days=back), run) for back in (-9, -2, 0, 1)]
    assert reference(run, *nights, evaluated(before(1), run, status="rejected"))["whose"] == f"base of {before(2)}"


def test_the_first_night_has_no_reference() -> None:
    run = spec()
    assert reference(run, evaluated(NIGHT, run), evaluated(before(-1), run)) == "no earlier night to compare with"


def test_another_base_model_is_no_reference_for_the_base_and_none_of_the_champions_business() -> None:
    other = {"base_model": "s3://embft/other"}
    assert reference(spec(), evaluated(before(2), spec(**other))) == "training.base_model changed since 2011-10-18"
    champion = spec(champion_of=before(3))
    assert reference(champion, evaluated(before(3), spec(**other)))["whose"] == f"candidate of {before(3)}"


def test_other_settings_are_no_reference() -> None:
    found = reference(spec(), evaluated(before(2), spec(sampled_negatives=7)))
    assert found == "training.sampled_negatives changed since 2011-10-18"
