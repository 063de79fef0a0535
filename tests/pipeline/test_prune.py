"""`embft prune`: what goes, what stays, and that nothing which is needed goes, whatever the nights' ages."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from demo.services import free_port
from embft.cli import app
from embft.errors import ConfigError, StorageUnavailable, TemporaryError
from embft.finetuning.models import load_model
from embft.promotion.ledger import append, read_history
from embft.promotion.pointer import read_pointer, settle_pointer
from embft.results import Artifact, StageResult
from embft.stages.log_days import sessions_of_day
from embft.stages.prune import Pruning, prune
from embft.stages.stage import Draft, Outcome, commit
from embft.storage import Storage, StoredObject
from tests.buckets import new_bucket
from tests.pipeline.nights_by_hand import DAY, ITEMS, NightsByHand, nights_by_hand

NOW = datetime(2027, 1, 1, tzinfo=UTC)
DAYS = [DAY + timedelta(days=30 * number) for number in range(4)]
REGISTERED = {str(number): {"embft.day": str(day)} for number, day in enumerate(DAYS, 1)}


@pytest.fixture(scope="module")
def built(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> NightsByHand:
    """Four nights, a month apart; those of 1, 2 and 3 were promoted, and 3 was rolled back; 4 was rejected."""
    return build(tmp_path_factory.mktemp("prune"), module_environment)


def build(folder: Path, endpoint: str) -> NightsByHand:
    nights = nights_by_hand(folder, new_bucket(endpoint), endpoint)
    for number, day in enumerate(DAYS):
        nights.night(day, {**ITEMS, f"of-{day}": "lamp"})
        nights.train(day)
        for log_day in nights.window(day):
            nights.pull(log_day)
        if number < 3:
            nights.promote(str(number + 1), day)
            nights.commit("register", day, {"version.json": nights.file("version", b"{}")})
            nights.project.stage("publish", day)
    two = nights.champion("2", DAYS[1])
    append(nights.storage, nights.paths, "rollback", two, request="x", why="worse")
    settle_pointer(nights.storage, nights.paths)
    for name in ("mlflow/1/model", "notes.txt", "runs/README", f"runs/{DAYS[0]}/plan/by-hand.txt"):
        nights.storage.write(f"{nights.paths.root}/{name}", b"somebody's")
    return nights


def monitored_twice(nights: NightsByHand, day: date) -> StageResult:
    """Leave a monitored day, and what its first attempt wrote."""
    prefix = nights.paths.monitoring(day)
    draft = Draft(stage="monitor", model="tiny", day=day, prefix=prefix, inputs={}, settings=None)
    outcome = Outcome(files={"items.parquet": nights.file("ids", b"ids")}, figures={})
    return [commit(nights.storage, draft, lambda *_: outcome, force=True) for _ in range(2)][1]


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    return made_old(monkeypatch)


def made_old(patch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a key begins with, below the model's prefix → days since it was written; 200 where nothing is said."""
    by_start: dict[str, float] = {}
    listed = Storage.objects

    def aged(self: Storage, uri: str, *, is_folder: bool = True) -> list[StoredObject]:
        return [
            StoredObject(it.uri, it.size_bytes, it.etag, NOW - timedelta(days=age(it.uri)))
            for it in listed(self, uri, is_folder=is_folder)
        ]

    def age(uri: str) -> float:
        key = uri.split("/", 5)[5]
        return next((days for start, days in by_start.items() if key.startswith(start)), 200)

    patch.setattr(Storage, "objects", aged)
    return by_start


def pruned(nights: NightsByHand, registered: Mapping[str, Mapping[str, str]] = REGISTERED, *, yes: bool) -> Pruning:
    tags = {number: {**digest_of_version(nights, number), **tags} for number, tags in registered.items()}
    return prune("tiny", include=nights.project.include, registered=lambda: tags, now=NOW, remove=yes)


def digest_of_version(nights: NightsByHand, number: str) -> dict[str, str]:
    known = read_history(nights.storage, nights.paths).known(number)
    return {"embft.digest": known.digest} if known else {}


def there(nights: NightsByHand) -> set[str]:
    return {it.uri for it in nights.storage.objects(nights.paths.root)}


