"""What every model of a night is measured on: the held-out clicks, cut into slices, and the guard sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from embft.clickstream.catalogue import read_catalogue
from embft.clickstream.values import normalised
from embft.errors import ConfigError
from embft.finetuning.inputs import query_identity
from embft.promotion.guards import GuardSet, read_guard
from embft.promotion.most_clicked import click_counts
from embft.promotion.query_tables import read_query_table
from embft.promotion.slices import query_slices
from embft.promotion_config import Guard, QuerySlice
from embft.stages.models import sessions_of, settings_of, vocabulary
from embft.stages.stage import Context

if TYPE_CHECKING:
    from embft.finetuning.items import ItemsSet
    from embft.promotion.measuring import HeldOut


@dataclass(frozen=True)
class Night:
    """The sessions of a night's parts that an evaluation looks at, and what they are measured against.

    Args:
        held_out: Of the test part.
        slices: Name → held-out queries in it; `all` is not among them.
        past_clicks: Query, by its `query_identity` → item → how often it was clicked before the held-out days.
    """

    held_out: HeldOut
    slices: dict[str, set[str]]
    past_clicks: Mapping[str, Mapping[str, int]]


def night_of(context: Context) -> Night:
    """Read what a night's models are measured on.

    Args:
        context: Of a stage that needs `preprocess_ranks`.

    Returns:
        All of it.

    Raises:
        ConfigError: A slice or guard set cannot be read.
        DataRejected: A guard set knows none of the items.
    """
    from embft.finetuning.paired import PairedFineTuningInputsDataset
    from embft.promotion.measuring import HeldOut

    seed = settings_of(context.run).seed
    items_set, retriever = vocabulary(pq.read_table(context.fetch("preprocess_ranks", "items/items.parquet")))
    train, validation = sessions_of(context, "train"), sessions_of(context, "validation")
    test = PairedFineTuningInputsDataset(sessions_of(context, "test"), seed, clicks_of=[*train, *validation])
    sessions = test.not_irrelevant
    guards, guard_items = _guards(context, items_set)
    searched = [query_identity(it.query) for it in train if it.events]
    slices = query_slices((query_identity(it.query) for it in sessions), searched)
    held_out = HeldOut(sessions, items_set, retriever, guards, guard_items)
    past_clicks = click_counts([*train, *validation])
    return Night(held_out, slices | own_slices(context), past_clicks)


def own_slices(context: Context) -> dict[str, set[str]]:
    """Read the slices of `evaluation.slices`.

    Args:
        context: Of the stage.

    Returns:
        Name → queries.

    Raises:
        ConfigError: One cannot be read.
    """
    return {it.name: _queries(context, it) for it in context.run.config.evaluation.slices}


def _queries(context: Context, chosen: QuerySlice) -> set[str]:
    if chosen.queries is not None:
        return {normalised(query) for query in chosen.queries}
    assert chosen.uri is not None  # the config asks for one of the two
    path = context.folder / "slices" / chosen.name
    context.storage.download(chosen.uri, path)
    table = read_query_table(path, chosen.uri, ["query", *([chosen.column] if chosen.column else [])])
    if chosen.column is None:
        return set(table["query"].to_pylist())
    labels = table[chosen.column].to_pylist()
    return {query for query, label in zip(table["query"].to_pylist(), labels, strict=True) if label == chosen.value}


def _guards(context: Context, catalogue: ItemsSet) -> tuple[list[GuardSet], dict[str, ItemsSet]]:
    guards, own_items = [], {}
    for guard in context.run.config.evaluation.guards:
        if guard.items:
            own_items[guard.name] = _own_items(context, guard)
        path = context.folder / "guards" / guard.name
        context.storage.download(guard.uri, path)
        guards.append(read_guard(path, guard, frozenset(own_items.get(guard.name, catalogue))))
    return guards, own_items


def _own_items(context: Context, guard: Guard) -> ItemsSet:
    assert guard.items is not None
    path = context.folder / "guards" / f"{guard.name}.items"
    context.storage.download(guard.items, path)
    read = read_catalogue(path, guard.items, context.run.config.catalogue)
    if read.quarantine.num_rows:
        first = read.quarantine.to_pylist()[0]
        raise ConfigError(
            f"{guard.items}, line {first['line']}: {first['reason']}; the items of guard {guard.name!r} are JSON lines "
            f"with {context.run.config.catalogue.id_field!r} and {context.run.config.catalogue.text_field!r}"
        )
    return vocabulary(read.items).items_set
