"""One night as one self-contained HTML page: the decision first, then the figures it rests on."""

import shlex
from functools import cache
from typing import Any

from jinja2 import Template

from embft.config import STAGES
from embft.finetuning.trials import SearchSummary, Trial
from embft.paths import stage_command
from embft.promotion.changed_queries import ChangedQueries
from embft.promotion.decision import Decision
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.gate import all_rules
from embft.promotion.wording import model_name
from embft.report.drawings import share_svg
from embft.report.gains import set_rows
from embft.report.gate_table import rule_rows
from embft.report.model_table import columns, cost_rows, measure_rows, over_most_clicked
from embft.report.shortfall import smallest_gain
from embft.report.training import curve_of, search_of
from embft.results import Record, RunSpec, StageResult
from embft.templates import templates_of

# Stages whose results the page shows, in the night's order.
STAGES_SHOWN = ("plan", "validate_sessions", "preprocess_ranks", "validate_ranks", "fine_tune", "evaluate")


class Facts(Record):
    """All that the page shows: the night's frozen facts, its measures, the gate's word, and what led there.

    `stages` holds the results of `STAGES_SHOWN`; `training` is `history.json` of `fine_tune`, `trials` its
    `trials.json`, and `changed` is `changed_queries.json` of `evaluate`.
    """

    run: RunSpec
    evaluation: Evaluation
    decision: Decision
    stages: dict[str, StageResult]
    training: dict[str, Any]
    changed: ChangedQueries | None = None
    search: SearchSummary | None = None
    trials: tuple[Trial, ...] = ()


def render(facts: Facts) -> str:
    """Write the page. Every text is escaped: queries and item texts are strangers' words.

    Args:
        facts: Of the night.

    Returns:
        HTML that loads nothing: no script, no font, no picture, no style sheet.
    """
    run = facts.run
    rules = [
        rule
        for stage in ("validate_sessions", "validate_ranks")
        for rule in facts.stages[stage].figures.get("rules", [])
    ]
    links = _links(facts.stages)
    left_out = facts.stages["validate_sessions"].figures.get("days_left_out", {})
    return _template().render(
        run=run,
        stages=facts.stages,
        **_judgement(facts),
        links=links,
        docs={title: url for title, url in links.items() if title.startswith("Data Docs")},
        funnel=_funnel(facts.stages["validate_sessions"].figures),
        inputs=facts.stages["preprocess_ranks"].figures,
        broken=_broken(rules, run.day.isoformat()),
        left_out=left_out,
        unjudged=_by_reason(rules),
        changed=facts.changed,
        curve=curve_of(facts.training),
        search=search_of(facts.search, facts.trials),
        commands=_commands(run),
    )


@cache
def _template() -> Template:
    environment = templates_of("embft.report")
    environment.filters |= {"count": "{:,}".format, "model_name": model_name}
    environment.globals |= {"share_svg": share_svg}
    return environment.get_template("page.html.j2")


def _judgement(facts: Facts) -> dict[str, Any]:
    """Prepare what the gate said, and the comparison that it rests on."""
    run, decision, evaluation = facts.run, facts.decision, facts.evaluation
    rules = all_rules(run.config.gate, run.config.evaluation.guards)
    axes, gains = set_rows(evaluation)
    return {
        "evaluation": evaluation,
        "decision": decision,
        "verdict": _verdict(run, decision),
        "gate": rule_rows(decision, rules, evaluation),
        "smallest_gain": smallest_gain(decision, rules, evaluation),
        "columns": columns(evaluation, run.champion.version if run.champion else None),
        "measures": measure_rows(evaluation),
        "over_table": over_most_clicked(evaluation),
        "costs": cost_rows(evaluation),
        "axes": axes,
        "gains": gains,
    }


def _verdict(run: RunSpec, decision: Decision) -> str:
    """Say what the gate's word comes to; the page is written before anybody is asked, and before `register`."""
    if not decision.passed:
        return "rejected"
    if run.promote == "never":
        return "passed, not promoted"
    return "passed, to be approved" if run.config.gate.approval else "promoted"


def _links(stages: dict[str, StageResult]) -> dict[str, str]:
    """Name the pages that the stages point to; a page that two stages point to comes once."""
    named = {
        url: f"{name} of {stage}"
        for stage, result in reversed(stages.items())
        for name, url in result.links.items()
        if url.startswith(("http://", "https://"))
    }
    return {title: url for url, title in reversed(named.items())}


def _broken(rules: list[dict[str, Any]], day: str) -> list[dict[str, Any]]:
    """Give the rules broken tonight, each with what was found; other days had nights of their own to tell theirs."""
    found = [(rule, rule["broken_days"].get(day) if rule["broken_days"] else rule["found"]) for rule in rules]
    return [{**rule, "found": it} for rule, it in found if rule["success"] is False and it]


def _by_reason(rules: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Name the rules that could not be judged: on a model's first nights that is half of them."""
    names: dict[str, list[str]] = {}
    for rule in rules:
        if rule["skipped"]:
            names.setdefault(rule["skipped"], []).append(rule["name"])
    return names


def _funnel(sessions: dict[str, Any]) -> list[tuple[str, int]]:
    """List what became of the log's lines, in the order in which they are lost."""
    pulled, checked = sessions["pulled"], sessions["sessions"]
    return [
        ("Log lines read", pulled["lines"]),
        ("− duplicates", pulled["duplicates"]),
        ("− filtered by rule", pulled["filtered"]),
        ("− quarantined as unreadable", pulled["quarantined"]),
        # Of a log of events, a session takes several lines.
        ("= sessions", pulled["sessions"]),
        ("− set aside by data rules", checked["set_aside"]),
        ("− left out with their day", checked["left_out"]),
        ("= clean sessions", pulled["sessions"] - checked["set_aside"] - checked["left_out"]),
    ]


def _commands(run: RunSpec) -> list[str]:
    """Spell the night as a person would type it."""
    promote = [] if run.promote == "auto" else ["--promote", run.promote]
    options = {
        "plan": [["--window-days", str(len(run.window)), *promote]],
        "pull": [["--log-day", it.day.isoformat()] for it in run.window if it.objects],
    }
    return [
        shlex.join(["embft", stage_command(stage), "--model", run.model, "--day", run.day.isoformat(), *more])
        for stage in STAGES[: STAGES.index("gate") + 1]
        for more in options.get(stage, [[]])
    ]
