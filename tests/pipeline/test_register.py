"""`register`, `history` and `rollback` on nights that passed the gate: what exists, what serves, and why."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from embft.cli import app
from embft.errors import ConfigError
from embft.promotion import load_check
from embft.promotion.ledger import read_history
from embft.promotion.pointer import read_pointer
from embft.stages import gate
from embft.stages.champions import champions_of, parse_moment
from embft.stages.rollback import Rollback, roll_back
from embft.stages.stage import read_run
from tests.buckets import new_bucket
from tests.pipeline.nights_by_hand import DAY
from tests.pipeline.promotable import PromotableNights, promotable_nights

FIRST, SECOND, THIRD, FOURTH = (DAY + timedelta(days=days) for days in range(4))
OLDER = DAY - timedelta(days=3)


@pytest.fixture(scope="module")
def nights(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> PromotableNights:
    """One shop for all tests, which follow each other as days do: a new MLflow costs seconds."""
    home = tmp_path_factory.mktemp("promotable")
    return promotable_nights(home, new_bucket(module_environment), module_environment)


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The process of the load check takes seconds; it has tests of its own. Gives the versions that were checked."""
    numbers: list[str] = []

    def passes(_: object, version: Any, *__: object) -> float:
        numbers.append(version.number)
        return 0.0

    monkeypatch.setattr(load_check, "_difference", passes)
    return numbers


@pytest.fixture(autouse=True)
def actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBFT_ACTOR", "night shift")


def rolled_back(nights: PromotableNights, **options: Any) -> Rollback:
    return roll_back("tiny", include=nights.project.include, **options)


def tags_of(nights: PromotableNights, version: str) -> dict[str, str]:
    return dict(next(it.tags for it in nights.registry.versions() if it.number == version))


def command(nights: PromotableNights, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "--model", "tiny"], env={"EMBFT_INCLUDE": str(nights.project.include)})


def test_a_first_version_serves_and_says_where_it_comes_from(nights: PromotableNights, checked: list[str]) -> None:
    trained = nights.passed(FIRST)
    result = nights.register(FIRST)
    assert (result.status, result.reason) == ("done", None)
    assert result.figures == {
        "version": "1",
        "promoted": True,
        "model_uri": "models:/tiny/1",
        "champion": "1",
        "warnings": [],
    }
    assert nights.registry.aliases() == {"champion": "1", "challenger": "1"}
    tags = tags_of(nights, "1")
    assert tags["embft.day"] == str(FIRST)
    assert tags["embft.window"] == f"{FIRST - timedelta(days=4)} to {FIRST}"
    assert tags["embft.run"] == nights.paths.run(FIRST)
    assert (tags["embft.candidate"], tags["embft.parent"]) == ("challenger", "base")
    assert tags["embft.validate_ranks"] == "done, 1 rules broken"
    assert (tags["embft.ndcg_at_10"], tags["embft.ndcg_at_10.gain"]) == ("0.7081", "+3.1 % [+1.0 %, +5.2 %]")
    assert tags["embft.slice.tail.ndcg_at_10.gain"] == "+3.1 % [too few queries]"
    assert "embft.slice.tail.mrr_at_10" not in tags
    assert tags["embft.guard.staples.ndcg_at_10"] == "0.7081"
    assert tags["embft.load_check"] == "passed: vectors differ by at most 0.0e+00"
    inputs = nights.storage.read_result(nights.paths.stage(FIRST, "preprocess_ranks"))
    assert inputs is not None
    assert tags["embft.sha256.inputs/test.parquet"] == inputs.outputs["inputs/test.parquet"].sha256
    (step,) = read_history(nights.storage, nights.paths).steps
    assert (step.change.who, step.change.to.mlflow_run_id) == ("night shift", trained.figures["mlflow_run_id"])
    assert nights.register(FIRST, force=True).figures == result.figures
    assert checked == ["1"]


def test_a_backfill_of_an_older_day_is_registered_and_does_not_serve(nights: PromotableNights) -> None:
    nights.passed(OLDER)
    result = nights.register(OLDER)
    assert (result.figures["version"], result.figures["promoted"], result.figures["champion"]) == ("2", False, "1")
    assert f"the champion, version 1, learned from the newer day {FIRST}" in (result.reason or "")
    assert nights.registry.aliases() == {"champion": "1", "challenger": "2"}


def test_promote_never_registers_only(nights: PromotableNights) -> None:
    nights.passed(SECOND, promote="never")
    result = nights.register(SECOND)
    assert (result.figures["version"], result.figures["promoted"]) == ("3", False)
    assert result.reason == "registered, not promoted: the run was started with promote=never"
    assert len(read_history(nights.storage, nights.paths).changes) == 1


def test_the_same_night_promoted_later_keeps_its_version(nights: PromotableNights) -> None:
    nights.passed(SECOND)
    result = nights.register(SECOND)
    assert (result.figures["version"], result.figures["promoted"]) == ("3", True)
    assert nights.registry.aliases() == {"champion": "3", "previous": "1", "challenger": "3"}


