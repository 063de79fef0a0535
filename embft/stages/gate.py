"""`gate`: promote or reject, each rule with its figure and its limit; and the run's report."""

from datetime import date
from functools import partial
from pathlib import Path

from embft.errors import ConfigError
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.gate import Decision, decide
from embft.report.page import gather, render
from embft.results import StageResult
from embft.stages.stage import Context, Outcome, Stage, open_model, required_result, run_stage

DECISION, GATE_REPORT = "decision.json", "report.html"


def _work(context: Context) -> Outcome:
    run = context.run
    evaluation = Evaluation.model_validate_json(context.fetch("evaluate", "evaluation.json").read_bytes())
    measures = {name: it.model_dump() for name, it in evaluation.models.items()}
    decision = decide(run.model, run.day, measures, run.config.gate)
    decision_path, report_path = context.folder / DECISION, context.folder / GATE_REPORT
    decision_path.write_bytes(decision.to_json())
    facts = gather(context.storage, context.paths, run, evaluation, decision)
    report_path.write_text(render(facts), encoding="utf-8")
    report_url = run.config.storage.page_of(f"{context.attempt_uri}/{GATE_REPORT}")
    return Outcome(
        files={DECISION: decision_path, GATE_REPORT: report_path},
        figures={"opponent": decision.opponent, "rules": [rule.model_dump() for rule in decision.rules]},
        status="done" if decision.passed else "rejected",
        reason=decision.reason,
        links={"Report": report_url} if report_url else {},
    )


def standing_decision(model: str, day: date, *, include: Path) -> tuple[StageResult, Decision]:
    """Read a night's decision without deciding anew.

    Args:
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.

    Returns:
        The gate's result, and its decision.

    Raises:
        ConfigError: The night has no decision, or its file is gone.
    """
    _, storage, paths = open_model(model, include)
    result = required_result(storage, paths, day, "gate")
    raw = storage.read(result.outputs[DECISION].uri)
    if raw is None:
        raise ConfigError(f"{result.outputs[DECISION].uri} is gone; run the gate again with --force")
    return result, Decision.model_validate_json(raw)


STAGE = Stage("gate", needs=("fine_tune", "evaluate"), settings=lambda run: [run.config.gate, run.promote], work=_work)
run = partial(run_stage, STAGE)
