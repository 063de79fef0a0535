"""The run's report, from small facts made by hand."""

import re
from math import inf, nan
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embft.clickstream.sessions import SCHEMA
from embft.report.page import render
from embft.validation.sessions import check_sessions
from embft.validation.window import Before, Limits, PulledDay
from embft.validation_config import Expectation
from tests.report.facts import BASE, CHALLENGER, DAY, HOSTILE, NOON, RECORDS, Page, broken_rule, night


def test_decision_comes_first_in_one_sentence() -> None:
    text = Page(render(night())).text
    # (2.5 − 2.0) / 2.5 = 20 %
    sentence = "Passed: validation loss 2.0000 is 20.0% below the champion's 2.5000"
    assert sentence in text
    assert text.index(sentence) < text.index("Each rule")


def test_rejected_challenger_leaves_the_champion() -> None:
    page = render(night({**CHALLENGER, "val_loss": 3.5}))
    text = Page(page).text
    assert "2011-10-20: rejected" in text
    assert "3.5000 3.5000 to 3.5000 at most 3.0000 ✗ broken" in text
    assert "-40.0% -40.0% to -40.0% surely at least +2.0% ✗ broken" in text
    assert "The champion, version 7, stays." in text
    assert "promoted" not in text.lower()


def test_first_night_has_no_champion() -> None:
    text = Page(render(night(champion=None))).text
    assert "below the base's 4.0000" in text
    assert "gain of the challenger over the base" in text
    assert "version" not in text
    rejected = Page(render(night(BASE, champion=None))).text
    assert "There is no champion yet" in rejected


def test_promote_never_does_not_claim_a_promotion() -> None:
    text = Page(render(night(promote="never"))).text
    assert "2011-10-20: passed, not promoted" in text
    assert "the challenger is registered, and does not serve" in text
    assert "--promote never" in text


def test_promote_force_overrules_a_newer_champion_but_not_the_gate() -> None:
    text = Page(render(night(promote="force"))).text
    assert "2011-10-20: promoted" in text
    assert "put the challenger into service, even over a champion that learned from a newer day" in text
    assert "--promote force" in text
    rejected = Page(render(night(BASE, promote="force"))).text
    assert "2011-10-20: rejected" in rejected
    assert "stays. promote: force overrules a champion of a newer day, never the gate." in rejected


def test_a_promotion_waits_for_the_person_who_is_asked_and_for_no_newer_champion() -> None:
    assert (
        "put the challenger into service, unless the champion has learned from a newer day"
        in Page(render(night())).text
    )
    text = Page(render(night(gate={"approval": {"timeout_hours": 1.5}}))).text
    assert "2011-10-20: passed, to be approved" in text
    assert "without an answer within 1.5 hours it is rejected. Then register and publish put" in text


def test_weights_that_were_rolled_back_are_rejected_with_that_reason_alone() -> None:
    text = Page(render(night(rolled_back="these very weights were rolled back"))).text
    assert "Rejected: these very weights were rolled back. The champion" in text
    assert "would have been needed" not in text


@pytest.mark.parametrize("loss", [nan, inf])
def test_loss_that_is_no_number_is_rejected_with_that_reason(loss: float) -> None:
    text = Page(render(night({**CHALLENGER, "val_loss": loss}))).text
    assert "max_val_loss validation loss the challenger's validation loss is not a number, so it" in text
    assert "✗ not judged" in text
    assert "Validation loss ↓ 4.0000 ★ 2.5000 –" in text
    assert "– marks what is not a number" in text
    assert "It cannot be told from tonight's 20 different queries" in text
    assert "nan" not in text


def test_a_broken_rule_is_named_with_what_was_found_why_it_matters_and_what_to_do() -> None:
    text = Page(render(night(rules=[broken_rule(examples=["'s1'"])]))).text
    found = "3 of 900 rows (0.3 %) break “query_length must be at most 500”, such as 's1'"
    assert f"query_not_too_long warning {found} nobody types this much; next: check logs.fields.query" in text


