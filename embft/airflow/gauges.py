"""A model's figures among Airflow's own metrics: to StatsD or OpenTelemetry, wherever Airflow is set to send them."""

from collections.abc import Iterable

from airflow.sdk.observability import stats

from embft.monitoring.sample import Sample

_PREFIX = "embft"


def emit(model: str, samples: Iterable[Sample]) -> None:
    """Set a gauge for each figure; nothing where Airflow sends no metrics.

    Plain StatsD has no labels, so they are in the name, too: `embft.shop.measure.all.ndcg_at_10.champion`.

    Args:
        model: The model's name.
        samples: Its figures.
    """
    for sample in samples:
        name, labels, figure = sample.name.removeprefix(f"{_PREFIX}_"), sample.labels, sample.figure
        if name == "champion_info":
            name, labels, figure = "champion_version", {}, float(sample.labels["version"])
        path = ".".join((_PREFIX, model, name, *labels.values()))
        stats.gauge(stats.normalize_name_for_stats(path), figure, tags={"model": model, **labels})
