"""A model whose nights a test writes itself, result by result, and a receiver of what is told of them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import pytest

from embft.config import STAGES, ModelConfig, config_path, load_config
from embft.monitoring import outbox
from embft.monitoring.day import MonitoredDay, Traffic
from embft.monitoring.ledger import Ledger
from embft.monitoring.message import Message
from embft.monitoring.run_facts import RunFacts, TaskFailure
from embft.paths import Paths
from embft.promotion.decision import Decision
from embft.promotion.gate import decide
from embft.promotion.history import History
from embft.promotion.ledger import append, read_history
from embft.promotion_config import Gate, GateRule
from embft.results import Champion, LogDay, RunSpec, StageResult
from embft.stages.stage import Draft, Outcome, commit
from embft.stages.tell import Told, tell
from embft.storage import Storage
from tests.buckets import Bucket, new_bucket
from tests.include import write_include
from tests.promotion.nights import evaluated
from tests.shop import CONFIG

DAY = date(2026, 3, 10)
BEFORE_GATE = STAGES[: STAGES.index("gate")]


@dataclass
class Receiver:
    """A real web address that takes what is told."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    def titles(self) -> list[str]:
        return [it["words"]["title"] for it in self.bodies]


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if made.status == 200:
                made.bodies.append(json.loads(body))
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class ToldNights:
    """The model, its nights, and what was told of them."""

    include: Path
    folder: Path
    bucket: Bucket

    @cached_property
    def config(self) -> ModelConfig:
        return load_config(config_path(self.include, "tiny"))

    @cached_property
    def storage(self) -> Storage:
        return Storage(self.config.storage)

    @cached_property
    def paths(self) -> Paths:
        return Paths(self.config.storage.artifacts, "tiny")

    @property
    def history(self) -> History:
        return read_history(self.storage, self.paths)

    def channels(self, text: str) -> None:
        (self.include / "alerts.yaml").write_text(text)

    def commit(
        self,
        stage: str,
        day: date = DAY,
        *,
        reason: str | None = None,
        status: Literal["done", "rejected"] = "done",
        files: Mapping[str, bytes] | None = None,
        links: Mapping[str, str] | None = None,
        prefix: str | None = None,
        **figures: Any,
    ) -> StageResult:
        """Leave the result of a stage, as the stage itself would."""
        outcome = Outcome(
            files={name: self._file(name, data) for name, data in (files or {}).items()},
            figures=figures,
            status=status,
            reason=reason,
            links=dict(links or {}),
        )
        return self._commit(prefix or self.paths.stage(day, stage), stage, day, outcome)

    def _commit(self, prefix: str, stage: str, day: date, outcome: Outcome) -> StageResult:
        draft = Draft(stage=stage, model="tiny", day=day, prefix=prefix, inputs={}, settings=None)
        return commit(self.storage, draft, lambda *_: outcome, force=True)

    def night(self, day: date = DAY, *, up_to: str = "evaluate") -> None:
        """Leave a night whose stages all went well, up to one of those before the gate."""
        for stage in BEFORE_GATE[: BEFORE_GATE.index(up_to) + 1]:
            match stage:
                case "plan":
                    window = tuple(
                        LogDay(day=day - timedelta(days=back), objects=1, size_bytes=1, listing_digest="x")
                        for back in reversed(range(5))
                    )
                    spec = RunSpec(
                        model="tiny", day=day, config=self.config, promote="auto", window=window, champion=None
                    )
                    self.commit("plan", day, files={"run.json": spec.to_json()})
                case "pull":
                    pass
                case "fine_tune":
                    weights = {"model/model.safetensors": f"weights of {day}".encode()}
                    links = {"MLflow run": "http://mlflow/run"}
                    self.commit("fine_tune", day, files=weights, links=links)
                case "evaluate":
                    evaluation, _ = evaluated(figures(0.9))
                    self.commit("evaluate", day, files={"evaluation.json": evaluation.to_json()})
                case _:
                    self.commit(stage, day)

    def gate(self, decision: Decision, day: date = DAY) -> StageResult:
        return self.commit(
            "gate",
            day,
            reason=decision.reason,
            status="done" if decision.passed else "rejected",
            links={"Report": "http://pages/report.html"},
            **decision.model_dump(mode="json", exclude={"model", "day", "passed", "reason"}),
        )

    def rejected(self, day: date = DAY, loss: float = 0.97, **rules: float) -> None:
        """Leave a night that the gate rejected."""
        self.night(day)
        self.gate(decision(loss, **rules), day)
        self.commit("publish", day, published=False)

    def promoted(self, version: str, day: date = DAY) -> None:
        """Leave a night whose model serves."""
        self.night(day)
        judged = decision(0.9)
        self.gate(judged, day)
        self.promote(version, day, why=judged.reason)
        self.commit("register", day, version=version, promoted=True)
        self.commit("publish", day, published=True)

    def measured(self, seen: MonitoredDay) -> None:
        """Leave a day with these figures."""
        figures = {**seen.model_dump(mode="json"), "model": "tiny"}
        self._commit(self.paths.monitoring(seen.day), "monitor", seen.day, Outcome(files={}, figures=figures))

    def monitored(self, day: date) -> None:
        """Leave a day on which there was nothing to measure."""
        traffic = Traffic(
            lines=0,
            quarantined=0,
            sessions=0,
            clicked_sessions=0,
            lost_sessions=0,
            unseen_share=None,
            items=0,
            items_added=None,
            items_removed=None,
        )
        seen = MonitoredDay(
            model="tiny",
            day=day,
            status="no_clicks",
            champion=None,
            champion_day=None,
            vectors=None,
            traffic=traffic,
        )
        self.measured(seen)

    def champion(self, version: str, day: date) -> Champion:
        trained = self.storage.read_result(self.paths.stage(day, "fine_tune"))
        assert trained
        weights = {name.removeprefix("model/"): it for name, it in trained.outputs.items()}
        return Champion(model="tiny", version=version, day=day, mlflow_run_id="r", weights=weights, val_loss=1.0)

    def promote(self, version: str, day: date = DAY, *, why: str = "passed: better") -> None:
        to = self.champion(version, day)
        append(self.storage, self.paths, "promotion", to, request=version, why=why, leaves=self.history.champion)

    def roll_back(self, version: str, *, why: str) -> None:
        to = self.history.known(version)
        assert to
        left = self.history.champion
        append(self.storage, self.paths, "rollback", to, request=f"back to {version}", why=why, leaves=left)

    def tell(self, run: RunFacts | None = None, *, later: timedelta = timedelta(0)) -> Told:
        from embft.monitoring.connections import connection

        return tell("tiny", include=self.include, run=run, connections=connection, now=datetime.now(UTC) + later)

    def told(self, run: RunFacts | None = None, **options: Any) -> list[tuple[str, str]]:
        """Tell, and name what is new: incident and state."""
        done = self.tell(run, **options)
        assert not done.problems
        return [(it.incident, it.state) for it in done.messages]

    def last(self, incident: str) -> Message:
        found = Ledger(self.storage, self.paths).last(incident)
        assert found
        return found

    def messages(self) -> list[str]:
        """Keys of all messages."""
        return [it.uri.removeprefix(f"{self.paths.incidents}/") for it in self.storage.objects(self.paths.incidents)]

    def _file(self, name: str, data: bytes) -> Path:
        path = self.folder / name.replace("/", "-")
        path.write_bytes(data)
        return path