def test_of_rules_on_days_the_night_tells_of_its_own_day() -> None:
    days = {"2011-10-12": "n is 3; it must be at least 9", "2011-10-20": "n is 4; it must be at least 9"}
    shown = broken_rule(name="low", kind="day", found="", broken_days=days)
    old = broken_rule(name="old", kind="day", found="", broken_days={"2011-10-12": days["2011-10-12"]})
    text = Page(render(night(rules=[shown, old]))).text
    assert "low warning n is 4; it must be at least 9 nobody types" in text
    assert "old" not in text.split("Data rules broken")[1].split("Training")[0]


def test_days_that_were_left_out_are_named_with_their_reasons_and_counted() -> None:
    text = Page(render(night(days_left_out={"2011-10-18": ["n is 3 (rule volume): too few", "and that"]}))).text
    assert "Earlier days that this night does not learn from." in text
    assert "2011-10-18 n is 3 (rule volume): too few and that" in text
    assert "− left out with their day 20" in text


def test_strangers_words_are_escaped() -> None:
    hostile_rule = broken_rule(
        name=HOSTILE, why=HOSTILE, remedy=HOSTILE, found=HOSTILE, examples=[HOSTILE], severity=HOSTILE
    )
    unjudged = broken_rule(name=HOSTILE, success=None, skipped=HOSTILE)
    facts = night(
        owner=HOSTILE, description=HOSTILE, rules=[hostile_rule, unjudged], days_left_out={HOSTILE: [HOSTILE]}
    )
    decision, evaluation = facts.decision, facts.evaluation
    told = [
        decision.rules[0].model_copy(update={"rule": HOSTILE}),
        decision.rules[1].model_copy(update={"figure": None, "passed": False, "sentence": HOSTILE}),
    ]
    guard = evaluation.sets[0].model_copy(update={"kind": "guard", "name": HOSTILE, "notes": (HOSTILE, HOSTILE)})
    assert facts.run.champion
    champion = facts.run.champion.model_copy(update={"version": HOSTILE})
    facts = facts.model_copy(
        update={
            "run": facts.run.model_copy(update={"model": HOSTILE, "champion": champion}),
            "evaluation": evaluation.model_copy(update={"loss_func": HOSTILE, "sets": (*evaluation.sets, guard)}),
            "decision": decision.model_copy(update={"reason": HOSTILE, "rules": tuple(told)}),
        }
    )
    html = render(facts)
    page = Page(html)
    assert "<script" not in html
    assert "<img" not in html
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("alert('x')") >= 20


def test_page_loads_nothing() -> None:
    html = render(night(rules=[broken_rule()], synthetic=True))
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "base", "form"})
    assert not [
        attributes for _, attributes in page.tags if {"src", "srcset", "xlink:href", "action"} & set(attributes)
    ]
    assert {tag for tag, attributes in page.tags if "href" in attributes} == {"a"}
    assert "url(" not in html
    assert "@import" not in html
    policy = page.having("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"] or ""
    assert policy.startswith("default-src 'none'")


def test_links_lead_to_docs_and_run_once_each() -> None:
    links = {a["href"] for a in Page(render(night())).having("a")}
    assert links == {
        "http://files.test/docs/index.html",
        "http://files.test/ranks/index.html",
        "http://mlflow.test/#/experiments/1/runs/abc",
    }
    assert "MLflow run of fine_tune" in Page(render(night())).text


def test_link_that_is_no_web_page_is_left_out() -> None:
    assert "javascript:" not in render(night(docs_url="javascript:alert(1)"))


def test_every_line_of_the_log_is_accounted_for() -> None:
    text = Page(render(night())).text
    assert "Log lines read 1,000 − duplicates 60 − filtered by rule 30 − quarantined as unreadable 10" in text
    assert "= sessions 900 − set aside by data rules 5 − left out with their day 20 = clean sessions 875" in text
    assert "train learned from 700 301" in text


