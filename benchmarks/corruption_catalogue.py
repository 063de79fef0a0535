"""Damage to a catalogue's lines, each kind at three strengths: what exports do to it."""

import json

from benchmarks.corruption_lines import Damaged, Kind, Log, rewritten, with_more, without


def items_vanished(log: Log, share: float) -> Damaged:
    """A share of the items is gone."""
    gone = {id(log.lines[at]) for at in log.some(share)}
    return without(log, lambda line: id(line) in gone)


def export_cut_short(log: Log, share: float) -> Damaged:
    """The last share of the export is missing; it ends within a line."""
    left = round((1 - share) * len(log.lines))
    return Damaged([*log.lines[:left], json.dumps(log.lines[left])[:20]], frozenset([left]))


def ids_doubled(log: Log, share: float) -> Damaged:
    """A share of the ids comes a second time, with the text of another item."""
    return with_more(log, [{**log.lines[at], "text": log.lines[at - 1]["text"]} for at in log.some(share)])


def texts_emptied(log: Log, share: float) -> Damaged:
    """A share of the texts is empty."""
    return rewritten(log, log.some(share), lambda line: {**line, "text": ""})


def texts_shifted(log: Log, share: float) -> Damaged:
    """In a share of the export each item has the text of the item before it."""
    where = log.stretch(share)
    texts = iter([log.lines[at - 1]["text"] for at in where])
    return rewritten(log, where, lambda line: {**line, "text": next(texts)})


def texts_all_the_same(log: Log, share: float) -> Damaged:
    """A share of the items has one and the same text."""
    return rewritten(log, log.some(share), lambda line: {**line, "text": "Xbox 360 game"})


def items_of_another_shop(log: Log, share: float) -> Damaged:
    """A share of the items is another shop's."""
    strangers = iter(log.stranger)
    return rewritten(log, log.some(share), lambda line: next(strangers))


def text_renamed(log: Log, share: float) -> Damaged:
    """A share of the lines calls the text something else."""
    return rewritten(log, log.some(share), lambda line: {"id": line["id"], "title": line["text"]})


KINDS = (
    Kind(items_vanished, (0.1, 0.25, 0.5)),
    Kind(export_cut_short, (0.1, 0.25, 0.5)),
    Kind(ids_doubled, (0.02, 0.2, 1.0)),
    Kind(texts_emptied, (0.02, 0.2, 1.0)),
    Kind(texts_shifted, (0.1, 0.5, 1.0)),
    Kind(texts_all_the_same, (0.1, 0.5, 1.0)),
    Kind(items_of_another_shop, (0.1, 0.5, 1.0)),
    Kind(text_renamed, (0.02, 0.2, 1.0)),
)
