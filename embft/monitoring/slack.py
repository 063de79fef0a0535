"""Messages for Slack: blocks of an incoming webhook, within Slack's limits, in which no text of a log means anything.

Slack has no escape for its formatting: texts of a log stand in `plain_text`, where there is none, or have its signs
replaced by others that look alike.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from embft.errors import ConfigError
from embft.monitoring.connections import Connection
from embft.monitoring.http_post import WEB_TYPES, post, web_address
from embft.monitoring.message import Chart, Message
from embft.monitoring.text import TITLE_CHARS, chart_lines, links_of, no_mention, plain, standing, title_of

_HOOKS = "hooks.slack.com/services"
# Slack's own limits.
_HEADER_CHARS, _SECTION_CHARS, _MOST_BLOCKS = 150, 3_000, 50
_SQUARES = {"critical": "🟥", "warning": "🟨", "info": "🟦"}
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LOOK_ALIKE = str.maketrans({"*": "∗", "~": "∼", "`": "ˋ"})
Block = dict[str, Any]


def slack_json(message: Message) -> bytes:
    """Write a message as Slack takes it.

    Args:
        message: The message.

    Returns:
        JSON: blocks, and a line for notifications.
    """
    square = "🟩" if message.state == "recovered" else _SQUARES[message.severity]
    fallback = f"{square} {_neutral(title_of(message), _SECTION_CHARS)}"
    body = {"text": fallback, "unfurl_links": False, "unfurl_media": False, "blocks": _blocks(message, square)}
    return json.dumps(body).encode()


def slack_address(connection: Connection) -> str:
    """Give a webhook's address, as Airflow's SlackWebhookHook puts it together.

    Args:
        connection: Of type slackwebhook: the password is the token or the whole address; or one of WEB_TYPES.

    Returns:
        The address: a secret.

    Raises:
        ConfigError: There is no token, or the connection is of another type.
    """
    if connection.type in WEB_TYPES:
        return web_address(connection)
    if connection.type != "slackwebhook":
        raise ConfigError(
            f"connection {connection.id!r} is of type {connection.type or 'none'!r}; Slack needs slackwebhook, with "
            "the webhook's address as its password"
        )
    token = connection.password.strip()
    if not token:
        raise ConfigError(f"connection {connection.id!r} has no password; give it the address of Slack's webhook")
    if "://" in token:
        return token
    base = connection.host
    if "://" not in base:
        base = f"{connection.schema or 'https'}://{base or _HOOKS}"
    return f"{base.rstrip('/')}/{token.lstrip('/')}"


def send_slack(message: Message, connection: Connection) -> None:
    """Post a message.

    Args:
        message: The message.
        connection: As of `slack_address`.

    Raises:
        ChannelAway: Nobody answered.
        TemporaryError: Slack has a fault.
        ConfigError: Slack refused, or the connection cannot be used.
    """
    proxy = connection.extra.get("proxy") or connection.extra.get("extra__slackwebhook__proxy")
    proxies = {"http": str(proxy), "https": str(proxy)} if proxy else None
    post(slack_address(connection), slack_json(message), {}, connection, proxies)


def _blocks(message: Message, square: str) -> list[Block]:
    words = message.words
    title = title_of(message)
    severity, _, rest = standing(message).partition(" · ")
    blocks: list[Block] = [
        {"type": "header", "text": _plain_text(f"{square} {title}", _HEADER_CHARS)},
        {"type": "context", "elements": [_mrkdwn(f"*{severity.upper()}* · {_neutral(rest, TITLE_CHARS)}")]},
    ]
    if len(f"{square} {title}") > _HEADER_CHARS:
        blocks.append({"type": "section", "text": _plain_text(title, _SECTION_CHARS)})
    # A blank line between: on a phone each sentence takes several lines.
    details = "\n\n".join(filter(None, (plain(it, 600) for it in words.details)))
    if details:  # Slack refuses a message with an empty text in it
        blocks.append({"type": "section", "text": _plain_text(details, _SECTION_CHARS)})
    if words.chart is not None:
        blocks += _sections(_chart(words.chart))
    if words.causes:
        causes = (f"• *{_neutral(it.what, 200)}*: {_neutral(it.evidence, 600)}" for it in words.causes)
        blocks += _sections(["*Likely causes*", *causes])
    blocks += _sections([" · ".join(f"<{_escaped(url, 2_500)}|{_label(name)}>" for name, url in _few(message))])
    if words.command:
        # A code block ends at the next backtick; nothing else means anything in it.
        blocks += _sections(["*To run*", f"```{_escaped(plain(words.command).replace('`', 'ˋ'), 2_000)}```"])
    return blocks[:_MOST_BLOCKS]


def _chart(chart: Chart) -> list[str]:
    drawn = "\n".join(chart_lines(chart))
    return [f"*{_neutral(chart.label, 150)}*", f"```{_escaped(drawn, 1_000)}```"] if drawn else []


def _few(message: Message) -> list[tuple[str, str]]:
    """Give the links that fit one section."""
    kept, left = [], _SECTION_CHARS
    for name, url in links_of(message):
        left -= len(_escaped(url, 2_500)) + len(_label(name)) + 6
        if left >= 0:
            kept.append((name, url))
    return kept


def _label(name: str) -> str:
    return _neutral(name, 60).replace("|", "¦")


def _sections(lines: Iterable[str]) -> list[Block]:
    """Make sections of lines, as many as they need; each line fits one."""
    sections: list[str] = []
    for line in filter(None, lines):
        if sections and len(sections[-1]) + 1 + len(line) <= _SECTION_CHARS:
            sections[-1] += f"\n{line}"
        else:
            sections.append(line)
    return [{"type": "section", "text": _mrkdwn(it)} for it in sections]


def _mrkdwn(text: str) -> Block:
    # Verbatim: Slack makes no links and no mentions of what merely looks like some.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _plain_text(text: str, limit: int) -> Block:
    return {"type": "plain_text", "text": _escaped(text, limit), "emoji": False}


def _neutral(text: str, limit: int) -> str:
    """Give a text that stands among formatted ones, with nothing in it that formats, quotes, mentions or links."""
    alike = no_mention(plain(text, limit)).translate(_LOOK_ALIKE)
    # Only at the edge of a word does it slant; within names it stays, to be copied.
    alike = re.sub(r"(?<![^\W_])_|_(?![^\W_])", "＿", alike)
    return _escaped(alike, limit)


def _escaped(text: str, limit: int) -> str:
    """Escape, then cut: Slack counts what is sent, and half an entity would show."""
    pieces = [_ENTITIES.get(it, it) for it in text]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    length, kept = 1, []
    for piece in pieces:
        length += len(piece)
        if length > limit:
            break
        kept.append(piece)
    return "".join(kept) + "…"
