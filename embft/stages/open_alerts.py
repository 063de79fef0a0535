"""`embft alerts list`: what people were told and is not over, and what a channel did not take yet."""

from datetime import datetime
from pathlib import Path

from pydantic import Field

from embft.alerts_config import load_channels
from embft.monitoring.ledger import Ledger
from embft.monitoring.message import Message
from embft.results import Record
from embft.stages.stage import open_model
from embft.stages.tell import waiting


class Kept(Record):
    """A message that waits for channels."""

    message: Message
    channels: tuple[str, ...] = Field(description="Those that did not take it yet.")


class OpenAlerts(Record):
    """How a model's alerts stand."""

    model: str
    incidents: tuple[Message, ...] = Field(description="The last message of each incident that is not over.")
    kept: tuple[Kept, ...]


def open_alerts(model: str, *, include: Path, now: datetime) -> OpenAlerts:
    """Say which incidents of a model are open, and which messages are still to be sent.

    Args:
        model: The model's name.
        include: The project's `include` folder.
        now: The time of day, with its zone.

    Returns:
        Both, the oldest first.

    Raises:
        ConfigError: There is no such model, or a config is wrong.
        StorageUnavailable: S3 did not answer.
    """
    _, storage, paths = open_model(model, include)
    left = waiting(storage, paths, load_channels(include), now)
    return OpenAlerts(
        model=model,
        incidents=tuple(Ledger(storage, paths).open()),
        kept=tuple(Kept(message=message, channels=tuple(names)) for message, names in left),
    )
