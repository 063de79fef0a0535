"""Slices and guard sets: which queries are which, and what a person is told of a list that is wrong."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.errors import ConfigError, DataRejected
from embft.promotion.guards import GuardSet, read_guard
from embft.promotion.query_tables import read_query_table
from embft.promotion.slices import query_slices, slices_of
from embft.promotion_config import Guard

ITEMS = frozenset({"i1", "i2", "007"})


def guard(path: Path, items: frozenset[str] = ITEMS, **fields: object) -> GuardSet:
    wanted = Guard.model_validate({"name": "staples", "uri": f"s3://bucket/{path.name}", **fields})
    return read_guard(path, wanted, items)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_third_of_the_searches_is_head_the_next_third_torso_the_rest_tail() -> None:
    trained_on = ["a"] * 6 + ["b"] * 5 + ["c"] * 2 + ["d", "e"]
    slices = query_slices(["a", "b", "c", "d", "e", "f"], trained_on)
    assert slices == {"head": {"a"}, "torso": {"b"}, "tail": {"c", "d", "e", "f"}, "unseen": {"f"}}
    assert slices_of("f", slices) == ["tail", "unseen"]


@given(st.lists(st.sampled_from("abcdefgh")), st.lists(st.sampled_from("abcdefghxyz")))
def test_every_held_out_query_is_head_torso_or_tail(trained_on: list[str], queries: list[str]) -> None:
    slices = query_slices(queries, trained_on)
    assert sorted([*slices["head"], *slices["torso"], *slices["tail"]]) == sorted(set(queries))
    assert slices["unseen"] == set(queries) - set(trained_on) <= slices["tail"]
    counts = {query: trained_on.count(query) for query in queries}
    for often, seldom in (("head", "torso"), ("torso", "tail")):
        if slices[often] and slices[seldom]:
            assert min(counts[it] for it in slices[often]) > max(counts[it] for it in slices[seldom])


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_judgement_list_is_read_in_each_format_and_its_queries_as_the_logs_are(tmp_path: Path, ending: str) -> None:
    rows = {"query": ["Red  Shoe", "方块", "red shoe"], "item": ["007", "i2", "i1"], "grade": ["2", "1", "0"]}
    path = tmp_path / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({**rows, "grade": [2, 1, 0]}), path)
    elif ending == "jsonl":
        lines = [f'{{"query": "{q}", "item": "{i}", "grade": {g}}}' for q, i, g in zip(*rows.values(), strict=True)]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        separator = "," if ending == "csv" else "\t"
        lines = [separator.join(rows), *(separator.join(it) for it in zip(*rows.values(), strict=True))]
        path.write_text("\n".join(lines), encoding="utf-8")
    found = guard(path)
    assert found.cases == {"red shoe": {"007": 2.0, "i1": 0.0}, "方块": {"i2": 1.0}}
    assert found.notes == ()


def test_unknown_items_are_left_out_and_told(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "query,item,grade\na,i1,1\na,gone,2\nb,gone,1\nc,gone2,1\n")
    found = guard(path)
    assert found.cases == {"a": {"i1": 1.0}}
    assert found.notes == (
        "2 of its items are not in the catalogue and were left out, such as 'gone', 'gone2'",
        "2 of its 3 queries have no item of grade 1 or more",
    )


def test_a_list_that_knows_none_of_the_items_is_rejected(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "query,item,grade\na,gone,1\n")
    with pytest.raises(DataRejected, match=r"'staples' \(s3://bucket/list.csv\) cannot be measured: 1 of its items"):
        guard(path)


@pytest.mark.parametrize("grade", ["good", "-1", "nan", "", "inf"])
def test_a_grade_that_is_none_is_named_with_its_place(tmp_path: Path, grade: str) -> None:
    path = written(tmp_path, "list.csv", f"query,item,grade\na,i1,1\nb,i2,{grade}\n")
    with pytest.raises(ConfigError, match="the grade of its judgement 2 is"):
        guard(path)


def test_a_missing_column_is_named_with_the_closest(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "query,itme,grade\na,i1,1\n")
    with pytest.raises(ConfigError, match="has no column 'item'; did you mean 'itme'"):
        guard(path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list.xlsx", b"PK", "ends in '.xlsx'; expected .txt"),
        ("list.parquet", b"no parquet", "is no .parquet file"),
        ("list.jsonl", b"{broken", "is no .jsonl file"),
        ("list.txt", b"\xff\xfe\xff", "is no .txt file"),
        ("list.txt", b"\n \n", "has no query"),
        ("list.txt", b"", "has no query"),
        ("list.tsv", b"query\titem\n", "has no query"),
        ("list.csv", b"query,query\na,b\n", "has two columns 'query'"),
        ("list.csv", b"", "is no .csv file"),
    ],
)
def test_what_is_no_list_of_queries_is_told_in_a_sentence(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        read_query_table(tmp_path / name, f"s3://bucket/{name}", ["query"])


def test_a_text_file_has_a_query_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "list.txt", "\ufeffHalo\n\n=HYPERLINK(1)\n<script>\n")
    assert read_query_table(path, "s3://b/list.txt", ["query"])["query"].to_pylist() == [
        "halo",
        "=hyperlink(1)",
        "<script>",
    ]
