from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from embft.errors import ConfigError, DataRejected
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.parts import split_words


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


def test_an_item_that_is_neither_text_nor_path_is_named() -> None:
    with pytest.raises(DataRejected, match=r"item 'b' is a NoneType; an item is a text, or the path of an image"):
        ItemsSet(["a", "b"], ["red", None])
    with pytest.raises(DataRejected, match="item 'a' is a Image"):
        ItemsSet(["a"], [Image.new("RGB", (4, 4))])


@pytest.mark.parametrize(
    ("ids", "texts", "message"),
    [(["a"], [], "1 item ids for 0"), ([], [], "no item"), (["a", "b", "a"], ["1", "2", "3"], "'a' occurs twice")],
)
def test_a_broken_catalogue_is_rejected(ids: list[str], texts: list[str], message: str) -> None:
    with pytest.raises(DataRejected, match=message):
        ItemsSet(ids, texts)


def test_rows_of_a_hugging_face_dataset_are_made_into_items() -> None:
    rows = Dataset.from_dict({"sku": [1, 2], "title": ["Halo", "Forza"], "maker": ["Bungie", "Turn 10"]})
    items = ItemsSet.from_dataset(rows, lambda row: f"{row['title']} by {row['maker']}", id_column="sku")
    assert items["2"] == "Forza by Turn 10"
    with pytest.raises(DataRejected, match=r"lacks the column 'id'"):
        ItemsSet.from_dataset(rows, lambda row: row["title"])


def test_an_item_is_its_only_part_unless_the_set_is_split(items: ItemsSet) -> None:
    parts = items.parts(["red", "red shoe"])
    assert (parts.parts, parts.owner) == (["red", "red shoe"], None)
    split = items.split(str.split).parts(["red", "red shoe", "blue"])
    assert split.parts == ["red", "red", "shoe", "blue"]
    assert split.owner is not None
    assert split.owner.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(("aggregation", "expected"), [("max", [4.0, 3.0]), ("min", [4.0, -1.0]), ("mean", [4.0, 1.0])])
def test_ranks_of_parts_are_aggregated_with_gradients(aggregation: str, expected: list[float]) -> None:
    split = ItemsSet(["a", "b"], ["one", "two words"]).split(str.split, aggregation)  # type: ignore[arg-type]
    ranks = torch.tensor([[4.0, 3.0, -1.0]], requires_grad=True)
    got = split.parts(["one", "two words"]).aggregated(ranks)
    assert got.tolist() == [expected]
    got.sum().backward()  # type: ignore[no-untyped-call]
    assert ranks.grad is not None
    assert ranks.grad.sum().item() == pytest.approx(2.0)


def test_a_split_that_cannot_be_is_refused(items: ItemsSet) -> None:
    with pytest.raises(ConfigError, match="aggregation is 'median'"):
        items.split(str.split, "median")  # type: ignore[arg-type]
    with pytest.raises(DataRejected, match="made no part of the item 'red'"):
        items.split(lambda text: [])


@given(
    words=st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=30), size=st.integers(1, 8), overlap=st.integers(0, 7)
)
def test_parts_hold_every_word_in_order_and_share_the_overlap(words: list[str], size: int, overlap: int) -> None:
    if overlap >= size:
        with pytest.raises(ConfigError, match="shares fewer"):
            split_words(" ".join(words), size, overlap)
        return
    parts = [part.split() for part in split_words(" ".join(words), size, overlap)]
    assert all(len(part) <= size for part in parts)
    assert parts[0] + [word for part in parts[1:] for word in part[overlap:]] == words
    assert all(before[-overlap:] == after[:overlap] for before, after in pairwise(parts) if overlap)


def test_a_text_without_spaces_is_cut_between_its_signs() -> None:
    text = "中文商品描述" * 100
    parts = split_words(text, max_words=150, overlap=0)
    assert [len(part) for part in parts] == [150] * 4
    assert "".join(parts) == text
    assert split_words("Halo 3  für Xbox", 2, 0) == ["Halo 3", "für Xbox"]  # each a piece of the text as it was


def test_the_text_of_a_query_is_left_as_it_is() -> None:
    assert TextQueryRetriever()(" Call of  Duty ") == " Call of  Duty "
    with pytest.raises(DataRejected, match="3 is not a text"):
        TextQueryRetriever()(3)
