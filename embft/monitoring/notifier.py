"""Arguments of Airflow's own notifiers, filled in with a message that no notifier can take for anything but words.

Airflow renders a notifier's arguments with Jinja, and reads those that end in a file name's ending from disk. Where
the text goes is unknown, too: to HTML, to Markdown, to Slack.
"""

import re
from collections.abc import Mapping
from typing import Any

from embft.monitoring.message import Message
from embft.monitoring.text import links_of, no_mention, text_of, title_of

_PLACE = re.compile(r"\{(title|text|model|severity|link)\}")
_JINJA = re.compile(r"\{(?=[{%#])|(?<=[}%#])\}")
# What HTML, Markdown, and the mentions of chats are made of, by signs that look alike.
_LOOK_ALIKE = str.maketrans({"<": "‹", ">": "›", "`": "ˋ", "*": "∗", "~": "∼", "[": "⁅", "]": "⁆"})


def filled_in(arguments: Mapping[str, Any], message: Message) -> dict[str, Any]:
    """Fill a message in wherever texts of the arguments have room for it.

    Args:
        arguments: As of the config, with {title}, {text}, {model}, {severity} and {link} in texts of any depth.
        message: The message.

    Returns:
        A copy. Texts with no such place are untouched; in the others, nothing is a template of Jinja.
    """
    links = links_of(message)
    values = {
        "title": _words(title_of(message)),
        "text": _words(text_of(message)),
        "model": _words(message.model),
        "severity": message.severity,
        "link": links[0][1] if links else "",
    }
    return {name: _filled(it, values) for name, it in arguments.items()}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _filled(it, values) for name, it in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(it, values) for it in value]
    if not isinstance(value, str) or not _PLACE.search(value):
        return value
    filled = _PLACE.sub(lambda found: values[found[1]], value)
    # The whole of it: a brace of the config before one of the message would open a template as well.
    harmless = _JINJA.sub(lambda found: f"{found[0]} " if found[0] == "{" else f" {found[0]}", filled)
    # A blank behind what looks like a file's name.
    return f"{harmless} " if re.search(r"\.\w+$", harmless) else harmless


def _words(text: str) -> str:
    return no_mention(text).translate(_LOOK_ALIKE)
