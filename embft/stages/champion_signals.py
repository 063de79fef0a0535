"""What of the history of champions is worth telling: promotions, rollbacks, and that no promotion came for long."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta

from embft.errors import ConfigError
from embft.monitoring.message import Signal, Words
from embft.monitoring.run_facts import RunFacts
from embft.monitoring.sentences import first_clause, one_line
from embft.promotion.evaluation_record import Comparison, Evaluation
from embft.promotion.history import Change, History, Step, version_of
from embft.promotion.wording import is_lower_better, measure_name
from embft.promotion_config import MAIN_CUTOFF
from embft.results import StageResult, weights_digest
from embft.stages.evidence import Evidence
from embft.stages.models import weights_of
from embft.stages.night_words import broken_rules, decision_of, links_of

# A first use over an old history tells what is new, and not a year of promotions.
YOUNG = timedelta(days=3)
_MOST_NIGHTS = 30
_MAIN = f"ndcg_at_{MAIN_CUTOFF}"


def change_signals(
    evidence: Evidence, history: History, is_told: Callable[[str], bool], run: RunFacts | None
) -> list[Signal]:
    """Tell of changes of champion; of none that took no effect.

    Args:
        evidence: Of the model.
        history: Of its champions.
        is_told: Says of an incident whether people know it.
        run: The run that tells: a change that it made has its page among the links.

    Returns:
        A signal for each change of the last three days that nobody was told of.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    young = (it for it in history.steps if it.took_effect and it.change.at_utc >= evidence.now - YOUNG)
    return [_changed(evidence, it, run) for it in young if not is_told(_incident(it.change))]


def _incident(change: Change) -> str:
    # Two that were asked for at once may have one number.
    return re.sub(r"[^a-z0-9_-]", "-", f"{change.kind}_{change.number}_{change.to.version}".lower())


def _changed(evidence: Evidence, step: Step, run: RunFacts | None) -> Signal:
    promoted = step.change.kind == "promotion"
    words = _promoted(evidence, step) if promoted else _rolled_back(evidence, step)
    # Who made a change is written by Airflow's task with the run's id in it.
    pages = links_of(run) if run and run.run_id in step.change.who else {}
    return Signal(
        incident=_incident(step.change),
        kind=step.change.kind,
        day=step.change.to.day if promoted else _day(evidence, step.change.at_utc),
        state="happened",
        severity="info" if promoted else "warning",
        words=words.model_copy(update={"links": {**words.links, **pages}}),
    )


def _promoted(evidence: Evidence, step: Step) -> Words:
    change, results = step.change, evidence.results(step.change.to.day)
    gains, problem = _gains(evidence, change, results["fine_tune"], results["evaluate"])
    replaces = f"replaces version {step.before.version}, of {step.before.day}" if step.before else "is the first"
    forced = "; its run was told to promote it (promote: force)" if change.forced else ""
    links = {name: url for it in (results["gate"], results["fine_tune"]) if it for name, url in it.links.items()}
    return Words(
        title=f"{evidence.model}: version {change.to.version} serves{f': {gains}' if gains else ''}",
        details=(
            f"It comes from the night of {change.to.day}, and {replaces}{forced}.",
            one_line(f"Why: {change.why.removeprefix('passed: ')}"),
            *([f"What it gained could not be read: {problem}"] if problem else []),
            *(
                [f"Should it turn out worse, a rollback brings version {step.before.version} back."]
                if step.before
                else []
            ),
        ),
        links=links if not problem else {},
        command=f"embft rollback --model {evidence.model}" if step.before else None,
    )


def _gains(
    evidence: Evidence, change: Change, trained: StageResult | None, evaluated: StageResult | None
) -> tuple[str, str | None]:
    """Say what a version gained over the one before it; or why that is not known."""
    if trained is None or evaluated is None:
        return "", f"the results of the night of {change.to.day} are gone or of another version of embft"
    try:
        uri = evaluated.output("evaluation.json").uri
        evaluation = Evaluation.from_json(evidence.storage.read(uri) or b"", uri)
    except ConfigError as error:
        return "", str(error)
    if weights_digest(weights_of(trained, evaluated, evaluation)) != change.to.digest:
        return "", f"the night of {change.to.day} was trained anew since, and has other weights now"
    compared = {it.measure: it for it in evaluation.comparisons if (it.kind, it.of) == ("slice", "all")}
    told = [_gain(compared[it]) for it in (_MAIN, "val_loss") if it in compared]
    whose = "the champion's" if evaluation.opponent == "champion" else "the base model's"
    return f"{', '.join(told)} than {whose}" if told else "", None


