"""A made-up message, for trying channels: what a regression looks like, and that it is none."""

from datetime import datetime, timedelta
from uuid import uuid4

from embft.monitoring.message import Cause, Chart, Message, Words

_FIGURES = (0.721, 0.716, 0.724, 0.719, 0.728, None, 0.717, 0.722, 0.725, 0.718, 0.714, 0.72, 0.709, 0.612)


def sample_message(model: str, *, now: datetime) -> Message:
    """Make a message of kind `test`, another one each time.

    Args:
        model: The model's name.
        now: The time of day, with its zone.

    Returns:
        The message; its title says that it is a test.
    """
    day = now.date() - timedelta(days=1)
    days = tuple(day - timedelta(days=back) for back in reversed(range(len(_FIGURES))))
    words = Words(
        title=f"Test: {model}: nDCG@10 fell to 0.612 on {day}, 15 % below the usual 0.720 (limit 5 %)",
        details=(
            "This is a sample of `embft alerts test`; every figure in it is made up, and nothing is wrong.",
            "A real message says here since when, on how many clicks, and what else was looked at.",
        ),
        causes=(
            Cause(what="The catalogue changed", evidence=f"41 of 437 items are gone since {days[-2]}"),
            Cause(what="New queries", evidence="31 % of the clicked searches were never seen before, usually 12 %"),
        ),
        chart=Chart(label="nDCG@10, all queries", days=days, figures=_FIGURES, limit=0.684),
        links={"Where alerts are explained": "https://example.com/alerts", "Airflow run": "https://example.com/run"},
        command=f"embft rollback --model {model} --why 'nDCG@10 fell'",
    )
    return Message(
        id=uuid4().hex[:24],
        model=model,
        incident="test",
        number=1,
        kind="test",
        state="happened",
        severity="warning",
        day=day,
        since=day,
        at_utc=now,
        words=words,
    )
