"""`embft monitor --replay` on a history in S3: a table for people, JSON for programs, rules just edited."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embft.cli import app
from embft.monitoring.day import MonitoredDay, QueryFigure
from embft.paths import Paths
from embft.results import StageResult
from tests.buckets import Bucket, new_bucket
from tests.include import write_include
from tests.monitoring.histories import day_of, days_of

CONFIG = """\
name: shop
owner: search
schedule: {{start_date: 2026-01-01}}
storage: {{artifacts: "s3://{bucket}/models", endpoint_url: "{endpoint}"}}
logs: {{uri: "s3://{bucket}/logs/{{day}}"}}
catalogue: {{uri: "s3://{bucket}/items.jsonl"}}
mlflow: {{tracking_uri: "http://mlflow.test"}}
gate: {{max_val_loss: 3.0}}
monitoring:
  rules:
    - {{name: drop, kind: trailing, days: 7, min_days: 3, max_drop: {max_drop}}}
"""
Replay = Callable[..., str]


@pytest.fixture
def replayed(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bucket, Replay]:
    """A bucket for the history, and what runs the command with an allowed drop."""
    bucket = new_bucket(s3)
    folder = write_include(tmp_path, "shop", "")
    monkeypatch.setenv("EMBFT_INCLUDE", str(folder))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*options: str, max_drop: float = 0.05) -> str:
        config = CONFIG.format(bucket=bucket.name, endpoint=s3, max_drop=max_drop)
        (folder / "models" / "shop.yaml").write_text(config)
        result = CliRunner().invoke(app, ["monitor", "--model", "shop", "--replay", *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    return bucket, run


def lay_out(bucket: Bucket, days: Sequence[MonitoredDay]) -> None:
    now = datetime.now(UTC)
    for it in days:
        prefix = Paths(f"s3://{bucket.name}/models", "shop").monitoring(it.day)
        uri = Paths.result(prefix)
        result = StageResult(
            stage="monitor",
            model="shop",
            day=it.day,
            uri=uri,
            attempt="a",
            status="done",
            inputs={},
            settings_digest="",
            code_version="",
            outputs={},
            figures=it.model_dump(mode="json"),
            started_utc=now,
            finished_utc=now,
        )
        bucket.put(uri.removeprefix(f"s3://{bucket.name}/"), result.to_json())


def test_a_replay_tries_the_rules_of_the_config_on_the_history(replayed: tuple[Bucket, Replay]) -> None:
    bucket, run = replayed
    assert "no monitored day of shop there" in run()
    hostile = QueryFigure(query="[red]\x1b[31mx", n_sessions=9, ndcg=0.1, base_ndcg=None)
    lay_out(bucket, [*days_of([0.72] * 4), day_of(4, 0.61, examples=(hostile,)), day_of(5, 0.2, n_queries=3)])
    shown = run()
    assert "shop: 1 message in 6 monitored days, 2026-03-01 to 2026-03-06" in shown
    assert "nDCG@10 fell to 0.610 on 2026-03-05, 15 % below the usual 0.720 (limit 5.7 %)" in shown
    assert "not judged by drop, 2026-03-06: 3 queries, 50 are needed" in shown
    assert "[red]\\x1b[31mx" in shown
    assert "nothing would have been told" in run(max_drop=0.2)
    told = json.loads(run("--from", "2026-03-05", "--json"))
    assert [(it["incident"], it["state"], it["day"]) for it in told["messages"]] == [
        ("regression_all", "opened", "2026-03-05")
    ]
    assert json.loads(run("--to", "2026-03-04", "--json"))["messages"] == []
