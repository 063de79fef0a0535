"""Messages reach each channel once; what a channel does not take waits, and stops nobody else."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from embft.alerts_config import AlertChannels, load_channels
from embft.config import StorageConfig
from embft.errors import ConfigError
from embft.monitoring import delivery, http_post, outbox
from embft.monitoring.connections import Connection
from embft.monitoring.delivery import Deliveries, deliver
from embft.monitoring.message import Message
from embft.paths import Paths
from embft.storage import Storage
from tests.buckets import new_bucket
from tests.include import REPOSITORY, write_include
from tests.monitoring.hostile import NOW, message
from tests.monitoring.receivers import MailReceiver, WebReceiver, mail_receiver, web_receiver

CHANNELS = AlertChannels.model_validate(
    {
        "channels": {
            "hook": {"type": "webhook", "connection": "hook"},
            "mail": {"type": "email", "connection": "mail", "to": ["a@example.com"], "sender": "embft@example.com"},
            "chat": {"type": "slack", "connection": "chat"},
            "own": {"type": "notifier", "notifier": "some.Notifier", "arguments": {"text": "{severity}: {title}"}},
        }
    }
)
Outcomes = list[tuple[str, str, str]]


class Scene:
    """A model's storage, three receivers, and what connects them."""

    def __init__(self, endpoint: str, hook: WebReceiver, chat: WebReceiver, mail: MailReceiver) -> None:
        artifacts = f"s3://{new_bucket(endpoint).name}/models"
        self.storage = Storage(StorageConfig(artifacts=artifacts, endpoint_url=endpoint))
        self.paths = Paths(artifacts, "shop")
        self.hook, self.chat, self.mail = hook, chat, mail
        self.connections = {
            "hook": Connection("hook", type="http", host=hook.url, password="k3y"),
            "chat": Connection("chat", type="slackwebhook", password=f"{chat.url}/services/s3cr3t"),
            "mail": Connection(
                "mail", type="smtp", host="127.0.0.1", port=mail.port, extra={"disable_ssl": True, "disable_tls": True}
            ),
        }

    def connection(self, name: str) -> Connection:
        if name not in self.connections:
            raise ConfigError(f"there is no connection {name!r}")
        return self.connections[name]

    def deliver(self, *messages: Message, connections: Callable[[str], Connection] | None = None) -> Deliveries:
        return deliver(self.storage, self.paths, messages, CHANNELS, connections or self.connection, now=NOW)

    def outcomes(self, *messages: Message) -> Outcomes:
        return [(it.channel, it.message, it.outcome) for it in self.deliver(*messages).deliveries]

    def hooked(self) -> list[str]:
        return [it.json["id"] for it in self.hook.posts]


@pytest.fixture(scope="module")
def receivers() -> Iterator[tuple[WebReceiver, WebReceiver, MailReceiver]]:
    with web_receiver() as hook, web_receiver() as chat, mail_receiver() as mail:
        yield hook, chat, mail


@pytest.fixture
def scene(s3: str, receivers: tuple[WebReceiver, WebReceiver, MailReceiver], monkeypatch: pytest.MonkeyPatch) -> Scene:
    # The test's S3 tells times in nanoseconds: nothing needs to settle, but for the test of two at once.
    monkeypatch.setattr(outbox, "_SETTLES_S", 0)
    hook, chat, mail = receivers
    for receiver in (hook, chat):
        receiver.posts.clear()
        receiver.status = 200
    mail.mails.clear()
    mail.answers.clear()
    return Scene(s3, hook, chat, mail)


def routed(name: str, *to: str, minutes: int = 0, **changes: object) -> Message:
    return message(id=name, receivers=to, at_utc=NOW + timedelta(minutes=minutes), **changes)