@settings(max_examples=8)
@given(
    nights_ages=st.lists(st.sampled_from([0.5, 2, 30, 89, 91, 300]), min_size=4, max_size=4),
    registered=st.sets(st.sampled_from(list(REGISTERED))).map(lambda numbers: numbers | {"2"}),
)
def test_nothing_that_is_needed_goes_whatever_the_ages(
    built: NightsByHand, nights_ages: list[float], registered: set[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        gone: list[str] = []
        patch.setattr(Storage, "remove", lambda _, uris: gone.extend(uris))
        by_start = made_old(patch)
        by_start.update({f"runs/{day}": age for day, age in zip(DAYS, nights_ages, strict=True)})
        pruned(built, {it: REGISTERED[it] for it in registered}, yes=True)
    history, pointer = read_history(built.storage, built.paths), read_pointer(built.storage, built.paths)
    assert pointer is not None
    needed = [it for change in history.changes for it in change.to.weights.values()]
    needed += [pointer.catalogue, *pointer.shards]
    for number, (day, age) in enumerate(zip(DAYS, nights_ages, strict=True), 1):
        if age < 90:
            needed += of_stages(built, day, "plan", "preprocess_ranks", "fine_tune", "evaluate", "gate")
            needed += [it for log_day in built.window(day) for it in sessions(built, log_day.day)]
        elif number < 4 or "4" in registered:
            needed += of_stages(built, day, "plan", "fine_tune", "evaluate", "gate")
    assert not {it.uri for it in needed} & set(gone)
    foreign = ("/history/", "/mlflow/", "notes.txt", "README", "by-hand.txt", "current.json")
    assert not [uri for uri in gone if any(name in uri for name in foreign)]
    assert [uri for uri in gone if f"runs/{DAYS[0]}/preprocess_ranks/" in uri] != [] or nights_ages[0] < 90


def of_stages(nights: NightsByHand, day: date, *stages: str) -> list[Artifact]:
    found: list[Artifact] = []
    for stage in stages:
        result = nights.storage.read_result(nights.paths.stage(day, stage))
        assert result is not None
        found += [Artifact(uri=result.uri, size_bytes=0, sha256=""), *result.outputs.values()]
    return found


def sessions(nights: NightsByHand, log_day: date) -> list[Artifact]:
    prefix = sessions_of_day(nights.paths, nights.config, None, log_day)
    return [Artifact(uri=it.uri, size_bytes=0, sha256="") for it in nights.storage.objects(prefix)]


def test_after_pruning_the_champion_loads_a_rollback_is_possible_and_kept_nights_are_up_to_date(
    s3: str, tmp_path: Path, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = build(tmp_path, s3)
    last = DAYS[3]
    nights.project.stage("publish", last)
    nights.train(last)  # once more: what the first attempts wrote is superseded
    ages |= {f"runs/{last}": 20}
    nights.storage.write(f"{nights.paths.checkpoints(last, 'fine_tune')}/x/1.ckpt", b"forgotten")
    nights.storage.write(f"{nights.paths.pages(last, 'gate')}/x/index.html", b"old")
    monitored = [monitored_twice(nights, day) for day in DAYS[2:]]
    ages |= {f"monitoring/{last}": 20, "alerts/sent/new": 80}
    message, *marks = (
        nights.paths.message("gate", 1, "open", "0" * 64),
        nights.paths.sent("old", "slack"),
        f"{nights.paths.claims('old', 'slack')}/x.json",
        nights.paths.sent("new", "slack"),
    )
    for uri in (message, *marks):
        nights.storage.write(uri, b"{}")

    before = there(nights)
    dry = pruned(nights, yes=False)
    assert there(nights) == before
    kinds = ["checkpoints", "marks of sent messages", "monitored days' files", "old nights", "pages", "sessions"]
    assert [it.what for it in dry.goes] == [*kinds, "superseded attempts", "vectors"]
    assert {it.what: it.objects for it in dry.goes}["sessions"] == 3 * 5 * 2  # of days that no kept night learns from
    assert {it.what: it.objects for it in dry.stays}["not known to embft"] == 3

    removed_half = Storage.remove

    def killed(self: Storage, uris: list[str]) -> None:
        removed_half(self, uris[: len(uris) // 2])
        raise StorageUnavailable("killed")

    monkeypatch.setattr(Storage, "remove", killed)
    with pytest.raises(StorageUnavailable):
        pruned(nights, yes=True)
    monkeypatch.setattr(Storage, "remove", removed_half)
    pruned(nights, yes=True)
    assert len(before) - len(there(nights)) == sum(it.objects for it in dry.goes)
    assert pruned(nights, yes=True).goes == ()
    # The history of monitoring and every message stay; of the files below them the last days' do.
    assert {it.uri for it in monitored} | {message, marks[2]} <= there(nights)
    assert {*(it.uri for it in monitored[0].outputs.values()), *marks[:2]}.isdisjoint(there(nights))
    assert {it.uri for it in monitored[1].outputs.values()} <= there(nights)

    history = read_history(nights.storage, nights.paths)
    for who in (history.champion, history.previous):
        assert who is not None
        for name, artifact in who.weights.items():
            nights.storage.fetch(artifact, tmp_path / who.version / name)
        assert load_model(tmp_path / who.version).encode_items(["sofa"]).shape == (1, 4)
    stages = ("plan", "validate_sessions", "preprocess_ranks", "validate_ranks", "fine_tune", "evaluate", "gate")
    assert [stage for stage in stages if not nights.stands(stage, last)] == []
    assert nights.project.stage("publish", last).reused
    assert history.previous is not None
    append(nights.storage, nights.paths, "rollback", history.previous, request="y", why="worse, too")
    served = settle_pointer(nights.storage, nights.paths)
    assert served is not None
    assert served.version == "1"


def test_what_mlflow_does_not_say_removes_nothing(built: NightsByHand, ages: dict[str, float]) -> None:
    before = there(built)

    def away() -> dict[str, dict[str, str]]:
        raise TemporaryError("MLflow is away")

    with pytest.raises(TemporaryError):
        prune("tiny", include=built.project.include, registered=away, now=NOW, remove=True)
    others = {number: {**tags, "embft.digest": "another model's"} for number, tags in REGISTERED.items()}
    for registry in ({}, others):
        with pytest.raises(ConfigError, match="knows no version that the history of tiny names, such as 2"):
            pruned(built, registry, yes=True)
    with pytest.raises(ConfigError, match=r"version 7 of tiny has the tag embft\.day 'monday'"):
        pruned(built, {**REGISTERED, "7": {"embft.day": "monday"}}, yes=True)
    assert there(built) == before


def test_sessions_stay_where_a_kept_nights_plan_cannot_be_read(s3: str, tmp_path: Path, ages: dict[str, float]) -> None:
    nights = nights_by_hand(tmp_path, new_bucket(s3), s3)
    nights.night()
    nights.pull(nights.window(DAY - timedelta(days=30))[0])
    ages |= {f"runs/{DAY}": 20}
    assert [it.what for it in pruned(nights, yes=False).goes] == ["sessions"]
    nights.storage.write(f"{nights.paths.stage(DAY, 'plan')}/result.json", b'{"of": "another version"}')
    assert pruned(nights, yes=True).goes == ()


def test_the_command_asks_mlflow_and_touches_nothing_without_yes(
    built: NightsByHand, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(built.config.mlflow.tracking_uri)
    client.create_registered_model("tiny")
    client.create_model_version(
        "tiny", "s3://somewhere", tags={"embft.day": str(DAYS[0]), **digest_of_version(built, "1")}
    )
    monkeypatch.setenv("EMBFT_INCLUDE", str(built.project.include))
    before = there(built)
    dry = CliRunner().invoke(app, ["prune", "--model", "tiny"])
    assert dry.exit_code == 0, dry.output
    assert "a dry run: nothing was touched" in dry.output
    as_json = CliRunner().invoke(app, ["prune", "--model", "tiny", "--json"])
    assert Pruning.model_validate(json.loads(as_json.stdout)).removed is False
    assert there(built) == before

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    path = built.project.include / "models" / "tiny.yaml"
    config = path.read_text()
    path.write_text(config.replace(built.config.mlflow.tracking_uri, f"http://127.0.0.1:{free_port()}"))
    away = CliRunner().invoke(app, ["prune", "--model", "tiny", "--yes"])
    path.write_text(config)
    assert away.exit_code == 75, away.output
    assert "is away" in away.stderr
    assert there(built) == before
