"""Proposed limits as a unified diff of a model's config: text goes in, what a person wrote stays as it is."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from embft.errors import ConfigError
from embft.validation.proposals import Proposal

_SECTION = ("validation", "overrides", "sessions")
_STEP = "  "


@dataclass(frozen=True)
class _Edit:
    """Text that takes the place of `start` to `end` (equal: goes in before it)."""

    start: int
    end: int
    text: str


def diff_of(name: str, text: str, proposals: Sequence[Proposal]) -> str:
    """Write a diff that puts limits into `validation.overrides.sessions`.

    Args:
        name: The file's, relative to the folder in which the diff will be applied.
        text: The file's content, line ends as they are.
        proposals: The limits; none gives an empty diff.

    Returns:
        For `git apply` or `patch -p1`.

    Raises:
        ConfigError: The file is written in a way that text cannot be put into; the message has what to add.
    """
    try:
        changed = text
        for proposal in reversed(proposals):  # each goes in at the top of its section
            changed = _with(changed, proposal)
        is_as_meant = yaml.safe_load(changed) == _merged(yaml.safe_load(text), proposals)
    except yaml.YAMLError:
        is_as_meant = False
    if not is_as_meant:
        lines = "".join(_block((it.rule, "kwargs"), it, "") for it in proposals)
        raise ConfigError(
            f"{name}: the file is written in a way that lines cannot be put into safely; put this below "
            f"{'.'.join(_SECTION)} by hand:\n{lines}"
        )
    diff = difflib.unified_diff(_lines(text), _lines(changed), f"a/{name}", f"b/{name}")
    return "".join(it if it.endswith("\n") else f"{it}\n\\ No newline at end of file\n" for it in diff)


def _with(text: str, proposal: Proposal) -> str:
    """Put one rule's limits in."""
    keys: tuple[str, ...] = (*_SECTION, proposal.rule, "kwargs")
    key: yaml.Node | None = None
    node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    rule: yaml.Node | None = None
    while keys and (found := _entry(node, keys[0])):
        rule = found[0] if keys[0] == proposal.rule else rule
        key, node, keys = *found, keys[1:]
    edits = _edits(text, key, node, keys, proposal)
    if rule:
        edits.append(_evidence_above(text, rule.start_mark.index, proposal))
    elif isinstance(node, yaml.MappingNode) and node.flow_style:
        edits.append(_evidence_above(text, node.start_mark.index, proposal))
    newline = "\r\n" if "\r\n" in text else "\n"
    for edit in sorted(edits, key=lambda it: it.start, reverse=True):
        text = text[: edit.start] + edit.text.replace("\n", newline) + text[edit.end :]
    return text


def _edits(
    text: str, key: yaml.Node | None, node: yaml.Node | None, keys: Sequence[str], proposal: Proposal
) -> list[_Edit]:
    """Put in the keys that are not there yet below the last one that is, or change the limits where all are."""
    if key is not None and not isinstance(node, yaml.MappingNode):  # a key, and nothing below it
        return _below_bare_key(text, key, node, keys, proposal)
    if not keys and key is not None:
        return _limits_in(text, key, node, proposal)
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        return [_into_flow(node, f"{keys[0]}: {_flow(keys[1:], proposal)}")]
    return [_into_block(text, key, node, keys, proposal)]


def _entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    entries = node.value if isinstance(node, yaml.MappingNode) else ()
    return next(((name, value) for name, value in entries if name.value == key), None)


def _below_bare_key(
    text: str, key: yaml.Node, node: yaml.Node | None, keys: Sequence[str], proposal: Proposal
) -> list[_Edit]:
    indent = " " * (key.start_mark.column + len(_STEP))
    below = _block(keys, proposal, indent) if keys else _limits_block(proposal.limits, indent)
    # What stands for nothing (null, ~) goes.
    gone = [_without_blank(text, node)] if node else []
    return [*gone, _new_line(text, key.end_mark.index, below)]


def _without_blank(text: str, node: yaml.Node) -> _Edit:
    """Take a value out; where nothing follows it on its line, with the white space around it."""
    start, end = node.start_mark.index, node.end_mark.index
    after = re.compile(r"[ \t]*(?=\r?\n|\Z)").match(text, end)
    if not after:
        return _Edit(start, end, "")
    return _Edit(len(text[:start].rstrip(" \t")), after.end(), "")


