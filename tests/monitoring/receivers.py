"""Real receivers: an HTTP server, and a mail server, that keep what they get and answer what a test wants."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from threading import Thread
from typing import Any, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope

from demo import services


class Post(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class WebReceiver:
    url: str
    status: int = 200
    answer: bytes = b"ok"
    delay_s: float = 0
    posts: list[Post] = field(default_factory=list)


@contextmanager
def web_receiver() -> Iterator[WebReceiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.posts.append(Post(self.path, dict(self.headers), body))
            time.sleep(receiver.delay_s)
            self.send_response(receiver.status)
            if 300 <= receiver.status < 400:
                self.send_header("Location", f"{receiver.url}/elsewhere")
            self.end_headers()
            self.wfile.write(receiver.answer + self.path.encode() if receiver.status >= 400 else receiver.answer)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = WebReceiver(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class MailReceiver:
    port: int
    answers: dict[str, str] = field(default_factory=dict)
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_RCPT(self, server: SMTP, session: object, envelope: Envelope, address: str, _: list[str]) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: object, envelope: Envelope) -> str:
        answer = self.answers.get("DATA", "250 OK")
        if answer.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
            self.envelopes.append(envelope)
        return answer


@contextmanager
def mail_receiver(*, password: str | None = None, **tls: SSLContext) -> Iterator[MailReceiver]:
    receiver = MailReceiver(services.free_port())

    def authenticated(_s: object, _n: object, _e: object, _m: str, given: Any) -> AuthResult:
        return AuthResult(success=given.password.decode() == password, handled=False)

    options: dict[str, Any] = (
        {"auth_required": True, "auth_require_tls": False, "authenticator": authenticated} if password else {}
    )
    controller = Controller(receiver, hostname="127.0.0.1", port=receiver.port, **options, **tls)
    controller.start()
    try:
        yield receiver
    finally:
        controller.stop()
