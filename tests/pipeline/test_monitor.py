"""`monitor`: the champion on a day's clicks, through nights that failed, vectors that moved, and commands cut off."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from embft.cli import app
from embft.clickstream.sessions import read_sessions, with_lists
from embft.config import config_path, load_config
from embft.errors import ConfigError, DataRejected, TemporaryError
from embft.experiments.manager import ExperimentsManager
from embft.finetuning.models import EmbeddingsModelInterface, load_model
from embft.monitoring.day import MonitoredDay
from embft.promotion.ledger import append, read_history
from embft.results import Champion, StageResult
from embft.stages.log_days import sessions_of_day
from embft.stages.monitored import monitored_days
from embft.stages.monitored_clicks import clicked_day
from embft.stages.stage import Context, Draft, Outcome, commit
from embft.storage import Storage
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import ITEMS, NIGHT, day_sessions, make_shop, write_day

D1, D2, D3, D4, D5 = (NIGHT + timedelta(days=number) for number in range(1, 6))
CHINESE = "沙发 <!channel>"


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One night, whose model is the champion; logs of the days after it, some of them strange."""
    home, bucket = tmp_path_factory.mktemp("monitor"), new_bucket(module_environment)
    include = make_shop(home, bucket, module_environment, new_database(home))
    made = Project(include, bucket, "tiny")
    assert [it.stage for it in made.night(NIGHT)][-1] == "publish"
    for day in (D1, D3):
        write_day(bucket, day, day_sessions(day, 80))
    write_day(bucket, D2, strange_sessions())
    write_day(bucket, D4, [{**it, "clicked": []} for it in day_sessions(D4, 80)])
    return made


def strange_sessions() -> list[dict[str, Any]]:
    """Some clicks are on items that the catalogue has lost; some queries are Chinese."""
    sessions = [it for it in day_sessions(D2, 80) if it["clicked"]]
    for number, it in enumerate(sessions):
        if number % 10 == 0:
            it["shown"] = ["gone", *it["shown"]]
            it["clicked"] = ["gone"] if number % 20 else ["gone", *it["clicked"]]
        if number % 7 == 0:
            it |= {"query": CHINESE, "client": "one shopper"}
    return sessions


