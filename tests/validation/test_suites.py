"""`run_suite`: what becomes of rows, of the set, of rules that cannot be judged, and of suites that are wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from embft.validation_config import Expectation
from embft.errors import ConfigError
from embft.validation.suites import Figures, run_suite
from embft.validation.verdicts import Verdict


def rule(type_: str, severity: str = "critical", **kwargs: Any) -> Expectation:
    return Expectation(type=type_, kwargs=kwargs, severity=severity, why="it matters")  # type: ignore[arg-type]


def run(frame: pd.DataFrame, *rules: Expectation, folder: Path, **options: Any) -> Verdict:
    return run_suite("toy", frame, rules, id_column="id", docs_folder=folder, **options)


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"id": [f"r{n}" for n in range(2000)], "n": np.arange(2000), "word": ["ok"] * 2000})


def test_a_healthy_frame_is_silent(frame: pd.DataFrame, tmp_path: Path) -> None:
    verdict = run(frame, rule("expect_column_values_to_be_between", column="n", min_value=0), folder=tmp_path)
    assert verdict.success
    assert (verdict.broken, verdict.rejections, verdict.warnings, verdict.notes) == ({}, [], [], [])


def test_every_broken_row_comes_back_with_every_rule_it_broke(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[range(0, 1000, 2), "n"] = -1  # 500 rows
    frame.loc[[4, 1999], "word"] = None
    verdict = run(
        frame,
        rule("expect_column_values_to_be_between", column="n", min_value=0),
        rule("expect_column_values_to_not_be_null", column="word"),
        folder=tmp_path,
    )
    assert sorted(verdict.broken) == [*range(0, 1000, 2), 1999]
    assert verdict.broken[4] == ["n must be at least 0", "word must not be null"]
    assert verdict.broken[1999] == ["word must not be null"]
    assert [it.broken_rows for it in verdict.rules] == [500, 2]
    assert verdict.rules[0].examples == ["'r0'", "'r2'", "'r4'"]
    assert not verdict.rejected


def test_positions_hold_whatever_the_frames_index_is(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[[5, 7], "n"] = -1
    frame.index = pd.Index([f"label {n % 3}" for n in range(2000)])  # repeats
    verdict = run(frame, rule("expect_column_values_to_be_between", column="n", min_value=0), folder=tmp_path)
    assert list(verdict.broken) == [5, 7]


def test_rules_over_several_columns_and_under_a_condition_judge_rows(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["other"] = frame["n"]
    frame.loc[[3, 8], "other"] = -5
    verdict = run(
        frame,
        rule("expect_column_pair_values_to_be_equal", column_A="n", column_B="other"),
        rule("expect_compound_columns_to_be_unique", column_list=["word", "other"]),
        rule(
            "expect_column_values_to_be_between",
            column="n",
            max_value=1990,
            row_condition="other > 0",
            condition_parser="pandas",
        ),
        folder=tmp_path,
    )
    assert [it.kind for it in verdict.rules] == ["row"] * 3
    assert sorted(verdict.broken) == [3, 8, *range(1991, 2000)]
    assert len(verdict.broken[3]) == 2


def test_a_row_warning_is_told_and_the_rows_stay(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[[1], "n"] = -1
    verdict = run(
        frame, rule("expect_column_values_to_be_between", "warning", column="n", min_value=0), folder=tmp_path
    )
    assert not verdict.broken
    assert verdict.warnings == ["1 of 2,000 rows (0.05 %) break “n must be at least 0” (first: 'r1'): it matters"]


def test_broken_rows_reject_where_the_caller_says_so(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[[1], "n"] = -1
    verdict = run(
        frame,
        rule("expect_column_values_to_be_between", column="n", min_value=0),
        folder=tmp_path,
        critical_rows="reject",
    )
    assert list(verdict.broken) == [1]
    assert "(first: 'r1')" in verdict.rejections[0]


def test_rules_on_the_set_see_the_rows_that_stay(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["clicked"] = 0
    frame.loc[9, ["clicked", "n"]] = [1, -1]  # the only click lies in a row that goes aside
    verdict = run(
        frame,
        rule("expect_column_values_to_be_between", column="n", min_value=0),
        rule("expect_column_sum_to_be_between", column="clicked", min_value=1),
        folder=tmp_path,
    )
    assert verdict.rejections == ["the sum of clicked is 0; it must be at least 1: it matters"]


def test_mostly_makes_a_row_rule_judge_the_share(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[range(300), "n"] = -1
    verdict = run(
        frame,
        rule("expect_column_values_to_be_between", column="n", min_value=0, mostly=0.9),
        rule("expect_column_values_to_be_between", column="n", min_value=0, mostly=0.8),
        folder=tmp_path,
    )
    assert not verdict.broken
    assert verdict.rejections == [
        "n must be at least 0 in at least 90.0 % of rows; found: 15 % of 2,000 rows break it: it matters"
    ]


def test_figures_are_checked_like_columns_and_unknown_ones_are_not_passed(frame: pd.DataFrame, tmp_path: Path) -> None:
    verdict = run(
        frame,
        rule("expect_column_values_to_be_between", "warning", column="drift", max_value=0.5),
        rule("expect_column_values_to_be_between", column="gap", max_value=0.5),
        folder=tmp_path,
        figures=Figures({"drift": None, "gap": 0.7}, {"drift": "no earlier run"}),
    )
    assert verdict.rules[0].success is None
    assert verdict.notes == ["drift must be at most 0.5: not judged, no earlier run"]
    assert verdict.rejections == ["gap is 0.7; it must be at most 0.5: it matters"]


@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_a_rule_that_raises_inside_the_library_rejects(frame: pd.DataFrame, tmp_path: Path, severity: str) -> None:
    verdict = run(
        frame,
        rule("expect_column_values_to_be_between", severity, column="word", min_value=0),  # text against a number
        rule("expect_column_values_to_be_between", column="n", min_value=0),
        folder=tmp_path,
    )
    assert [it.success for it in verdict.rules] == [False, True]
    assert len(verdict.rejections) == 1
    assert "could not be checked" in verdict.rejections[0]
    assert "same type" in verdict.rejections[0]


def test_a_rule_that_takes_the_whole_run_down_is_found_out(frame: pd.DataFrame, tmp_path: Path) -> None:
    """A query expectation needs SQL: the library raises past its own net, and the other rule still gets its answer."""
    verdict = run(
        frame,
        rule("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE n < 0"),
        rule("expect_column_values_to_be_between", column="n", min_value=1),
        folder=tmp_path,
    )
    assert [it.success for it in verdict.rules] == [False, False]
    assert list(verdict.broken) == [0]
    assert len(verdict.rejections) == 1


def test_the_same_rule_twice_is_judged_twice(frame: pd.DataFrame, tmp_path: Path) -> None:
    same = rule("expect_column_values_to_be_between", column="n", min_value=1)
    verdict = run(frame, same, same, folder=tmp_path)
    assert [it.broken_rows for it in verdict.rules] == [1, 1]


def test_no_rows_and_no_rules(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert run(frame, folder=tmp_path).success
    verdict = run(
        frame[:0],
        rule("expect_column_values_to_be_between", column="n", min_value=0),
        rule("expect_table_row_count_to_be_between", min_value=1),
        rule("expect_column_mean_to_be_between", column="n", min_value=0),
        folder=tmp_path,
    )
    assert verdict.rejections == [
        "the number of rows is 0; it must be at least 1: it matters",
        "the mean of n is unknown, as there was nothing to measure; it must be at least 0: it matters",
    ]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            rule("expect_colum_values_to_be_unique", column="n"),
            "suite toy, rule 1, expect_colum_values_to_be_unique: Great Expectations knows no such type; "
            "did you mean 'expect_column_values_to_be_unique'",
        ),
        (
            rule("expect_column_values_to_be_between", column="n", mini_value=1, max_value=3),
            "kwargs.mini_value: unknown argument; did you mean 'min_value'",
        ),
        (rule("expect_column_values_to_be_between", column="n", min_value=[1]), "kwargs.min_value"),
        (
            rule("expect_column_values_to_be_between", column="wrod", min_value=1),
            "no column 'wrod'; did you mean 'word'",
        ),
        (rule("expect_column_values_to_be_between", column="n", min_value=1, meta={}), "embft sets that itself"),
        (rule("expect_column_values_to_be_unique", column="n", mostly="most"), "kwargs.mostly is 'most'"),
    ],
)
def test_a_wrong_suite_is_a_config_error(
    frame: pd.DataFrame, tmp_path: Path, wrong: Expectation, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        run(frame, wrong, folder=tmp_path)
    assert expected in str(error.value)


def test_nothing_is_written_to_stdout(frame: pd.DataFrame, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(frame, rule("expect_column_values_to_be_between", column="n", min_value=1), folder=tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Calculating" not in err


def test_a_rule_that_compares_a_column_with_a_figure_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    mixed = rule("expect_column_pair_values_a_to_be_greater_than_b", column_A="n", column_B="gap")
    with pytest.raises(
        ConfigError, match=r"toy, rule 1, .*: n and gap cannot be judged together, for gap is one figure"
    ):
        run(frame, mixed, folder=tmp_path, figures=Figures({"gap": 0.7}))
