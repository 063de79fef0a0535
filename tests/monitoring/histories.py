"""Made-up monitoring histories, for tests of the rules and of what they tell."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from embft.config import ModelConfig
from embft.monitoring.day import BASE, CHAMPION, MonitoredDay, Pair, SameClicks, Shown, Traffic
from embft.monitoring_config import Monitoring, MonitorRule
from embft.promotion.evaluation_record import QuerySet

START = date(2026, 3, 1)
NDCG = "ndcg_at_10"
TRAFFIC = Traffic(
    lines=1000,
    quarantined=0,
    sessions=900,
    clicked_sessions=500,
    lost_sessions=0,
    unseen_share=0.1,
    items=437,
    items_added=0,
    items_removed=0,
)


def day_of(
    number: int,
    figure: float | None,
    *,
    measure: str = NDCG,
    error: float | None = 0.01,
    n_queries: int = 200,
    base: float | None = None,
    champion: str | None = "3",
    promised: Shown | None = None,
    again: tuple[float | None, float | None] | None = None,
    again_error: float | None = 0.0,
    slices: Mapping[str, float | None] | None = None,
    traffic: Mapping[str, Any] | None = None,
    **fields: Any,
) -> MonitoredDay:
    """Give a day: its figure for all queries, and for slices."""
    figures = {"all": figure, **(slices or {})}
    sets = tuple(
        QuerySet(
            kind="slice",
            name=name,
            n_queries=n_queries,
            n_sessions=500,
            models={CHAMPION: {measure: it}, BASE: {measure: it if base is None else base}},
        )
        for name, it in figures.items()
    )
    pair = None if again is None else _pair(again, again_error, measure, n_queries)
    return MonitoredDay(
        model="shop",
        day=START + timedelta(number),
        status="measured",
        champion=champion,
        champion_day=START - timedelta(1),
        vectors="published",
        sets=sets,
        errors={name: {measure: error} for name in figures},
        promised={} if promised is None else {"all": promised},
        same_clicks=pair and SameClicks(day=START + timedelta(number - 1), slices={"all": pair}),
        traffic=TRAFFIC.model_copy(update=dict(traffic or {})),
        **fields,
    )


def days_of(figures: Sequence[float | None], **fields: Any) -> list[MonitoredDay]:
    """Give a day for each figure, in a row."""
    return [day_of(number, it, **fields) for number, it in enumerate(figures)]


def unmeasured(number: int) -> MonitoredDay:
    """Give a day without a single click."""
    return MonitoredDay(
        model="shop",
        day=START + timedelta(number),
        status="no_clicks",
        reason="no search of the day has a click",
        champion="3",
        champion_day=START,
        vectors=None,
        traffic=TRAFFIC.model_copy(update={"clicked_sessions": 0}),
    )


def config_of(*rules: MonitorRule, synthetic: bool = False) -> ModelConfig:
    """Give a model's config with these rules."""
    plain = ModelConfig.model_validate(
        {
            "name": "shop",
            "owner": "search",
            "schedule": {"start_date": "2026-01-01"},
            "storage": {"artifacts": "s3://bucket/models"},
            "logs": {"uri": "s3://bucket/logs/{day}"},
            "catalogue": {"uri": "s3://bucket/items.jsonl"},
            "mlflow": {"tracking_uri": "http://mlflow.test"},
            "gate": {"max_val_loss": 3.0},
            "synthetic": synthetic,
        }
    )
    return plain.model_copy(update={"monitoring": Monitoring(rules=rules)})


def _pair(again: tuple[float | None, float | None], error: float | None, measure: str, n_queries: int) -> Pair:
    before, now = again
    return Pair(n_queries=n_queries, before={measure: before}, now={measure: now}, errors={measure: error})