@pytest.fixture(scope="module")
def first(shop: Project) -> list[StageResult]:
    """The first day that is monitored, by two at once."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda _: shop.stage("monitor", D1), range(2)))


@pytest.fixture(scope="module")
def chain(shop: Project, first: list[StageResult]) -> dict[date, StageResult]:
    """The days after it; before the last but one, another model comes to serve."""
    rejected = Outcome({}, {"reasons": ["too few"], "warnings": ["odd"]}, status="rejected", reason="too few")
    prefix = shop.paths.stage(D2, "validate_sessions")
    night = Draft(stage="validate_sessions", model="tiny", day=D2, prefix=prefix, inputs={}, settings=None)
    commit(shop.storage, night, lambda *_: rejected)
    found = {D1: first[0], D2: shop.stage("monitor", D2)}
    for stage in ("plan", "validate_sessions", "preprocess_ranks", "validate_ranks", "fine_tune", "evaluate"):
        shop.stage(stage, D1)
    weights = shop.storage.read_result(shop.paths.stage(D1, "fine_tune")).outputs  # type: ignore[union-attr]
    second = Champion(
        model="tiny",
        version="2",
        day=D1,
        mlflow_run_id="r",
        weights={name[6:]: it for name, it in weights.items() if name.startswith("model/")},
        val_loss=1.0,
    )
    append(shop.storage, shop.paths, "promotion", second, request="2", why="better")
    shop.stage("publish", D1)
    return {**found, D3: shop.stage("monitor", D3), D4: shop.stage("monitor", D4)}


def day_of(result: StageResult) -> MonitoredDay:
    return MonitoredDay.model_validate(result.figures)


def per_query(shop: Project, result: StageResult, folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        shop.storage.fetch(result.outputs["per_query.parquet"], folder / "rows")
    ).to_pylist()
    return rows


def champion(shop: Project, version: str, folder: Path) -> EmbeddingsModelInterface:
    known = read_history(shop.storage, shop.paths).known(version)
    assert known is not None
    for name, artifact in known.weights.items():
        shop.storage.fetch(artifact, folder / version / name)
    return load_model(folder / version)


def ndcg_by_hand(model: EmbeddingsModelInterface, sessions: list[dict[str, Any]]) -> list[float]:
    """nDCG@10 from its definition: clicked items at ranks r give Σ 1/log2(r + 1), over what an ideal list gives."""
    ids = list(ITEMS)
    scores = model.encode_queries([it["query"] for it in sessions]) @ model.encode_items(list(ITEMS.values())).T
    found = []
    for it, row in zip(sessions, scores, strict=True):
        top = [ids[place] for place in np.argsort(-row, kind="stable")[:10]]
        gain = sum(1 / np.log2(top.index(id_) + 2) for id_ in it["clicked"] if id_ in top)
        found.append(gain / sum(1 / np.log2(rank + 2) for rank in range(min(10, len(it["clicked"])))))
    return found


def test_two_at_once_leave_one_record_and_one_run_in_mlflow(shop: Project, first: list[StageResult]) -> None:
    one, other = map(day_of, first)
    assert one == other
    assert [it.day for it in monitored_days(shop.storage, shop.paths)] == [D1]
    client = MlflowClient(load_config(config_path(shop.include, "tiny")).mlflow.tracking_uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`embft.series` = 'monitoring'")
    assert run.info.run_id == one.mlflow_run_id
    (point,) = client.get_metric_history(run.info.run_id, "monitor.champion.ndcg_at_10")
    assert point.value == one.sets[0].models["champion"]["ndcg_at_10"]
    assert date(1970, 1, 1) + timedelta(days=point.step) == D1
    assert datetime.fromtimestamp(point.timestamp / 1000, UTC) == datetime(D2.year, D2.month, D2.day, tzinfo=UTC)
    assert {"monitor.base.val_loss", "monitor.tail.champion.mrr_at_10"} <= run.data.metrics.keys()


def test_a_day_has_the_figures_that_a_night_finds_of_the_champion_on_it(
    shop: Project, first: list[StageResult], chain: dict[date, StageResult], tmp_path: Path
) -> None:
    day = day_of(first[0])
    assert (day.status, day.champion, day.champion_day, day.vectors) == ("measured", "1", NIGHT, "published")
    evaluated = shop.storage.read_result(shop.paths.stage(D1, "evaluate"))
    assert evaluated is not None
    for model, measures in day.sets[0].models.items():
        theirs = evaluated.figures["models"][model]
        assert measures == pytest.approx({name: theirs[name] for name in measures}, abs=1e-6)
    assert list(day.sets[0].models["champion"]) == ["val_loss", "ndcg_at_10", "mrr_at_10", "recall_at_10"]
    sessions = [it for it in day_sessions(D1, 80) if it["clicked"]]
    by_hand = ndcg_by_hand(champion(shop, "1", tmp_path), sessions)
    assert [it["champion.ndcg_at_10"] for it in per_query(shop, first[0], tmp_path)] == pytest.approx(by_hand, abs=1e-6)
    assert [it.name for it in day.sets] == ["all", "head", "torso", "tail", "unseen"]
    promised = shop.storage.read_result(shop.paths.stage(NIGHT, "evaluate"))
    assert promised is not None
    assert day.promised["all"].figures == pytest.approx(promised.figures["models"]["challenger"])
    traffic = day.traffic
    assert (traffic.sessions, traffic.clicked_sessions, traffic.lost_sessions) == (80, 70, 0)
    assert (traffic.unseen_share, traffic.items, traffic.items_added) == (0.0, len(ITEMS), None)


def test_clicks_on_what_is_gone_are_misses_and_the_night_need_not_have_succeeded(
    shop: Project, chain: dict[date, StageResult], tmp_path: Path
) -> None:
    day, sessions = day_of(chain[D2]), strange_sessions()
    by_hand = ndcg_by_hand(champion(shop, "1", tmp_path), sessions)
    rows = per_query(shop, chain[D2], tmp_path)
    assert [it["champion.ndcg_at_10"] for it in rows] == pytest.approx(by_hand, abs=1e-6)
    assert day.sets[0].models["champion"]["ndcg_at_10"] == pytest.approx(np.mean(by_hand), abs=1e-6)
    lost = [it["clicked"] == ["gone"] for it in sessions]
    halves = [row["champion.recall_at_10"] for row, it in zip(rows, sessions, strict=True) if len(it["clicked"]) == 2]
    assert day.traffic.lost_sessions == sum(lost) == 3
    assert set(halves) <= {0.0, 0.5}
    assert len(halves) == 4
    assert [row["champion.mrr_at_10"] for row, is_lost in zip(rows, lost, strict=True) if is_lost] == [0.0] * 3
    assert [np.isnan(it["champion.val_loss"]) for it in rows] == lost
    assert day.traffic.warnings == ("too few", "odd")
    assert (day.traffic.items_added, day.traffic.items_removed) == (0, 0)
    assert day.shown("unseen").n_queries == 1  # type: ignore[union-attr]
    assert day.traffic.unseen_share == pytest.approx(len([it for it in sessions if it["query"] == CHINESE]) / 70)
    assert {row["query"] for row in rows if "unseen" in row["slices"]} == {CHINESE}
    # One shopper alone searched for it, so no message may name it. The others come by what was lost.
    assert {it.query for it in day.examples} == {it["query"] for it in sessions} - {CHINESE}
    losses = [it.n_sessions * (1 - it.ndcg) for it in day.examples]
    assert losses == sorted(losses, reverse=True)


def test_the_record_of_a_past_day_stands_and_a_backfill_has_the_champion_of_then(
    shop: Project, chain: dict[date, StageResult]
) -> None:
    assert (day_of(chain[D3]).champion, day_of(chain[D3]).vectors) == ("2", "published")
    again = shop.stage("monitor", D1)
    assert (again.reused, again.attempt) == (True, shop.storage.read_result(shop.paths.monitoring(D1)).attempt)  # type: ignore[union-attr]
    forced = day_of(shop.stage("monitor", D1, force=True))
    assert (forced.champion, forced.vectors) == ("1", "encoded")
    for measure, figure in forced.sets[0].models["champion"].items():
        assert figure == pytest.approx(day_of(chain[D1]).sets[0].models["champion"][measure], abs=1e-6)
    none = shop.stage("monitor", NIGHT)
    assert (none.status, day_of(none).status, day_of(none).sets) == ("done", "no_champion", ())
    assert "no version had been promoted that learned from days before 2026-03-05" in (day_of(none).reason or "")
    assert day_of(none).traffic.sessions == 80


def test_a_day_without_a_click_or_a_log_says_so(shop: Project, chain: dict[date, StageResult]) -> None:
    dull = day_of(chain[D4])
    assert (chain[D4].status, dull.status) == ("done", "no_clicks")
    assert dull.reason == f"none of the 80 searches of {D4} has a click: its log has 80 lines"
    missing = CliRunner().invoke(
        app, ["monitor", "--model", "tiny", "--day", str(D5), "--json"], env={"EMBFT_INCLUDE": str(shop.include)}
    )
    assert missing.exit_code == 3, missing.output
    assert "there is no log object for 2026-03-10 below" in json.loads(missing.stdout)["reason"]
    assert D5 not in [it.day for it in monitored_days(shop.storage, shop.paths)]


def test_a_person_reads_the_figures_in_the_terminal(shop: Project, chain: dict[date, StageResult]) -> None:
    said = CliRunner().invoke(
        app, ["monitor", "--model", "tiny", "--day", str(D3)], env={"EMBFT_INCLUDE": str(shop.include)}
    )
    assert said.exit_code == 0, said.output
    assert "version 2 of 2026-03-06, published vectors" in said.stdout
    assert "80 searches, 70 with a click; 80 log lines, 0 not readable; 40 items (0 new, 0 gone" in said.stdout


def test_a_loss_that_cannot_be_weighed_as_on_other_days_is_left_out_and_that_is_told(
    shop: Project, chain: dict[date, StageResult], tmp_path: Path
) -> None:
    spec, judgements = shop.spec(NIGHT), {"position_bias": "em"}
    config = spec.config.model_copy(update={"judgements": spec.config.judgements.model_copy(update=judgements)})
    run = spec.model_copy(update={"config": config})
    context = Context(run, shop.storage, shop.paths, {}, tmp_path, "", "")
    pulled = shop.storage.read_result(sessions_of_day(shop.paths, spec.config, spec.client_key, NIGHT))
    assert pulled is not None
    sessions = read_sessions(shop.storage.fetch(pulled.outputs["sessions.parquet"], tmp_path / "sessions"))
    without_shown = with_lists(sessions, {"shown": [None] * sessions.num_rows})
    day = clicked_day(context, without_shown, sessions, pa.table({"id": list(ITEMS), "text": list(ITEMS.values())}))
    assert (len(day.queries), day.clicks.inputs) == (70, [])
    assert day.cautions[0].startswith("there is no validation loss: ")


@pytest.fixture
def newest(shop: Project, chain: dict[date, StageResult]) -> Iterator[date]:
    write_day(shop.bucket, D5, day_sessions(D5, 40))
    yield D5
    shop.bucket.delete(f"logs/dt={D5}/part-000.jsonl")


def test_a_command_cut_off_is_completed_and_the_history_does_not_wait_for_mlflow(
    shop: Project, chain: dict[date, StageResult], newest: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote = Storage.write

    def killed(self: Storage, uri: str, data: bytes) -> None:
        if "/monitoring/" in uri:
            raise KeyboardInterrupt
        wrote(self, uri, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.stage("monitor", newest)
    assert newest not in [it.day for it in monitored_days(shop.storage, shop.paths)]
    with monkeypatch.context() as patch:

        def away(*_: object, **__: object) -> None:
            raise TemporaryError("MLflow is away")

        patch.setattr(ExperimentsManager, "log_series", away)
        with pytest.raises(TemporaryError):
            shop.stage("monitor", newest)
    waiting = monitored_days(shop.storage, shop.paths)[-1]
    assert (waiting.day, waiting.status, waiting.mlflow_run_id) == (newest, "measured", None)
    with monkeypatch.context() as patch:  # MLflow has the figures, and the record does not say so yet
        patch.setattr(Storage, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.stage("monitor", newest)
    completed = shop.stage("monitor", newest)
    assert completed.reused
    assert day_of(completed) == waiting.model_copy(update={"mlflow_run_id": day_of(completed).mlflow_run_id})
    assert day_of(completed).mlflow_run_id == day_of(chain[D3]).mlflow_run_id
    client = MlflowClient(load_config(config_path(shop.include, "tiny")).mlflow.tracking_uri)
    points = client.get_metric_history(day_of(completed).mlflow_run_id or "", "monitor.champion.ndcg_at_10")
    assert [it.step for it in points if it.step == max(it.step for it in points)] == [(newest - date(1970, 1, 1)).days]


def test_the_newest_day_follows_the_catalogue_and_a_record_outlives_its_log(shop: Project, newest: date) -> None:
    before = shop.stage("monitor", newest)
    assert shop.stage("monitor", date(2030, 1, 1)).status == "rejected", "a mistyped day, which is no later record"
    kept = {id_: text for id_, text in ITEMS.items() if not id_.endswith("-0")}
    shop.bucket.put("items.jsonl", "".join(f'{{"id": "{id_}", "text": "{it}"}}\n' for id_, it in kept.items()).encode())
    after = shop.stage("monitor", newest)
    assert not after.reused
    assert (day_of(after).traffic.items, day_of(after).traffic.items_removed) == (len(kept), len(ITEMS) - len(kept))
    # Users go on finding what was published; what the base model ranks is the catalogue alone.
    assert day_of(after).shown("all").figures["ndcg_at_10"] == day_of(before).shown("all").figures["ndcg_at_10"]  # type: ignore[union-attr]
    assert day_of(after).base("all")["recall_at_10"] < day_of(before).base("all")["recall_at_10"]  # type: ignore[operator]
    shop.bucket.delete(f"logs/dt={newest}/part-000.jsonl")
    assert shop.stage("monitor", newest).attempt == after.attempt
    with pytest.raises(DataRejected, match="stays as it is, for it cannot be measured again: its log is gone"):
        shop.stage("monitor", newest, force=True)
    shop.bucket.delete("items.jsonl")
    with pytest.raises(ConfigError, match=r"catalogue.uri: s3://.*items.jsonl does not exist"):
        shop.stage("monitor", newest, force=True)