def _limits_in(text: str, key: yaml.Node, kwargs: yaml.Node | None, proposal: Proposal) -> list[_Edit]:
    """Replace the limits that are there, and add those that are not."""
    there = {k.value: v for k, v in kwargs.value} if isinstance(kwargs, yaml.MappingNode) else {}
    edits = [
        _Edit(there[name].start_mark.index, there[name].end_mark.index, str(limit))
        for name, limit in proposal.limits.items()
        if name in there
    ]
    added = {name: limit for name, limit in proposal.limits.items() if name not in there}
    if added and isinstance(kwargs, yaml.MappingNode):
        if kwargs.flow_style:
            edits.append(_into_flow(kwargs, _flow_limits(added)))
        else:
            edits.append(_new_line(text, key.end_mark.index, _limits_block(added, " " * kwargs.start_mark.column)))
    return edits


def _into_flow(node: yaml.MappingNode, into: str) -> _Edit:
    after_brace = node.start_mark.index + 1
    return _Edit(after_brace, after_brace, f"{into}, " if node.value else into)


def _into_block(
    text: str, key: yaml.Node | None, node: yaml.Node | None, keys: Sequence[str], proposal: Proposal
) -> _Edit:
    """Put a key in below its section's key, above what else and what comments the section has."""
    if key is None or node is None:  # the whole file is the section: at its end
        return _new_line(text, len(text), "\n" + _block(keys, proposal, ""))
    return _new_line(text, key.end_mark.index, _block(keys, proposal, " " * node.start_mark.column))


def _evidence_above(text: str, index: int, proposal: Proposal) -> _Edit:
    """Put the evidence above a line, in place of what an earlier proposal for the rule put there."""
    start = text.rfind("\n", 0, index) + 1
    indent = " " * (len(text[start:]) - len(text[start:].lstrip(" ")))
    comment = f"{indent}{_comment(proposal)}\n"
    ours = rf"^[ ]*# {re.escape(proposal.rule)}, \d+ days: [^\n]*\n(?=(?:[ ]*#[^\n]*\n)*\Z)"
    earlier = re.search(ours, text[:start], re.MULTILINE)
    return _Edit(earlier.start(), earlier.end(), comment) if earlier else _Edit(start, start, comment)


def _new_line(text: str, index: int, lines: str) -> _Edit:
    """Put lines below the line of a place."""
    end = text.find("\n", index)
    if end >= 0:
        return _Edit(end + 1, end + 1, lines)
    is_cut = bool(text) and not text.endswith("\n")
    return _Edit(len(text), len(text), ("\n" if is_cut else "") + lines)


def _block(keys: Sequence[str], proposal: Proposal, indent: str) -> str:
    """Write the keys one below the other, the evidence above the rule's name."""
    lines = ""
    for depth, key in enumerate(keys):
        here = indent + depth * _STEP
        if key == proposal.rule:
            lines += f"{here}{_comment(proposal)}\n"
        limits = f" {{{_flow_limits(proposal.limits)}}}" if depth == len(keys) - 1 else ""
        lines += f"{here}{key}:{limits}\n"
    return lines


def _limits_block(limits: Mapping[str, float], indent: str) -> str:
    return "".join(f"{indent}{name}: {limit}\n" for name, limit in limits.items())


def _flow(keys: Sequence[str], proposal: Proposal) -> str:
    inner = f"{{{_flow_limits(proposal.limits)}}}"
    for key in reversed(keys):
        inner = f"{{{key}: {inner}}}"
    return inner


def _flow_limits(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {limit}" for name, limit in limits.items())


def _comment(proposal: Proposal) -> str:
    return f"# {proposal.rule}, {proposal.evidence}"


def _merged(content: Any, proposals: Sequence[Proposal]) -> Any:
    for proposal in proposals:
        section = content
        for key in (*_SECTION, proposal.rule, "kwargs"):
            section[key] = section.get(key) or {}
            section = section[key]
        section.update(proposal.limits)
    return content


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)
