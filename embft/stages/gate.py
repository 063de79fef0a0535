"""`gate`: promote or reject, each rule with its figure and its limit; and the run's report."""

import json
from collections.abc import Mapping
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from embft.errors import ConfigError
from embft.finetuning.trials import TRIALS, SearchSummary, read_trials
from embft.paths import Paths
from embft.promotion.changed_queries import CHANGED_QUERIES, ChangedQueries
from embft.promotion.decision import Decision
from embft.promotion.evaluation import QueryFigures, figures_of
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.gate import decide
from embft.promotion.ledger import read_history
from embft.promotion.what_if import with_limits
from embft.report.page import STAGES_SHOWN, Facts, render
from embft.results import RunSpec, weights_digest
from embft.stages.models import candidate_weights, evaluation_of, weights_of
from embft.stages.stage import Context, Outcome, Stage, accepted, open_model, read_run, required_result, run_stage
from embft.storage import Storage

DECISION, GATE_REPORT = "decision.json", "report.html"
_PER_QUERY, _GUARDS, _EVALUATION = "per_query.parquet", "guards.parquet", "evaluation.json"


def _work(context: Context) -> Outcome:
    run = context.run
    evaluation = evaluation_of(context)
    sets = _sets(evaluation, context.fetch("evaluate", _PER_QUERY), context.fetch("evaluate", _GUARDS))
    rolled_back = context.reference.get(weights_digest(candidate_weights(context)))
    decision = decide(evaluation, sets, run.config.gate, run.config.evaluation.guards, rolled_back)
    decision_path, report_path = context.folder / DECISION, context.folder / GATE_REPORT
    decision_path.write_bytes(decision.to_json())
    report_path.write_text(render(_facts(context, evaluation, decision)), encoding="utf-8")
    report_url = run.config.storage.page_of(f"{context.attempt_uri}/{GATE_REPORT}")
    return Outcome(
        files={DECISION: decision_path, GATE_REPORT: report_path},
        figures=decision.model_dump(mode="json", exclude={"model", "day", "passed", "reason"}),
        status="done" if decision.passed else "rejected",
        reason=decision.reason,
        links={"Report": report_url} if report_url else {},
    )


def _facts(context: Context, evaluation: Evaluation, decision: Decision) -> Facts:
    trained, evaluated = context.inputs["fine_tune"], context.inputs["evaluate"]
    changed, search = evaluated.outputs.get(CHANGED_QUERIES), trained.figures.get("search")
    return Facts(
        run=context.run,
        evaluation=evaluation,
        decision=decision,
        stages=context.inputs,
        training=json.loads(context.fetch("fine_tune", "history.json").read_bytes()),
        changed=changed
        and ChangedQueries.from_json(context.fetch("evaluate", CHANGED_QUERIES).read_bytes(), changed.uri),
        search=SearchSummary.model_validate(search) if search else None,
        trials=read_trials(context.fetch("fine_tune", TRIALS).read_bytes()) if TRIALS in trained.outputs else (),
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
    uri = required_result(storage, paths, day, "gate").output(DECISION).uri
    raw = storage.read(uri)
    if raw is None:
        raise ConfigError(f"{uri} is gone; run the gate again with --force")
    return Decision.from_json(raw, uri)


def decision_with(model: str, day: date, limits: Mapping[str, float], *, include: Path, folder: Path) -> Decision:
    """Decide an old night anew with other limits; nothing is written to S3.

    What was rolled back since stays so: no limit lets it serve again.

    Args:
        model: The model's name.
        day: The night's day.
        limits: Rule → limit.
        include: The project's `include` folder.
        folder: For what is downloaded.

    Returns:
        What would have been decided.

    Raises:
        ConfigError: The night was not evaluated, or by another version of embft, or there is no such rule.
        DataRejected: A stage before the gate rejected the night.
    """
    _, storage, paths = open_model(model, include)
    run = read_run(storage, paths, day)
    trained, evaluated = (accepted(required_result(storage, paths, day, it)) for it in ("fine_tune", "evaluate"))
    files = {it: storage.fetch(evaluated.output(it), folder / it) for it in (_EVALUATION, _PER_QUERY, _GUARDS)}
    evaluation = Evaluation.from_json(files[_EVALUATION].read_bytes(), evaluated.output(_EVALUATION).uri)
    rules, guards = with_limits(run.config.gate, run.config.evaluation.guards, limits)
    rolled_back = _rolled_back(storage, paths, run).get(weights_digest(weights_of(trained, evaluated, evaluation)))
    return decide(evaluation, _sets(evaluation, files[_PER_QUERY], files[_GUARDS]), rules, guards, rolled_back)


def _sets(evaluation: Evaluation, per_query: Path, guards: Path) -> list[QueryFigures]:
    slices = [it.name for it in evaluation.sets if it.kind == "slice"]
    return figures_of(pq.read_table(per_query), pq.read_table(guards), slices)


def _rolled_back(storage: Storage, paths: Paths, run: RunSpec) -> dict[str, str]:
    """Say of weights that somebody took out of service why they may not come back by themselves; by their digest.

    A run that is told to promote by force is not by itself.
    """
    if run.promote == "force":
        return {}
    history = read_history(storage, paths)
    left = {it.to.digest: history.rolled_back(it.to.digest) for it in history.changes}
    return {
        digest: f"these very weights were rolled back on {it.at_utc:%Y-%m-%d} ({it.why}); `embft rollback --model "
        f"{run.model} --to {it.leaves}` lets them serve again"
        for digest, it in left.items()
        if it is not None
    }


# The report shows what every earlier stage found, so a change in any of them is a new report.
STAGE = Stage(
    "gate",
    needs=STAGES_SHOWN,
    settings=lambda run: [run.config.gate, run.config.evaluation],
    work=_work,
    reference=_rolled_back,
)
run = partial(run_stage, STAGE)
