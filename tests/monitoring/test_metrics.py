"""Figures for Prometheus: parsed again by its own parser, written to a file, pushed to a gateway."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embft.errors import ConfigError, TemporaryError
from embft.monitoring.day import MonitoredDay, Traffic
from embft.monitoring.gauge import Gauge
from embft.monitoring.message import Message, Severity, State, Words
from embft.monitoring.metrics import exposition, gauges_of, push, write_textfile
from embft.promotion.evaluation_record import QuerySet
from embft.promotion.history import Change, History
from embft.results import Artifact, Champion

REPOSITORY = Path(__file__).parent.parent.parent
DAY = date(2026, 3, 10)
BERLIN = ZoneInfo("Europe/Berlin")


def monitored(day: date, ndcg: float | None) -> MonitoredDay:
    traffic = Traffic(
        lines=700, quarantined=11, sessions=600, clicked_sessions=400, lost_sessions=3, unseen_share=0.1,
        items=120, items_added=None, items_removed=None,
    )  # fmt: skip
    if ndcg is None:
        return MonitoredDay(
            model="shop", day=day, status="no_clicks", reason="no click", champion="2", champion_day=None,
            vectors=None, traffic=traffic,
        )  # fmt: skip
    models: dict[str, dict[str, float | None]] = {
        "champion": {"ndcg_at_10": ndcg, "val_loss": None},
        "base": {"ndcg_at_10": 0.4},
    }
    return MonitoredDay(
        model="shop", day=day, status="measured", champion="2", champion_day=date(2026, 3, 8), vectors="published",
        sets=(QuerySet(kind="slice", name="all", n_queries=150, n_sessions=400, models=models),),
        errors={"all": {"ndcg_at_10": 0.02, "val_loss": None}}, traffic=traffic,
    )  # fmt: skip


def champion(version: str, day: date) -> Champion:
    weights = {"model.safetensors": Artifact(uri="s3://b/m", size_bytes=1, sha256=version * 64)}
    return Champion(model="shop", version=version, day=day, mlflow_run_id="r", weights=weights, val_loss=1.0)


def history() -> History:
    at = datetime(2026, 3, 9, tzinfo=UTC)
    to = [champion("1", date(2026, 3, 7)), champion("2", date(2026, 3, 8))]
    changes = [
        Change(number=n, kind="promotion", to=it, leaves=None, request=f"{n}", who="me", at_utc=at, why="better")
        for n, it in enumerate(to, 1)
    ]
    return History(changes)


def message(incident: str, state: State, severity: Severity) -> Message:
    return Message(
        id=incident, model="shop", incident=incident, number=1, kind="regression", state=state, severity=severity,
        day=DAY, since=DAY, at_utc=datetime(2026, 3, 11, tzinfo=UTC), words=Words(title="t"),
    )  # fmt: skip


@pytest.fixture
def gauges() -> list[Gauge]:
    told = [
        message("a", "opened", "critical"),
        message("c", "changed", "warning"),
    ]
    return gauges_of([monitored(date(2026, 3, 9), 0.71), monitored(DAY, None)], history(), told, BERLIN)


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    return {
        family.name: {tuple(sorted(it.labels.items())): it.value for it in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_the_text_says_what_the_history_says(gauges: list[Gauge]) -> None:
    found = parsed(exposition("shop", gauges))
    model = ("model", "shop")
    of_all = (("measure", "ndcg_at_10"), model)
    assert found["embft_measure"] == {
        (*of_all, ("of", "champion"), ("slice", "all")): 0.71,
        (*of_all, ("of", "base"), ("slice", "all")): 0.4,
    }
    assert found["embft_measure_standard_error"] == {(*of_all, ("slice", "all")): 0.02}
    # The newest day had no clicks: its traffic is told, the measures stay those of the day before.
    assert found["embft_monitored_until_seconds"][(model,)] == datetime(2026, 3, 11, tzinfo=BERLIN).timestamp()
    assert found["embft_clicked_sessions"][(model,)] == 400
    assert found["embft_champion_info"] == {(model, ("version", "2")): 1}
    assert found["embft_promotions"] == {(("kind", "promotion"), model): 2, (("kind", "rollback"), model): 0}
    assert found["embft_open_incidents"] == {(model, ("severity", "warning")): 1, (model, ("severity", "critical")): 1}


def test_a_model_without_a_past_has_figures_too() -> None:
    found = parsed(exposition("shop", gauges_of([], History([]), [], BERLIN)))
    assert set(found) == {"embft_promotions", "embft_open_incidents"}


def test_a_file_takes_the_old_ones_place(tmp_path: Path, gauges: list[Gauge]) -> None:
    write_textfile(tmp_path, "shop", gauges[:1])
    path = write_textfile(tmp_path, "shop", gauges)
    assert path.name == "embft_shop.prom"
    assert path.read_text() == exposition("shop", gauges)
    assert [it.name for it in tmp_path.iterdir()] == ["embft_shop.prom"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, gauges: list[Gauge]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written to .*missing/embft_shop.prom .*prometheus.folder"):
        write_textfile(tmp_path / "missing", "shop", gauges)


class Gateway(HTTPServer):
    answer = 200
    got: list[tuple[str, str, str]]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            server.got.append((self.command, self.path, body))
            self.send_response(server.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = Gateway(("127.0.0.1", 0), Handler)
    server.got = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_push_replaces_what_the_model_pushed_before(gateway: Gateway, gauges: list[Gauge]) -> None:
    push(f"http://127.0.0.1:{gateway.server_port}", "shop", gauges)
    ((method, path, body),) = gateway.got
    assert (method, path) == ("PUT", "/metrics/job/embft/model/shop")
    assert parsed(body) == parsed(exposition("shop", gauges))


def test_a_gateway_that_is_away_or_refuses_is_temporary(gateway: Gateway, gauges: list[Gauge]) -> None:
    gateway.answer = 503
    with pytest.raises(TemporaryError, match="did not take the metrics of shop"):
        push(f"http://127.0.0.1:{gateway.server_port}", "shop", gauges)
    with pytest.raises(TemporaryError, match="the next run pushes them again"):
        push("http://127.0.0.1:9", "shop", gauges)


def test_the_dashboard_asks_for_metrics_and_labels_that_there_are(gauges: list[Gauge]) -> None:
    dashboard = json.loads((REPOSITORY / "docs" / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [it["expr"] for it in dashboard["annotations"]["list"]]
    known = {it.name: {"model", *it.labels} for it in gauges}
    selectors = [it for expr in asked for it in re.findall(r"(embft_\w+)(?:\{(.*?)\})?", expr)]
    assert len(selectors) > 12
    for name, matchers in selectors:
        assert set(re.findall(r"(\w+)(?:!)?=", matchers)) <= known[name], name
    assert {name for name, _ in selectors} >= set(known) - {"embft_measured_queries"}
