"""`SuiteRun`: what becomes of rows, of partitions, of the set, of figures, of rules that cannot be judged, and of wrong
suites."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from embft.errors import ConfigError
from embft.validation.suites import Figures
from embft.validation_config import Expectation
from tests.validation.checks import rule, run_suite

BETWEEN = "expect_column_values_to_be_between"


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"row": np.arange(2000), "id": [f"r{n}" for n in range(2000)], "n": np.arange(2000), "word": ["ok"] * 2000}
    )


def test_a_healthy_frame_is_silent(frame: pd.DataFrame, tmp_path: Path) -> None:
    verdict, broken = run_suite(frame, rule(BETWEEN, column="n", min_value=0), folder=tmp_path)
    assert verdict.success
    assert (broken, verdict.n_broken, verdict.rejections, verdict.warnings, verdict.notes) == ({}, 0, [], [], [])


@pytest.mark.parametrize("partitions", [1, 3, 7])
def test_every_broken_row_comes_back_with_every_rule_it_broke(
    frame: pd.DataFrame, tmp_path: Path, partitions: int
) -> None:
    frame.loc[range(0, 1000, 2), "n"] = -1  # 500 rows
    frame.loc[[4, 1999], "word"] = None
    verdict, broken = run_suite(
        frame,
        rule(BETWEEN, name="positive", column="n", min_value=0),
        rule("expect_column_values_to_not_be_null", name="worded", column="word"),
        folder=tmp_path,
        partitions=partitions,
    )
    assert sorted(broken) == [*range(0, 1000, 2), 1999]
    assert broken[4] == ["positive", "worded"]
    assert broken[1999] == ["worded"]
    assert [it.broken_rows for it in verdict.rules] == [500, 2]
    assert (verdict.rows, verdict.n_broken) == (2000, 501)
    assert verdict.rules[0].examples == ["'r0'", "'r2'", "'r4'"]
    assert not verdict.rejected
    page = (tmp_path / "toy.html").read_text()
    assert "500 unexpected values found" in page
    assert "of 2000 total rows" in page


def test_partitions_change_no_verdict(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[range(0, 500), "n"] = -1
    rules = [
        rule(BETWEEN, name="some", column="n", min_value=0, mostly=0.8),
        rule(BETWEEN, name="tops", column="n", max_value=1990),
        rule("expect_column_mean_to_be_between", name="mean", column="n", max_value=900),
        rule("expect_table_row_count_to_be_between", name="rows", min_value=1995),
        rule("expect_column_values_to_be_unique", "warning", name="apart", column="id"),
        rule(
            "expect_column_max_to_be_between",
            name="max",
            column="n",
            max_value=5,
            row_condition="word == 'other'",
            condition_parser="pandas",
        ),
        rule("expect_table_column_count_to_equal", name="width", value=4),
    ]
    whole, parts = (run_suite(frame, *rules, folder=tmp_path, partitions=n) for n in (1, 5))
    assert whole == parts
    assert [it.name for it in whole[0].rules if it.success is False] == ["some", "tops", "mean", "rows", "max"]


def test_positions_hold_whatever_the_frames_index_is(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[[5, 7], "n"] = -1
    frame.index = pd.Index([f"label {n % 3}" for n in range(2000)])  # repeats
    verdict, broken = run_suite(
        frame,
        rule(BETWEEN, column="n", min_value=0),
        rule("expect_table_row_count_to_equal", value=1998),
        folder=tmp_path,
    )
    assert list(broken) == [5, 7]
    assert not verdict.rejected


def test_rules_over_several_columns_and_under_a_condition_judge_rows(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["other"] = frame["n"]
    frame.loc[[3, 8], "other"] = -5
    verdict, broken = run_suite(
        frame,
        rule("expect_column_pair_values_to_be_equal", column_A="n", column_B="other"),
        rule("expect_select_column_values_to_be_unique_within_record", column_list=["word", "other"]),
        rule(BETWEEN, column="n", max_value=1990, row_condition="other > 0", condition_parser="pandas"),
        folder=tmp_path,
    )
    assert [it.kind for it in verdict.rules] == ["row"] * 3
    assert sorted(broken) == [3, 8, *range(1991, 2000)]
    assert broken[3] == ["ours"]


def test_rules_that_compare_rows_judge_the_set_wherever_it_is_cut(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[1999, ["id", "n"]] = ["r0", 0]  # a copy, and a step down, of rows in other partitions
    rules = [
        rule("expect_column_values_to_be_unique", column="id"),
        rule("expect_compound_columns_to_be_unique", column_list=["word", "id"]),
        rule("expect_column_values_to_be_increasing", column="n"),
        rule("expect_column_values_to_be_decreasing", column="n"),
        rule("expect_column_value_z_scores_to_be_less_than", column="n", threshold=1.73, double_sided=True),
    ]
    whole, parts = (run_suite(frame, *rules, folder=tmp_path, partitions=n) for n in (1, 4))
    assert whole == parts
    verdict, broken = parts
    assert {it.kind for it in verdict.rules} == {"set"}
    assert not broken
    assert len(verdict.rejections) == 5


def test_a_row_warning_is_told_and_the_rows_stay(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[[1], "n"] = -1
    verdict, broken = run_suite(frame, rule(BETWEEN, "warning", column="n", min_value=0), folder=tmp_path)
    assert not broken
    assert verdict.warnings == [
        "1 of 2,000 rows (0.05 %) break “n must be at least 0” (first: 'r1') (rule ours): it matters"
    ]


def test_broken_rows_reject_where_the_caller_says_so(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[[1], "n"] = -1
    verdict, broken = run_suite(frame, rule(BETWEEN, column="n", min_value=0), folder=tmp_path, critical_rows="reject")
    assert list(broken) == [1]
    assert "(first: 'r1')" in verdict.rejections[0]


def test_rules_on_the_set_see_the_rows_that_stay(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["clicked"] = 0
    frame.loc[9, ["clicked", "n"]] = [1, -1]  # the only click lies in a row that goes aside
    clicked = rule("expect_column_sum_to_be_between", name="clicks", column="clicked", min_value=1)
    clicked = clicked.model_copy(update={"remedy": "look for clicks"})
    verdict, _ = run_suite(frame, rule(BETWEEN, column="n", min_value=0), clicked, folder=tmp_path)
    assert verdict.rejections == [
        "the sum of clicked is 0; it must be at least 1 (rule clicks): it matters; next: look for clicks"
    ]


def test_mostly_makes_a_row_rule_judge_the_share(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[range(300), "n"] = -1
    verdict, broken = run_suite(
        frame,
        rule(BETWEEN, column="n", min_value=0, mostly=0.9),
        rule(BETWEEN, column="n", min_value=0, mostly=0.8),
        folder=tmp_path,
    )
    assert not broken
    assert verdict.rejections == [
        "n must be at least 0 in at least 90.0 % of rows; found: 15 % of 2,000 rows break it (rule ours): it matters"
    ]


def test_figures_are_checked_like_columns_and_unknown_ones_are_not_passed(frame: pd.DataFrame, tmp_path: Path) -> None:
    verdict, _ = run_suite(
        frame,
        rule(BETWEEN, "warning", column="drift", max_value=0.5),
        rule(BETWEEN, column="gap", max_value=0.5),
        folder=tmp_path,
        figures=Figures.of_set({"drift": None, "gap": 0.7}, {"drift": "no earlier run"}),
    )
    assert verdict.rules[0].success is None
    assert verdict.notes == ["drift must be at most 0.5 (ours): not judged, no earlier run"]
    assert verdict.rejections == ["gap is 0.7; it must be at most 0.5 (rule ours): it matters"]


def test_a_rule_on_days_names_each_day_that_breaks_it(frame: pd.DataFrame, tmp_path: Path) -> None:
    days = pd.DataFrame({"clicks": [3.0, np.nan, 99.0, 7]}, index=pd.Index(["d1", "d2", "d3", "d4"], name="day"))
    verdict, _ = run_suite(
        frame,
        rule(BETWEEN, name="few", column="clicks", min_value=5, max_value=50),
        rule(BETWEEN, "warning", name="many", column="clicks", max_value=2),
        folder=tmp_path,
        figures=Figures(days, context={"clicks": {"d1": "usually 40"}}),
    )
    assert verdict.days_broken("critical") == {
        "d1": ["usually 40; clicks is 3; it must be between 5 and 50 (rule few): it matters"],
        "d3": ["clicks is 99; it must be between 5 and 50 (rule few): it matters"],
    }
    # A figure that breaks a critical rule is not told a second time.
    assert list(verdict.days_broken("warning")) == ["d4"]
    # What becomes of a day is the caller's to say.
    assert (verdict.rejections, verdict.warnings) == ([], [])


def test_a_rule_on_all_days_together_rejects(frame: pd.DataFrame, tmp_path: Path) -> None:
    days = pd.DataFrame({"clicks": [3.0, 5.0]}, index=pd.Index(["d1", "d2"], name="day"))
    verdict, _ = run_suite(
        frame,
        rule("expect_column_mean_to_be_between", column="clicks", min_value=10),
        folder=tmp_path,
        figures=Figures(days),
    )
    assert len(verdict.rejections) == 1
    assert "the mean of clicks" in verdict.rejections[0]


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_a_rule_that_raises_inside_the_library_rejects(frame: pd.DataFrame, tmp_path: Path, severity: str) -> None:
    verdict, _ = run_suite(
        frame,
        rule(BETWEEN, severity, column="word", min_value=0),  # text against a number
        rule(BETWEEN, column="n", min_value=0),
        folder=tmp_path,
        partitions=2,
    )
    assert [it.success for it in verdict.rules] == [False, True]
    assert len(verdict.rejections) == 1
    assert "could not be checked" in verdict.rejections[0]
    assert "same type" in verdict.rejections[0]


def test_a_rule_that_takes_the_whole_run_down_is_found_out(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A query expectation needs SQL: the library raises past its own net, and the other rule still gets its answer."""
    verdict, broken = run_suite(
        frame,
        rule("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE n < 0"),
        rule(BETWEEN, column="n", min_value=1),
        folder=tmp_path,
    )
    assert [it.success for it in verdict.rules] == [False, False]
    assert list(broken) == [0]
    assert len(verdict.rejections) == 1


