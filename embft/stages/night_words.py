"""The words in which people are told what became of a night."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pydantic import ValidationError

from embft.config import STAGES
from embft.errors import ConfigError, DataRejected
from embft.monitoring.message import Words
from embft.monitoring.run_facts import RunFacts, TaskFailure
from embft.monitoring.sentences import first_clause, one_line
from embft.paths import stage_command
from embft.promotion.decision import Decision, RuleVerdict
from embft.results import StageResult
from embft.stages.evidence import Evidence
from embft.stages.log_days import sessions_of_day
from embft.stages.stage import read_run

_NIGHTS_IN_A_ROW = 14
_LONGEST_DETAIL = 2000
SAID_NOTHING = "it said nothing: its worker or pod was lost, or somebody stopped it"
_NO_MODEL = "no new model from the night of {day}"
OF_DATA = {
    "plan": _NO_MODEL,
    "validate_sessions": f"{_NO_MODEL}: its clicks or catalogue were rejected",
    "preprocess_ranks": f"{_NO_MODEL}: its clicks cannot be learned from",
    "validate_ranks": f"{_NO_MODEL}: its fine-tuning inputs were rejected",
    "monitor": "{day} was not monitored",
}
"""Stages that may reject their data → what is lost by it."""


def decision_of(gate: StageResult) -> Decision | None:
    """Read the gate's decision from its result.

    Args:
        gate: The result.

    Returns:
        The decision; None where another version of embft wrote it in another form.
    """
    told = {"model": gate.model, "day": gate.day, "passed": gate.status == "done", "reason": gate.reason or ""}
    try:
        return Decision.model_validate({**gate.figures, **told})
    except ValidationError:
        return None


def broken_rules(decision: Decision) -> list[RuleVerdict]:
    """Give the rules that a candidate did not keep, in the decision's order."""
    return [it for it in decision.rules if not it.passed]


def gate_words(evidence: Evidence, gate: StageResult, links: Mapping[str, str]) -> Words:
    """Say that the gate rejected a night's model, and by which figure against which limit.

    Args:
        evidence: Of the model.
        gate: The gate's result.
        links: Web pages.

    Returns:
        The words.
    """
    decision = decision_of(gate)
    broken = broken_rules(decision) if decision else []
    reason = (gate.reason or "the gate gave no reason").removeprefix("rejected: ")
    why = _against_limit(broken[0]) if broken else first_clause(reason)
    further = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    details = [f"{it.rule}: {_without_end(it.sentence)}." for it in broken] or [f"{_without_end(reason)}."]
    if decision is None:
        details.append(f"The figures of each rule could not be read: {gate.uri} is of another version of embft.")
    elif decision.detectable is not None:
        details.append(
            f"A night such as this one could have shown a true gain of {decision.detectable:.1%} of the loss in 8 of "
            "10 cases; a smaller one goes unseen."
        )
    in_a_row = _rejected_in_a_row(evidence, gate.day)
    if in_a_row > 1:
        details.append(f"It is the {_ordinal(in_a_row)} night in a row that the gate rejects.")
    return Words(
        title=f"{evidence.model}: tonight's model ({gate.day}) was not promoted: {why}{further}",
        details=(*details, evidence.serving),
        links=dict(links),
        command=f"embft gate --model {evidence.model} --day {gate.day} --explain",
    )


def _against_limit(rule: RuleVerdict) -> str:
    """Tell a broken rule's figure against its limit, for people who do not know the gate."""
    if rule.figure is None:
        return rule.sentence
    found = rule.sentence.partition(" (")[0]
    if not rule.is_share:
        return f"{found}; {'at most' if rule.bound == 'at_most' else 'at least'} {rule.limit:g} is allowed"
    # The figure alone may keep its limit, where a rule asks for what is sure.
    is_shown = rule.low is not None and "% confidence" in rule.sentence
    sure = f" ({_sure_of(rule.low)})" if is_shown and rule.low is not None else ""
    if rule.limit < 0:
        return f"{found}; at most {-rule.limit:.1%} worse is allowed{sure}"
    return f"{found}, but {rule.limit:.1%} better {'must be shown' if is_shown else 'is asked for'}{sure}"