def test_each_channel_takes_a_message_once(scene: Scene) -> None:
    told = routed("m1", "hook", "mail", "chat", "own", "gone")
    done = scene.deliver(told)
    assert [(it.channel, it.outcome) for it in done.deliveries] == [
        *(("hook", "sent"), ("mail", "sent"), ("chat", "sent"), ("own", "airflow"))
    ]
    [call] = done.calls
    assert (call.message, call.channel, call.notifier) == ("m1", "own", "some.Notifier")
    assert call.arguments == {"text": f"warning: {told.words.title}"}
    assert scene.hooked() == ["m1"]
    assert scene.mail.mails[0]["X-Embft-Id"] == "m1"
    assert scene.chat.posts[0].path == "/services/s3cr3t"

    # Airflow's task says when it is done; until then it gets the call again.
    assert scene.outcomes(told) == [("own", "m1", "airflow")]
    outbox.mark_sent(scene.storage, scene.paths, "m1", "own")
    assert scene.deliver(told) == Deliveries(deliveries=(), calls=())
    assert (len(scene.hook.posts), len(scene.mail.mails), len(scene.chat.posts)) == (1, 1, 1)


def test_a_channel_that_is_down_keeps_its_messages_and_stops_no_other(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = routed("m1", "hook", "chat")
    ended = routed("m2", "hook", "chat", minutes=1, number=2, state="recovered")
    other = routed("m3", "hook", minutes=2, incident="gate")
    scene.hook.status = 503
    # The end of an incident waits for its beginning; another incident does not.
    kept = scene.deliver(ended, first, other).deliveries
    assert [(it.channel, it.message, it.outcome, it.retryable) for it in kept] == [
        *(("hook", "m1", "kept", True), ("hook", "m2", "kept", True), ("hook", "m3", "kept", True)),
        *(("chat", "m1", "sent", True), ("chat", "m2", "sent", True)),
    ]
    assert scene.hooked() == ["m1", "m3"]
    assert "answered 503" in str(kept[0].reason)
    assert "earlier message" in str(kept[1].reason)

    # It asks for patience: nothing else is tried in this run.
    scene.hook.status = 429
    assert {it.retryable for it in scene.deliver(first, ended, other).deliveries} == {True}
    assert scene.hooked() == ["m1", "m3", "m1"]

    # It does not answer in time.
    monkeypatch.setattr(http_post, "_TIMEOUT_S", (1, 0.05))
    scene.hook.delay_s = 0.2
    late = scene.deliver(first, ended, other).deliveries
    assert {it.reason for it in late} == {"127.0.0.1 did not answer in time (connection 'hook')"}
    monkeypatch.setattr(http_post, "_TIMEOUT_S", (5, 10))

    # A refusal is for a person to mend, and the others are tried.
    scene.hook.status, scene.hook.delay_s = 404, 0
    assert [it.retryable for it in scene.deliver(first, ended, other).deliveries] == [False, True, False]
    assert "s3cr3t" not in caplog.text

    scene.hook.status, scene.hook.posts[:] = 200, []
    assert {it for _, _, it in scene.outcomes(other, ended, first)} == {"sent"}
    assert scene.hooked() == ["m1", "m2", "m3"]
    assert scene.outcomes(first, ended, other) == []


def test_a_slow_channel_keeps_the_rest_for_the_next_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_S", 0.3)
    scene.hook.delay_s = 0.4
    done = scene.deliver(routed("m1", "hook"), routed("m2", "hook", minutes=1, incident="gate"), routed("m3", "chat"))
    scene.hook.delay_s = 0
    assert [(it.message, it.outcome, it.retryable) for it in done.deliveries] == [
        *(("m1", "sent", True), ("m2", "kept", True), ("m3", "sent", True))
    ]


def test_a_connection_that_is_missing_or_a_bug_is_its_channels_own_trouble(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> Connection:
        if name == "chat":
            raise RuntimeError(scene.connection(name).password)
        return scene.connection(name)

    del scene.connections["hook"]
    done = scene.deliver(routed("m1", "hook", "mail", "chat"), connections=broken).deliveries
    assert [(it.channel, it.outcome, it.retryable) for it in done] == [
        *(("hook", "kept", False), ("mail", "sent", True), ("chat", "kept", False))
    ]
    assert "no connection 'hook'" in str(done[0].reason)
    assert "RuntimeError" in str(done[2].reason)
    assert "in broken" in caplog.text
    assert "s3cr3t" not in caplog.text + str(done)
    scene.mail.answers["a@example.com"] = "550 who?"
    [kept] = scene.deliver(routed("m2", "mail")).deliveries
    assert (kept.outcome, kept.retryable) == ("kept", False)


def test_two_senders_at_once_send_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_SETTLES_S", 0.3)
    messages = [routed(f"m{number}", "hook", incident=f"i{number}", minutes=number) for number in range(3)]
    barrier, done = threading.Barrier(4), []

    def run() -> None:
        barrier.wait()
        done.append(scene.deliver(*messages).deliveries)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(scene.hooked()) == ["m0", "m1", "m2"]
    assert sorted(it.message for them in done for it in them if it.outcome == "sent") == ["m0", "m1", "m2"]
    assert {it.reason for them in done for it in them if it.outcome == "kept"} <= {"another run is sending it"}
    assert scene.outcomes(*messages) == []


def test_the_claim_of_a_killed_sender_runs_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    told = routed("m1", "hook")
    outbox.Claims(scene.storage, scene.paths, "hook", ["m1"], NOW)  # and then it was killed
    assert scene.outcomes(told) == [("hook", "m1", "kept")]
    assert scene.hooked() == []
    monkeypatch.setattr(outbox, "CLAIM_HOLDS", timedelta(0))
    assert scene.outcomes(told) == [("hook", "m1", "sent")]
    assert scene.outcomes(told) == []


CONFIG = (REPOSITORY / "include" / "models" / "demo.yaml").read_text()


def test_a_sample_goes_to_every_channel(scene: Scene, tmp_path: Path) -> None:
    include = write_include(tmp_path, "demo", CONFIG)
    (include / "alerts.yaml").write_text(
        """
channels:
  hook: {type: webhook, connection: hook}
  mail: {type: email, connection: mail, to: [a@example.com]}
  own: {type: notifier, notifier: nowhere.Notifier, arguments: {text: "{title}"}}
"""
    )
    mail = f"smtp://127.0.0.1:{scene.mail.port}/?disable_ssl=true&disable_tls=true&from_email=embft%40example.com"
    environment = {
        **os.environ,
        "EMBFT_INCLUDE": str(include),
        "PYTHONPATH": str(REPOSITORY),
        "AIRFLOW_CONN_MAIL": mail,
        "AIRFLOW_CONN_HOOK": scene.hook.url,
    }

    def tried(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "embft", "alerts", "test", "--model", "demo", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = tried()
    assert (done.returncode, done.stdout) == (2, "hook: ok\nmail: ok\n")
    assert "own: error: " in done.stderr
    assert scene.hook.posts[0].json["kind"] == "test"
    assert scene.mail.mails[0]["Subject"].startswith("[warning] [simulated clicks] Test: demo: nDCG@10 fell")
    scene.hook.status = 503
    done = tried("--channel", "hook")
    assert done.returncode == 75
    assert "hook: error: connection 'hook' was answered 503" in done.stderr
    done = tried("--channel", "hok")
    assert done.returncode == 2
    assert "there is no channel 'hok'" in done.stderr


def test_the_shipped_file_is_valid_with_and_without_its_comments(tmp_path: Path) -> None:
    shipped = REPOSITORY / "include" / "alerts.yaml"
    assert load_channels(shipped.parent) == AlertChannels()
    lines = shipped.read_text().replace("channels: {}", "channels:").replace("routes: []", "routes:").splitlines()
    (tmp_path / "alerts.yaml").write_text(
        "\n".join(it.replace("#", "", 1) if it.startswith("#  ") else it for it in lines)
    )
    found = load_channels(tmp_path)
    assert {it.type for it in found.channels.values()} == {"slack", "email", "webhook", "notifier"}
    assert found.receivers("shop-de", "info") == ["search_mail"]
    assert found.receivers("other", "critical") == ["search_chat", "pager"]
