"""One figure of a model, for machines that watch."""

from pydantic import Field

from embft.results import Record


class Gauge(Record):
    """A gauge's value."""

    name: str = Field(description="Of the metric, as Prometheus spells it.")
    labels: dict[str, str] = Field(description="Beside the model's name, which every figure has.")
    figure: float
