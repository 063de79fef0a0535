"""The training of one trial of a night. What all trials need is read once."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from embft.errors import ConfigError
from embft.finetuning.processes import followers
from embft.results import RunSpec
from embft.stages.candidates import Candidates, TrialParams
from embft.stages.models import Vocabulary, base_model, champion_model, sessions_of, settings_of, vocabulary
from embft.stages.retention import remove_below
from embft.stages.stage import Context

if TYPE_CHECKING:
    from embft.experiments.manager import ExperimentsManager
    from embft.finetuning.history import TrainingHistory
    from embft.finetuning.interpolation import Mixture
    from embft.finetuning.models import EmbeddingsModelInterface
    from embft.finetuning.paired import PairedFineTuningInputsDataset
    from embft.finetuning.tuner import EmbeddingsFineTuner

log = logging.getLogger(__name__)

_TRIAL = "EMBFT_TRIAL"
"""Tells a follower what its leader trains, as JSON."""


class Sessions(NamedTuple):
    """What is trained and validated on."""

    vocabulary: Vocabulary
    train: "PairedFineTuningInputsDataset"
    validation: "PairedFineTuningInputsDataset"


class Trained(NamedTuple):
    """What came of a trial.

    Args:
        history: Of its training.
        mixture: How much of the base model was mixed in afterwards; None where nothing was.
        quality: Validation loss of the weights that the model has now.
        seconds: Time that both took.
    """

    history: "TrainingHistory"
    mixture: "Mixture | None"
    quality: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        mixtures = {str(share): loss for share, loss in self.mixture.losses.items()} if self.mixture else {}
        new_share = self.mixture.new_share if self.mixture else None
        return self.history.to_dict() | {"new_share": new_share, "mixtures": mixtures}


class TrialTraining:
    """Trains trials one after the other.

    Args:
        context: Of `fine_tune`.
        several: Whether more than one may be trained.
    """

    def __init__(self, context: Context, *, several: bool) -> None:
        from embft.finetuning.devices import check_devices

        self.settings = settings_of(context.run)
        self._context = context
        self._layout = check_devices(self.settings)  # before the first download
        self._several = several
        self._base: EmbeddingsModelInterface | None = None
        self._starts: dict[str, tuple[EmbeddingsModelInterface, dict[str, Any]]] = {}
        if several and self._layout.place.is_started:
            raise ConfigError(
                f"{self._layout.n_processes} processes were started together (torchrun, a training job), and they "
                "share one training alone: leave training.search out, and let training.start_from be base or champion"
            )

    @cached_property
    def sessions(self) -> Sessions:
        """Read at the first use."""
        from embft.finetuning.paired import PairedFineTuningInputsDataset

        context, seed = self._context, self.settings.seed
        known = vocabulary(pq.read_table(context.fetch("preprocess_ranks", "items/items.parquet")))
        train = sessions_of(context, "train")
        validation = PairedFineTuningInputsDataset(sessions_of(context, "validation"), seed, clicks_of=train)
        return Sessions(known, PairedFineTuningInputsDataset(train, seed), validation)

    def start(self, start_from: str) -> "EmbeddingsModelInterface":
        """Give a model with the weights that a trial starts from; it is the same object for each trial."""
        if start_from not in self._starts:
            model = champion_model(self._context) if start_from == "champion" else base_model(self._context)
            assert model is not None, "without a champion no trial starts from it"
            kept = {name: it.detach().cpu().clone() for name, it in model.state_dict().items()} if self._several else {}
            self._starts[start_from] = (model, kept)
            return model
        # Not a copy of the model: it keeps what it found out about texts.
        model, kept = self._starts[start_from]
        model.load_state_dict(kept)
        model.zero_grad(set_to_none=True)
        return model

    def lead(
        self,
        model: "EmbeddingsModelInterface",
        params: TrialParams,
        tracker: "ExperimentsManager",
        max_seconds: float | None,
        is_hopeless: Callable[[float], bool] | None,
    ) -> Trained:
        """Train, with the followers that this takes, and mix the base model in.

        Args:
            model: As of `start`; trained in place.
            params: Of the trial.
            tracker: Where measures go.
            max_seconds: As of `fit`.
            is_hopeless: As of `fit`.

        Returns:
            What came of it.
        """
        from embft.finetuning.interpolation import loss_of

        variables = {_TRIAL: params.model_dump_json()}
        tuner = self._tuner(model, params, tracker)
        with followers(_command(self._context.run), self._layout.n_to_start, self._context.folder, variables):
            history = self._fit(tuner, params, max_seconds, is_hopeless)
        if history.pruned or not self._context.run.config.training.interpolate:
            return Trained(history, None, history.best_val_loss, history.seconds)
        began = time.monotonic()
        mixture = self._mixed(tuner)
        # Where nothing could be mixed in, measured as those are where it was: `fit` may measure in another precision,
        # or on other sessions.
        quality = mixture.losses[mixture.new_share] if mixture else loss_of(tuner, *self._measured_on)
        return Trained(history, mixture, quality, history.seconds + time.monotonic() - began)

    def forget(self, params: TrialParams) -> None:
        """Remove what a trial that is over has left to go on from."""
        shutil.rmtree(self._scratch(params), ignore_errors=True)
        remove_below(self._context.storage, self._prefix(params))

    def follow(self, params: TrialParams) -> None:
        """Help the leader to train; it looks at its limits together with its followers."""
        is_search = self._context.run.config.training.search is not None
        limits: tuple[Any, Any] = (float("inf"), lambda loss: False) if is_search else (None, None)
        self._fit(self._tuner(self.start(params.start_from), params, None), params, *limits)

    def _tuner(
        self, model: "EmbeddingsModelInterface", params: TrialParams, tracker: "ExperimentsManager | None"
    ) -> "EmbeddingsFineTuner":
        from embft.finetuning.tuner import EmbeddingsFineTuner

        items_set, retriever = self.sessions.vocabulary
        sets, objective = {"train": items_set, "test": items_set}, self._context.run.config.training.params
        return EmbeddingsFineTuner.create(model, self.settings, sets, retriever, params, tracker, objective)

    def _fit(
        self,
        tuner: "EmbeddingsFineTuner",
        params: TrialParams,
        max_seconds: float | None,
        is_hopeless: Callable[[float], bool] | None,
    ) -> "TrainingHistory":
        from embft.finetuning.trainer import fit
        from embft.stages.checkpoints import StoredCheckpoints

        prefix, scratch = self._prefix(params), self._scratch(params)
        return fit(
            tuner,
            self.sessions.train,
            self.sessions.validation,
            self.settings,
            scratch / "training",
            checkpoints=StoredCheckpoints(self._context.storage, prefix, scratch / "stored"),
            checkpoint_each_s=60 * self._context.run.config.runtime.checkpoint_minutes,
            max_seconds=max_seconds,
            is_hopeless=is_hopeless,
        )

    def _mixed(self, tuner: "EmbeddingsFineTuner") -> "Mixture | None":
        from embft.finetuning.interpolation import mix_with_base

        if self._base is None:
            self._base = base_model(self._context)  # not that of `start`, which trials train
        return mix_with_base(tuner, self._base, *self._measured_on)

    @property
    def _measured_on(self) -> "tuple[PairedFineTuningInputsDataset, int]":
        return self.sessions.validation, self.settings.batch_size

    def _prefix(self, params: TrialParams) -> str:
        return f"{self._context.checkpoints_uri}/{params.id[:16]}"

    def _scratch(self, params: TrialParams) -> Path:
        return self._context.folder / "trials" / params.id[:16]


def follow(context: Context) -> None:
    """Help another process with its trial, up to its end.

    Args:
        context: Of `fine_tune`.

    Raises:
        ConfigError: Somebody else than the leader has started this process, and there is more than one trial.
    """
    if (content := os.environ.get(_TRIAL)) is not None:
        TrialTraining(context, several=False).follow(TrialParams.model_validate_json(content))
        return
    candidates = Candidates(
        context.run.config.training, has_champion=context.run.champion is not None, earlier=lambda count: ()
    )
    training = TrialTraining(context, several=candidates.limit > 1)
    training.follow(candidates.configured()[0])


def _command(run: RunSpec) -> list[str]:
    """What a follower runs. With --force: that there is work to do, the leader has found out."""
    stage = ["fine-tune", "--model", run.model, "--day", run.day.isoformat(), "--force"]
    return [sys.executable, "-m", "embft", *stage]
