"""A proxy before an S3 server that makes it faulty, by a plan with a seed; what it did is counted.

The Host header goes through as the client signed it, so that signatures hold.
"""

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Faults:
    """What goes wrong. Shares are of the requests; a fault is drawn for each request while the budget lasts."""

    slow_down: float = 0  # 503 with the XML that AWS sends
    cut_error: float = 0  # 503 with half its XML, then RST: botocore lets the error of urllib3 through
    cut_body: float = 0  # half the body that Content-Length promises
    reset: float = 0  # RST before the answer
    reset_body: float = 0  # RST in the middle of the body
    stall: float = 0  # half the body, then nothing
    silence: float = 0  # no answer
    stall_s: float = 30
    budget: int | None = None  # faults; None never recovers
    seed: int = 1
    honours_if_match: bool = True
    honours_range: bool = True
    injected: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        return sum(self.injected.values())

    def draw(self) -> str | None:
        kinds = ["slow_down", "cut_error", "cut_body", "reset", "reset_body", "stall", "silence"]
        shares = [float(getattr(self, kind)) for kind in kinds]
        with self._lock:
            kind = self._random.choices([*kinds, None], [*shares, max(0.0, 1 - sum(shares))])[0]
            if kind is None or (self.budget is not None and self.total >= self.budget):
                return None
            self.injected[kind] += 1
        return kind

    def take_back(self, kind: str) -> None:
        with self._lock:
            self.injected[kind] -= 1


@contextmanager
def faulty_s3(upstream: str) -> Iterator["Proxy"]:
    """Serve `upstream`, with the faults that are set on the proxy."""
    server = Proxy(upstream)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.faults = Faults()
        self.asked = ""
        self.closing = threading.Event()
        self.whole: dict[str, bytes] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def answer(self) -> None:
        self.server.asked = self.path
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.faults.draw()
        if fault == "slow_down":
            self.error(503, "SlowDown")
        elif fault == "cut_error":
            self.error(503, "SlowDown", cut=True)
        elif fault == "reset":
            self.reset()
        elif fault == "silence":
            self.fall_silent()
        else:
            self.forward(sent, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

    def forward(self, sent: bytes, fault: str | None) -> None:
        status, headers, body = self.ask_upstream(sent)
        length = headers.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        if self.changed(headers):
            return self.error(412, "PreconditionFailed")
        if not self.server.faults.honours_range:
            # rclone answers a range with 200.
            if headers.pop("content-range", None):
                body = self.server.whole[self.path]
                length = str(len(body))
            self.server.whole[self.path] = body
        self.start(status, headers, length)
        if fault is None:
            return self.put(body)
        if not body:
            # There is nothing to break off.
            return self.server.faults.take_back(fault)
        self.put(body[: len(body) // 2])
        if fault == "cut_body":
            self.close_connection = True
        elif fault == "reset_body":
            self.reset()
        else:
            self.fall_silent()
        return None

    def ask_upstream(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = HTTPConnection(self.server.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect"}:
                upstream.putheader(name, value)
        upstream.endheaders(sent or None)
        answer = upstream.getresponse()
        try:
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            upstream.close()

    def changed(self, headers: dict[str, str]) -> bool:
        wanted = self.headers.get("If-Match")
        return self.server.faults.honours_if_match and wanted is not None and wanted != headers.get("etag", wanted)

    def start(self, status: int, headers: dict[str, str], length: str) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name not in _OF_ONE_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()

    def error(self, status: int, code: str, *, cut: bool = False) -> None:
        xml = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>Said so.</Message></Error>'
        self.start(status, {"content-type": "application/xml"}, str(len(xml)))
        self.put(xml.encode()[: len(xml) // 2 if cut else None])
        if cut:
            # The first half must be read before the reset, which would throw it away.
            self.wfile.flush()
            self.server.closing.wait(0.02)
            self.reset()

    def put(self, data: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(data)

    def reset(self) -> None:
        # Lingering for 0 s makes the kernel send RST instead of FIN. The server shuts a socket down before it closes
        # it, which would be a FIN, so it is closed here.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def fall_silent(self) -> None:
        self.server.closing.wait(self.server.faults.stall_s)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""
