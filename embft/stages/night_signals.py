"""What of a run of Airflow is worth telling: its results in S3, and which of its tasks failed for good.

A re-run leaves results of the run before it behind whatever stopped it; so nothing is read beyond that point.
"""

import logging
import re
from collections.abc import Sequence
from datetime import date
from typing import Literal, NamedTuple

from embft.config import STAGES
from embft.monitoring.message import Kind, Severity, Signal, Words
from embft.monitoring.run_facts import Deadline, RunFacts, TaskFailure
from embft.monitoring.sentences import first_clause, likeness, one_line
from embft.paths import SEARCH, Paths
from embft.results import StageResult
from embft.stages.evidence import Evidence
from embft.stages.night_words import (
    OF_DATA,
    SAID_NOTHING,
    broken_rules,
    decision_of,
    failed_words,
    gate_words,
    links_of,
    reasons_of,
    rejected_words,
    search_words,
    through_words,
)

log = logging.getLogger(__name__)

_UP_TO_GATE = STAGES[: STAGES.index("gate") + 1]
_UP_TO_FINE_TUNE = STAGES[: STAGES.index("fine_tune") + 1]
_TELL = "tell"
_State = Literal["on", "off"]


def run_signals(evidence: Evidence, run: RunFacts) -> list[Signal]:
    """Say what a run has shown.

    Args:
        evidence: Of the model.
        run: Airflow's word on it.

    Returns:
        The signals; none of a night before the one that the champion comes from: what newer nights came to stands.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    if run.kind == "rollback":
        return [_rollback_signal(evidence, run)]
    if run.day is None:
        return []
    if run.kind == "monitor":
        return _monitor_signals(evidence, run, run.day)
    champion = evidence.history.champion if evidence.history else None
    if champion and champion.day > run.day:
        log.info("the night of %s is not told of: version %s is of a newer one", run.day, champion.version)
        return []
    return _Night(evidence, run, run.day).signals()


class _Stop(NamedTuple):
    """What a night did not get past."""

    task: str
    failures: list[TaskFailure]
    result: StageResult | None

    @property
    def is_rejection(self) -> bool:
        return self.task in OF_DATA and _is_rejection(self.result, self.failures)


class _Night:
    """A night as its results and Airflow tell of it."""

    def __init__(self, evidence: Evidence, run: RunFacts, day: date) -> None:
        self._evidence = evidence
        self._run = run
        self._day = day
        self._results = evidence.results(day)
        self._failed = _by_task(run)
        # No stage: what a worker of the search leaves, `fine_tune` trains.
        self._search = self._failed.pop(SEARCH, [])

    def signals(self) -> list[Signal]:
        if self._run.deadline:  # the run goes on: what is there may be of a run before it
            late = self._late(self._run.deadline)
            return [late] if late else []
        stop = self._stop()
        signals = [self._night(stop), self._searched(stop), self._gate(stop)]
        if stop is None:
            signals.append(self._signal("deadline", "deadline_missed", "off", self._through("late night")))
        return [it for it in signals if it is not None]

    def _stop(self) -> _Stop | None:
        for task in (*_UP_TO_GATE, *(it for it in self._failed if it not in _UP_TO_GATE)):
            failures, result = self._failed.get(task, []), self._results.get(task)
            is_done = task == "pull" or (result is not None and (result.status == "done" or task == "gate"))
            if failures or not is_done:
                return _Stop(task, failures, result)
        return None

    def _night(self, stop: _Stop | None) -> Signal | None:
        if stop is None:
            return self._signal("night", "stage_failed", "off", self._through("night"))
        if stop.is_rejection and stop.result:
            links = links_of(self._run, stop.result)
            words = rejected_words(self._evidence, stop.result, links)
            return self._signal("night", "data_rejected", "on", words, cause=rejection_cause(stop.result))
        # A result that went missing, such as by a rule of the bucket, silences no later task that failed.
        failures = stop.failures or self._unread(stop.task) or next(iter(self._failed.values()), [])
        if not failures:
            log.warning("%s of %s has no result, and did not fail; nothing is told of it", stop.task, self._day)
            return None
        others = [it for them in (self._search, *self._failed.values()) for it in them if it.task != failures[0].task]
        links = links_of(self._run, stop.result, failure=failures[0])
        words = failed_words(self._evidence, self._run, self._day, [*failures, *others], links)
        return self._signal("night", "stage_failed", "on", words, cause=failure_cause(failures[0]))

    def _gate(self, stop: _Stop | None) -> Signal | None:
        gate, registered = self._results.get("gate"), self._results.get("register")
        if gate is None or (stop and stop.task in _UP_TO_GATE):
            return None
        if gate.status == "rejected":
            words = gate_words(self._evidence, gate, links_of(self._run, self._results.get("fine_tune"), gate))
            return self._signal("gate", "gate_rejected", "on", words, cause=_gate_cause(gate))
        if "register" not in self._failed and registered is not None and registered.figures.get("promoted"):
            title = f"{self._evidence.model}: version {registered.figures['version']} of {self._day} was promoted"
            words = Words(title=title, details=(gate.reason or "",), links=links_of(self._run, registered, gate))
            return self._signal("gate", "gate_rejected", "off", words)
        return None

    def _searched(self, stop: _Stop | None) -> Signal | None:
        """Say whether the search's workers all came to their end; where the night stopped there, `night` tells it."""
        if stop and stop.task in _UP_TO_FINE_TUNE:
            return None
        if not self._search:
            words = Words(title=f"{self._evidence.model}: no worker of the search of {self._day} failed")
            return self._signal(SEARCH, "stage_failed", "off", words)
        links = links_of(self._run, self._results.get("fine_tune"), failure=self._search[0])
        words = search_words(self._evidence, self._day, self._search, links)
        return self._signal(SEARCH, "stage_failed", "on", words, cause=failure_cause(self._search[0]))

    def _late(self, deadline: Deadline) -> Signal | None:
        gate = self._results.get("gate")
        skipped = ("register",) if gate is not None and gate.status == "rejected" else ()
        missing = [stage for stage, result in self._results.items() if result is None and stage not in skipped]
        if not missing:
            log.info("the night of %s has all of its results; its deadline is not told of", self._day)
            return None
        queued = deadline.queued_utc.astimezone(self._evidence.config.zone)
        words = Words(
            title=(
                f"{self._evidence.model}: the night of {self._day} is not over {deadline.hours:g} h after it was "
                f"queued at {queued:%H:%M %Z}; still to come: {', '.join(missing)}"
            ),
            details=(self._evidence.serving, "It goes on; a message follows when it is through."),
            links=links_of(self._run),
        )
        # Each late night is news of its own: two may wait for each other, and the first one's end is not the second's.
        return self._signal("deadline", "deadline_missed", "on", words, cause=self._day.isoformat())

    def _unread(self, stage: str) -> list[TaskFailure]:
        """Say of a stage that ended well, but whose result this version of embft cannot read."""
        uri = Paths.result(self._evidence.paths.stage(self._day, stage))
        if self._evidence.storage.head(uri) is None:
            return []
        said = f"its result, {uri}, is damaged or of another version of embft; run it again with --force"
        return [TaskFailure(task=stage, tries=1, said=said)]

    def _through(self, night: str) -> Words:
        return through_words(self._evidence, self._results, self._day, self._run, night)

    def _signal(self, incident: str, kind: Kind, state: _State, words: Words, *, cause: str = "") -> Signal:
        return _signal(incident, kind, state, self._day, words, cause)


