"""The run's report, from small facts made by hand."""

import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from math import inf, nan
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embft.clickstream.sessions import SCHEMA
from embft.config import Gate, ModelConfig
from embft.promotion.evaluation_record import Evaluation, Measures
from embft.promotion.gate import decide
from embft.report.drawings import curve_svg, rule_svg, share_svg
from embft.report.page import Facts, render
from embft.results import Artifact, Champion, LogDay, RunSpec, StageResult
from embft.validation.sessions import check_sessions
from embft.validation.window import Before, Limits, PulledDay
from embft.validation_config import Expectation

DAY = date(2011, 10, 20)
NOON = datetime(2011, 10, 21, 12, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'"
BASE = Measures(val_loss=4.0, ndcg_at_10=0.3, mrr_at_10=0.2, recall_at_10=0.5)
CHAMPION = Measures(val_loss=2.5, ndcg_at_10=0.51, mrr_at_10=0.41, recall_at_10=0.75)
CHALLENGER = Measures(val_loss=2.0, ndcg_at_10=0.55, mrr_at_10=0.45, recall_at_10=0.7)
RECORDS = [
    {"step": 0, "val_loss": 3.3, "train_loss": None},
    {"step": 7, "val_loss": 2.6, "train_loss": 3.1},
    {"step": 14, "val_loss": 2.7, "train_loss": 2.2},
]


class Page(HTMLParser):
    """What the tests look at: text, tags, and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.words.append("" if tag in ("a", "abbr", "code", "span", "wbr") else " ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]


def night(
    challenger: Measures = CHALLENGER,
    champion: Measures | None = CHAMPION,
    *,
    promote: str = "auto",
    rules: list[dict[str, Any]] | None = None,
    records: list[dict[str, Any]] | None = None,
    days_left_out: dict[str, list[str]] | None = None,
    docs_url: str = "http://files.test/docs/index.html",
    ranks_url: str = "http://files.test/ranks/index.html",
    **config: Any,
) -> Facts:
    run = RunSpec(
        model="shop",
        day=DAY,
        config=ModelConfig.model_validate(
            {
                "name": "shop",
                "owner": "search-team",
                "schedule": {"start_date": "2011-10-01"},
                "storage": {"artifacts": "s3://embft/models"},
                "logs": {"uri": "s3://shop/logs/dt={day}"},
                "catalogue": {"uri": "s3://shop/items.jsonl"},
                "gate": {"max_val_loss": 3.0, "min_relative_gain": 0.02},
                "mlflow": {"tracking_uri": "http://mlflow.test"},
                **config,
            }
        ),
        promote=promote,
        window=tuple(
            LogDay(day=date(2011, 10, number), objects=objects, size_bytes=10, listing_digest="d")
            for number, objects in ((18, 1), (19, 0), (20, 1))
        ),
        champion=None
        if champion is None
        else Champion(
            model="shop",
            version="7",
            day=date(2011, 10, 19),
            mlflow_run_id="r7",
            weights={},
            val_loss=champion.val_loss,
            promoted_utc=NOON,
        ),
    )
    models = {"base": BASE, **({"champion": champion} if champion else {}), "challenger": challenger}
    evaluation = Evaluation(
        model="shop",
        day=DAY,
        test_from=DAY,
        inputs_sha256="feed" * 16,
        loss_func="listwise_softmax",
        n_sessions=284,
        n_items=1341,
        models=models,
    )
    measures = {name: it.model_dump() for name, it in models.items()}
    return Facts(
        run=run,
        evaluation=evaluation,
        decision=decide("shop", DAY, measures, Gate(max_val_loss=3.0, min_relative_gain=0.02)),
        stages={
            "plan": stage("plan"),
            "validate_sessions": stage(
                "validate_sessions",
                # 1,000 = 900 + 60 + 30 + 10
                pulled={"lines": 1000, "sessions": 900, "duplicates": 60, "filtered": 30, "quarantined": 10},
                sessions={"checked": 900, "set_aside": 5, "left_out": 20, "clicked": 400},
                days_left_out=days_left_out or {},
                rules=rules or [],
                links={"Data Docs": docs_url},
            ),
            "preprocess_ranks": stage(
                "preprocess_ranks",
                not_clicked="shown lists",
                train={"sessions": 700, "clicked_sessions": 301},
                validation={"sessions": 95, "clicked_sessions": 42},
                test={"sessions": 100, "clicked_sessions": 284},
            ),
            "validate_ranks": stage("validate_ranks", rules=[], links={"Data Docs": ranks_url}),
            "fine_tune": stage("fine_tune", links={"MLflow run": "http://mlflow.test/#/experiments/1/runs/abc"}),
            "evaluate": stage("evaluate", links={"MLflow run": "http://mlflow.test/#/experiments/1/runs/abc"}),
        },
        training={"records": RECORDS if records is None else records},
    )


def stage(name: str, links: dict[str, str] | None = None, **figures: Any) -> StageResult:
    prefix = f"s3://embft/models/shop/runs/{DAY}/{name}"
    return StageResult(
        stage=name,
        model="shop",
        day=DAY,
        uri=f"{prefix}/result.json",
        attempt="a1",
        status="done",
        inputs={},
        settings_digest="s",
        code_version="0.1.0+c0de",
        outputs={"run.json": Artifact(uri=f"{prefix}/attempts/a1/run.json", size_bytes=1, sha256="0")},
        figures=figures,
        links=links or {},
        started_utc=NOON,
        finished_utc=NOON,
    )


def broken_rule(**changes: Any) -> dict[str, Any]:
    return {
        "name": "query_not_too_long",
        "rule": "query_length must be at most 500",
        "why": "nobody types this much",
        "remedy": "check logs.fields.query",
        "kind": "row",
        "severity": "warning",
        "success": False,
        "broken_rows": 3,
        "observed": None,
        "found": "3 of 900 rows (0.3 %) break “query_length must be at most 500”",
        "broken_days": {},
        "examples": [],
        "error": None,
        "skipped": None,
        **changes,
    }


def test_decision_comes_first_in_one_sentence() -> None:
    text = Page(render(night())).text
    # (2.5 − 2.0) / 2.5 = 20 %
    sentence = "Passed: validation loss 2.0000 is 20.0% below the champion's 2.5000"
    assert sentence in text
    assert text.index(sentence) < text.index("Each rule")


def test_every_rule_shows_figure_limit_and_verdict() -> None:
    text = Page(render(night())).text
    assert "gate.max_val_loss 2.0000 at most 3.0000 ✓ passed" in text
    assert "gate.min_relative_gain 20.0% at least 2.0% ✓ passed" in text


def test_every_model_shows_every_measure_and_the_best_is_marked() -> None:
    text = Page(render(night())).text
    assert "base 4.0000 0.3000 0.2000 0.5000" in text
    assert "champion version 7 2.5000 0.5100 0.4100 ★ 0.7500" in text
    assert "challenger ★ 2.0000 ★ 0.5500 ★ 0.4500 0.7000" in text
    # 2.0/2.5 · 0.55/0.51 · 0.45/0.41 · 0.7/0.75
    assert "challenger against champion -20.0% +7.8% +9.8% -6.7%" in text


def test_rejected_challenger_leaves_the_champion() -> None:
    page = render(night(challenger=CHALLENGER.model_copy(update={"val_loss": 3.5})))
    text = Page(page).text
    assert "2011-10-20: rejected" in text
    assert "gate.max_val_loss 3.5000 at most 3.0000 ✗ broken" in text
    assert "gate.min_relative_gain -40.0% at least 2.0% ✗ broken" in text
    assert "The champion, version 7, stays." in text
    assert "promoted" not in text.lower()


def test_first_night_has_no_champion() -> None:
    text = Page(render(night(champion=None))).text
    assert "below the base's 4.0000" in text
    assert "challenger against base -50.0%" in text
    assert "version" not in text
    rejected = Page(render(night(BASE, champion=None))).text
    assert "There is no champion yet" in rejected


def test_promote_never_does_not_claim_a_promotion() -> None:
    text = Page(render(night(promote="never"))).text
    assert "2011-10-20: passed, not promoted" in text
    assert "the challenger is registered, and does not serve" in text
    assert "--promote never" in text


@pytest.mark.parametrize("loss", [nan, inf])
def test_loss_that_is_no_number_is_rejected_without_rules(loss: float) -> None:
    text = Page(render(night(challenger=CHALLENGER.model_copy(update={"val_loss": loss})))).text
    assert "No rule could be applied." in text
    assert f"challenger {loss:.4f} ★ 0.5500" in text
    assert "challenger against champion – +7.8%" in text


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
    facts = facts.model_copy(
        update={
            "run": facts.run.model_copy(update={"model": HOSTILE}),
            "evaluation": facts.evaluation.model_copy(update={"loss_func": HOSTILE}),
            "decision": facts.decision.model_copy(update={"reason": HOSTILE, "opponent": HOSTILE}),
        }
    )
    html = render(facts)
    page = Page(html)
    assert "<script" not in html
    assert "<img" not in html
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("alert('x')") >= 14


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
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.having("svg"))


def test_curve_marks_its_lowest_point() -> None:
    svg = curve_svg([(0, 3.0), (10, 1.0), (20, 2.0)], [(10, 2.0), (20, 1.5)])
    assert "Validation loss 3.0000 before training, lowest 1.0000 at step 10" in svg
    # Losses 1 … 3 in steps of 1; the plot is 350 wide from 40, 164 high from 26.
    assert '<circle class="best" cx="215.0" cy="190.0" r="5"/>' in svg
    assert 'class="training" points="215.0,108.0 390.0,149.0"' in svg


@pytest.mark.parametrize("loss", [0.0, 2.0, -1e-9])
def test_flat_curve_is_drawn(loss: float) -> None:
    assert "nan" not in curve_svg([(0, loss), (1, loss)])


@pytest.mark.parametrize(("figure", "limit"), [(2.0, 3.0), (-0.4, 0.02), (0.0, 0.0), (1e9, 3.0)])
@pytest.mark.parametrize("ceiling", [True, False])
def test_rule_drawing_stays_inside_its_box(figure: float, limit: float, ceiling: bool) -> None:
    svg = Page(rule_svg(figure, limit, ceiling=ceiling, passed=True))
    for rect in svg.having("rect"):
        x, width = float(rect.get("x") or 0), float(rect["width"] or 0)
        assert -0.5 <= x <= x + width <= 100.5


def test_share_of_nothing_is_empty() -> None:
    assert 'width="0.0"' in share_svg(0, 0)
    assert 'width="50.0"' in share_svg(1, 2)


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
