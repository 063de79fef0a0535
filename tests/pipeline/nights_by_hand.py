"""Nights whose results a test writes itself, with a real model of six words: what they left, without their work."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from embft.config import ModelConfig, config_path, load_config
from embft.finetuning.models import StaticEmbeddingsModel
from embft.paths import Paths
from embft.promotion.ledger import append
from embft.results import Champion, LogDay, RunSpec, StageResult
from embft.stages.log_days import pull_draft
from embft.stages.stage import Draft, Outcome, commit, standing_result
from embft.storage import Storage
from tests.buckets import Bucket
from tests.include import write_include
from tests.pipeline.conftest import Project
from tests.shop import CONFIG

WORDS = ["sofa", "kettle", "lamp", "red", "green", "blue"]
ITEMS = {f"{kind}-{colour}": f"{kind} {colour}" for kind in WORDS[:3] for colour in WORDS[3:]}
DAY = date(2026, 3, 5)


@dataclass
class NightsByHand:
    """A project, and what its nights left."""

    project: Project
    folder: Path

    @cached_property
    def config(self) -> ModelConfig:
        return load_config(config_path(self.project.include, self.project.model))

    @cached_property
    def storage(self) -> Storage:
        return Storage(self.config.storage)

    @cached_property
    def paths(self) -> Paths:
        return Paths(self.config.storage.artifacts, self.project.model)

    def commit(self, stage: str, day: date, files: Mapping[str, Path], **figures: Any) -> StageResult:
        """Leave the result of a stage, as the stage itself would."""
        outcome = Outcome(files=dict(files), figures=figures)
        return commit(self.storage, self.draft(stage, day), lambda *_: outcome, force=True)

    def draft(self, stage: str, day: date) -> Draft:
        prefix = self.paths.stage(day, stage)
        return Draft(stage=stage, model="tiny", day=day, prefix=prefix, inputs={}, settings=None)

    def stands(self, stage: str, day: date) -> bool:
        """Whether a re-run of the stage would find nothing to do."""
        return standing_result(self.storage, self.draft(stage, day)) is not None

    def window(self, day: date) -> tuple[LogDay, ...]:
        days = [day - timedelta(days=back) for back in reversed(range(5))]
        return tuple(LogDay(day=it, objects=1, size_bytes=1, listing_digest="x") for it in days)

    def night(self, day: date = DAY, items: Mapping[str, str] = ITEMS) -> None:
        """Leave a night up to the check of its ranks."""
        spec = RunSpec(
            model="tiny", day=day, config=self.config, promote="auto", window=self.window(day), champion=None
        )
        self.commit("plan", day, {"run.json": self.file("run.json", spec.to_json())})
        catalogue = self.folder / "items.parquet"
        pq.write_table(pa.table({"id": list(items), "text": list(items.values())}), catalogue)
        self.commit("validate_sessions", day, {"items.parquet": catalogue})
        inputs = self.file("inputs", f"sessions of {day}".encode())
        self.commit("preprocess_ranks", day, {"items/items.parquet": catalogue, "inputs/train.parquet": inputs})
        self.commit("validate_ranks", day, {})

    def pull(self, log_day: LogDay) -> Draft:
        """Leave the sessions of a log day."""
        draft = pull_draft(self.paths, self.config, None, log_day)
        sessions = self.file("sessions", f"sessions of {log_day.day}".encode())
        commit(self.storage, draft, lambda *_: Outcome(files={"sessions.parquet": sessions}, figures={}))
        return draft

    def train(self, day: date = DAY) -> StageResult:
        """Leave a challenger, what was found of it, and the gate's word."""
        tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*WORDS, "?"])}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        weights = torch.randn(len(WORDS) + 1, 4, generator=torch.Generator().manual_seed(day.toordinal()))
        home = self.folder / f"model-{day}"
        StaticEmbeddingsModel(tokenizer, weights).save(home)
        files = {f"model/{it.relative_to(home)}": it for it in home.rglob("*") if it.is_file()}
        trained = self.commit("fine_tune", day, {**files, "history.json": self.file("history", b"{}")})
        figures = self.file("figures", b"{}")
        mixed = {"interpolation/model.safetensors": home / "model.safetensors"}
        self.commit("evaluate", day, {"evaluation.json": figures, "per_query.parquet": figures, **mixed})
        self.commit("gate", day, {"decision.json": figures, "report.html": figures})
        return trained

    def champion(self, version: str, day: date = DAY) -> Champion:
        trained = self.storage.read_result(self.paths.stage(day, "fine_tune")) or self.train(day)
        weights = {name[6:]: it for name, it in trained.outputs.items() if name.startswith("model/")}
        return Champion(model="tiny", version=version, day=day, mlflow_run_id="r", weights=weights, val_loss=1.0)

    def promote(self, version: str, day: date = DAY, *, forced: bool = False) -> Champion:
        to = self.champion(version, day)
        append(self.storage, self.paths, "promotion", to, request=version, why="better", forced=forced)
        return to

    def file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


def nights_by_hand(folder: Path, bucket: Bucket, endpoint: str, *, further: str = "") -> NightsByHand:
    """Make a project without logs."""
    config = CONFIG.format(bucket=bucket.name, endpoint=endpoint, mlflow=f"sqlite:///{folder}/mlflow.db") + further
    return NightsByHand(Project(write_include(folder, "tiny", config), bucket, "tiny"), folder)
