"""A query that few people searched for is on no page and in no figure; verdicts and rows are as without that."""

import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from embft.clickstream.sessions import SCHEMA
from embft.validation_config import Expectation
from embft.validation.masking import HIDDEN, WITHHELD
from embft.validation.sessions import SessionsVerdict, check_sessions
from tests.validation.test_sessions import ITEMS, WINDOW, Rows

SECRET, SHARED = "my secret illness", "chess"


def rule(type_: str, severity: str = "warning", **kwargs: Any) -> Expectation:
    return Expectation(type=type_, kwargs=kwargs, severity=severity, why="our own")  # type: ignore[arg-type]


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
    def run(rules: list[Expectation], min_clients: int = 5) -> tuple[SessionsVerdict, str]:
        """Give the verdict, and all that it tells people, pages included."""
        docs = tmp_path / "docs"
        verdict = check_sessions(
            pa.Table.from_pylist(secretive, schema=SCHEMA),
            pa.Table.from_pylist(items, schema=ITEMS),
            rules,
            [],
            window=WINDOW,
            zone=ZoneInfo("Europe/Berlin"),
            max_quarantined=1,
            min_clients=min_clients,
            docs_folder=docs,
        )
        told = [it.model_dump_json() for it in verdict.verdicts] + [json.dumps(verdict.figures), str(verdict.reason)]
        pages = [path.read_text() for path in docs.rglob("*.html")]
        assert len(pages) == 3
        return verdict, "\n".join([*told, *pages])

    return run


def verdicts_of(found: SessionsVerdict) -> list[Any]:
    fields = {"success", "kind", "broken_rows", "examples"}
    return [[rule.model_dump(include=fields) for rule in it.rules] for it in found.verdicts]


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
    assert masked.rejected
    assert whole.rejected
    assert masked.clean == whole.clean
    assert masked.quarantine == whole.quarantine
    assert [json.loads(raw)["query"] for raw in masked.quarantine["raw"].to_pylist()] == [SECRET, f"{SECRET} two"]
    assert masked.figures["set_aside_by_rule"] == whole.figures["set_aside_by_rule"]


def test_a_query_of_enough_people_is_shown_and_a_rare_one_only_counted(check: Any, tmp_path: Path) -> None:
    verdict, _ = check([rule("expect_column_values_to_not_match_regex", column="query", regex="^(?:my|ch)")])
    page = (tmp_path / "docs" / "sessions.html").read_text()
    assert SHARED in page
    assert HIDDEN in page
    # 30 of the one person and 5 of the five
    assert verdict.verdicts[1].rules[0].broken_rows == 35


def test_rules_on_other_columns_are_shown_whole(check: Any, tmp_path: Path) -> None:
    check([rule("expect_column_values_to_be_in_set", column="unknown_clicked", value_set=["B0-1"])])
    assert "B0-777" in (tmp_path / "docs" / "sessions.html").read_text()
