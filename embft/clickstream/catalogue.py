"""The catalogue: JSON lines with an id and a text."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from embft.clickstream.accounting import CatalogueAccounting
from embft.clickstream.lines import read_lines
from embft.clickstream.quarantine import BadLine, Quarantine, Reason, describe
from embft.clickstream.values import item_id, json_object, whole_characters
from embft.config import Catalogue

ITEMS_SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)])


@dataclass(frozen=True)
class CatalogueRead:
    """What a catalogue's object came to.

    Args:
        items: id and text, in the object's order.
        quarantine: `embft.clickstream.quarantine.SCHEMA`.
        accounting: Where each line went.
    """

    items: pa.Table
    quarantine: pa.Table
    accounting: CatalogueAccounting


def read_catalogue(path: Path, uri: str, config: Catalogue) -> CatalogueRead:
    """Read a catalogue, plain or gzipped. Nothing raises: what cannot be used is set aside.

    Equal lines are one item. An id with two texts stays twice: that is for the suite `catalogue` to judge.

    Args:
        path: The downloaded object.
        uri: Where it came from, for messages.
        config: Field names.

    Returns:
        The items, what was set aside, and the accounting.
    """
    quarantine = Quarantine()
    items: dict[tuple[str, str], None] = {}
    n_lines = n_duplicates = 0
    for number, raw, fault in read_lines(path, uri):
        n_lines += 1
        try:
            item = _item(raw, config, fault)
        except BadLine as bad:
            quarantine.add(uri, number, bad, raw)
            continue
        n_duplicates += item in items
        items[item] = None
    accounting = CatalogueAccounting(
        lines=n_lines,
        items=len(items),
        duplicates=n_duplicates,
        quarantined=len(quarantine),
        quarantined_by_reason=quarantine.by_reason(),
    )
    columns = {"id": [id_ for id_, _ in items], "text": [text for _, text in items]}
    return CatalogueRead(pa.table(columns, schema=ITEMS_SCHEMA), quarantine.table(), accounting)


def _item(raw: bytes, config: Catalogue, fault: BadLine | None) -> tuple[str, str]:
    if fault:
        raise fault
    line = json_object(raw)
    id_value, text = line.get(config.id_field), line.get(config.text_field)
    if id_value is None:
        raise BadLine(Reason.ID_MISSING, f"the line has no {config.id_field}; see catalogue.id_field in the config")
    id_ = item_id(id_value, config.id_field, Reason.ID_TYPE)
    if text is None:
        detail = f"item {describe(id_)} has no {config.text_field}; see catalogue.text_field in the config"
        raise BadLine(Reason.TEXT_MISSING, detail)
    if type(text) is not str:
        raise BadLine(Reason.TEXT_TYPE, f"{config.text_field} of item {describe(id_)} holds {describe(text)}")
    return id_, " ".join(whole_characters(text, config.text_field).split())
