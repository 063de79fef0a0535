"""What Optuna decides about a search: which settings to try next, which trial to stop, and which settings mattered.

The search itself is in MLflow. Here a study in memory is built from it each time, so that there is nothing to keep in
step. The only module that imports Optuna, within its functions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from embft.search_config import Range, spelled

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Values = Mapping[str, Any]
Pruner = Literal["median", "hyperband", "none"]

# With so few finished trials there is nothing to learn from, nor a median that says anything.
_FEW = 4
_DIGITS = 4


class Told(NamedTuple):
    """What a study is told about a trial.

    Args:
        values: Setting → value; settings that are not searched do not matter.
        state: finished; pruned or failed; or running, in another process.
        quality: Of a finished trial; lower is better.
        losses: Validation loss at the start and after each validation.
    """

    values: Values
    state: Literal["finished", "pruned", "running"]
    quality: float | None
    losses: Sequence[float]


class Space:
    """The values that are searched.

    Args:
        ranges: Setting → its values.
        whole: Settings that count: whole numbers.
    """

    def __init__(self, ranges: Mapping[str, Range], whole: frozenset[str]) -> None:
        self.ranges = ranges
        self._whole = whole

    def __contains__(self, values: Values) -> bool:
        """Whether a value is given for each setting, and lies in its range."""
        return all(name in values and values[name] in known for name, known in self.ranges.items())

    def sampled(self, told: Sequence[Told], seed: int) -> dict[str, Any]:
        """Draw values to try: at random at first, then where TPE expects the most.

        Trials that others train at this moment count as if they had gone badly, so that nobody tries the same.

        Args:
            told: All trials so far, in their order.
            seed: Of the draw; with the same trials it gives the same values.

        Returns:
            Setting → value.
        """
        import optuna

        # Multivariate, and with constant liar for running trials, by default.
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_FEW)
        study = _study(sampler, optuna.pruners.NopPruner())
        study.add_trials([self._frozen(it) for it in told if it.values in self])
        drawn = study.ask(self._distributions()).params
        return {name: self._plain(name, value) for name, value in drawn.items()}

    def importances(self, told: Sequence[Told]) -> dict[str, float]:
        """Say how much of the differences in quality each setting explains.

        Args:
            told: All trials.

        Returns:
            Setting → share, the largest first; they add up to 1. Nothing where too few finished, or all alike.
        """
        import optuna

        finished = [it for it in told if it.state == "finished" and it.values in self]
        if len(finished) < _FEW or len({it.quality for it in finished}) == 1:
            return {}
        study = _study(optuna.samplers.RandomSampler(seed=0), optuna.pruners.NopPruner())
        study.add_trials([self._frozen(it) for it in finished])
        # Optuna finds a share for a setting that was the same in all trials, too.
        varied = [name for name in self.ranges if len({spelled(it.values[name]) for it in finished}) > 1]
        shares = optuna.importance.get_param_importances(study, params=varied) if varied else {}
        return dict(shares) | {name: 0.0 for name in self.ranges if name not in varied} if varied else {}

    def _frozen(self, told: Told) -> FrozenTrial:
        import optuna

        states = optuna.trial.TrialState
        state = {"finished": states.COMPLETE, "pruned": states.PRUNED, "running": states.RUNNING}[told.state]
        return optuna.trial.create_trial(
            state=state,
            value=told.quality,
            params={name: self._for_optuna(name, told.values[name]) for name in self.ranges},
            distributions=self._distributions(),
            intermediate_values=dict(enumerate(told.losses)),
        )

    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for name, it in self.ranges.items():
            if it.choices is not None:
                # As text: Optuna takes no lists, and takes 1 for true.
                found[name] = CategoricalDistribution([spelled(choice) for choice in it.choices])
            elif name in self._whole:
                found[name] = IntDistribution(int(it.ends[0]), int(it.ends[1]), log=it.log)
            else:
                found[name] = FloatDistribution(float(it.ends[0]), float(it.ends[1]), log=it.log)
        return found

    def _for_optuna(self, name: str, value: Any) -> Any:
        if self.ranges[name].choices is not None:
            return spelled(value)
        return int(value) if name in self._whole else float(value)

    def _plain(self, name: str, value: Any) -> Any:
        known = self.ranges[name]
        if known.choices is not None:
            return next(it for it in known.choices if spelled(it) == value)
        if name in self._whole:
            return value
        # People read these numbers; what is cut off is far below any difference.
        low, high = known.ends
        return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def stopper(pruner: Pruner, told: Sequence[Told]) -> Callable[[float], bool]:
    """Make what says after each validation of one trial whether it is hopeless.

    Args:
        pruner: How it is found out.
        told: The trials before it, in their order.

    Returns:
        Validation loss → whether to stop; to be called with each one, in their order.
    """
    import optuna

    kinds: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        # The first validation stops nobody: high learning rates begin badly.
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=_FEW, n_warmup_steps=2),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, reduction_factor=3),
        "none": optuna.pruners.NopPruner,
    }
    study = _study(optuna.samplers.RandomSampler(seed=0), kinds[pruner]())
    for it in told:
        trial = study.ask()
        if it.state == "running":
            continue
        for number, loss in enumerate(it.losses[1:], 1):
            trial.report(loss, number)
            trial.should_prune()  # Hyperband notes in this who came how far
        if it.state == "finished":
            study.tell(trial, it.quality)
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    trial, number = study.ask(), 0

    def is_hopeless(loss: float) -> bool:
        nonlocal number
        number += 1
        trial.report(loss, number)
        return bool(trial.should_prune())

    return is_hopeless


def _study(sampler: Any, pruner: Any) -> Study:
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    # Hyperband deals trials out by this name.
    return optuna.create_study(study_name="trials", direction="minimize", sampler=sampler, pruner=pruner)
