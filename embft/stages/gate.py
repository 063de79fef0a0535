"""`gate`: promote or reject, each rule with its figure and its limit; and the run's report."""

import json
from datetime import date
from functools import partial
from pathlib import Path

from embft.errors import ConfigError
from embft.promotion.gate import Decision, decide
from embft.report.page import STAGES_SHOWN, Facts, render
from embft.stages.models import evaluation_of
from embft.stages.stage import Context, Outcome, Stage, open_model, required_result, run_stage

DECISION, GATE_REPORT = "decision.json", "report.html"


def _work(context: Context) -> Outcome:
    run = context.run
    evaluation = evaluation_of(context)
    measures = {name: it.model_dump() for name, it in evaluation.models.items()}
    decision = decide(run.model, run.day, measures, run.config.gate)
    decision_path, report_path = context.folder / DECISION, context.folder / GATE_REPORT
    decision_path.write_bytes(decision.to_json())
    history = json.loads(context.fetch("fine_tune", "history.json").read_bytes())
    facts = Facts(run=run, evaluation=evaluation, decision=decision, stages=context.inputs, training=history)
    report_path.write_text(render(facts), encoding="utf-8")
    report_url = run.config.storage.page_of(f"{context.attempt_uri}/{GATE_REPORT}")
    return Outcome(
        files={DECISION: decision_path, GATE_REPORT: report_path},
        figures={"opponent": decision.opponent, "rules": [rule.model_dump() for rule in decision.rules]},
        status="done" if decision.passed else "rejected",
        reason=decision.reason,
        links={"Report": report_url} if report_url else {},
    )


def standing_decision(model: str, day: date, *, include: Path) -> Decision:
    """Read a night's decision without deciding anew.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.

    Returns:
        The decision.

    Raises:
        ConfigError: The night has no decision, or its file is gone or cannot be read.
    """
    _, storage, paths = open_model(model, include)
    uri = required_result(storage, paths, day, "gate").outputs[DECISION].uri
    raw = storage.read(uri)
    if raw is None:
        raise ConfigError(f"{uri} is gone; run the gate again with --force")
    return Decision.from_json(raw, uri)


# The report shows what every earlier stage found, so a change in any of them is a new report.
STAGE = Stage("gate", needs=STAGES_SHOWN, settings=lambda run: run.config.gate, work=_work)
run = partial(run_stage, STAGE)
