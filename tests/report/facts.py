"""A night's small facts, made by hand, and a page as tests look at it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np

from embft.config import ModelConfig
from embft.finetuning.trials import SearchSummary, Trial
from embft.promotion.changed_queries import ChangedQueries
from embft.promotion.evaluation_record import MOST_CLICKED
from embft.promotion.gate import decide
from embft.report.page import Facts
from embft.results import Artifact, Champion, LogDay, RunSpec, StageResult
from tests.promotion.nights import evaluated

DAY = date(2011, 10, 20)
NOON = datetime(2011, 10, 21, 12, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'"
BASE = {"val_loss": 4.0, "ndcg_at_10": 0.3, "mrr_at_10": 0.2, "recall_at_10": 0.5}
CHAMPION = {"val_loss": 2.5, "ndcg_at_10": 0.51, "mrr_at_10": 0.41, "recall_at_10": 0.75}
CHALLENGER = {"val_loss": 2.0, "ndcg_at_10": 0.55, "mrr_at_10": 0.45, "recall_at_10": 0.7}
QUERIES = tuple(f"query {number % 20}" for number in range(30))
RECORDS = [
    {"step": 0, "val_loss": 3.3, "train_loss": None},
    {"step": 7, "val_loss": 2.6, "train_loss": 3.1},
    {"step": 14, "val_loss": 2.7, "train_loss": 2.2},
]


class Page(HTMLParser):
    """What the tests look at: text, tags, and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words.append("" if tag in ("a", "abbr", "code", "em", "span", "strong", "wbr") else " ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]


def night(
    challenger: Mapping[str, Any] = CHALLENGER,
    champion: Mapping[str, Any] | None = CHAMPION,
    *,
    base: Mapping[str, Any] = BASE,
    interpolation: Mapping[str, Any] | None = None,
    most_clicked: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    notes: Mapping[str, tuple[str, ...]] | None = None,
    promote: str = "auto",
    rolled_back: str | None = None,
    rules: list[dict[str, Any]] | None = None,
    records: list[dict[str, Any]] | None = None,
    days_left_out: dict[str, list[str]] | None = None,
    changed: ChangedQueries | None = None,
    search: SearchSummary | None = None,
    trials: tuple[Trial, ...] = (),
    docs_url: str = "http://files.test/docs/index.html",
    ranks_url: str = "http://files.test/ranks/index.html",
    **config: Any,
) -> Facts:
    """Give a night's facts; the gate decides on the figures of `evaluated`, as it would on real ones."""
    run = run_spec(champion is not None, promote, config)
    measured = {"queries": QUERIES, **(measured or {})}
    models = {"base": base, "champion": champion, "challenger": challenger, "interpolation": interpolation}
    told = {name: _told(it, challenger, measured) for name, it in models.items() if it}
    if most_clicked:
        told[MOST_CLICKED] = _told(most_clicked, most_clicked, measured)
    found, sets = evaluated(told, **measured)
    noted = tuple(it.model_copy(update={"notes": (notes or {}).get(it.name, ())}) for it in found.sets)
    found = found.model_copy(update={"test_from": DAY, "inputs_sha256": "feed" * 16, "n_items": 1341, "sets": noted})
    return Facts(
        run=run,
        evaluation=found,
        decision=decide(found, sets, run.config.gate, run.config.evaluation.guards, rolled_back),
        stages=stages(rules or [], days_left_out or {}, docs_url, ranks_url),
        training={"records": RECORDS if records is None else records},
        changed=changed,
        search=search,
        trials=trials,
    )


def _told(model: Mapping[str, Any], measures: Iterable[str], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Give a figure for each session."""
    return {name: np.broadcast_to(model[name], len(measured["queries"])) for name in measures}


def run_spec(has_champion: bool, promote: str, config: Mapping[str, Any]) -> RunSpec:
    return RunSpec(
        model="shop",
        day=DAY,
        config=ModelConfig.model_validate(
            {
                "name": "shop",
                "owner": "search-team",
                "schedule": {"start_date": "2011-10-01"},
                "storage": {"artifacts": "s3://embft/models"},
                "logs": {"uri": "s3://shop/logs/dt={day}"},
                "catalogue": {"uri": "s3://shop/items.jsonl"},
                "mlflow": {"tracking_uri": "http://mlflow.test"},
                **config,
                "gate": {"max_val_loss": 3.0, "min_relative_gain": 0.02, **config.get("gate", {})},
            }
        ),
        promote=promote,
        window=tuple(
            LogDay(day=date(2011, 10, number), objects=objects, size_bytes=10, listing_digest="d")
            for number, objects in ((18, 1), (19, 0), (20, 1))
        ),
        champion=Champion(
            model="shop",
            version="7",
            day=date(2011, 10, 19),
            mlflow_run_id="r7",
            weights={},
            val_loss=2.5,
        )
        if has_champion
        else None,
    )


def stages(
    rules: list[dict[str, Any]], days_left_out: dict[str, list[str]], docs_url: str, ranks_url: str
) -> dict[str, StageResult]:
    return {
        "plan": stage("plan"),
        "validate_sessions": stage(
            "validate_sessions",
            # 1,000 = 900 + 60 + 30 + 10
            pulled={"lines": 1000, "sessions": 900, "duplicates": 60, "filtered": 30, "quarantined": 10},
            sessions={"checked": 900, "set_aside": 5, "left_out": 20, "clicked": 400},
            days_left_out=days_left_out,
            rules=rules,
            links={"Data Docs": docs_url},
        ),
        "preprocess_ranks": stage(
            "preprocess_ranks",
            not_clicked="shown lists",
            train={"sessions": 700, "clicked_sessions": 301},
            validation={"sessions": 95, "clicked_sessions": 42},
            test={"sessions": 100, "clicked_sessions": 284},
        ),
        "validate_ranks": stage("validate_ranks", rules=[], links={"Data Docs": ranks_url}),
        "fine_tune": stage("fine_tune", links={"MLflow run": "http://mlflow.test/#/experiments/1/runs/abc"}),
        "evaluate": stage("evaluate", links={"MLflow run": "http://mlflow.test/#/experiments/1/runs/abc"}),
    }


def stage(name: str, links: dict[str, str] | None = None, **figures: Any) -> StageResult:
    prefix = f"s3://embft/models/shop/runs/{DAY}/{name}"
    return StageResult(
        stage=name,
        model="shop",
        day=DAY,
        uri=f"{prefix}/result.json",
        attempt="a1",
        status="done",
        inputs={},
        settings_digest="s",
        code_version="0.1.0+c0de",
        outputs={"run.json": Artifact(uri=f"{prefix}/attempts/a1/run.json", size_bytes=1, sha256="0")},
        figures=figures,
        links=links or {},
        started_utc=NOON,
        finished_utc=NOON,
    )


def broken_rule(**changes: Any) -> dict[str, Any]:
    return {
        "name": "query_not_too_long",
        "rule": "query_length must be at most 500",
        "why": "nobody types this much",
        "remedy": "check logs.fields.query",
        "kind": "row",
        "severity": "warning",
        "success": False,
        "broken_rows": 3,
        "observed": None,
        "found": "3 of 900 rows (0.3 %) break “query_length must be at most 500”",
        "broken_days": {},
        "examples": [],
        "error": None,
        "skipped": None,
        **changes,
    }
