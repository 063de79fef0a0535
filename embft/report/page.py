"""One night as one self-contained HTML page: the decision first, then the figures it rests on."""

import shlex
from math import isfinite
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from embft.config import STAGES
from embft.paths import stage_command
from embft.promotion.decision import Decision, RuleVerdict
from embft.promotion.evaluation_record import Evaluation
from embft.report.drawings import curve_svg, rule_svg, share_svg
from embft.results import Record, RunSpec, StageResult

# Key → title, and which end is better.
MEASURES = {
    "val_loss": ("Validation loss ↓", min),
    "ndcg_at_10": ("nDCG@10 ↑", max),
    "mrr_at_10": ("MRR@10 ↑", max),
    "recall_at_10": ("Recall@10 ↑", max),
}


# Stages whose results the page shows, in the night's order.
STAGES_SHOWN = ("plan", "validate_sessions", "preprocess_ranks", "validate_ranks", "fine_tune", "evaluate")


class Facts(Record):
    """All that the page shows: the night's frozen facts, its measures, the gate's word, and what led there.

    `stages` holds the results of `STAGES_SHOWN`; `training` is `history.json` of `fine_tune`.
    """

    run: RunSpec
    evaluation: Evaluation
    decision: Decision
    stages: dict[str, StageResult]
    training: dict[str, Any]


def render(facts: Facts) -> str:
    """Write the page. Every text is escaped: queries and item texts are strangers' words.

    Args:
        facts: Of the night.

    Returns:
        HTML that loads nothing: no script, no font, no picture, no style sheet.
    """
    environment = Environment(
        loader=PackageLoader("embft.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "figure": "{:.4f}".format,
        "limit": _limit,
        "found": _found,
    }
    environment.tests["ceiling"] = _is_ceiling
    environment.globals |= {"rule_svg": rule_svg, "share_svg": share_svg}
    models = facts.evaluation.models
    rules = [
        rule
        for stage in ("validate_sessions", "validate_ranks")
        for rule in facts.stages[stage].figures.get("rules", [])
    ]
    links = _links(facts.stages)
    left_out = facts.stages["validate_sessions"].figures.get("days_left_out", {})
    return environment.get_template("page.html.j2").render(
        run=facts.run,
        evaluation=facts.evaluation,
        decision=facts.decision,
        stages=facts.stages,
        links=links,
        docs={title: url for title, url in links.items() if title.startswith("Data Docs")},
        measures=MEASURES,
        models=models,
        best={key: _best(key, models) for key in MEASURES},
        change={key: _change(key, models, facts.decision.opponent) for key in MEASURES},
        funnel=_funnel(facts.stages["validate_sessions"].figures),
        inputs=facts.stages["preprocess_ranks"].figures,
        broken=_broken(rules, facts.run.day.isoformat()),
        left_out=left_out,
        unjudged=_by_reason(rules),
        curve=curve_svg(_series(facts.training, "val_loss"), _series(facts.training, "train_loss")),
        commands=_commands(facts.run),
    )


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


def _best(key: str, models: dict[str, dict[str, float]]) -> float | None:
    _, better = MEASURES[key]
    return better((it[key] for it in models.values() if isfinite(it[key])), default=None)


def _change(key: str, models: dict[str, dict[str, float]], opponent: str) -> str:
    """Say by how much the challenger's figure differs from its opponent's."""
    ours, theirs = (models.get(name, {}).get(key, 0.0) for name in ("challenger", opponent))
    return f"{ours / theirs - 1:+.1%}" if theirs and isfinite(ours / theirs) else "–"


def _limit(rule: RuleVerdict) -> str:
    bound = "at most" if _is_ceiling(rule) else "at least"
    return f"{bound} {_in_unit(rule, rule.limit)}"


def _found(rule: RuleVerdict) -> str:
    return _in_unit(rule, rule.figure)


def _is_ceiling(rule: RuleVerdict) -> bool:
    return rule.rule.startswith("gate.max_")


def _in_unit(rule: RuleVerdict, figure: float) -> str:
    return f"{figure:.1%}" if rule.rule.endswith("_gain") else f"{figure:.4f}"


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


def _series(training: dict[str, Any], key: str) -> list[tuple[int, float]]:
    points = [(record["step"], record.get(key)) for record in training.get("records", [])]
    return [(step, loss) for step, loss in points if loss is not None and isfinite(loss)]


def _commands(run: RunSpec) -> list[str]:
    """Spell the night as a person would type it."""
    options = {
        "plan": [["--window-days", str(len(run.window)), *(["--promote", "never"] if run.promote == "never" else [])]],
        "pull": [["--log-day", it.day.isoformat()] for it in run.window if it.objects],
    }
    return [
        shlex.join(["embft", stage_command(stage), "--model", run.model, "--day", run.day.isoformat(), *more])
        for stage in STAGES[: STAGES.index("gate") + 1]
        for more in options.get(stage, [[]])
    ]
