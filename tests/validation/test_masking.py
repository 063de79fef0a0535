"""A query that few people searched for is on no page and in no figure; verdicts and rows are as without that."""

import json
from pathlib import Path
from typing import Any

import pytest

from embft.validation.masking import HIDDEN, WITHHELD
from embft.validation_config import Expectation
from tests.validation.checks import Checked, Rows, check_rows
from tests.validation.checks import rule as any_rule

SECRET, SHARED = "my secret illness", "chess"


def rule(type_: str, severity: str = "warning", **kwargs: Any) -> Expectation:
    return any_rule(type_, severity, why="our own", **kwargs)


# A user's own rules, of every shape that makes Great Expectations list values of a column.
LISTING = [
    rule("expect_column_values_to_not_match_regex", column="query", regex="^(?:my|chess)"),
    rule("expect_column_values_to_match_regex", column="query", regex="^q", mostly=0.99),
    rule("expect_column_distinct_values_to_be_in_set", column="query", value_set=["query 0"]),
    rule("expect_column_distinct_values_to_contain_set", "critical", column="query", value_set=["go"]),
    rule("expect_column_most_common_value_to_be_in_set", column="query", value_set=["go"]),
    rule(
        "expect_column_kl_divergence_to_be_less_than",
        column="query",
        partition_object={"values": ["go"], "weights": [1.0]},
        threshold=0.1,
    ),
    rule("expect_column_pair_values_to_be_equal", column_A="session_id", column_B="query"),
    rule("expect_multicolumn_values_to_be_equal", column_list=["query", "session_id"]),
]
# Great Expectations raises, with values in its message.
RAISING = [
    rule("expect_column_mean_to_be_between", column="query", min_value=1),
    rule(
        "expect_column_values_to_not_be_null",
        column="client",
        row_condition="query.astype('int') > 1",
        condition_parser="pandas",
    ),
]
# These put rows aside, each one a row with a rare query.
SETTING_ASIDE = [
    rule("expect_column_values_to_not_match_regex", "critical", column="query", regex="two$"),
    rule("expect_column_values_to_be_between", "critical", column="n_unknown_clicked", max_value=0),
]


@pytest.fixture
def secretive(sessions: Rows) -> Rows:
    """One person's query, the commonest of all, and a query of five people."""
    for row in sessions[:30]:
        row |= {"query": SECRET, "client": "c0"}
    sessions[3] |= {"clicked": ["B0-777"], "shown": None}
    sessions[4] |= {"query": f"{SECRET} two"}
    for n in range(5):
        sessions[30 + n] |= {"query": SHARED, "client": f"c{n}"}
    return sessions[:50]


@pytest.fixture
def check(secretive: Rows, items: Rows, tmp_path: Path) -> Any:
    def run(rules: list[Expectation], min_clients: int = 5) -> tuple[Checked, str]:
        """Give the verdict, and all that it tells people, pages included."""
        suites = {"sessions": rules, "catalogue": []}
        checked = check_rows(secretive, items, suites, tmp_path, max_quarantined=1, min_clients=min_clients)
        told = [it.model_dump_json() for it in checked.verdict.verdicts]
        told += [json.dumps(checked.figures), str(checked.reasons)]
        pages = [path.read_text() for path in checked.docs.rglob("*.html")]
        assert len(pages) == 3
        return checked, "\n".join([*told, *pages])

    return run


def verdicts_of(found: Checked) -> list[Any]:
    fields = {"success", "kind", "broken_rows", "examples"}
    return [[rule.model_dump(include=fields) for rule in it.rules] for it in found.verdict.verdicts]


def test_a_rare_query_appears_nowhere_and_nothing_else_changes(
    check: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rules = [*SETTING_ASIDE, *LISTING, *RAISING]
    masked, told = check(rules)
    told += "".join(capfd.readouterr()) + caplog.text
    assert "secret" not in told
    assert "illness" not in told
    assert told.count(WITHHELD) >= len(RAISING)
    whole, told_whole = check(rules, min_clients=1)
    assert "secret" in told_whole
    assert "secret" in json.dumps(whole.figures)
    assert verdicts_of(masked) == verdicts_of(whole)
    assert masked.reasons
    assert whole.reasons
    assert masked.clean == whole.clean
    assert masked.aside == whole.aside
    assert [json.loads(it["raw"])["query"] for it in masked.aside] == [SECRET, f"{SECRET} two"]
    assert masked.figures["set_aside_by_rule"] == whole.figures["set_aside_by_rule"]


def test_a_query_of_enough_people_is_shown_and_a_rare_one_only_counted(check: Any, tmp_path: Path) -> None:
    checked, _ = check([rule("expect_column_values_to_not_match_regex", column="query", regex="^(?:my|ch)")])
    page = (tmp_path / "docs" / "sessions.html").read_text()
    assert SHARED in page
    assert HIDDEN in page
    # 30 of the one person and 5 of the five
    assert checked.verdict.verdicts[1].rules[0].broken_rows == 35


def test_rules_on_other_columns_are_shown_whole(check: Any, tmp_path: Path) -> None:
    check([rule("expect_column_values_to_be_in_set", column="unknown_clicked", value_set=["B0-1"])])
    assert "B0-777" in (tmp_path / "docs" / "sessions.html").read_text()
