"""What a person reads of a search in the terminal: a worker's trials, and how the night's search stands."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embft.finetuning.trials import SearchSummary, Trial
from embft.stages.search import SearchWork


def print_search(work: SearchWork) -> None:
    """Print the trials that a worker trained, and the night's search so far.

    Args:
        work: What it did.
    """
    console = Console()
    console.print(f"[green]search {work.model} {work.day}: worker {work.worker} is done[/]", highlight=False)
    if work.trained:
        console.print(_table(work.trained))
    console.print(f"  {_standing(work)}", highlight=False, soft_wrap=True)
    if work.search and work.search.importances:
        shares = ", ".join(f"{escape(name)} {share:.0%}" for name, share in work.search.importances.items())
        console.print(f"  Settings that mattered: {shares}", highlight=False, soft_wrap=True)


def _table(trials: Sequence[Trial]) -> Table:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    table = Table("trial", *map(escape, names), "state", "quality", "seconds", "from")
    for trial in trials:
        settings = [_short(trial.params.get(name)) for name in names]
        quality = "–" if trial.quality is None else f"{trial.quality:.4f}"
        table.add_row(trial.params_id[:8], *settings, trial.state, quality, f"{trial.seconds:.1f}", trial.came_from)
    return table


def _standing(work: SearchWork) -> str:
    if work.is_over or work.search is None:
        return "fine-tune has its result: nothing was left to train."
    return f"The worker ended {len(work.trained)} trials. {_so_far(work.search)}"


def _so_far(search: SearchSummary) -> str:
    best = f"; the best so far is {search.best[:8]}" if search.best else ""
    return f"The night has {search.trials}, {search.pruned} of them stopped early, by {escape(search.objective)}{best}."


def _short(value: float | int | str | bool | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