def _sure_of(low: float) -> str:
    return f"no more than {low:+.1%} is sure" if low > 0 else f"it may even be {-low:.1%} worse"


def _rejected_in_a_row(evidence: Evidence, day: date) -> int:
    nights = [day - timedelta(days=back) for back in range(1, _NIGHTS_IN_A_ROW)]
    found = evidence.gate_results(nights)
    in_a_row = 1
    for night in nights:
        if night not in found or found[night].status != "rejected":
            break
        in_a_row += 1
    return in_a_row


def rejected_words(evidence: Evidence, result: StageResult, links: Mapping[str, str]) -> Words:
    """Say that a night's data was rejected, by which rule, and what to do.

    Args:
        evidence: Of the model.
        result: Of the stage that rejected it.
        links: Web pages.

    Returns:
        The words.
    """
    reasons = reasons_of(result)
    # A night keeps the listing and the settings that its plan froze: mended ones are seen by a new plan alone.
    is_of_night = result.stage in STAGES
    command = _command(evidence.model, "night" if is_of_night else result.stage, result.day)
    title = f"{evidence.model}: {OF_DATA[result.stage].format(day=result.day)}: {_what(reasons[0], result.day)}"
    details = [one_line(f"{_without_end(it)}.", _LONGEST_DETAIL) for it in reasons]
    return Words(
        title=title,
        details=(
            *details,
            *_set_aside(evidence, result),
            evidence.serving,
            _again("plan" if is_of_night else result.stage),
        ),
        links=dict(links),
        command=command,
    )


def _what(reason: str, day: date) -> str:
    """Give what is wrong without whose sessions they are, where a title has just said which night's."""
    return first_clause(reason.removeprefix(f"the sessions of {day}: "))


def reasons_of(result: StageResult) -> list[str]:
    """Give the sentences in which a stage says why it rejected its data, the first one first; at least one."""
    told = result.figures.get("reasons")
    reasons = [it for it in told if isinstance(it, str)] if isinstance(told, list) else []
    return reasons or [result.reason or f"{result.stage} gave no reason; see {result.uri}"]


def _set_aside(evidence: Evidence, result: StageResult) -> list[str]:
    """Say how much of the night's log and of its sessions was set aside, and for which reasons."""
    if result.stage != "validate_sessions":
        return []
    told = []
    try:
        spec = read_run(evidence.storage, evidence.paths, result.day)
        prefix = sessions_of_day(evidence.paths, spec.config, spec.client_key, result.day)
        pulled = evidence.storage.read_result(prefix)
    except (ConfigError, DataRejected) as error:
        told.append(f"What was set aside of the night's log could not be read: {error}.")
    else:
        figures = pulled.figures if pulled else {}
        lines, bad = figures.get("lines"), figures.get("quarantined")
        if lines and bad:
            shares = _counted(figures.get("quarantined_by_reason"), lines)
            told.append(f"Of the {lines:,} log lines of {result.day}, {bad:,} could not be read: {shares}.")
    by_rule = result.figures.get("set_aside_by_rule")
    checked = (result.figures.get("sessions") or {}).get("checked")
    if by_rule and checked:
        told.append(f"Set aside by rule, of {checked:,} sessions and the catalogue: {_counted(by_rule, None)}.")
    return told


def _counted(counts: Any, of: int | None) -> str:
    commonest = sorted((counts or {}).items(), key=lambda it: (-it[1], it[0]))[:5]
    return ", ".join(f"{what} {n:,}{f' ({n / of:.1%})' if of else ''}" for what, n in commonest) or "no reason is known"


