"""A model's figures as gauges: for Prometheus, and for whatever Airflow sends its own metrics to."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from prometheus_client import CollectorRegistry, generate_latest, push_to_gateway, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from embft.errors import ConfigError, TemporaryError
from embft.monitoring.day import MonitoredDay
from embft.monitoring.gauge import Gauge
from embft.monitoring.message import Message
from embft.promotion.history import History

JOB = "embft"
_PUSH_TIMEOUT_S = 10
_MEANING = {
    "embft_measure": "Mean of a measure over the clicked searches of the newest monitored day.",
    "embft_measure_standard_error": "Standard error of that mean over queries.",
    "embft_measured_queries": "Distinct clicked queries of that day.",
    "embft_clicked_sessions": "Clicked searches of that day.",
    "embft_lost_sessions": "Clicked searches of that day, none of whose clicked items can be found.",
    "embft_log_lines": "Lines of that day's log.",
    "embft_log_quarantined_lines": "Lines of that day's log that could not be read.",
    "embft_catalogue_items": "Items of the catalogue.",
    "embft_monitored_until_seconds": "End of the newest monitored day, Unix time.",
    "embft_champion_info": "1, with the version that serves.",
    "embft_champion_until_seconds": "End of the newest day that the champion's night knew, Unix time.",
    "embft_promotions": "Promotions and rollbacks that took effect, since the model began.",
    "embft_open_incidents": "Incidents that are told and not over.",
}


def gauges_of(
    days: Sequence[MonitoredDay], history: History, messages: Iterable[Message], zone: ZoneInfo
) -> list[Gauge]:
    """Gather a model's figures.

    Args:
        days: The monitoring history, the oldest first.
        history: Of the champions.
        messages: The last message of each incident that is not over.
        zone: Of the log's days.

    Returns:
        The figures. Measures are those of the newest measured day, the rest of the newest day.
    """
    found = [*_of_champion(history, zone), *_of_incidents(messages)]
    if days:
        found += _of_traffic(days[-1], zone)
    if measured := [it for it in days if it.status == "measured"]:
        found += _of_measures(measured[-1])
    return found


def exposition(model: str, gauges: Sequence[Gauge]) -> str:
    """Write figures in Prometheus' text format.

    Args:
        model: The model's name.
        gauges: Its figures.

    Returns:
        The text. Source: Prometheus, "Exposition formats".
    """
    return generate_latest(_registry(model, gauges)).decode()


def write_textfile(folder: Path, model: str, gauges: Sequence[Gauge]) -> Path:
    """Put figures where a node exporter reads them, in one step: it sees the old file or the new one.

    Args:
        folder: Of its textfile collector.
        model: The model's name.
        gauges: Its figures.

    Returns:
        The file.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    path = folder / f"embft_{model}.prom"
    try:
        write_to_textfile(str(path), _registry(model, gauges))
    except OSError as error:
        raise ConfigError(
            f"the metrics of {model} cannot be written to {path} ({error.strerror or error}); correct "
            "prometheus.folder in include/alerts.yaml, or give this user the right to write there"
        ) from None
    return path


def push(address: str, model: str, gauges: Sequence[Gauge]) -> None:
    """Push figures to a Pushgateway, in place of those that this model pushed before.

    Args:
        address: Of the gateway.
        model: The model's name.
        gauges: Its figures.

    Raises:
        TemporaryError: The gateway did not take them; the next run pushes them again.
    """
    try:
        push_to_gateway(
            address, job=JOB, registry=_registry(model, gauges), grouping_key={"model": model}, timeout=_PUSH_TIMEOUT_S
        )
    except OSError as error:  # urllib's errors are of this kind, an answer of 4xx or 5xx among them
        raise TemporaryError(
            f"the Pushgateway {address} did not take the metrics of {model} ({error}); the next run pushes them again"
        ) from None


def _of_measures(day: MonitoredDay) -> Iterator[Gauge]:
    for queries in day.sets:
        yield _gauge("embft_measured_queries", {"slice": queries.name}, queries.n_queries)
        for who, figures in queries.models.items():
            for measure, figure in figures.items():
                if figure is not None:
                    yield _gauge("embft_measure", {"slice": queries.name, "measure": measure, "of": who}, figure)
    for name, errors in day.errors.items():
        for measure, error in errors.items():
            if error is not None:
                yield _gauge("embft_measure_standard_error", {"slice": name, "measure": measure}, error)


def _of_traffic(day: MonitoredDay, zone: ZoneInfo) -> Iterator[Gauge]:
    traffic = day.traffic
    yield _gauge("embft_monitored_until_seconds", {}, _end_of(day.day, zone))
    yield _gauge("embft_clicked_sessions", {}, traffic.clicked_sessions)
    yield _gauge("embft_lost_sessions", {}, traffic.lost_sessions)
    yield _gauge("embft_log_lines", {}, traffic.lines)
    yield _gauge("embft_log_quarantined_lines", {}, traffic.quarantined)
    yield _gauge("embft_catalogue_items", {}, traffic.items)


def _of_champion(history: History, zone: ZoneInfo) -> Iterator[Gauge]:
    for kind in ("promotion", "rollback"):
        n = sum(step.took_effect and step.change.kind == kind for step in history.steps)
        yield _gauge("embft_promotions", {"kind": kind}, n)
    if champion := history.champion:
        yield _gauge("embft_champion_info", {"version": champion.version}, 1)
        yield _gauge("embft_champion_until_seconds", {}, _end_of(champion.day, zone))


def _of_incidents(messages: Iterable[Message]) -> Iterator[Gauge]:
    counts = Counter(it.severity for it in messages)
    for severity in ("warning", "critical"):
        yield _gauge("embft_open_incidents", {"severity": severity}, counts[severity])


def _gauge(name: str, labels: dict[str, str], figure: float) -> Gauge:
    return Gauge(name=name, labels=labels, figure=figure)


def _end_of(day: date, zone: ZoneInfo) -> float:
    return datetime.combine(day + timedelta(days=1), time.min, zone).astimezone(UTC).timestamp()


class _Gauges(Collector):
    def __init__(self, model: str, gauges: Sequence[Gauge]) -> None:
        self._model = model
        self._gauges = gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, meaning in _MEANING.items():
            own = [it for it in self._gauges if it.name == name]
            if own:
                family = GaugeMetricFamily(name, meaning, labels=["model", *own[0].labels])
                for it in own:
                    family.add_metric([self._model, *it.labels.values()], it.figure)
                yield family


def _registry(model: str, gauges: Sequence[Gauge]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Gauges(model, gauges))
    return registry
