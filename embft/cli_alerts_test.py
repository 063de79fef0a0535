"""`embft alerts test`: a sample to every channel, to see that each arrives."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embft.cli_shared import Model, exit_codes
from embft.config import config_path, include_folder, load_config
from embft.errors import ConfigError, EmbftError, TemporaryError

if TYPE_CHECKING:
    from embft.alerts_config import AlertChannels, Channel
    from embft.monitoring.message import Message

_NOTIFIER_TIMEOUT_S = 120


def test(
    model: Model,
    channel: Annotated[str | None, typer.Option(help="One of include/alerts.yaml; left out: all of them.")] = None,  # noqa: PT028
) -> None:
    """Send a sample to each channel, routed there or not; say of each whether it took it, and if not, what to do."""
    with exit_codes():
        from embft.alerts_config import load_channels
        from embft.monitoring.sample import sample_message

        include = include_folder()
        config = load_config(config_path(include, model))
        wanted = _wanted(load_channels(include), channel, include)
        sample = sample_message(model, now=datetime.now(UTC)).model_copy(update={"synthetic": config.synthetic})
        failures = [error for name, it in wanted.items() if (error := _tried(sample, name, it)) is not None]
        if failures:
            is_temporary = all(isinstance(it, TemporaryError) for it in failures)
            raise typer.Exit(TemporaryError.exit_code if is_temporary else ConfigError.exit_code)


def _wanted(channels: "AlertChannels", name: str | None, include: Path) -> dict[str, "Channel"]:
    from embft.alerts_config import ALERTS_FILE
    from embft.promotion_config import closest

    if not channels.channels:
        raise ConfigError(f"{include / ALERTS_FILE} names no channel; docs/alerts.md shows how to add one")
    if name is None:
        return channels.channels
    if name not in channels.channels:
        raise ConfigError(
            f"there is no channel {name!r} in {include / ALERTS_FILE}; {closest(name, channels.channels)}"
        )
    return {name: channels.channels[name]}


def _tried(message: "Message", name: str, channel: "Channel") -> EmbftError | None:
    from embft.alerts_config import NotifierChannel
    from embft.monitoring.connections import connection
    from embft.monitoring.delivery import notifier_call, send

    try:
        if isinstance(channel, NotifierChannel):
            _notify(notifier_call(message, name, channel).to_json(), channel.notifier)
            note = None
        else:
            note = send(message, channel, connection)
    except EmbftError as error:
        typer.secho(f"{name}: error: {error}", err=True, fg="red")
        return error
    typer.echo(f"{name}: ok" + (f", but it {note}" if note else ""))
    return None


def _notify(call: bytes, notifier: str) -> None:
    """Call a notifier where Airflow is: its interpreter, if it is this one."""
    command = [sys.executable, "-m", "embft.airflow.notify"]
    try:
        done = subprocess.run(command, input=call, capture_output=True, timeout=_NOTIFIER_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise TemporaryError(f"{notifier} was not done after {_NOTIFIER_TIMEOUT_S} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        kind = TemporaryError if done.returncode == TemporaryError.exit_code else ConfigError
        raise kind(said[-1].removeprefix("error: ") if said else f"{notifier} ended with exit code {done.returncode}")