def failed_words(
    evidence: Evidence, run: RunFacts, day: date, failures: Sequence[TaskFailure], links: Mapping[str, str]
) -> Words:
    """Say that a task failed for good.

    Args:
        evidence: Of the model.
        run: Airflow's word on the run.
        day: The night, or the log day that is monitored.
        failures: The failed tasks, the one that is told of first.
        links: Web pages.

    Returns:
        The words.
    """
    first, *others = failures
    tries = {None: "", 1: " at its only try"}.get(first.tries, f" after {first.tries} tries")
    said = first.said or SAID_NOTHING
    if run.kind == "monitor":
        lost = f"{day} was not monitored"
    elif first.task == "publish":
        lost = f"the vectors of {day} were not published"
    elif first.task in STAGES:
        lost = _NO_MODEL.format(day=day)
    else:
        lost = f"the night of {day} did not come to its end"
    told = f"{first.task} said: {_without_end(said)}." if first.said else f"Of {first.task}: {said}."
    details = [one_line(told, _LONGEST_DETAIL)]
    if others:
        details.append(f"Failed as well: {', '.join(dict.fromkeys(it.task for it in others))}.")
    return Words(
        title=f"{evidence.model}: {lost}: {first.task} failed for good{tries}: {first_clause(said, 160)}",
        details=(*details, evidence.serving, _again(first.task)),
        links=dict(links),
        command=_command(evidence.model, first.task, day) if first.task in (*STAGES, "monitor") else None,
    )


def search_words(evidence: Evidence, day: date, failures: Sequence[TaskFailure], links: Mapping[str, str]) -> Words:
    """Say that workers of a night's search failed for good, though the night went on.

    Args:
        evidence: Of the model.
        day: The night.
        failures: Those workers, the one that is told of first.
        links: Web pages.

    Returns:
        The words.
    """
    said = failures[0].said or SAID_NOTHING
    which = "a worker" if len(failures) == 1 else f"{len(failures)} workers"
    return Words(
        title=f"{evidence.model}: {which} of the search of {day} failed for good: {first_clause(said, 160)}",
        details=(
            one_line(f"It said: {_without_end(said)}." if failures[0].said else f"Of it: {said}.", _LONGEST_DETAIL),
            "The night went on: the other workers and fine_tune trained what was left. Nothing has to be cleared.",
        ),
        links=dict(links),
    )


def through_words(
    evidence: Evidence, results: Mapping[str, StageResult | None], day: date, run: RunFacts, night: str = "night"
) -> Words:
    """Say that a night came to its end, and what it came to.

    Args:
        evidence: Of the model.
        results: Stage → its result.
        day: The night.
        run: Airflow's word on the run.
        night: What it is called; a night that failed and was late ends two incidents, in two messages.

    Returns:
        The words.
    """
    gate, registered = results.get("gate"), results.get("register")
    if gate is not None and gate.status == "rejected":
        came_to = "its model was rejected by the gate"
        details = [f"{_without_end(gate.reason or '')}."]
    elif registered is not None and registered.figures.get("promoted"):
        version, champion = registered.figures["version"], evidence.history.champion if evidence.history else None
        came_to = f"version {version} {'serves' if champion and champion.version == version else 'was promoted'}"
        details = []
    else:
        came_to = "its model was not promoted"
        details = [f"{_without_end(registered.reason)}." if registered and registered.reason else evidence.serving]
    return Words(
        title=f"{evidence.model}: the {night} of {day} is through: {came_to}",
        details=tuple(details),
        links=links_of(run, gate),
    )


def links_of(run: RunFacts, *results: StageResult | None, failure: TaskFailure | None = None) -> dict[str, str]:
    """Collect web pages about a run.

    Args:
        run: Airflow's word on it.
        results: Results whose pages are wanted.
        failure: A task whose log is wanted.

    Returns:
        Name → address.
    """
    links = {name: url for result in results if result for name, url in result.links.items()}
    log = {"Log": failure.log_url} if failure and failure.log_url else {}
    return {**links, **log, **({"Airflow run": run.url} if run.url else {})}


def _again(task: str) -> str:
    return f"Once that is mended, clear {task} in Airflow with all that follows it."


def _command(model: str, task: str, day: date) -> str:
    return f"embft {stage_command(task)} --model {model} --day {day}"


def _without_end(sentence: str) -> str:
    return sentence.rstrip(" .")


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') if number // 10 % 10 != 1 else 'th' }"
