"""Data Docs: an attacker's text stays text, and a page opens without the internet."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from embft.validation.docs import write_index
from embft.validation.suites import run_suite
from embft.validation.verdicts import Verdict
from embft.validation_config import Expectation

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&$styling"


class Tags(HTMLParser):
    """Collects what a browser would take for markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def attacked(folder: Path) -> Verdict:
    """Break rules of every shape that puts values of the data into a page."""
    frame = pd.DataFrame(
        {
            "id": [ATTACK, "b", ATTACK, "d", ATTACK],
            "query": [ATTACK, ATTACK, "x" * 30, "ok", ATTACK],
            "n": [1, 2, 3, 4, 5],
        }
    )
    kinds = [
        ("expect_column_value_lengths_to_be_between", {"column": "query", "max_value": 9}),
        ("expect_column_values_to_match_regex", {"column": "query", "regex": "^(?!<b>)[a-z]{2}$"}),
        ("expect_column_values_to_be_in_set", {"column": "query", "value_set": ["ok"], "mostly": 0.99}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["query", "id"]}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "query", "column_B": "id"}),
        ("expect_column_distinct_values_to_be_in_set", {"column": "query", "value_set": ["ok"]}),
        ("expect_column_distinct_values_to_equal_set", {"column": "query", "value_set": ["ok"]}),
        ("expect_column_most_common_value_to_be_in_set", {"column": "query", "value_set": ["ok"]}),
        ("expect_column_max_to_be_between", {"column": "query", "max_value": "0"}),
        ("expect_column_values_to_be_json_parseable", {"column": "query"}),
        ("expect_column_mean_to_be_between", {"column": "query", "min_value": 1}),  # raises, with values in its message
    ]
    rules = [Expectation(type=type_, kwargs=kwargs, severity="warning", why="why <i>so</i>") for type_, kwargs in kinds]
    verdict = run_suite("toy", frame, rules, id_column="id", docs_folder=folder)
    assert [it.type for it in verdict.rules if it.success is not False] == []
    write_index(folder, f"Sessions {ATTACK}", [verdict], f"stopped by {ATTACK}")
    return verdict


def test_a_script_in_a_query_is_text_in_both_pages(tmp_path: Path) -> None:
    attacked(tmp_path)
    for name in ("index.html", "toy.html"):
        page = (tmp_path / name).read_text()
        found = Tags(page)
        assert "&lt;script&gt;" in page, name
        assert not {"script", "img", "i" if name == "index.html" else "img"} & set(found.tags), name
        assert not [name for name in found.attributes if name == "onerror"], name


def test_pages_load_nothing_and_run_nothing(tmp_path: Path) -> None:
    attacked(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "toy.html"]
    for name in ("index.html", "toy.html"):
        page = (tmp_path / name).read_text()
        assert "Content-Security-Policy\" content=\"default-src 'none'" in page
        found = Tags(page)
        assert not {"link", "iframe", "object", "embed"} & set(found.tags)
        assert not re.search(r"@import|url\(", page)
        targets = [it for it in found.addresses if not it.startswith(("#", "https://greatexpectations.io"))]
        assert set(targets) <= {"index.html", "toy.html"}, name


def test_the_first_page_shows_what_failed_before_what_holds(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "n": [1, 2]})
    rules = [
        Expectation(type="expect_column_values_to_be_between", kwargs={"column": "n", "min_value": 0}, why="holds it"),
        Expectation(type="expect_table_row_count_to_be_between", kwargs={"min_value": 3}, why="breaks it"),
    ]
    verdict = run_suite("toy", frame, rules, id_column="id", docs_folder=tmp_path)
    page = write_index(tmp_path, "Toy", [verdict], verdict.rejections[0]).read_text()
    assert page.index("rejected") < page.index("the number of rows is 2; it must be at least 3: breaks it")
    assert page.rindex("breaks it") < page.index("holds it")


def test_a_page_stays_small_however_many_rows_are_broken(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [f"row {n}" for n in range(20_000)], "query": [f"query {n}" for n in range(20_000)]})
    rule = Expectation(type="expect_column_values_to_match_regex", kwargs={"column": "query", "regex": "^x"}, why="w")
    verdict = run_suite("toy", frame, [rule], id_column="id", docs_folder=tmp_path)
    assert len(verdict.broken) == 20_000
    assert (tmp_path / "toy.html").stat().st_size < 100_000


def test_rows_set_aside_are_not_called_a_failure_of_the_night(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "n": [1, -2]})
    rule = Expectation(type="expect_column_values_to_be_between", kwargs={"column": "n", "min_value": 0}, why="w")
    for mode, word in (("set_aside", "set aside"), ("reject", "broken")):
        verdict = run_suite("toy", frame, [rule], id_column="id", docs_folder=tmp_path, critical_rows=mode)  # type: ignore[arg-type]
        page = write_index(tmp_path, "Toy", [verdict], None).read_text()
        assert f">{word}</span>" in page