def test_a_rollback_brings_back_alias_and_vectors_and_its_weights_do_not_return(
    nights: PromotableNights, caplog: pytest.LogCaptureFixture
) -> None:
    nights.project.stage("publish", SECOND)
    done = rolled_back(nights, why="complaints about lamps", request="dag 7")
    assert (done.left, done.to, done.champion, done.pointer, done.number) == ("3", "1", "1", "1", 3)
    assert "ROLLBACK by night shift: version 1 of tiny serves in place of 3 (complaints about lamps)" in caplog.text
    assert nights.registry.aliases() == {"champion": "1", "challenger": "3"}
    pointer = read_pointer(nights.storage, nights.paths)
    assert pointer is not None
    assert (pointer.version, pointer.items) == ("1", 9)

    again = rolled_back(nights, request="dag 7")
    assert (again.champion, again.number) == ("1", 3)
    assert again.said.startswith("completed the same request: version 1")
    with pytest.raises(ConfigError, match="no version served before 1, so there is nothing to roll back to"):
        rolled_back(nights)

    result = nights.register(SECOND, force=True)
    assert "was promoted, and rolled back on " in (result.reason or "")
    assert "by night shift (complaints about lamps)" in (result.reason or "")
    nights.passed(THIRD, seed=SECOND.toordinal())  # the very weights of version 3
    same = nights.register(THIRD)
    assert (same.figures["version"], same.figures["promoted"], same.figures["champion"]) == ("4", False, "1")
    assert "these weights were rolled back on " in (same.reason or "")
    assert "`embft rollback --model tiny --to 4` lets it serve all the same" in (same.reason or "")


def test_force_promotes_what_auto_would_not(nights: PromotableNights) -> None:
    nights.passed(THIRD, seed=SECOND.toordinal(), promote="force")
    refused, forced = gate.STAGE.reference, read_run(nights.storage, nights.paths, THIRD)
    assert refused is not None
    left = refused(nights.storage, nights.paths, forced.model_copy(update={"promote": "auto"}))
    assert list(left) == [step.change.to.digest for step in read_history(nights.storage, nights.paths).steps[1:2]]
    assert refused(nights.storage, nights.paths, forced) == {}, "the gate would stop what was asked for"
    result = nights.register(THIRD)
    assert (result.figures["version"], result.figures["promoted"], result.figures["champion"]) == ("4", True, "4")
    assert read_history(nights.storage, nights.paths).changes[-1].forced


def test_a_version_that_never_served_can_be_chosen_by_its_nights_results(nights: PromotableNights) -> None:
    done = rolled_back(nights, to="2", why="the shop of last month is back")
    assert (done.left, done.champion, done.pointer) == ("4", "2", "2")
    assert nights.registry.aliases() == {"champion": "2", "previous": "1", "challenger": "4"}
    champion = read_history(nights.storage, nights.paths).champion
    assert champion is not None
    assert (champion.day, champion.val_loss) == (OLDER, 0.5)


def test_an_alias_moved_by_hand_is_seen_and_put_right(nights: PromotableNights) -> None:
    nights.registry.set_alias("champion", "3")
    seen = command(nights, "history")
    assert seen.exit_code == 0
    assert "MLflow's alias champion names version 3, the history says 2" in seen.stderr
    assert "`embft rollback --model tiny --to 3` makes that the record" in seen.stderr
    nights.passed(FOURTH, promote="never")
    result = nights.register(FOURTH)
    (warning,) = result.figures["warnings"]
    assert warning.startswith("MLflow's alias champion names version 3, the history says 2: it follows the history")
    assert nights.registry.aliases()["champion"] == "2"

    nights.registry.set_alias("champion", "3")
    back = rolled_back(nights, to="2")
    assert back.said == "version 2 of tiny serves already"
    assert nights.registry.aliases()["champion"] == "2"
    nights.registry.set_alias("champion", "3")
    record = rolled_back(nights, to="3", why="it was right")
    assert (record.champion, record.left) == ("3", "2")
    assert champions_of("tiny", include=nights.project.include).warnings == ()


def test_vectors_that_are_gone_are_made_where_somebody_asks_for_the_champion(nights: PromotableNights) -> None:
    nights.storage.remove([it.uri for it in nights.storage.objects(nights.paths.vectors_of("3"))])
    done = rolled_back(nights, to="3")
    assert (done.number, done.pointer) == (None, "3")


