"""A model's figures, gathered from S3 for whoever watches by Prometheus, StatsD or OpenTelemetry."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from embft.alerts_config import Prometheus
from embft.errors import EmbftError, TemporaryError
from embft.monitoring.delivery import Delivery
from embft.monitoring.gauge import Gauge
from embft.monitoring.ledger import Ledger
from embft.monitoring.metrics import gauges_of, push, write_textfile
from embft.promotion.ledger import read_history
from embft.stages.monitored import monitored_days
from embft.stages.stage import open_model

log = logging.getLogger(__name__)

_METRICS = "metrics"


def present_gauges(model: str, *, include: Path) -> list[Gauge]:
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
    history, incidents = read_history(storage, paths), Ledger(storage, paths).open()
    return gauges_of(monitored_days(storage, paths), history, incidents, config.zone)


def exported_gauges(model: str, gauges: Sequence[Gauge], prometheus: Prometheus) -> list[Delivery]:
    """Put figures where Prometheus finds them. What fails stops nothing, and is told.

    Args:
        model: The model's name.
        gauges: Its figures.
        prometheus: Where to.

    Returns:
        What came of each place.
    """
    places: dict[str, Callable[[], object]] = {}
    if prometheus.folder:
        places["prometheus.folder"] = partial(write_textfile, Path(prometheus.folder), model, gauges)
    if prometheus.pushgateway:
        places["prometheus.pushgateway"] = partial(push, prometheus.pushgateway, model, gauges)
    return [_exported(name, export) for name, export in places.items()]


def _exported(place: str, export: Callable[[], object]) -> Delivery:
    try:
        export()
    except EmbftError as error:
        log.warning("%s", error)
        is_temporary = isinstance(error, TemporaryError)
        return Delivery(message=_METRICS, channel=place, outcome="kept", reason=str(error), retryable=is_temporary)
    return Delivery(message=_METRICS, channel=place, outcome="sent", reason=None)
