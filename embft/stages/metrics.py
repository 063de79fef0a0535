"""A model's figures, gathered from S3 for whoever watches by Prometheus, StatsD or OpenTelemetry."""

from pathlib import Path

from embft.monitoring.gauge import Gauge
from embft.monitoring.ledger import Ledger
from embft.monitoring.metrics import gauges_of
from embft.promotion.ledger import read_history
from embft.stages.monitored import monitored_days
from embft.stages.stage import open_model


def read_gauges(model: str, *, include: Path) -> list[Gauge]:
    """Gather a model's figures as they are now.

    Args:
        model: The model's name.
        include: The project's `include` folder.

    Returns:
        The figures; those of a model that was never monitored or promoted are few.

    Raises:
        ConfigError: The history of champions cannot be read.
        StorageUnavailable: S3 did not answer.
    """
    config, storage, paths = open_model(model, include)
    history, days = read_history(storage, paths), monitored_days(storage, paths)
    return gauges_of(days, history, Ledger(storage, paths).open(), config.zone)
