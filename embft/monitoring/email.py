"""Messages as e-mail: text and HTML, threaded by incident, sent by SMTP as Airflow's `smtp` connections say."""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from functools import cache
from typing import Any

from jinja2 import Template

from embft.alerts_config import EmailChannel
from embft.errors import ChannelAway, ConfigError, TemporaryError
from embft.monitoring.connections import Connection
from embft.monitoring.email_chart import drawing
from embft.monitoring.message import Message
from embft.monitoring.text import links_of, no_formula, plain, standing, text_of, title_of
from embft.results import digest_of
from embft.templates import templates_of

_SUBJECT_CHARS = 150
_LONGEST_WAIT_S = 30
_NEXT = {
    "opened": "You are told when it changes, and when it is over.",
    "changed": "You are told when it changes again, and when it is over.",
    "recovered": "It is over.",
    "happened": "",
}
# White text is readable on each; each is seen on white and on black.
COLOURS = {"critical": "#c5221f", "warning": "#a85b00", "info": "#2f63c0", "recovered": "#1e7e3e"}


def email_of(message: Message, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Write a message as e-mail.

    Mail programs thread an incident: all its messages refer to one id that is made of the incident's name and the day
    it began.

    Args:
        message: The message.
        sender: `name@example.com`, or with a name before it.
        to: Receivers.

    Returns:
        The mail; its id is the same each time.

    Raises:
        ConfigError: The sender is no address.
    """
    name, _, domain = parseaddr(sender)[1].rpartition("@")
    if not name or not domain:
        raise ConfigError("from_email of the connection is no address; expected such as search-team@example.com")
    mail = EmailMessage()
    try:
        mail["From"] = sender
    except (ValueError, IndexError):
        raise ConfigError("from_email of the connection is malformed; expected such as search@example.com") from None
    word = "recovered" if message.state == "recovered" else message.severity
    mail["Subject"] = plain(f"[{word}] {title_of(message)}", _SUBJECT_CHARS)
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(message.at_utc)
    thread = f"<{digest_of([message.model, message.incident, message.since])[:24]}.incident@{domain}>"
    mail["Message-ID"] = f"<{message.id}.alert@{domain}>"
    mail["References"] = thread
    if message.state in ("changed", "recovered"):
        mail["In-Reply-To"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Embft-Id"] = plain(message.id, 100)
    mail.set_content(text_of(message))
    mail.add_alternative(html_of(message), subtype="html")
    return mail


def html_of(message: Message) -> str:
    """Write the HTML: tables and inline styles, no picture, no script, nothing that is loaded.

    Args:
        message: The message.

    Returns:
        The page. Background and text are the reader's, so that it is dark where they are.
    """
    words = message.words
    shade = "recovered" if message.state == "recovered" else message.severity
    severity, _, rest = standing(message).partition(" · ")
    return _template().render(
        title=no_formula(title_of(message)),
        severity=severity,
        standing=rest,
        colour=COLOURS[shade],
        details=[no_formula(plain(it)) for it in words.details],
        causes=[(no_formula(plain(it.what, 200)), no_formula(plain(it.evidence))) for it in words.causes],
        chart=drawing(words.chart, COLOURS[shade]) if words.chart else None,
        links=[(no_formula(name), url) for name, url in links_of(message)],
        command=no_formula(plain(words.command)) if words.command else None,
        footer=f"Message {message.number} of incident {plain(message.incident, 100)}. {_NEXT[message.state]}".strip(),
    )


def send_email(message: Message, channel: EmailChannel, connection: Connection) -> str | None:
    """Send a message.

    Args:
        message: The message.
        channel: Who gets it.
        connection: Of type smtp.

    Returns:
        Which receivers the server refused, where it took the mail for others; else None.

    Raises:
        ChannelAway: The server did not answer.
        TemporaryError: It refused for now (4xx).
        ConfigError: It refused for good, or the connection cannot be used.
    """
    if connection.type != "smtp":
        raise ConfigError(f"connection {connection.id!r} is of type {connection.type or 'none'!r}; e-mail needs smtp")
    sender = channel.sender or connection.extra.get("from_email")
    if not isinstance(sender, str) or not sender:
        raise ConfigError(
            f"nobody sends: give the channel a `sender` in include/alerts.yaml, or connection {connection.id!r} a "
            "from_email in its extra"
        )
    mail = email_of(message, sender, channel.to)
    try:
        refused = _transferred(mail, connection)
    except (OSError, UnicodeError, ValueError) as error:  # smtplib's are OSErrors
        problem = _problem(error, connection)
    else:
        return _refusals(refused, connection) if refused else None
    raise problem


def _transferred(mail: EmailMessage, connection: Connection) -> dict[str, tuple[int, bytes]]:
    extra = connection.extra
    if extra.get("auth_type", "basic") != "basic":
        raise ConfigError(
            f"connection {connection.id!r} has auth_type {extra['auth_type']!r}; only basic is sent by embft; for "
            "oauth2, use a channel of type notifier with Airflow's SmtpNotifier"
        )
    timeout_s = min(float(extra.get("timeout") or _LONGEST_WAIT_S), _LONGEST_WAIT_S)
    context = _tls(connection)
    server: smtplib.SMTP
    if _is_set(extra.get("disable_ssl")):
        server = smtplib.SMTP(connection.host, connection.port or 0, timeout=timeout_s)
    else:
        server = smtplib.SMTP_SSL(connection.host, connection.port or 0, timeout=timeout_s, context=context)
    try:
        # Airflow asks for STARTTLS within TLS, too, which no server offers.
        if _is_set(extra.get("disable_ssl")) and not _is_set(extra.get("disable_tls")):
            server.starttls(context=context)
        if connection.login and connection.password:
            server.login(connection.login, connection.password)
        refused = server.send_message(mail)
    except BaseException:
        server.close()
        raise
    try:
        server.quit()
    except (smtplib.SMTPException, OSError):
        server.close()  # it has the mail: what goes wrong in parting must not send it twice
    return refused


def _tls(connection: Connection) -> ssl.SSLContext | None:
    wanted = connection.extra.get("ssl_context") or "default"
    if wanted not in ("default", "none"):
        raise ConfigError(f"connection {connection.id!r} has ssl_context {wanted!r}; it must be default or none")
    return ssl.create_default_context() if wanted == "default" else None


def _is_set(flag: Any) -> bool:
    """Read a flag; in a connection that is written as an address, it is a word."""
    return bool(flag) and str(flag).lower() not in ("false", "0", "no")


def _problem(error: Exception, connection: Connection) -> ChannelAway | TemporaryError | ConfigError:
    named = f"connection {connection.id!r}"
    where = f"the mail server ({named})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        said = _refusals(error.recipients, connection)
        is_temporary = all(code < 500 for code, _ in error.recipients.values())
        return TemporaryError(f"{where} {said}") if is_temporary else ConfigError(f"{where} {said}")
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return ConfigError(f"{where} refused the login ({error.smtp_code}); correct login and password in Airflow")
    if isinstance(error, smtplib.SMTPResponseException):
        said = f"{where} answered {error.smtp_code}: {_answer(error.smtp_error, connection)}"
        return TemporaryError(said) if error.smtp_code < 500 else ConfigError(f"{said}; correct that connection")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return ConfigError(f"{where} offers no STARTTLS, login or address of that kind; see disable_tls in its extra")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ChannelAway(f"the TLS certificate of {where} is not trusted here")
    if isinstance(error, ssl.SSLError):
        return ConfigError(f"{where} speaks no TLS at that port; for STARTTLS (587, 25), set disable_ssl in its extra")
    if isinstance(error, OSError):
        return ChannelAway(f"{where} cannot be reached, or broke off ({type(error).__name__})")
    return ConfigError(f"{named} cannot be used ({type(error).__name__}); correct its host, timeout or addresses")


def _refusals(refused: dict[str, tuple[int, bytes]], connection: Connection) -> str:
    said = (f"{to} ({code} {_answer(why, connection)})" for to, (code, why) in refused.items())
    return f"refused to deliver to {', '.join(said)}"


def _answer(said: bytes | str, connection: Connection) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return plain(connection.without_secrets(text), 120)


@cache
def _template() -> Template:
    return templates_of("embft.monitoring").get_template("email.html.j2")
