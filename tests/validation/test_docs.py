"""Data Docs: the first page answers what is wrong, an attacker's text stays text, a page opens without the internet."""

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from embft.validation.docs import LogDays, write_index
from embft.validation.profiles import DayProfile
from embft.validation.suites import Figures, SuiteRun
from embft.validation.verdicts import Excess, Verdict
from embft.validation_config import Expectation

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&$styling"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
DAYS = ["2011-10-18", "2011-10-19", "2011-10-20"]
BETWEEN = "expect_column_values_to_be_between"


class Page(HTMLParser):
    """What a browser would take for markup, and what a person would read."""

    _SILENT = ("style", "title")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words.append("" if tag in ("bdi", "code", "span", "strong") else " ")
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in self._SILENT:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    def values(self, *attributes: str) -> list[str]:
        return [value or "" for _, found in self.tags for name, value in found.items() if name in attributes]


def rule(name: str, type_: str = BETWEEN, severity: str = "critical", **kwargs: Any) -> Expectation:
    return Expectation.model_validate(
        {
            "name": name,
            "type": type_,
            "kwargs": kwargs,
            "severity": severity,
            "why": f"{name} matters",
            "remedy": f"mend {name}",
        }
    )


def judged(
    folder: Path,
    frame: pd.DataFrame,
    *rules: Expectation,
    figures: Figures | None = None,
    critical_rows: Literal["set_aside", "reject"] = "set_aside",
) -> Verdict:
    suite = SuiteRun(
        "toy",
        rules,
        columns=list(frame.columns),
        figures=list(figures.frame.columns) if figures else [],
        id_column="id",
        critical_rows=critical_rows,
        examples={"query": "query"},
    )
    suite.judge(frame)
    return suite.verdict(folder, figures)


def rows(*queries: str) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"s{n}" for n in range(len(queries))], "query": queries, "n": range(len(queries))})


def day_figures(*n_sessions: float) -> Figures:
    return Figures(pd.DataFrame({"n_sessions": n_sessions}, index=pd.Index(DAYS, name="day")))


def log_days(
    *n_sessions: int, usual: Mapping[str, float] | None = None, left_out: Mapping[str, Sequence[str]] | None = None
) -> LogDays:
    profiles = [
        DayProfile(day=date.fromisoformat(day), figures={}, hours=[n, *[0] * 23], positions=[0] * 11, scripts={})
        for day, n in zip(DAYS, n_sessions, strict=True)
    ]
    return LogDays(DAYS[-1], profiles, usual or {}, left_out or {})


def index(
    folder: Path, verdict: Verdict, reasons: Sequence[str] = (), warnings: Sequence[str] = (), **more: Any
) -> Page:
    return Page(write_index(folder, "Toy", [verdict], reasons, warnings, **more))