def test_the_same_rule_twice_is_judged_twice(frame: pd.DataFrame, tmp_path: Path) -> None:
    same = rule(BETWEEN, column="n", min_value=1)
    verdict, _ = run_suite(frame, same, same, folder=tmp_path)
    assert [it.broken_rows for it in verdict.rules] == [1, 1]


def test_no_rows_and_no_rules(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert run_suite(frame, folder=tmp_path)[0].success
    verdict, _ = run_suite(
        frame[:0],
        rule(BETWEEN, column="n", min_value=0),
        rule("expect_table_row_count_to_be_between", min_value=1),
        rule("expect_column_mean_to_be_between", column="n", min_value=0),
        folder=tmp_path,
    )
    assert verdict.rejections == [
        "the number of rows is 0; it must be at least 1 (rule ours): it matters",
        "the mean of n is unknown, as there was nothing to measure; it must be at least 0 (rule ours): it matters",
    ]


def test_a_result_of_more_than_100_megabytes_leaves_a_small_verdict(tmp_path: Path) -> None:
    """Each of 40,000 texts of 3,000 characters breaks the rule: the library lists 120 MB of them."""
    texts = [f"{n:>3000}" for n in range(40_000)]
    frame = pd.DataFrame({"row": range(40_000), "id": [f"r{n}" for n in range(40_000)], "text": texts})
    verdict, broken = run_suite(
        frame, rule("expect_column_value_lengths_to_be_between", column="text", max_value=10), folder=tmp_path
    )
    assert len(broken) == verdict.n_broken == 40_000
    assert len(verdict.model_dump_json()) < 2000
    assert (tmp_path / "toy.html").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            rule("expect_colum_values_to_be_unique", column="n"),
            "suite toy, rule 1: ours: type: Great Expectations knows no 'expect_colum_values_to_be_unique'; "
            "did you mean 'expect_column_values_to_be_unique'",
        ),
        (
            rule(BETWEEN, column="n", mini_value=1, max_value=3),
            "kwargs.mini_value: unknown argument; did you mean 'min_value'",
        ),
        (rule(BETWEEN, column="n", min_value=[1]), "kwargs.min_value"),
        (rule(BETWEEN, column="wrod", min_value=1), "kwargs: no column 'wrod'; did you mean 'word'"),
        (rule(BETWEEN, column="n", min_value=1, meta={}), "embft sets that itself"),
        (rule("expect_column_values_to_be_unique", column="n", mostly="most"), "kwargs.mostly is 'most'"),
    ],
)
def test_a_wrong_suite_is_a_config_error(
    frame: pd.DataFrame, tmp_path: Path, wrong: Expectation, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        run_suite(frame, wrong, folder=tmp_path)
    assert expected in str(error.value)


def test_the_error_names_the_rules_file_and_line(frame: pd.DataFrame, tmp_path: Path) -> None:
    placed = rule("expect_nothing", column="n").model_copy(update={"where": "include/expectations/toy.yaml:7"})
    with pytest.raises(ConfigError, match=r"^include/expectations/toy\.yaml:7: ours: type: "):
        run_suite(frame, placed, folder=tmp_path)


def test_nothing_is_written_to_stdout(frame: pd.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_suite(frame, rule(BETWEEN, column="n", min_value=1), folder=tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Calculating" not in err


def test_a_rule_that_compares_a_column_with_a_figure_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    mixed: Any = rule("expect_column_pair_values_a_to_be_greater_than_b", column_A="n", column_B="gap")
    with pytest.raises(ConfigError, match=r"^ours: kwargs: n and gap cannot be judged together, for gap is no column"):
        run_suite(frame, mixed, folder=tmp_path, figures=Figures.of_set({"gap": 0.7}))
