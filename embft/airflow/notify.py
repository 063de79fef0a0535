"""Airflow's own notifiers, called by name: in the task that tells people, or by hand.

    echo '{"message": "…", "channel": "…", "notifier": "…", "arguments": {…}}' | python -m embft.airflow.notify

By hand, connections come from AIRFLOW_CONN_* and from Airflow's secrets backends.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from airflow.sdk import BaseNotifier

from embft.config import ModelConfig
from embft.errors import EXIT_OK, ConfigError, EmbftError, TemporaryError
from embft.paths import Paths

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"https?://\S+|/services/\S+")


def notify(notifier: str, arguments: Mapping[str, Any]) -> None:
    """Call a notifier.

    Arguments hold what people typed into a search box, and Airflow renders a notifier's arguments as Jinja templates.
    So it is called by a subclass that declares none of them to be a template.

    Args:
        notifier: Its class, such as `airflow.providers.slack.notifications.slack.SlackNotifier`.
        arguments: Of the class.

    Raises:
        ConfigError: There is no such class, or it takes other arguments.
        TemporaryError: It failed.
    """
    found = _class_of(notifier)
    untemplated = type(found.__name__, (found,), {"template_fields": (), "template_ext": ()})
    try:
        called = untemplated(**arguments)
    except Exception as error:
        raise ConfigError(
            f"{notifier} does not take these arguments ({', '.join(sorted(arguments)) or 'none'}): {error}; correct "
            "them in include/alerts.yaml"
        ) from error
    try:
        called({})
    except Exception as error:
        # An address may be the secret itself (Slack's webhooks), so none is told, here or in a traceback.
        said = _ADDRESS.sub("<address>", str(error))
        raise TemporaryError(f"{notifier} failed: {type(error).__name__}: {said}") from None


def notify_once(config: ModelConfig, channel: str, calls: Sequence[Mapping[str, Any]]) -> None:
    """Make a channel's calls in their order, each once whoever else tells at this moment, and mark what was taken.

    Where one fails, those after it are left to the next run: nobody reads of an end before its beginning.

    Args:
        config: The model's config.
        channel: The channel's name.
        calls: Each with `message` (its id), `notifier` and `arguments`.

    Raises:
        ConfigError: There is no such notifier, or it takes other arguments.
        TemporaryError: It failed, or another run is calling it; or S3 did not answer.
    """
    # Only here: boto3 has no place in the parsing of a DAG.
    from embft.monitoring.outbox import Claims, is_sent, mark_sent
    from embft.storage import Storage

    storage, paths = Storage(config.storage), Paths(config.storage.artifacts, config.name)
    left = [str(it["message"]) for it in calls]
    claims = Claims(storage, paths, channel, left, datetime.now(UTC))
    try:
        for call in calls:
            is_first = claims.is_first(left[0])
            if is_sent(storage, paths, left[0], channel):  # by another run, since the command listed
                claims.release(left.pop(0))
                continue
            if not is_first:
                raise TemporaryError("another run is calling it")
            notify(call["notifier"], call["arguments"])
            mark_sent(storage, paths, left[0], channel)
            log.info("channel %s took message %s", channel, left.pop(0))
    finally:
        for message in left:
            claims.release(message)


def _class_of(notifier: str) -> type[Any]:
    module, _, name = notifier.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"there is no notifier {notifier}: {error}; correct it in include/alerts.yaml, or install its provider "
            "where Airflow's tasks run"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise ConfigError(f"{notifier} is no notifier of Airflow (a BaseNotifier); correct it in include/alerts.yaml")
    return found


def main() -> int:
    """Make the call that stands on stdin; give the exit code, after saying on stderr what went wrong."""
    call = json.load(sys.stdin)
    try:
        notify(call["notifier"], call["arguments"])
    except EmbftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