def _monitor_signals(evidence: Evidence, run: RunFacts, day: date) -> list[Signal]:
    failures = [it for them in _by_task(run).values() for it in them]
    result = evidence.storage.read_result(evidence.paths.monitoring(day))
    if result is not None and failures and _is_rejection(result, failures):
        if _has_told_of_the_log(evidence, day):
            log.info("that %s has no log is told of its night; it is not told again", day)
            return []
        words = rejected_words(evidence, result, links_of(run, result))
        return [_signal("monitor", "data_rejected", "on", day, words, rejection_cause(result))]
    if failures:
        words = failed_words(evidence, run, day, failures, links_of(run, failure=failures[0]))
        return [_signal("monitor", "stage_failed", "on", day, words, failure_cause(failures[0]))]
    if result is None:
        log.warning("monitor of %s has no result, and did not fail; nothing is told of it", day)
        return []
    words = Words(title=f"{evidence.model}: {day} was monitored", links=links_of(run, result))
    return [_signal("monitor", "stage_failed", "off", day, words)]


def _has_told_of_the_log(evidence: Evidence, day: date) -> bool:
    """Whether the night of a day was rejected for the log that its monitoring is missing, too."""
    plan = evidence.results(day)["plan"]
    return plan is not None and plan.status == "rejected"


