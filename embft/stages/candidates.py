"""Which settings a night tries: the best of the night before, those of the config, then what the sampler says."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from embft.config import Training
from embft.finetuning.params import FineTuningParams
from embft.search_config import Range, is_whole, spelled

if TYPE_CHECKING:
    from embft.experiments.study import Space, Told
    from embft.experiments.trials import Curve, TrialRun

log = logging.getLogger(__name__)

# Where all choices were tried, the sampler proposes one of them again.
_ASKED_AT_MOST = 20


class TrialParams(FineTuningParams):
    """What tells two trials of a night apart."""

    start_from: Literal["base", "champion"] = Field("base", description="Model whose weights training starts from.")


class Candidates:
    """What a night may try.

    Args:
        training: Of the config.
        has_champion: Whether there is one to start from.
        earlier: Gives the best parameters of the previous night; asked once, and where it is needed.
    """

    def __init__(
        self, training: Training, *, has_champion: bool, earlier: Callable[[int], Sequence[dict[str, Any]]]
    ) -> None:
        self._training = training
        self._earlier_of = earlier
        self._earlier: list[TrialParams] | None = None
        self.starts = _starts(training.start_from, has_champion=has_champion)
        searched = dict(training.search.ranges) if training.search else {}
        if len(self.starts) > 1:
            searched["start_from"] = Range(choices=self.starts)
        self.searched: dict[str, Range] = searched

    @property
    def limit(self) -> int:
        """Trials that there may be."""
        return self._training.search.trials if self._training.search else len(self.starts)

    @property
    def space(self) -> "Space":
        """What the sampler draws from."""
        from embft.experiments.study import Space

        return Space(self.searched, frozenset(it for it in self.searched if is_whole(TrialParams, it)))

    def next(
        self, runs: "Sequence[TrialRun]", told: "Callable[[Sequence[TrialRun]], Sequence[Told]]", worker: int
    ) -> tuple[TrialParams, str] | None:
        """Propose a trial.

        Args:
            runs: All trials so far.
            told: Spells them as the sampler is told of them.
            worker: Number of who asks, so that not all of those who ask at once get the same.

        Returns:
            Parameters and who proposed them; None where nothing is left to try.
        """
        taken = {it.params_id for it in runs}
        if fresh := [(it, origin) for it, origin in self._first() if it.id not in taken]:
            return fresh[min(worker, len(fresh) - 1)]
        if self._training.search is None:
            return None
        known, space, seed = told(runs), self.space, self._training.settings.seed
        # A setting that was left to the model or the loss came to a number, which is not worth another trial.
        tried = [self._spelled(self.values_of(it)) for it in runs]
        for attempt in range(_ASKED_AT_MOST):
            values = space.sampled(known, (seed + len(runs) + 7919 * (100 * worker + attempt)) % 2**32)
            params = self._with(values)
            if params.id not in taken and self._spelled(values) not in tried:
                return params, "sampler"
        log.warning(
            "the search ends after %d of %d trials: %d further proposals were all of settings that were tried already; "
            "widen training.search.ranges, or lower training.search.trials",
            len(runs),
            self.limit,
            _ASKED_AT_MOST,
        )
        return None

    def configured(self) -> list[TrialParams]:
        """Give what the config says, for each model that may be started from."""
        return [self._with({"start_from": it}) for it in self.starts]

    def values_of(self, run: "TrialRun") -> dict[str, Any]:
        """Give what a trial tried of each searched setting; where it left one to the model, what that came to."""
        values = {}
        for name in self.searched:
            value = run.params.get(name)
            if value is None and None not in (self.searched[name].choices or ()):
                value = _number(run.logged.get(name))
            values[name] = value
        return values

    def told_of(self, run: "TrialRun", curve: "Curve") -> "Told":
        """Spell a trial as the sampler and the pruner are told of it."""
        from embft.experiments.study import Told

        # A trial that failed is worse than any that was stopped early.
        state: Any = {"finished": "finished", "pruned": "pruned", "failed": "pruned"}.get(run.state, "running")
        losses = [loss for _, loss in curve] if run.state in ("finished", "pruned") else []
        return Told(self.values_of(run), state, run.quality, losses)

    def _first(self) -> list[tuple[TrialParams, str]]:
        if self._earlier is None:
            count = self._training.search.earlier if self._training.search else 0
            known = self._earlier_of(count) if count else []
            self._earlier = [it for content in known if (it := self._as_of_today(content)) is not None]
        return [*((it, "earlier nights") for it in self._earlier), *((it, "config") for it in self.configured())]

    def _as_of_today(self, content: dict[str, Any]) -> TrialParams | None:
        """Take over what is searched today; the rest is as today's config says."""
        try:
            params = TrialParams.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            _say_skipped(content, f"embft takes them no more: {fault['loc']}, {fault['msg']}")
            return None
        values = {name: getattr(params, name) for name in self.searched}
        if values not in self.space:
            _say_skipped(values, "they are not in training.search.ranges")
            return None
        return self._with(values)

    def _spelled(self, values: dict[str, Any]) -> list[str]:
        return [spelled(values[name]) for name in self.searched]

    def _with(self, values: dict[str, Any]) -> TrialParams:
        fixed = self._training.params.model_dump() | {"start_from": self.starts[0]}
        return TrialParams.model_validate(fixed | values)


def _starts(start_from: str, *, has_champion: bool) -> tuple[Literal["base", "champion"], ...]:
    if not has_champion or start_from == "base":
        return ("base",)
    return ("champion",) if start_from == "champion" else ("champion", "base")


def _say_skipped(settings: dict[str, Any], why: str) -> None:
    log.info("settings %s of the night before are not tried, for %s", settings, why)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
