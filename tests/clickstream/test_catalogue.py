"""The catalogue's object: items, and the lines that are none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.clickstream.catalogue import CatalogueRead, read_catalogue
from embft.config import Catalogue

Items = Callable[[bytes], CatalogueRead]


def item(**change: Any) -> bytes:
    fields = {"id": "a", "text": "Red  lamp"} | change
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@pytest.fixture
def items(tmp_path: Path) -> Items:
    def read(content: bytes, uri: str = "s3://shop/items.jsonl") -> CatalogueRead:
        (tmp_path / "items").write_bytes(content)
        found = read_catalogue(tmp_path / "items", uri, Catalogue(uri="s3://shop/items.jsonl"))
        found.accounting.check()
        return found

    return read


def test_items_come_in_the_objects_order_plain_or_gzipped(items: Items) -> None:
    content = b"\n".join([item(id="b"), item(id=7, text="沙发", price=3)])
    expected = [{"id": "b", "text": "Red lamp"}, {"id": "7", "text": "沙发"}]
    assert items(content).items.to_pylist() == items(gzip.compress(content)).items.to_pylist() == expected


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("id_missing", item(id=...)),
        ("id_type", item(id=1.5)),
        ("id_type", item(id="")),
        ("text_missing", item(text=None)),
        ("text_type", item(text=["red"])),
        ("not_unicode", item(text="\ud800")),
        ("not_json", b"id,text"),
    ],
)
def test_bad_item_is_set_aside_with_its_reason(items: Items, reason: str, bad: bytes) -> None:
    found = items(item(id="good") + b"\n" + bad)
    assert found.items["id"].to_pylist() == ["good"]
    assert found.accounting.quarantined_by_reason == {reason: 1}
    assert found.quarantine["line"].to_pylist() == [2]


def test_equal_item_is_a_duplicate_and_another_text_is_not(items: Items) -> None:
    found = items(b"\n".join([item(), item(), item(text="Blue lamp")]))
    assert found.accounting.duplicates == 1
    assert found.items["text"].to_pylist() == ["Red lamp", "Blue lamp"]


@given(content=st.binary(max_size=80) | st.lists(st.just(item()) | st.binary(max_size=9), max_size=4).map(b"\n".join))
def test_any_bytes_are_accounted_for(items: Items, content: bytes) -> None:
    found = items(content)
    assert found.items.num_rows == found.accounting.items
