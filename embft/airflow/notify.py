"""Airflow's own notifiers, called by name: in the task that tells people, or by hand.

    echo '{"message": "…", "channel": "…", "notifier": "…", "arguments": {…}}' | python -m embft.airflow.notify

By hand, connections come from AIRFLOW_CONN_* and from Airflow's secrets backends.
"""

import json
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from airflow.sdk import BaseNotifier

from embft.errors import EXIT_OK, ConfigError, EmbftError, TemporaryError

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
