"""How a night's model was trained: its learning curve, and the trials of the search that it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from markupsafe import Markup

from embft.finetuning.trials import SearchSummary, Trial
from embft.report.drawings import Points, curve_svg, trials_svg

_MOST_TRIALS = 20
_STATES = {"finished": "finished", "pruned": "stopped early", "failed": "failed"}


@dataclass(frozen=True)
class TrialRow:
    """A trial of the search, worded.

    Args:
        settings: Name → value of those that differ between trials, what mattered most first.
        quality: A dash where it has none.
        seconds: Rounded.
        came_from: Who proposed the settings.
        state: What became of it.
        is_best: Its weights were kept.
    """

    settings: Mapping[str, str]
    quality: str
    seconds: str
    came_from: str
    state: str
    is_best: bool


@dataclass(frozen=True)
class Search:
    """The search, as the page shows it.

    Args:
        objective: What a trial's quality is.
        counted: How many trials there were, and what became of them.
        rows: The best trial first.
        n_further: Trials that are not among the rows.
        importances: Setting → share of the differences in quality, the biggest first.
        drawing: Every trial's curve; empty where the best one has none.
    """

    objective: str
    counted: str
    rows: list[TrialRow]
    n_further: int
    importances: dict[str, float]
    drawing: Markup


def curve_of(history: Mapping[str, Any]) -> Markup:
    """Draw the learning curve.

    Args:
        history: `history.json` of `fine_tune`.

    Returns:
        SVG; empty where there are fewer than two validations.
    """
    return curve_svg(_series(history, "val_loss"), _series(history, "train_loss"))


def search_of(summary: SearchSummary | None, trials: Sequence[Trial]) -> Search | None:
    """Lay out the search.

    Args:
        summary: `figures["search"]` of `fine_tune`; None on a night without a search.
        trials: `trials.json`.

    Returns:
        What the page shows; None on a night without a search.
    """
    if summary is None or not trials:
        return None
    sign = -1 if summary.higher_is_better else 1

    def place(trial: Trial) -> tuple[bool, bool, float]:
        # What a stopped trial had come to does not compare with what finished ones did.
        quality = inf if trial.quality is None else sign * trial.quality
        return trial.params_id != summary.best, trial.state != "finished", quality

    ordered = sorted(trials, key=place)
    names = dict.fromkeys(name for it in trials for name in it.params)
    varied = [name for name in names if len({repr(it.params.get(name)) for it in trials}) > 1]
    varied.sort(key=lambda name: -summary.importances.get(name, 0.0))
    return Search(
        objective=summary.objective,
        counted=_counted(trials),
        rows=[_row(it, varied, is_best=it.params_id == summary.best) for it in ordered[:_MOST_TRIALS]],
        n_further=len(ordered[_MOST_TRIALS:]),
        importances=dict(sorted(summary.importances.items(), key=lambda it: (-it[1], it[0]))),
        drawing=_drawing(trials, summary.best),
    )


def _series(history: Mapping[str, Any], key: str) -> list[tuple[int, float]]:
    points = [(record["step"], record.get(key)) for record in history.get("records", [])]
    return [(step, loss) for step, loss in points if loss is not None and isfinite(loss)]


def _counted(trials: Sequence[Trial]) -> str:
    n = len(trials)
    told = [f"{n:,} {'trial' if n == 1 else 'trials'}"]
    for state, name in _STATES.items():
        if state != "finished" and (some := sum(it.state == state for it in trials)):
            told.append(f"{some:,} {name}")
    return ", ".join(told)


def _row(trial: Trial, varied: Sequence[str], *, is_best: bool) -> TrialRow:
    return TrialRow(
        settings={name: _told(trial.params.get(name)) for name in varied},
        quality="–" if trial.quality is None else f"{trial.quality:.4f}",
        seconds=f"{trial.seconds:,.0f}",
        came_from=trial.came_from,
        state=_STATES[trial.state],
        is_best=is_best,
    )


def _told(value: float | str | None) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "–" if value is None else str(value)


def _drawing(trials: Sequence[Trial], best: str | None) -> Markup:
    curves: dict[str, list[Points]] = {"best": [], "others": []}
    for trial in trials:
        curves["best" if trial.params_id == best else "others"].append(trial.curve)
    found = [it for it in curves["best"] if len(it) > 1]
    return trials_svg([it for it in curves["others"] if it], found[0]) if found else Markup("")
