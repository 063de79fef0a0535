"""Nights by hand that passed the gate: what `register` needs of them, a run in MLflow included."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from embft.experiments.manager import ExperimentsManager
from embft.finetuning.models import StaticEmbeddingsModel
from embft.promotion.evaluation_record import Comparison, Costs, Evaluation, QuerySet
from embft.promotion.ledger import read_history
from embft.promotion.registry import Registry
from embft.results import RunSpec, StageResult
from embft.stages.models import registry_of
from tests.buckets import Bucket
from tests.pipeline.nights_by_hand import DAY, ITEMS, WORDS, NightsByHand, nights_by_hand

RULES = [
    {"name": "no_future", "success": True},
    {"name": "enough", "success": False},
    {"name": "rare", "success": None},
]


@dataclass
class PromotableNights(NightsByHand):
    """A project, and what its nights left up to a gate that was passed."""

    @property
    def registry(self) -> Registry:
        return registry_of(self.config)

    def passed(
        self,
        day: date = DAY,
        *,
        promote: Literal["auto", "never", "force"] = "auto",
        seed: int | None = None,
        candidate: Literal["challenger", "interpolation"] = "challenger",
    ) -> StageResult:
        """Leave a night whose model passed the gate; nights of the same seed have the very same weights."""
        self.night(day)
        spec = RunSpec(
            model="tiny",
            day=day,
            config=self.config,
            promote=promote,
            window=self.window(day),
            champion=read_history(self.storage, self.paths).champion_before(day),
        )
        self.commit("plan", day, {"run.json": self.file("run.json", spec.to_json())})
        inputs = {f"inputs/{part}.parquet": self.file(part, f"{part} {day}".encode()) for part in ("train", "test")}
        self.commit("preprocess_ranks", day, {"items/items.parquet": self.folder / "items.parquet", **inputs})
        self.commit("validate_ranks", day, {}, rules=RULES)
        trained = self._train(day, day.toordinal() if seed is None else seed)
        evaluation = _evaluation(day, candidate)
        self.commit("evaluate", day, {"evaluation.json": self.file("evaluation", evaluation.to_json())})
        self.commit("gate", day, {"decision.json": self.file("decision", b"{}")})
        return trained

    def register(self, day: date = DAY, *, force: bool = False) -> StageResult:
        return self.project.stage("register", day, force=force)

    def _train(self, day: date, seed: int) -> StageResult:
        manager = ExperimentsManager(
            self.config.mlflow.tracking_uri,
            "tiny",
            artifact_location=self.paths.mlflow,
            s3_endpoint=self.config.storage.endpoint_url,
        )
        with manager.run(f"night {day}"):
            pass
        home = self.folder / f"model-{seed}"
        _model(seed).save(home)
        files = {f"model/{it.relative_to(home)}": it for it in home.rglob("*") if it.is_file()}
        return self.commit("fine_tune", day, files, mlflow_run_id=manager.run_id)


def promotable_nights(folder: Path, bucket: Bucket, endpoint: str, *, further: str = "") -> PromotableNights:
    """Make a project without logs, and an MLflow of its own."""
    made = nights_by_hand(folder, bucket, endpoint, further=further)
    return PromotableNights(made.project, made.folder)


def _model(seed: int) -> StaticEmbeddingsModel:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*WORDS, "?"])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return StaticEmbeddingsModel(
        tokenizer, torch.randn(len(WORDS) + 1, 4, generator=torch.Generator().manual_seed(seed))
    )


def _evaluation(day: date, candidate: Literal["challenger", "interpolation"]) -> Evaluation:
    measures: dict[str, float | None] = {"val_loss": 0.5, "ndcg_at_10": 0.7081}
    compared = Comparison(
        kind="slice",
        of="all",
        measure="ndcg_at_10",
        n_queries=40,
        figure=0.7081,
        opposed=0.6868,
        gain=0.031,
        low=0.01,
        high=0.052,
        p_adjusted=0.01,
        detectable=0.02,
    )
    others: Sequence[Comparison] = (
        replace_in(compared, measure="val_loss", figure=0.5),
        replace_in(compared, of="tail", low=None, high=None),
        replace_in(compared, of="tail", measure="mrr_at_10"),
        replace_in(compared, kind="guard", of="staples"),
    )
    return Evaluation(
        model="tiny",
        day=day,
        test_from=day,
        inputs_sha256="0" * 64,
        loss_func="margin",
        n_items=len(ITEMS),
        candidate=candidate,
        opponent="base",
        new_share=None,
        sets=(QuerySet(kind="slice", name="all", n_queries=40, n_sessions=40, models={candidate: measures}),),
        costs={candidate: Costs(model_mb=1, encode_ms=1)},
        confidence=0.95,
        resamples=1000,
        comparisons=(compared, *others),
    )


def replace_in(compared: Comparison, **changed: object) -> Comparison:
    return compared.model_copy(update=changed)
