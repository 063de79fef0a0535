"""`include/alerts.yaml`: who is told what: people by channels, Prometheus by a file or a push. For all of a project.

It is read whenever messages are sent, never frozen with a night: a corrected channel gets what was kept for it. No
secret stands here: a channel names an Airflow connection.
"""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from embft.config_base import Strict, WebUrl
from embft.promotion_config import Name, closest
from embft.yaml_files import YamlFile, error_at

ALERTS_FILE = "alerts.yaml"
SEVERITIES = ("info", "warning", "critical")


def _address(value: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;:\"]+@[^\s@<>,;:\"]+", value):
        raise ValueError("expected an e-mail address such as search-team@example.com")
    return value


EmailAddress = Annotated[str, AfterValidator(_address)]
ConnectionId = Annotated[str, Field(pattern=r"^[\w.-]+$", description="Id of an Airflow connection.")]


class SlackChannel(Strict):
    """An incoming webhook of Slack."""

    type: Literal["slack"]
    connection: ConnectionId


class EmailChannel(Strict):
    """E-mail by SMTP, as HTML and text."""

    type: Literal["email"]
    connection: ConnectionId
    to: tuple[EmailAddress, ...] = Field(min_length=1)
    sender: EmailAddress | None = Field(None, description="Left out: `from_email` of the connection.")


class WebhookChannel(Strict):
    """Any web address: JSON, signed with HMAC where the connection has a password."""

    type: Literal["webhook"]
    connection: ConnectionId


class NotifierChannel(Strict):
    """One of Airflow's own notifiers, by its class."""

    type: Literal["notifier"]
    notifier: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
        description="Such as airflow.providers.slack.notifications.slack.SlackNotifier.",
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Of the class; in texts, {title}, {text}, {model}, {severity} and {link} are filled in.",
    )


Channel = Annotated[SlackChannel | EmailChannel | WebhookChannel | NotifierChannel, Field(discriminator="type")]


class Route(Strict):
    """Who gets which messages."""

    to: tuple[str, ...] = Field(min_length=1, description="Names of channels.")
    severity: Literal["info", "warning", "critical"] = Field("warning", description="This one, and worse.")
    models: tuple[str, ...] = Field(("*",), min_length=1, description="Names of models; * and ? stand for any.")

    def takes(self, model: str, severity: str) -> bool:
        """Say whether a message goes this way."""
        is_bad_enough = SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)
        return is_bad_enough and any(fnmatchcase(model, it) for it in self.models)


class Prometheus(Strict):
    """Where the models' figures are put for Prometheus, whenever messages are told."""

    folder: str | None = Field(
        None, description="Folder that a node exporter's textfile collector reads, on the worker: embft_<model>.prom."
    )
    pushgateway: WebUrl | None = Field(None, description="Address of a Pushgateway, such as http://pushgateway:9091.")

    @model_validator(mode="after")
    def _says_where(self) -> "Prometheus":
        if self.folder is None and self.pushgateway is None:
            raise ValueError("give a folder, a pushgateway, or both; or leave `prometheus` out")
        return self


class AlertChannels(Strict):
    """The whole file."""

    channels: dict[Name, Channel] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    prometheus: Prometheus | None = None

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> "AlertChannels":
        for number, route in enumerate(self.routes):
            for place, name in enumerate(route.to):
                if name not in self.channels:
                    hint = closest(name, self.channels)
                    raise error_at(("routes", number, "to", place), f"there is no channel {name!r}; {hint}")
        return self

    def receivers(self, model: str, severity: str) -> list[str]:
        """Name the channels that a message goes to, each once, in the file's order."""
        wanted = {name for route in self.routes if route.takes(model, severity) for name in route.to}
        return [name for name in self.channels if name in wanted]


def load_channels(include: Path) -> AlertChannels:
    """Read a project's channels.

    Args:
        include: The project's `include` folder.

    Returns:
        The channels; none where there is no file.

    Raises:
        ConfigError: The file is wrong: one line for each fault, with its line and key.
    """
    path = include / ALERTS_FILE
    if not path.exists():
        return AlertChannels()
    file = YamlFile(path)
    return file.validated(file.expanded(dict), AlertChannels)
