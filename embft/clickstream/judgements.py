"""What a session teaches: which of its results count as relevant, which as not, and how much each click weighs.

A click says that an item was wanted; no click says little, for most results below the last click were never looked at.
Which silence counts is a choice (`judgements` in the config), and this module carries it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream.sessions import cut_shown, places_of, with_lists
from embft.config import EventWeights, Judgements

Value = TypeVar("Value")

_CLICK = "click"


@dataclass(frozen=True)
class Judged:
    """Sessions with nothing in them that does not count.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`, in order.
        n_short_clicks: Clicks that were left too soon.
        n_not_counted: Results that were shown and not clicked, but do not count as not relevant.
        n_dropped: Sessions left out: without a click, where these are not wanted, or without a result left.
    """

    sessions: pa.Table
    n_short_clicks: int
    n_not_counted: int
    n_dropped: int


class _Lists(NamedTuple):
    """One session's lists, as in `embft.clickstream.sessions.SCHEMA`."""

    shown: list[str] | None
    positions: list[int] | None
    clicked: list[str]
    actions: list[str] | None
    dwell_s: list[float | None] | None


def judge(sessions: pa.Table, choices: Judgements) -> Judged:
    """Take out of each session what counts neither as relevant nor as not.

    - A click known to have been left before `min_dwell_s`: the item is neither clicked nor shown.
    - `not_clicked`: `skip_above` keeps of the results without a click those above the last click, `last_click_plus_1`
      those and what stands on the place right below it, as most who clicked have looked one further. Places that repeat
      (the row of a grid) were looked at together. A click that was left soon is a last click too: the list was read
      down to it. A session without a click in its list has no last click, and keeps its results.
    - `no_click_sessions`: `drop` leaves out sessions without a click, those that lost it here among them. Kept, they
      teach with `training.params.not_irrelevant_only: false` and a loss over shown items alone: there the results of
      one stand as further negatives beside each clicked session. At the defaults nothing is learned from them, but
      their ranks are looked at by `validate_ranks`.

    Items keep the positions they were shown at.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`.
        choices: The section `judgements`.

    Returns:
        The sessions, and what was taken out. With the choices' defaults nothing is.

    Source: "click > skip above" and "last click > skip above" of Joachims 2002, 10.1145/775047.775067; Joachims et al.
        2005, 10.1145/1076034.1076063, which finds by eye tracking that the result below a click is mostly seen too.
    """
    n_short = n_not_counted = 0
    if choices.not_clicked != "all" or choices.min_dwell_s is not None:
        rows = [_Lists(*row) for row in zip(*(sessions[name].to_pylist() for name in _Lists._fields), strict=True)]
        judged = [_judge(row, choices) for row in rows]
        n_short = sum(len(before.clicked) - len(after.clicked) for before, after in zip(rows, judged, strict=True))
        n_not_counted = sum(_n_skipped(before) - _n_skipped(after) for before, after in zip(rows, judged, strict=True))
        columns = {name: [row[number] for row in judged] for number, name in enumerate(_Lists._fields)}
        sessions = with_lists(sessions, columns)
    kept = _that_teach(sessions, choices)
    return Judged(kept, n_short, n_not_counted, sessions.num_rows - kept.num_rows)


def _judge(row: _Lists, choices: Judgements) -> _Lists:
    counted = (
        row if choices.not_clicked == "all" else _looked_at(row, beyond=choices.not_clicked == "last_click_plus_1")
    )
    if choices.min_dwell_s is None or row.dwell_s is None:
        return counted
    is_long = [dwell is None or dwell >= choices.min_dwell_s for dwell in row.dwell_s]
    if all(is_long):
        return counted
    short = {id_ for id_, long in zip(row.clicked, is_long, strict=True) if not long}
    return _cut(counted, [id_ not in short for id_ in counted.shown or ()])._replace(
        clicked=_kept(row.clicked, is_long),
        actions=row.actions and _kept(row.actions, is_long),
        dwell_s=_kept(row.dwell_s, is_long),
    )


def _looked_at(row: _Lists, *, beyond: bool) -> _Lists:
    """Leave out what stands below the last click, or below the place right after it, and was not clicked."""
    clicked, places = set(row.clicked), places_of(row.shown or (), row.positions)
    last = max((place for id_, place in zip(row.shown or (), places, strict=True) if id_ in clicked), default=None)
    if last is None:
        return row
    is_looked_at = [
        id_ in clicked or place <= last + beyond for id_, place in zip(row.shown or (), places, strict=True)
    ]
    return _cut(row, is_looked_at)


def _cut(row: _Lists, is_kept: Sequence[bool]) -> _Lists:
    if row.shown is None:
        return row
    shown, positions = cut_shown(row.shown, row.positions, is_kept)
    return row._replace(shown=shown, positions=positions)


def _kept(values: Sequence[Value], is_kept: Sequence[bool]) -> list[Value]:
    return [value for value, kept in zip(values, is_kept, strict=True) if kept]


def _n_skipped(row: _Lists) -> int:
    clicked = set(row.clicked)
    return sum(1 for id_ in row.shown or () if id_ not in clicked)


def _that_teach(sessions: pa.Table, choices: Judgements) -> pa.Table:
    has_click = pc.greater(pc.list_value_length(sessions["clicked"]), 0)
    # Of a list that held nothing but a click left too soon, nothing remains; a null is a list that the log lacks.
    has_list = pc.fill_null(pc.greater(pc.list_value_length(sessions["shown"]), 0), True)
    teaches = has_click if choices.no_click_sessions == "drop" else pc.or_(has_click, has_list)
    return sessions if pc.all(teaches, min_count=0).as_py() else sessions.filter(teaches)


def strongest_weight(sessions: pa.Table, weights: EventWeights) -> float:
    """Give the greatest weight of the actions that occur.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`.
        weights: Action → weight.

    Returns:
        In (0, 1]; 1 where there is no action at all.
    """
    occurring = set(pc.unique(pc.list_flatten(sessions["actions"])).to_pylist())
    if pc.any(pc.and_(sessions["actions"].is_null(), pc.greater(pc.list_value_length(sessions["clicked"]), 0))).as_py():
        occurring.add(_CLICK)
    of_action = weights.model_dump()
    return max((float(of_action[action]) for action in occurring), default=1.0)


def event_weights(sessions: pa.Table, weights: EventWeights, strongest: float) -> pa.Array:
    """Weigh each clicked item by the strongest thing that was done with it.

    Relative to the strongest action of the window: a log of clicks alone trains alike whatever a click is said to weigh
    beside the purchases that it does not tell.

    Args:
        sessions: `embft.clickstream.sessions.SCHEMA`.
        weights: Action → weight.
        strongest: Of the whole window, as `strongest_weight` gives it.

    Returns:
        list<float32>, in (0, 1], aligned to `clicked`; null for a session whose clicks are all whole ones.
    """
    share = {action: weight / strongest for action, weight in weights.model_dump().items()}
    rows = zip(sessions["clicked"].to_pylist(), sessions["actions"].to_pylist(), strict=True)
    found = [[share[action] for action in actions or [_CLICK] * len(clicked)] for clicked, actions in rows]
    return pa.array([None if all(it == 1.0 for it in row) else row for row in found], pa.list_(pa.float32()))