def test_rules_that_hold_are_left_to_data_docs_and_unjudged_ones_are_not_called_broken() -> None:
    text = Page(render(night(rules=[broken_rule(name="held", success=True, found="")]))).text
    assert "held" not in text.split("Data rules broken")[1].split("Training")[0]
    assert "Data Docs of validate_sessions · Data Docs of validate_ranks show every rule." in text
    unjudged = [broken_rule(name=it, success=None, found="", skipped="no earlier run") for it in ("drift", "shift")]
    text = Page(render(night(rules=unjudged))).text
    assert "Data rules broken None. Not judged, no earlier run: drift, shift." in text


def test_synthetic_data_is_labelled() -> None:
    assert "synthetic data" in Page(render(night(synthetic=True))).text
    assert "synthetic data" not in Page(render(night())).text


def test_night_can_be_typed_again() -> None:
    commands = re.findall(r"embft [^\n<]+", render(night()).split("<pre>")[1])
    assert commands[0] == "embft plan --model shop --day 2011-10-20 --window-days 3"
    # The 19th has no log.
    assert [it.split()[-1] for it in commands if it.startswith("embft pull")] == ["2011-10-18", "2011-10-20"]
    assert commands[-1] == "embft gate --model shop --day 2011-10-20"


@pytest.mark.parametrize("records", [[], RECORDS[:1], [{**it, "val_loss": nan} for it in RECORDS]])
def test_without_a_learning_curve_there_is_no_training_section(records: list[dict[str, Any]]) -> None:
    page = Page(render(night(records=records)))
    assert not page.having("section", **{"aria-labelledby": "training"})
    assert "2011-10-20: promoted" in page.text


def test_page_has_landmarks_captions_and_scopes() -> None:
    page = Page(render(night(rules=[broken_rule()])))
    assert [tag for tag, _ in page.tags if tag in ("header", "main", "nav", "h1")] == ["header", "main", "h1", "nav"]
    assert len(page.having("table")) == len(page.having("caption"))
    assert all("scope" in th for th in page.having("th"))
    headings = {h2["id"] for h2 in page.having("h2")}
    assert {section["aria-labelledby"] for section in page.having("section")} == headings
    drawings = [it for it in page.having("svg") if it.get("class") != "end"]  # those are parts of one
    assert len(drawings) > 10
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in drawings)


def test_a_query_of_one_person_is_not_in_the_report_and_one_of_five_is(tmp_path: Path) -> None:
    """Both are searched for five times, so both are the commonest query."""
    searches = [("my secret illness", "c0")] * 5 + [("chess", f"c{n}") for n in range(5)]
    row = {"day": DAY, "time": NOON, "clicked": []}
    sessions = [
        {**row, "session_id": f"s{n}", "query": query, "client": client} for n, (query, client) in enumerate(searches)
    ]
    pq.write_table(pa.Table.from_pylist(sessions, schema=SCHEMA), tmp_path / "pulled.parquet")
    rule = Expectation(
        name="commonest",
        type="expect_column_most_common_value_to_be_in_set",
        kwargs={"column": "query", "value_set": ["go"], "ties_okay": True},
        severity="warning",
        why="our own",
    )
    verdict = check_sessions(
        [PulledDay(DAY, lambda: tmp_path / "pulled.parquet", len(sessions), {})],
        pa.table({"id": ["B0-1"], "text": ["a game"]}),
        [rule],
        [],
        limits=Limits((DAY, DAY), ZoneInfo("UTC"), max_quarantined=1, min_clients=5, reference_days=42),
        before=Before(),
        folder=tmp_path,
    )
    page = render(night(rules=[it.model_dump(mode="json") for it in verdict.verdicts[1].rules]))
    assert "secret" not in page
    assert "['chess', '(rare, not shown)']" in Page(page).text
