"""Every model's measures and costs as a table: models are the columns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embft.promotion.evaluation_record import MOST_CLICKED, Comparison, Costs, Evaluation
from embft.promotion.wording import is_lower_better, measure_name, model_name
from embft.promotion_config import COSTS, SHIFTS
from embft.report.wording import interval, percent


@dataclass(frozen=True)
class Column:
    """A model.

    Args:
        name: As people read it.
        note: What else to know of it; may be empty.
        is_candidate: The gate judges this one.
    """

    name: str
    note: str
    is_candidate: bool


@dataclass(frozen=True)
class Cell:
    """A model's figure.

    Args:
        figure: A dash where it is not a number, and nothing where it was not measured.
        is_known: There is one, or none was asked for.
        is_best: No other model's is better.
    """

    figure: str
    is_known: bool
    is_best: bool


_NOT_MEASURED = Cell("", is_known=True, is_best=False)


@dataclass(frozen=True)
class MeasureRow:
    """A measure or cost of every model.

    Args:
        title: Its name, with an arrow to the better side.
        cells: A figure for each column.
        gain: Share by which the candidate is better than its opponent; empty where that is not asked.
        interval: Of the gain; empty where it has none.
        tone: Class of the gain's colour; empty where no difference was shown.
    """

    title: str
    cells: list[Cell]
    gain: str
    interval: str
    tone: str


def columns(evaluation: Evaluation, champion_version: str | None) -> list[Column]:
    """Name the models.

    Args:
        evaluation: Of the night.
        champion_version: Its version; None before the first champion.

    Returns:
        In the order of the evaluation.
    """
    notes = {MOST_CLICKED: "of past clicks"} | ({"champion": f"version {champion_version}"} if champion_version else {})
    if evaluation.new_share is not None:
        notes[evaluation.candidate] = f"{evaluation.new_share:.0%} trained weights"
    return [Column(model_name(name), notes.get(name, ""), name == evaluation.candidate) for name in evaluation.models]


def measure_rows(evaluation: Evaluation) -> list[MeasureRow]:
    """Lay out all that was measured on all held-out clicks.

    Args:
        evaluation: Of the night.

    Returns:
        A row for each measure.
    """
    compared = {it.measure: it for it in evaluation.comparisons if (it.kind, it.of) == ("slice", "all")}
    models = evaluation.models
    measures = dict.fromkeys(measure for figures in models.values() for measure in figures)
    return [
        _row(
            measure,
            models,
            {name: figures[measure] for name, figures in models.items() if measure in figures},
            4,
            *_gain(compared.get(measure), evaluation.confidence),
        )
        for measure in measures
    ]


def cost_rows(evaluation: Evaluation) -> list[MeasureRow]:
    """Lay out what serving each model costs.

    Args:
        evaluation: Of the night.

    Returns:
        A row for each cost; gains have no interval.
    """
    costs: Mapping[str, Costs] = evaluation.costs
    rows = []
    for cost in COSTS:
        figures: dict[str, float | None] = {name: getattr(it, cost) for name, it in costs.items()}
        ours, theirs = figures[evaluation.candidate], figures[evaluation.opponent]
        gain = percent((theirs - ours) / theirs) if ours is not None and theirs else ""
        rows.append(_row(cost, evaluation.models, figures, 2, gain, "", ""))
    return rows


def over_most_clicked(evaluation: Evaluation) -> str:
    """Tell the candidate's gain over the look-up table of past clicks.

    Args:
        evaluation: Of the night.

    Returns:
        A sentence with each measure that both have; empty where the table was not measured.
    """
    told, compared = [], {it.measure: it for it in evaluation.against_most_clicked}
    for it in (compared[name] for name in evaluation.models[evaluation.candidate] if name in compared):
        gain, found, _ = _gain(it, evaluation.confidence)
        if gain:
            told.append(f"{measure_name(it.measure)} {gain}{f' ({found})' if found else ''}")
    who = model_name(evaluation.candidate)
    return f"Gain of the {who} over the look-up table: {', '.join(told)}." if told else ""


def is_shown(comparison: Comparison, confidence: float) -> bool:
    """Whether a difference is shown, after Holm's correction."""
    return comparison.p_adjusted is not None and comparison.p_adjusted < 1 - confidence


def is_better(comparison: Comparison) -> bool:
    """Whether the candidate's figure is the better one, shown or not."""
    if is_lower_better(comparison.measure):
        return comparison.figure < comparison.opposed
    return comparison.figure > comparison.opposed


def _row(
    measure: str,
    models: Iterable[str],
    figures: Mapping[str, float | None],
    digits: int,
    gain: str,
    interval: str,
    tone: str,
) -> MeasureRow:
    """Lay out a measure: a cell for each of the models, and a figure in it for those that were measured by it."""
    known = [it for it in figures.values() if it is not None]
    # Neither end of a shift is the better one, and costs that are the same need no star.
    is_race = measure not in SHIFTS and len(set(known)) > 1
    best = (min if is_lower_better(measure) else max)(known) if is_race else None
    arrow = "" if measure in SHIFTS else " ↓" if is_lower_better(measure) else " ↑"
    name = measure_name(measure)
    return MeasureRow(
        title=f"{name if name[1:2].isupper() else name[:1].upper() + name[1:]}{arrow}",
        cells=[_cell(figures[it], best, digits) if it in figures else _NOT_MEASURED for it in models],
        gain=gain,
        interval=interval,
        tone=tone,
    )


def _cell(figure: float | None, best: float | None, digits: int) -> Cell:
    if figure is None:
        return Cell("–", is_known=False, is_best=False)
    return Cell(f"{figure:z,.{digits}f}", is_known=True, is_best=figure == best)


def _gain(comparison: Comparison | None, confidence: float) -> tuple[str, str, str]:
    """Word the candidate's gain: itself, its interval, and the class of its colour."""
    if comparison is None or comparison.gain is None:
        return "", "", ""
    ends = [None if it is None else percent(it) for it in (comparison.low, comparison.high)]
    tone = "" if not is_shown(comparison, confidence) else "good" if is_better(comparison) else "bad"
    return percent(comparison.gain), interval(*ends), tone