def attacked(folder: Path) -> None:
    """Break rules of every shape that puts values of the data into a page."""
    frame = pd.DataFrame(
        {
            "id": [ATTACK, "b", ATTACK, "d", ATTACK],
            "query": [ATTACK, ATTACK, "x" * 30, "ok", ATTACK],
            "n": [1, 2, 3, 4, 5],
        }
    )
    kinds: list[tuple[str, dict[str, Any]]] = [
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
    rules = [
        Expectation(name=f"r{n}", type=type_, kwargs=kwargs, severity="warning", why=ATTACK, remedy=ATTACK)
        for n, (type_, kwargs) in enumerate(kinds)
    ]
    figures = Figures(
        pd.DataFrame({"f": [9.0, 9.0]}, index=pd.Index([ATTACK, "today"], name="day")), {}, {"f": {ATTACK: ATTACK}}
    )
    day_rule = Expectation(name="day", type=BETWEEN, kwargs={"column": "f", "max_value": 1}, why=ATTACK, remedy=ATTACK)
    verdict = judged(folder, frame, *rules, day_rule, figures=figures)
    assert [it.type for it in verdict.rules if it.success is not False] == []
    row = next(it for it in verdict.rules if it.kind == "row")
    write_index(
        folder,
        f"Sessions {ATTACK}",
        [verdict],
        [f"stopped by {ATTACK}", *verdict.rejections, f"of today: {verdict.days_broken('critical')['today'][0]}"],
        verdict.warnings,
        excess=[Excess(rows_of=ATTACK, n_broken=4, rows=5, limit=0.05, worst=row)],
        days=LogDays("today", [], {}, {ATTACK: [*verdict.days_broken("critical")[ATTACK], ATTACK]}),
    )


def test_a_script_in_a_query_is_text_in_both_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    attacked(tmp_path)
    assert [it.message for it in caplog.records if it.levelno >= logging.WARNING] == []
    for name in ("index.html", "toy.html"):
        page = Page(tmp_path / name)
        assert "<script>alert(1)" in page.text
        assert page.names.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base"}), name
        assert [it for _, found in page.tags for it in found if it.startswith("on") and it != "onclick"] == [], name
    assert "onclick" not in Page(tmp_path / "index.html").html


def test_pages_load_nothing_and_run_nothing(tmp_path: Path) -> None:
    attacked(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "toy.html"]
    for name in ("index.html", "toy.html"):
        page = Page(tmp_path / name)
        assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in page.tags
        assert "link" not in page.names
        assert not re.search(r"@import|url\(", page.html)
        targets = [it for it in page.values("src", "href") if not it.startswith(("#", "https://greatexpectations.io"))]
        assert set(targets) <= {"index.html", "toy.html"}, name
    assert "index.html" in Page(tmp_path / "toy.html").values("href")


@pytest.mark.parametrize("query", ["笔记本电脑保护套", "سماعات بلوتوث"])
def test_a_query_in_any_script_is_shown_as_typed_and_keeps_to_its_own_direction(tmp_path: Path, query: str) -> None:
    verdict = judged(
        tmp_path,
        rows("ok", query),
        rule("short", "expect_column_value_lengths_to_be_between", column="query", max_value=2),
    )
    page = index(tmp_path, verdict)
    assert f'<bdi dir="ltr">&#39;{query}&#39; in &#39;s1&#39;</bdi>' in page.html


class TestFirstScreen:
    """What a person reads in the first 600 characters."""

    def test_of_a_broken_day_is_figure_limit_reason_and_next_step(self, tmp_path: Path) -> None:
        volume = rule("volume", column="n_sessions", min_value=100)
        verdict = judged(tmp_path, rows("a"), volume, figures=day_figures(400, 410, 27))
        told = [f"the sessions of {DAYS[-1]}: {it}" for it in verdict.days_broken("critical")[DAYS[-1]]]
        first = index(tmp_path, verdict, told, days=log_days(400, 410, 27, usual={DAYS[-1]: 405})).text[:600]
        assert (
            first.index("Rejected")
            < first.index("Volume matters")
            < first.index("n_sessions is 27; it must be at least 100")
        )
        assert first.index("Mend volume") < first.index("volume · suite toy · day 2011-10-20")

    def test_of_a_broken_set_is_figure_and_limit(self, tmp_path: Path) -> None:
        verdict = judged(tmp_path, rows("a", "b"), rule("enough", "expect_table_row_count_to_be_between", min_value=3))
        first = index(tmp_path, verdict, [f"toy: {it}" for it in verdict.rejections]).text[:600]
        assert "Rejected" in first
        assert "The number of rows is 2; it must be at least 3" in first
        assert "Mend enough" in first

    def test_of_broken_rows_that_stop_the_run_has_examples(self, tmp_path: Path) -> None:
        verdict = judged(tmp_path, rows("a", "b"), rule("small", column="n", max_value=0), critical_rows="reject")
        first = index(tmp_path, verdict, [f"toy: {it}" for it in verdict.rejections]).text[:600]
        assert "1 of 2 rows (50.0 %) break “n must be at most 0”" in first
        assert "Such as 's1'" in first
        assert "1 broken (50.0 %)" in first

    def test_of_too_many_rows_set_aside_names_the_commonest_rule(self, tmp_path: Path) -> None:
        verdict = judged(tmp_path, rows("a", "b", "c"), rule("small", column="n", max_value=0))
        excess = Excess(rows_of="sessions of 2011-10-20", n_broken=2, rows=3, limit=0.05, worst=verdict.rules[0])
        first = index(tmp_path, verdict, [excess.sentence], excess=[excess]).text[:600]
        assert "2 of 3 sessions of 2011-10-20 (66.7 %) were set aside, more than" in first
        assert "Mend small" in first
        assert "'s1' 's2'" in first
        assert "small · suite toy · most of these rows break it" in first

    def test_of_what_no_rule_says_is_the_sentence(self, tmp_path: Path) -> None:
        first = index(tmp_path, judged(tmp_path, rows("a")), ["the lines of 2011-10-20 could not be read"]).text[:600]
        assert "What is wrong The lines of 2011-10-20 could not be read." in first

    def test_of_a_good_table_says_accepted(self, tmp_path: Path) -> None:
        verdict = judged(tmp_path, rows("a"), rule("small", column="n", max_value=0))
        page = index(tmp_path, verdict)
        assert page.text.startswith("Toy Accepted Good enough to train on. Toy: 1 row, 0 set aside.")
        assert "What is wrong" not in page.text
        assert "toy: 1 rule holds, 0 broken" in page.text

    def test_of_a_good_table_with_a_left_out_day_says_so(self, tmp_path: Path) -> None:
        volume = rule("volume", column="n_sessions", min_value=100)
        verdict = judged(tmp_path, rows("a"), volume, figures=day_figures(400, 27, 410))
        days = log_days(400, 27, 410, left_out={DAYS[1]: verdict.days_broken("critical")[DAYS[1]]})
        first = index(tmp_path, verdict, days=days).text[:600]
        assert "Accepted with 1 warning" in first
        assert "One earlier day is left out 2011-10-19, with its 27 sessions Volume matters." in first


def test_rules_that_could_not_be_judged_are_one_line_a_reason(tmp_path: Path) -> None:
    figures = Figures(
        pd.DataFrame({"f": [None], "g": [None]}, dtype="float64"), dict.fromkeys("fg", "no earlier night")
    )
    verdict = judged(
        tmp_path, rows("a"), rule("one", column="f", max_value=1), rule("two", column="g", max_value=1), figures=figures
    )
    assert "0 rules hold, 0 broken, 2 not judged" in index(tmp_path, verdict).text
    assert "Not judged, no earlier night: one, two." in index(tmp_path, verdict).text


def test_rows_set_aside_are_counted_by_rule_with_examples(tmp_path: Path) -> None:
    verdict = judged(tmp_path, rows("a", "b", "c"), rule("small", column="n", max_value=1))
    assert "small toy 1 33.3 % 's2' small matters; next: mend small" in index(tmp_path, verdict).text


@pytest.mark.parametrize(("mode", "word"), [("set_aside", "set aside"), ("reject", "broken")])
def test_rows_set_aside_are_not_called_a_failure(
    tmp_path: Path, mode: Literal["set_aside", "reject"], word: str
) -> None:
    verdict = judged(tmp_path, rows("a", "b"), rule("small", column="n", max_value=0), critical_rows=mode)
    assert f">{word}</span>" in index(tmp_path, verdict).html


def test_a_day_that_is_missing_in_part_is_seen_beside_what_is_usual(tmp_path: Path) -> None:
    verdict = judged(tmp_path, rows("a"))
    page = index(tmp_path, verdict, ["bad"], days=log_days(400, 410, 27, usual={DAYS[-1]: 405}))
    assert "27, usually 405" in page.text
    labels = page.values("aria-label")
    assert "Good sessions of 2011-10-18 to 2011-10-20; 2011-10-20: 27; usual for 2011-10-20: 405" in labels
    assert "Good sessions of 2011-10-20 by hour; the first in hour 0, the last in hour 0" in labels
    assert page.html.count('class="bar bad"') == 1


def test_days_without_a_log_are_gaps_and_a_window_without_any_draws_nothing(tmp_path: Path) -> None:
    verdict, days = judged(tmp_path, rows("a")), log_days(400, 410, 27)
    with_gap = index(tmp_path, verdict, days=LogDays(DAYS[-1], [days.profiles[0], days.profiles[2]], {}, {}))
    assert with_gap.html.split("</svg>")[0].count("<rect") == 3
    assert "svg" not in index(tmp_path, verdict, days=LogDays(DAYS[-1], [], {}, {})).names


def test_headings_come_in_order_and_tables_have_headers(tmp_path: Path) -> None:
    attacked(tmp_path)
    for name in ("index.html", "toy.html"):
        page = Page(tmp_path / name)
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
        if name == "toy.html":
            levels.remove(4)  # of the part that is not shown
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), name
        assert all("scope" in found for tag, found in page.tags if tag == "th")
        assert ("html", {"lang": "en"}) in page.tags
    assert "details" in Page(tmp_path / "index.html").names