def test_history_tells_who_served_when(nights: PromotableNights) -> None:
    shown = json.loads(command(nights, "history", "--json").stdout)
    changes = [(it["before"], it["to"], it["kind"], it["forced"]) for it in shown["entries"]]
    assert changes == [
        (None, "1", "promotion", False),
        ("1", "3", "promotion", False),
        ("3", "1", "rollback", False),
        ("1", "4", "promotion", True),
        ("4", "2", "rollback", False),
        ("2", "3", "rollback", False),
    ]
    assert shown["champion"] == "3"
    today = date.fromisoformat(shown["entries"][0]["at"][:10])
    served = json.loads(command(nights, "history", "--json", "--on", str(today)).stdout)["served"]
    assert [it["version"] for it in served] == ["1", "3", "1", "4", "2", "3"]
    later = json.loads(command(nights, "history", "--json", "--on", f"{today + timedelta(days=2)}T12:00").stdout)
    assert [it["version"] for it in later["served"]] == ["3"]
    assert "no version of tiny served on 2020-01-01" in command(nights, "history", "--on", "2020-01-01").stdout
    table = command(nights, "history").stdout
    assert "version 3 of tiny serves; a rollback goes to 1" in table
    assert command(nights, "history", "--on", "yesterday").exit_code == 2
    assert command(nights, "history", "--on", "9999-12-31").exit_code == 0
    assert parse_moment("2026-03-09T12:00").isoformat() == "2026-03-09T12:00:00"


def test_versions_that_somebody_deleted_are_told(nights: PromotableNights) -> None:
    nights.registry.drop("1")
    gone = command(nights, "rollback", "--to", "1")
    assert gone.exit_code == 2
    assert "version 1 of tiny does not exist in MLflow" in gone.stderr
    assert "there is 2, 3, 4, 5" in gone.stderr
    repaired = rolled_back(nights, to="3")
    assert repaired.warnings == ("version 1, which served before, was deleted in MLflow: no alias `previous` is left",)
    assert nights.registry.aliases() == {"champion": "3", "challenger": "5"}

    nights.registry.drop("3")
    with pytest.raises(ConfigError, match=r"version 3 of tiny does not exist .* choose another with `embft rollback"):
        nights.register(FOURTH, force=True)
    done = rolled_back(nights, to="5", why="3 was deleted")
    assert (done.champion, done.pointer) == ("5", "5")


def test_a_version_whose_weights_are_gone_is_not_gone_back_to(nights: PromotableNights) -> None:
    weights = read_history(nights.storage, nights.paths).known("2")
    assert weights is not None
    uri = weights.weights["model.safetensors"].uri
    kept = nights.storage.read(uri) or b""
    nights.storage.remove([uri])
    with pytest.raises(ConfigError, match="is gone from S3, so that version cannot serve"):
        rolled_back(nights, to="2")
    nights.storage.write(uri, kept)
    assert read_history(nights.storage, nights.paths).champion != weights


def test_a_version_that_does_not_load_is_rejected_and_no_alias_moves(
    nights: PromotableNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> float:
        raise load_check._Unfit("cannot load with its declared requirements alone: No module named 'x'")

    monkeypatch.setattr(load_check, "_difference", broken)
    before = nights.registry.aliases()
    day = FOURTH + timedelta(days=1)
    nights.passed(day)
    result = nights.register(day)
    assert (result.status, result.figures["promoted"]) == ("rejected", False)
    assert "version 6 was not promoted: it cannot load with its declared requirements alone" in (result.reason or "")
    assert tags_of(nights, "6")["embft.load_check"].startswith("failed: cannot load")
    assert nights.registry.aliases() == before

    with pytest.raises(
        ConfigError, match="version 6 cannot serve: it cannot load with its declared requirements alone"
    ):
        rolled_back(nights, to="6")
    assert nights.registry.aliases() == before

    monkeypatch.setattr(load_check, "_difference", lambda *_: 0.0)
    assert nights.register(day, force=True).figures["champion"] == "6"


def test_a_model_deleted_in_mlflow_begins_anew_and_takes_no_number_of_the_history(nights: PromotableNights) -> None:
    nights.registry._client().delete_registered_model("tiny")
    day = FOURTH + timedelta(days=2)
    nights.passed(day)
    result = nights.register(day)
    assert result.figures["version"] == result.figures["champion"] == "7"
    assert [it.number for it in nights.registry.versions()] == ["7"]


def test_another_registry_does_not_give_the_alias_to_another_model(nights: PromotableNights) -> None:
    """As where `mlflow.tracking_uri` names that of another stage of delivery, which counts on its own."""
    nights.registry.tag("7", "embft.digest", "another model's")
    with pytest.raises(ConfigError, match="version 7 of tiny in MLflow is not the model that the history has"):
        nights.register(FOURTH, force=True)
    champion = read_history(nights.storage, nights.paths).champion
    assert champion is not None
    nights.registry.tag("7", "embft.digest", champion.digest)
    assert rolled_back(nights, to="7").champion == "7"


def test_a_version_that_no_night_made_is_not_gone_back_to(nights: PromotableNights) -> None:
    by_hand = nights.registry._client().create_model_version("tiny", "s3://somewhere")
    for tag, said in ((None, "no tag embft.day"), ("monday", "the tag 'monday' for embft.day")):
        if tag:
            nights.registry.tag(str(by_hand.version), "embft.day", tag)
        with pytest.raises(ConfigError, match=f"version {by_hand.version} of tiny has {said}"):
            rolled_back(nights, to=str(by_hand.version))
