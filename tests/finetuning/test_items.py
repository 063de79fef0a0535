from __future__ import annotations

import pyarrow as pa
import pytest

from embft.errors import DataRejected
from embft.finetuning.items import ItemsSet, TextQueryRetriever


def test_texts_come_in_the_order_of_the_ids_asked_for(items: ItemsSet) -> None:
    assert items.items_by_ids(["g", "r", "g"]) == ["green", "red", "green"]
    assert "g" in items
    assert "zebra" not in items
    assert len(items) == 5


def test_a_table_is_read_by_its_columns_id_and_text() -> None:
    assert list(ItemsSet.from_table(pa.table({"text": ["x"], "id": ["1"], "price": [2]}))) == ["1"]
    with pytest.raises(DataRejected, match="text"):
        ItemsSet.from_table(pa.table({"id": ["1"]}))


def test_a_hugging_face_dataset_is_behind_it(items: ItemsSet) -> None:
    assert items.dataset.column_names == ["id", "text"]
    assert items.dataset[3] == {"id": "rs", "text": "red shoe"}


def test_an_unknown_id_is_named(items: ItemsSet) -> None:
    with pytest.raises(DataRejected, match="'zebra' is not among the 5 items"):
        items.items_by_ids(["r", "zebra"])


@pytest.mark.parametrize(
    ("ids", "texts", "message"),
    [(["a"], [], "1 item ids for 0"), ([], [], "no item"), (["a", "b", "a"], ["1", "2", "3"], "'a' occurs twice")],
)
def test_a_broken_catalogue_is_rejected(ids: list[str], texts: list[str], message: str) -> None:
    with pytest.raises(DataRejected, match=message):
        ItemsSet(ids, texts)


def test_the_text_of_a_query_is_left_as_it_is() -> None:
    assert TextQueryRetriever()(" Call of  Duty ") == " Call of  Duty "
    with pytest.raises(DataRejected, match="3 is not a text"):
        TextQueryRetriever()(3)
