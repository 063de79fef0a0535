"""One figure of a benchmark: a JSON object on a line of stdout."""

import json
import sys
from typing import Any


def print_figure(name: str, value: float, unit: str, *, baseline: str | None, n: int, data: str) -> None:
    """Print one figure.

    Args:
        name: Dotted, stable.
        value: The figure.
        unit: Of the value.
        baseline: What a ratio is against; None where the figure is absolute.
        n: How many times it was measured, or over how many cases it is a mean.
        data: What it was measured on.
    """
    figure: dict[str, Any] = {"name": name, "value": value, "unit": unit, "baseline": baseline, "n": n, "data": data}
    sys.stdout.write(json.dumps(figure) + "\n")
    sys.stdout.flush()
