"""A mail arrives whole by SMTP, says everything as text and as HTML, and obeys no text of a log."""

import ssl
import subprocess
from email import policy
from html.parser import HTMLParser

import pytest

from embft.alerts_config import EmailChannel
from embft.errors import ChannelAway, ConfigError, TemporaryError
from embft.monitoring.connections import Connection, parse_connection
from embft.monitoring.email import email_of, send_email
from embft.monitoring.text import plain
from tests.monitoring.hostile import HOSTILE, message, quoting
from tests.monitoring.receivers import mail_receiver

TEAM = EmailChannel(type="email", connection="mail", to=("a@example.com", "b@example.com"), sender="embft@example.com")


class Page(HTMLParser):
    """The tags of a page with what they point to, and its texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def server(port: int, **extra: object) -> Connection:
    return Connection("mail", type="smtp", host="127.0.0.1", port=port, extra={"disable_ssl": True, **extra})


PLAIN = {"disable_tls": True}


def test_hostile_texts_arrive_as_words_and_nothing_else() -> None:
    with mail_receiver() as receiver:
        for text in HOSTILE.values():
            send_email(message(quoting(text)), TEAM, server(receiver.port, **PLAIN))
        assert {tuple(it.rcpt_tos) for it in receiver.envelopes} == {TEAM.to}
    assert len(receiver.mails) == len(HOSTILE)
    for mail, text in zip(receiver.mails, HOSTILE.values(), strict=True):
        assert mail["Bcc"] is None
        assert len(mail["Subject"]) <= 150
        assert not set(mail["Subject"]) & set("\r\n\x00\x1b\u202e\u2066\u2028")
        assert mail["Subject"].startswith("[warning] ")
        assert mail.get_content_type() == "multipart/alternative"
        words, html = (it.get_content() for it in mail.iter_parts())
        assert len(words) < 20_000
        assert not [it for it in words.splitlines() if it.startswith(("=", "+", "@"))]
        page = Page(html)
        assert page.tags == {
            *("html", "head", "meta", "title", "body", "table", "tr", "td", "b", "div", "span", "br", "a")
        }
        assert page.links == ["https://airflow.example.com/run?a=1&b=2"]
        assert not [it for it in page.attributes if it.startswith("on")]
        assert not [it for it in page.texts if it.startswith(("=", "+", "@"))]
        assert not set(words + html) & set("\x00\x1b\u202e\u2066\u2028")
        # Every word of it is there to be read, in order; what cannot be seen is shown.
        assert [it for it in page.texts if plain(text, 60).removesuffix("…") in it]


def test_a_mail_can_be_recognised_and_threaded() -> None:
    first, again = (email_of(message(), "Embft <embft@example.com>", TEAM.to) for _ in range(2))
    end = email_of(message(id="f" * 24, state="recovered", number=2), "embft@example.com", TEAM.to)
    other = email_of(message(id="e" * 24, incident="gate"), "embft@example.com", TEAM.to)
    assert first["Message-ID"] == again["Message-ID"] == "<0123456789abcdef01234567.alert@example.com>"
    assert first["Message-ID"] != end["Message-ID"]
    assert first["References"] == end["References"] == end["In-Reply-To"] != other["References"]
    assert first["In-Reply-To"] is None
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Date"].datetime.isoformat() == "2026-03-11T06:20:00+00:00"
    assert end["Subject"] == "[recovered] shop: nDCG@10 fell to 0.61, 15 % below the usual 0.72 (limit 5 %)"
    for sender in ("nobody", "a@example.com\nBcc: x@y", ""):
        with pytest.raises(ConfigError, match="from_email"):
            email_of(message(), sender, TEAM.to)
    # Unicode is encoded, not sent raw.
    assert b"Subject: [warning] =?utf-8?" in email_of(message(quoting("靴 👟")), "a@example.com", TEAM.to).as_bytes(
        policy=policy.SMTP
    )


def test_the_chart_is_figures_too() -> None:
    text, html = (it.get_content() for it in email_of(message(quoting("x")), "a@example.com", TEAM.to).iter_parts())
    assert "█ · ▁" in text
    assert "2026-03-09  –" in text
    shown = " ".join(Page(html).texts)
    assert "newest 0.610, limit 0.700, before 0.720 to 0.720" in shown
    assert "8 Mar 0.720, 9 Mar –, 10 Mar 0.610" in shown
    assert 'role="img" aria-label="x: newest 0.610' in html
    # One band above the limit, one below; the newest day is below it.
    assert html.count("dashed") == 3


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ({"DATA": "451 try later"}, TemporaryError, "451: try later"),
        ({"DATA": "554 no\r"}, ConfigError, "answered 554"),
        ({"a@example.com": "450 grey", "b@example.com": "450 grey"}, TemporaryError, r"a@example.com \(450 grey"),
        ({"a@example.com": "550 who?", "b@example.com": "450 grey"}, ConfigError, "550 who?"),
    ],
)
def test_what_a_server_refuses_is_told(answers: dict[str, str], error: type[Exception], said: str) -> None:
    with mail_receiver() as receiver:
        receiver.answers = answers
        with pytest.raises(error, match=said) as raised:
            send_email(message(), TEAM, server(receiver.port, **PLAIN))
        assert type(raised.value) is error
        receiver.answers = {"b@example.com": "550 who?"}
        assert send_email(message(), TEAM, server(receiver.port, **PLAIN)) == (
            "refused to deliver to b@example.com (550 who?)"
        )


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_both_kinds_of_tls_are_spoken_and_certificates_are_checked(tls: ssl.SSLContext) -> None:
    for side, disable_ssl in (("ssl_context", False), ("tls_context", True)):
        with mail_receiver(**{side: tls}) as receiver:
            send_email(message(), TEAM, server(receiver.port, disable_ssl=disable_ssl, ssl_context="none"))
            assert len(receiver.mails) == 1
            with pytest.raises(ChannelAway, match=r"certificate .* is not trusted"):
                send_email(message(), TEAM, server(receiver.port, disable_ssl=disable_ssl))


def test_login_and_encryption_are_as_the_connection_says() -> None:
    with mail_receiver(password="p@ss/1") as receiver:
        text = f"smtp://me:p%40ss%2F1@127.0.0.1:{receiver.port}/?disable_ssl=true&disable_tls=true&timeout=5"
        send_email(message(), TEAM, parse_connection("mail", text))
        assert len(receiver.mails) == 1
        with pytest.raises(ConfigError, match=r"refused the login \(535\)") as raised:
            send_email(message(), TEAM, parse_connection("mail", text.replace("p%40ss", "wr0ng")))
        assert "wr0ng" not in str(raised.value)
        for extra, said in (
            ({}, "offers no STARTTLS"),
            ({"disable_ssl": "false"}, "speaks no TLS at that port"),
            ({"auth_type": "oauth2"}, "only basic"),
            ({"ssl_context": "weak"}, "must be default or none"),
            ({"timeout": "soon"}, "cannot be used"),
        ):
            with pytest.raises(ConfigError, match=said):
                send_email(message(), TEAM, server(receiver.port, **extra))
    with pytest.raises(ChannelAway, match="ConnectionRefusedError"):
        send_email(message(), TEAM, server(receiver.port, **PLAIN))
    nobody = TEAM.model_copy(update={"sender": None})
    with pytest.raises(ConfigError, match="nobody sends"):
        send_email(message(), nobody, server(receiver.port))
    with pytest.raises(ConfigError, match="e-mail needs smtp"):
        send_email(message(), TEAM, Connection("mail", type="http"))
