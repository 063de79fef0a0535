"""Vectors that are at hand: the same ranks, and no item is encoded again."""

from __future__ import annotations

from typing import Any

import pytest

from embft.errors import DataRejected
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.models import StaticEmbeddingsModel
from embft.finetuning.ranks import fill_ranks, shown_vectors

RETRIEVER = TextQueryRetriever()


@pytest.mark.parametrize("is_split", [False, True])
def test_ranks_by_vectors_at_hand_are_the_same_and_encode_each_item_once(
    tiny_model: StaticEmbeddingsModel,
    items: ItemsSet,
    sessions: list[FineTuningInput],
    monkeypatch: pytest.MonkeyPatch,
    is_split: bool,
) -> None:
    catalogue = items.split(lambda text: text.split()) if is_split else items
    again = [FineTuningInput(it.session_id, it.query, it.events, it.results) for it in sessions]
    fill_ranks(tiny_model, again, catalogue, RETRIEVER)

    encode, encoded = tiny_model.encode_items, []

    def counted(texts: Any) -> Any:
        encoded.extend(texts)
        return encode(texts)

    monkeypatch.setattr(tiny_model, "encode_items", counted)
    vectors = shown_vectors(tiny_model, sessions, catalogue)
    for part in (sessions[:2], sessions[2:]):
        fill_ranks(tiny_model, part, catalogue, RETRIEVER, items=vectors)
    assert [dict(it.ranks) for it in sessions] == [dict(it.ranks) for it in again]
    assert len(encoded) == len(set(encoded))


def test_an_item_that_the_catalogue_lacks_is_rejected(tiny_model: StaticEmbeddingsModel, items: ItemsSet) -> None:
    with pytest.raises(DataRejected, match="'x' is not among"):
        shown_vectors(tiny_model, [FineTuningInput("s1", "red", ["x"], ["x"])], items)
