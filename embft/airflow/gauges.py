"""A model's figures among Airflow's own metrics: to StatsD or OpenTelemetry, wherever Airflow is set to send them."""

from collections.abc import Iterable

from airflow.sdk.observability import stats

from embft.monitoring.gauge import Gauge

_PREFIX = "embft"


def emit(model: str, gauges: Iterable[Gauge]) -> None:
    """Set a gauge for each figure; nothing where Airflow sends no metrics.

    Plain StatsD has no labels, so they are in the name, too: `embft.shop.measure.all.ndcg_at_10.champion`.

    Args:
        model: The model's name.
        gauges: Its figures.
    """
    for gauge in gauges:
        name, labels, figure = gauge.name.removeprefix(f"{_PREFIX}_"), gauge.labels, gauge.figure
        if name == "champion_info":
            name, labels, figure = "champion_version", {}, float(gauge.labels["version"])
        path = ".".join((_PREFIX, model, name, *labels.values()))
        stats.gauge(stats.normalize_name_for_stats(path), figure, tags={"model": model, **labels})
