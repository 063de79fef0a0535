"""A small project in a test's own folder: configs, suites, a pod template, and the stand-in for the stages."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).parents[2]
IMAGE = "registry.example.com/embft@sha256:" + "a" * 64
LATER = {"plan": [{"figures": {"days_to_pull": ["2026-11-09", "2026-11-10"]}}]}


@dataclass(frozen=True)
class Project:
    """A project folder with a fake interpreter in it."""

    root: Path

    @property
    def include(self) -> Path:
        return self.root / "include"

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def add_model(self, name: str = "shop", **sections: Any) -> Path:
        """Write a config; sections are merged over a minimal one."""
        config: dict[str, Any] = {
            "name": name,
            "owner": "search-team",
            "schedule": {"cron": "0 2 * * *", "timezone": "UTC", "start_date": "2026-01-01"},
            "storage": {"artifacts": "s3://bucket/models", "browse_url": "http://browse.test"},
            "logs": {"uri": "s3://bucket/logs/{day}"},
            "catalogue": {"uri": "s3://bucket/items.jsonl"},
            "gate": {"max_val_loss": 1.0},
            "mlflow": {"tracking_uri": "http://127.0.0.1:5000"},
            "runtime": {"python": str(self.python), "retry_delay_s": 0},
        }
        for section, values in sections.items():
            merged = {**config.get(section, {}), **values} if isinstance(values, dict) else values
            config[section] = merged
        path = self.include / "models" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def behave(self, **stages: Any) -> None:
        """Say what the stages do: per stage a dict, or a list with one dict for each time it runs.

        A stage of one model is `shop/plan`, of one of its nights `shop/plan/2026-11-10`.
        """
        entries = {stage: each if isinstance(each, list) else [each] for stage, each in stages.items()}
        (self.python.parent / "behaviour.json").write_text(json.dumps({**LATER, **entries}))

    def route(self, channels: dict[str, Any], *, to: str) -> None:
        """Write `alerts.yaml`: every message goes to one of the channels."""
        routes = [{"to": [to], "severity": "info"}]
        (self.include / "alerts.yaml").write_text(yaml.safe_dump({"channels": channels, "routes": routes}))

    def forget(self) -> None:
        """Let the stages start anew: how often they ran, and what they trained."""
        folder = self.python.parent
        for pattern in ("times.*", "steps.*", "checkpoint.*", "calls.jsonl", "told.jsonl"):
            for path in folder.glob(pattern):
                path.unlink()

    def steps(self, model: str) -> list[int]:
        """Every step that a model's stand-in trained, in order."""
        path = self.python.parent / f"steps.{model}.jsonl"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def told(self) -> list[dict[str, Any]]:
        """Every time that people would have been told, in order."""
        path = self.python.parent / "told.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self) -> list[dict[str, Any]]:
        """Every command that was run, in order."""
        path = self.python.parent / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_project(root: Path) -> Project:
    """Make an empty project with suites, template and stand-in, but no config."""
    project = Project(root)
    (project.include / "models").mkdir(parents=True)
    suites = project.include / "expectations"
    suites.mkdir()
    for name in ("catalogue", "sessions", "ranks"):
        (suites / f"{name}.yaml").write_text("[]\n")
    shutil.copytree(REPO / "include" / "kubernetes", project.include / "kubernetes")
    project.python.parent.mkdir()
    source = (Path(__file__).parent / "fake_stage.py").read_text()
    project.python.write_text(f"#!{sys.executable} -S\n{source}")
    project.python.chmod(0o755)
    project.behave()
    return project