def told_nights(folder: Path, s3: str) -> ToldNights:
    bucket = new_bucket(s3)
    config = CONFIG.format(bucket=bucket.name, endpoint=s3, mlflow="http://127.0.0.1:9")
    return ToldNights(write_include(folder, "tiny", config), folder, bucket)


@contextmanager
def receiving(
    nights: ToldNights, monkeypatch: pytest.MonkeyPatch, severity: str = "warning", *, settles_s: float = 0.0
) -> Iterator[Receiver]:
    """Let a receiver get what is told from a severity on."""
    # Nobody else sends meanwhile, where a test does not say so.
    monkeypatch.setattr(outbox, "_SETTLES_S", settles_s, raising=False)
    with receiver() as made:
        monkeypatch.setenv("AIRFLOW_CONN_HOOK", json.dumps({"conn_type": "http", "host": made.url}))
        nights.channels(
            "channels:\n  team: {type: webhook, connection: hook}\n"
            f"routes:\n  - {{to: [team], severity: {severity}}}\n"
        )
        yield made


def figures(loss: float, ndcg: float = 0.74) -> dict[str, dict[str, Any]]:
    """Figures of a challenger whose loss is a share of the champion's, query by query."""
    spread = [3.0 + 0.02 * number for number in range(30)]
    return {
        "champion": {"val_loss": spread, "ndcg_at_10": [0.71] * 30},
        "challenger": {"val_loss": [loss * it for it in spread], "ndcg_at_10": [ndcg] * 30},
    }


def decision(loss: float, *, ndcg: float = 0.74, min_ndcg: float = 0.0) -> Decision:
    """What the gate says of such a challenger; 5 % of the loss must be shown."""
    evaluation, sets = evaluated(figures(loss, ndcg))
    rules = (GateRule(name="enough_ndcg", measure="ndcg_at_10", at_least=min_ndcg),)
    return decide(evaluation, sets, Gate(max_val_loss=9.0, min_relative_gain=0.05, rules=rules))


def retrain(day: date = DAY, *failed: TaskFailure, **more: Any) -> RunFacts:
    return RunFacts(
        kind="retrain", run_id=f"scheduled__{day}", day=day, url="http://airflow/run", failed=failed, **more
    )


def monitored(day: date, *failed: TaskFailure) -> RunFacts:
    return RunFacts(kind="monitor", run_id=f"scheduled__{day}", day=day, failed=failed)


def failure(task: str, said: str | None = None, tries: int = 3) -> TaskFailure:
    return TaskFailure(task=task, tries=tries, said=said, log_url=f"http://airflow/log/{task}")
