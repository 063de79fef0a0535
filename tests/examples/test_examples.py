"""The examples run as a reader would run them, on a made-up shop."""

import re
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from tests.shop import FIRST, ITEMS, day_sessions

EXAMPLE = Path(__file__).parents[2] / "examples" / "fine_tune_from_clicks.py"


def test_a_notebook_user_fine_tunes_from_a_folder_and_sees_five_queries_before_and_after(tmp_path: Path) -> None:
    simulate = ["-m", "embft", "simulate", "--to", str(tmp_path), "--first-day", str(date(2026, 3, 1)), "--days", "6"]
    for command in (simulate, [str(EXAMPLE), str(tmp_path)]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    assert done.stdout.count("  before: ") == done.stdout.count("  after:  ") == 5
    shown = re.findall(r"^step +(\d+): loss ([\d.]+), nDCG@10 ([\d.]+)$", done.stdout, re.MULTILINE)
    (_, loss_before, ndcg_before), (step, loss_after, ndcg_after) = shown
    assert int(step) > 0
    assert float(loss_after) < float(loss_before)
    assert float(ndcg_after) > float(ndcg_before)
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_the_example_is_short_enough_to_read_in_a_minute() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60


def test_the_notebook_of_the_readme_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (EXAMPLE.parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    days = [FIRST + timedelta(days=number) for number in range(3)]
    log = [
        (it["session_id"], it["query"], it["clicked"], it["shown"], datetime.fromisoformat(it["time"]))
        for day in days
        for it in day_sessions(day, 80)
    ]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"ids": list(ITEMS), "texts": list(ITEMS.values()), "log": log})
    before, after = map(float, re.findall(r"([\d.]+) (?:before|after)", capsys.readouterr().out))
    assert after < before
    assert (tmp_path / "model" / "model.safetensors").is_file()