def _rollback_signal(evidence: Evidence, run: RunFacts) -> Signal:
    """Tell of a rollback that failed; one that was made is told from the history."""
    failures = [it for them in _by_task(run).values() for it in them]
    if not failures:
        words = Words(title=f"{evidence.model}: a rollback came to its end", links=links_of(run))
        return _signal("rollback", "stage_failed", "off", evidence.today, words)
    said = failures[0].said or SAID_NOTHING
    words = Words(
        title=f"{evidence.model}: a rollback failed: {first_clause(said)}",
        details=(one_line(said), evidence.serving, "The same rollback, asked for again, is completed."),
        links=links_of(run, failure=failures[0]),
        command=f"embft history --model {evidence.model}",
    )
    return _signal("rollback", "stage_failed", "on", evidence.today, words, failure_cause(failures[0]))


def _signal(incident: str, kind: Kind, state: _State, day: date, words: Words, cause: str = "") -> Signal:
    severity: Severity = "warning" if kind == "gate_rejected" or incident == SEARCH else "critical"
    return Signal(incident=incident, kind=kind, day=day, state=state, cause=cause, severity=severity, words=words)


def rejection_cause(result: StageResult) -> str:
    """Name why data was rejected, the same for the same fault of another night.

    Args:
        result: Of the stage that rejected it.

    Returns:
        The stage, and the rules that its reasons name; without a rule, its reason without figures.
    """
    reasons = reasons_of(result)
    told = result.figures.get("rules")
    rules = {str(it.get("name")) for it in told if isinstance(it, dict)} if isinstance(told, list) else set()
    # Rules that set a few rows aside are broken on most nights; those that stop one are named by its reasons.
    named = {name for name in rules if any(re.search(rf"\b{re.escape(name)}\b", it) for it in reasons)}
    return f"{result.stage}: {', '.join(sorted(named)) or likeness(reasons[0])}"


def failure_cause(failure: TaskFailure) -> str:
    """Name why a task failed, the same for the same fault of another night."""
    return f"{failure.task}: {likeness(failure.said) if failure.said else 'lost'}"


def _gate_cause(gate: StageResult) -> str:
    decision = decision_of(gate)
    broken = sorted(it.rule for it in broken_rules(decision)) if decision else []
    return ", ".join(broken) or likeness(gate.reason or "")


def _by_task(run: RunFacts) -> dict[str, list[TaskFailure]]:
    """Order a run's failures as its tasks come; the instances of a mapped task are one task."""
    failed: dict[str, list[TaskFailure]] = {}
    for it in run.failed:
        task = it.task.partition("[")[0]
        if task != _TELL:
            failed.setdefault(task, []).append(it.model_copy(update={"task": task}))
    order = {stage: place for place, stage in enumerate(STAGES)}
    return dict(sorted(failed.items(), key=lambda it: order.get(it[0], order["register"] - 0.5)))


def _is_rejection(result: StageResult | None, failures: Sequence[TaskFailure]) -> bool:
    """Whether a stage examined its input and refused it. Airflow has such a task as failed, too."""
    if result is None or result.status != "rejected":
        return False
    said, reason = failures[0].said if failures else None, result.reason or ""
    # A stage that was cleared, and then failed otherwise, has still the verdict of its try before.
    return said is None or reason[:200] in said or said in reason
