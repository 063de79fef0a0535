"""A day's clicked sessions as monitoring measures them: judged as a night does, cut into slices by the days before."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from embft.clickstream.anonymity import shareable_queries
from embft.clickstream.judgements import judge, strongest_weight
from embft.clickstream.known import keep_known, keep_known_clicks
from embft.clickstream.negatives import sample_not_clicked
from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput, query_identity
from embft.promotion.slices import query_slices
from embft.stages.held_out import own_slices
from embft.stages.position_bias import position_bias
from embft.stages.preprocess_ranks import fine_tuning_inputs
from embft.stages.stage import Context

if TYPE_CHECKING:
    from embft.monitoring.measuring import Clicks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClickedDay:
    """What a day's clicks are measured by.

    Args:
        sessions: Those with a click that counts, in the order of the log, whether or not their items are still there.
        clicks: The same, as models are measured on them.
        slices: Name → queries in it, as `query_identity` gives them; `all` is not among them.
        shareable: Queries of the window that may be named; None: all.
        had_clicks: Whether the days before had any: else every query is unseen.
        cautions: What a person should know.
    """

    sessions: pa.Table
    clicks: Clicks
    slices: dict[str, set[str]]
    shareable: frozenset[str] | None
    had_clicks: bool
    cautions: tuple[str, ...]

    @property
    def queries(self) -> list[str]:
        """The query of each session, as the log has it."""
        queries: list[str] = self.sessions["query"].to_pylist()
        return queries

    @property
    def identities(self) -> list[str]:
        """The query of each session, as slices and the bootstrap tell queries apart."""
        return [query_identity(it) for it in self.queries]

    @property
    def unseen_share(self) -> float | None:
        """Share of the sessions whose query had no click on the days before."""
        identities = self.identities
        if not self.had_clicks or not identities:
            return None
        return sum(it in self.slices["unseen"] for it in identities) / len(identities)


def clicked_day(context: Context, earlier: pa.Table, today: pa.Table, items: pa.Table) -> ClickedDay:
    """Judge a day's sessions.

    Args:
        context: Of the monitoring.
        earlier: Sessions of the window's days before, as they were pulled.
        today: The day's.
        items: The catalogue, columns id and text, ids unique.

    Returns:
        What is measured.

    Raises:
        ConfigError: A slice of the config cannot be read.
    """
    from embft.monitoring.measuring import Clicks

    run = context.run
    before, sessions = (_clicked(judge(it, run.config.judgements).sessions) for it in (earlier, today))
    inputs, rows, cautions = _inputs(context, sessions, earlier, today, before, items)
    searched = [query_identity(it) for it in before["query"].to_pylist()]
    slices = query_slices((query_identity(it) for it in sessions["query"].to_pylist()), searched)
    return ClickedDay(
        sessions=sessions,
        clicks=Clicks(sessions["query"].to_pylist(), sessions["clicked"].to_pylist(), rows, inputs),
        slices=slices | own_slices(context),
        shareable=shareable_queries(pa.concat_tables([earlier, today]), run.config.logs.privacy.min_clients),
        had_clicks=bool(searched),
        cautions=cautions,
    )


def _clicked(sessions: pa.Table) -> pa.Table:
    return sessions.filter(pc.greater(pc.list_value_length(sessions["clicked"]), 0))


def _inputs(
    context: Context, sessions: pa.Table, earlier: pa.Table, today: pa.Table, before: pa.Table, items: pa.Table
) -> tuple[list[FineTuningInput], list[int], tuple[str, ...]]:
    """Make of the sessions what the ranking loss is taken of, as `preprocess_ranks` does; with their rows.

    Of what the catalogue does not have any more, no model has a text.
    """
    from embft.finetuning.paired import PairedFineTuningInputsDataset
    from embft.finetuning.tables import inputs_from_table

    judgements, training = context.run.config.judgements, context.run.config.training
    ids = items["id"].to_pylist()
    numbered = sessions.append_column("row", pa.array(range(sessions.num_rows), pa.int64()))
    known = keep_known(keep_known_clicks(numbered, ids), ids).sessions
    try:
        bias = position_bias(earlier, judgements)
    except DataRejected as error:  # unweighed, the loss would be another one than on other days
        log.warning("no validation loss: %s", error)
        return [], [], (f"there is no validation loss: {error}",)
    if not known.num_rows:
        return [], [], ()
    told = pa.concat_tables([earlier, today])
    filled = sample_not_clicked(
        known, ids, count=training.sampled_negatives, seed=training.settings.seed, clicks_of=told
    )
    strongest = strongest_weight(told, judgements.weights)
    inputs = fine_tuning_inputs(known, filled, judgements.weights, strongest, bias)
    clicks = {"session_id": before["session_id"], "query": before["query"], "clicked": before["clicked"]}
    # Tells each of the inputs what was clicked for its query on any of the days.
    PairedFineTuningInputsDataset(
        inputs,
        training.settings.seed,
        clicks_of=inputs_from_table(pa.table({**clicks, "results": before["clicked"]})),
    )
    return inputs, known["row"].to_pylist(), ()