def _gain(it: Comparison) -> str:
    name = measure_name(it.measure)
    if not is_lower_better(it.measure):
        better = "better" if it.figure >= it.opposed else "worse"
        share = f" ({abs(it.figure / it.opposed - 1):.1%} {better})" if it.opposed else ""
        return f"{name} {it.figure:.2f} instead of {it.opposed:.2f}{share}"
    lower = "lower" if it.figure <= it.opposed else "higher"
    return f"{name} {abs(it.figure / it.opposed - 1):.1%} {lower}" if it.opposed else f"{name} {it.figure:.4f}"


def _rolled_back(evidence: Evidence, step: Step) -> Words:
    change, left = step.change, version_of(step.before)
    in_place = f"serves again in place of {left}, rolled back" if left else "serves, the first that does, chosen"
    stays_out = f"The weights of version {left} stay out of service until somebody chooses them again."
    why = first_clause(change.why, 120)
    return Words(
        title=f"{evidence.model}: version {change.to.version} {in_place} by {_person(change.who)}: {why}",
        details=(
            f"It comes from the night of {change.to.day}; the change was made at {_moment(evidence, change.at_utc)}.",
            f"By: {change.who}",
            f"Why: {change.why}",
            *([stays_out] if left else []),
        ),
        command=f"embft history --model {evidence.model}",
    )


def _person(who: str) -> str:
    """Name the person alone: the run that they started has its place in the details, and is long."""
    return one_line(who.rpartition(", started by ")[2], 60)


def _moment(evidence: Evidence, at: datetime) -> str:
    return f"{at.astimezone(evidence.config.zone):%Y-%m-%d %H:%M %Z}"


def _day(evidence: Evidence, at: datetime) -> date:
    """The day that it was then where the model's logs are written."""
    return at.astimezone(evidence.config.zone).date()


def silence_signal(evidence: Evidence, history: History) -> Signal | None:
    """Say whether no new champion came for too long.

    Days count from when the last one came to serve, whatever night it is of: a backfill of old nights is no silence.
    Before the first one they count from when the first night ran.

    Args:
        evidence: Of the model.
        history: Of its champions.

    Returns:
        The signal; None where nothing is to be told of that, or no night ran yet.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    limit = evidence.config.alerts.no_promotion_days
    since = _last_new_champion(history) or _first_night(evidence)
    if limit is None or since is None:
        return None
    days = (evidence.today - _day(evidence, since)).days
    champion = history.champion
    if days <= limit:
        title = f"{evidence.model}: version {version_of(champion)} was promoted" if champion else evidence.model
        return _silence(evidence, "off", Words(title=title, details=(evidence.serving,)))
    words = Words(
        title=(
            f"{evidence.model}: no new model for {days} days, more than {limit} (alerts.no_promotion_days): "
            f"{_still_serves(history)}"
        ),
        details=(*_fates(evidence, min(limit, _MOST_NIGHTS)), "The gate's reasons stand in each night's report."),
        command=f"embft history --model {evidence.model}",
    )
    return _silence(evidence, "on", words)


def _silence(evidence: Evidence, state: str, words: Words) -> Signal:
    told = {"incident": "no_promotion", "kind": "no_promotion", "state": state, "severity": "warning"}
    return Signal.model_validate({**told, "day": evidence.today, "words": words})


def _still_serves(history: History) -> str:
    champion = history.champion
    return f"version {champion.version}, of {champion.day}, still serves" if champion else "no version serves yet"


def _last_new_champion(history: History) -> datetime | None:
    new = (it for it in history.steps if it.took_effect and (it.change.kind == "promotion" or it.before is None))
    return max((it.change.at_utc for it in new), default=None)


def _first_night(evidence: Evidence) -> datetime | None:
    listed = evidence.storage.objects(evidence.paths.runs)
    return min((it.modified_utc for it in listed if it.modified_utc), default=None)


def _fates(evidence: Evidence, n_days: int) -> list[str]:
    """Say what became of the last nights."""
    nights = [evidence.today - timedelta(days=back) for back in range(1, n_days + 1)]
    judged = evidence.gate_results(nights)
    rejected = [it for it in judged.values() if it.status == "rejected"]
    if not judged:
        return [f"None of the last {n_days} nights came to a verdict of the gate: they failed, or did not run."]
    told = [f"Of the last {n_days} nights, {len(judged)} came to the gate, and it rejected {len(rejected)}."]
    rules = Counter(rule for it in rejected for rule in _broken(it))
    if rules:
        told.append(f"Rules that were broken: {', '.join(f'{rule} ({n})' for rule, n in rules.most_common(5))}.")
    newest = max((it for it in rejected), key=lambda it: it.day, default=None)
    return [*told, *([_verdict(newest)] if newest else [])]


def _broken(gate: StageResult) -> list[str]:
    decision = decision_of(gate)
    return [it.rule for it in broken_rules(decision)] if decision else []


def _verdict(gate: StageResult) -> str:
    day: date = gate.day
    return one_line(f"The newest verdict, of {day}: {gate.reason}", 1000)
