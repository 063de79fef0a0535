"""What was found → the config's section `logs`, to paste: only what differs from the defaults, guesses marked."""

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from embft.clickstream.inspection.detection import Detected
from embft.clickstream.inspection.listing import YOUR_BUCKET
from embft.clickstream.inspection.times import Times
from embft.log_config import FORMAT_FIELDS, Action, LogFields, Logs

_DEFAULT_ACTIONS = {it: list(names) for it, names in Logs(uri=("s3://any-bucket/{day}",)).actions.items()}


class Suggestion(NamedTuple):
    """The section, the same as YAML with comments on what was guessed or is left to fill in, and notes."""

    logs: dict[str, Any]
    yaml: str
    notes: list[str]


def suggest(
    detected: Detected, paths: Collection[str], templates: Sequence[str], root: str, times: Times
) -> Suggestion:
    """Put the section together: a valid config, whatever was found."""
    comments = dict.fromkeys(("timezone", "settle_hours"), "guessed from the times")
    fault = _fault_of(templates)
    logs: dict[str, Any] = {"uri": templates[0] if len(templates) == 1 else list(templates)}
    if fault:
        logs["uri"], comments["uri"] = f"{YOUR_BUCKET}dt={{day}}", "FILL IN: where the objects of one day lie"
    elif root == YOUR_BUCKET:
        comments["uri"] = "FILL IN: the bucket that these files come from"
    if detected.format != "sessions":
        logs["format"] = detected.format
    if times.timezone != "UTC":
        logs["timezone"] = times.timezone
    fields, why = _fields(detected, paths)
    if fields:
        logs["fields"] = fields
    actions = _actions(detected)
    if actions != _DEFAULT_ACTIONS:
        logs["actions"] = actions
    if times.settle_hours:
        logs["settle_hours"] = times.settle_hours
    return Suggestion(logs, _yaml(logs, comments | why), [fault] if fault else [])


def _fault_of(templates: Sequence[str]) -> str | None:
    if not templates:
        return "no day stands in the keys: lay each day's objects below a prefix of their own"
    if "\n" in "".join(templates):
        return "uri: a line break in a key; the keys hold what no config takes"
    try:
        Logs(uri=tuple(templates))
    except ValidationError as error:
        # As with a question mark in a key: the person is told, and gets the rest.
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        return f"uri: {fault}; the keys hold what no config takes"
    return None


def _fields(detected: Detected, paths: Collection[str]) -> tuple[dict[str, str | None], dict[str, str]]:
    """Give the fields whose paths are not the format's own, and why they are there."""
    standard = FORMAT_FIELDS[detected.format]
    fields: dict[str, str | None] = {}
    why: dict[str, str] = {}
    for name in LogFields.model_fields:
        path, usual = detected.fields.get(name), standard.get(name)
        if name in detected.missing:
            fields[name], why[name] = usual, "FILL IN: not found in the sample"
        elif path is None and usual in paths and name not in ("action", "item"):  # UBI must have these
            fields[name], why[name] = None, "what has that name in the log is no such field"
        elif path not in (None, usual):
            fields[name], why[name] = path, "guessed by its name and values"
    return fields, why


def _actions(detected: Detected) -> dict[Action, list[str]]:
    # A sample need not hold every action: the default names stay beside those that were seen.
    return {
        action: [*names, *(it for it in detected.actions.get(action, ()) if it not in names)]
        for action, names in _DEFAULT_ACTIONS.items()
    }


def _yaml(logs: dict[str, Any], comments: dict[str, str]) -> str:
    plain = yaml.safe_dump({"logs": logs}, sort_keys=False, width=math.inf)
    text = "\n".join(_commented(it, comments) for it in plain.splitlines()) + "\n"
    read = yaml.safe_load(text)["logs"]
    assert read == logs, text
    Logs.model_validate(read)
    return text


def _commented(line: str, comments: dict[str, str]) -> str:
    key = re.match(r"  (?:  )?(\w+):", line)
    comment = comments.get(key[1]) if key else None
    return f"{line}  # {ascii(comment)[1:-1]}" if comment else line