def test_a_page_stays_small_however_many_rows_are_broken(tmp_path: Path) -> None:
    frame = rows(*(f"query {n}" for n in range(20_000)))
    verdict = judged(tmp_path, frame, rule("x", "expect_column_values_to_match_regex", column="query", regex="^x"))
    assert verdict.n_broken == 20_000
    assert (tmp_path / "toy.html").stat().st_size < 100_000


def test_a_page_stays_small_however_many_rules_and_days_are_broken(tmp_path: Path) -> None:
    days = [(date(2010, 1, 1) + timedelta(days=n)).isoformat() for n in range(500)]
    verdict = judged(
        tmp_path,
        rows("a"),
        rule("first", column="f", max_value=1),
        figures=Figures(pd.DataFrame({"f": [2.0] * 500}, index=pd.Index(days, name="day"))),
    )
    # Each rule costs Great Expectations its time; what a page makes of many is the same.
    rules = [verdict.rules[0].model_copy(update={"name": f"rule_{n}", "why": "w" * 200}) for n in range(500)]
    verdict = verdict.model_copy(update={"rules": rules})
    broken = verdict.days_broken("critical")
    left_out = {day: broken[day] for day in days[:-1]}
    index(tmp_path, verdict, broken[days[-1]], broken[days[-1]], days=LogDays(days[-1], [], {}, left_out))
    assert (tmp_path / "index.html").stat().st_size < 2_000_000
    assert "And 460 more" in Page(tmp_path / "index.html").text
