"""What a night lacked: the figure that would have kept a broken rule, and how small a gain could have been shown."""

from collections.abc import Sequence
from math import ceil, log10

from embft.promotion.decision import Decision, RuleVerdict
from embft.promotion.evaluation_record import Evaluation, QuerySet
from embft.promotion.wording import is_lower_better, measure_name, opponent_of
from embft.promotion_config import COSTS, GateRule
from embft.report.wording import Scale, limit_told

# More queries than so many times tonight's are no advice.
_MOST_TIMES = 100


def needed(rule: GateRule, verdict: RuleVerdict, evaluation: Evaluation) -> str:
    """Say what would have kept a broken rule, on a night as sure of its figure as this one.

    Args:
        rule: The rule.
        verdict: Broken, with a figure.
        evaluation: What was decided on.

    Returns:
        The figure that was needed and the one that was found; where the gain was enough but not sure, how many
        queries would have made it so.
    """
    assert verdict.figure is not None  # a rule that could not be judged has a sentence in place of a figure
    scale, figure = Scale(verdict), verdict.figure
    is_ceiling = verdict.bound == "at_most"
    worst, best = (verdict.high, verdict.low) if is_ceiling else (verdict.low, verdict.high)
    deciding = {"off": figure, "to_promote": worst, "to_reject": best}[rule.confidence]
    if deciding is None:
        return f"{limit_told(rule, verdict, scale)}; {scale.told(figure)} was found, and its interval has no bound"
    target = verdict.limit + figure - deciding
    told = scale.told(target) if deciding == figure else f"about {scale.told(target)}"
    own = _own_figure(rule, target, evaluation) if verdict.is_share else None
    told += f" ({measure_name(rule.measure)} {own:.4f})" if own is not None else ""
    # Of two equal models the champion stays: its own figure would not have been enough.
    at_least = "above" if rule.name == "min_relative_gain" and target == 0 else "at least"
    sure = f" to be sure of {scale.told(verdict.limit)}" if rule.confidence == "to_promote" else ""
    told = f"{'at most' if is_ceiling else at_least} {told}{sure}; {scale.told(figure)} was found"
    surplus = (verdict.limit - figure) if is_ceiling else (figure - verdict.limit)
    if rule.confidence != "to_promote" or surplus <= 0:
        return told
    n = _queries_of(rule, evaluation).n_queries
    times = ((figure - deciding) / surplus) ** 2  # an interval is as wide as 1 / √n
    if times > _MOST_TIMES:
        return f"{told}, too close to the limit to be shown by any likely number of queries"
    return f"{told}, which would do with about {_rounded(n * times):,} different queries in place of {n:,}"


def smallest_gain(decision: Decision, rules: Sequence[GateRule], evaluation: Evaluation) -> list[str]:
    """Tell how small a gain the night could have shown, so that "not shown" is not read as "no better".

    Args:
        decision: The gate's.
        rules: What it decided by.
        evaluation: What it decided on.

    Returns:
        Sentences; the figure is in the first.
    """
    n = evaluation.of("slice", "all").n_queries
    detectable, opponent = decision.detectable, decision.opponent
    if detectable is None:
        return [f"It cannot be told from tonight's {n:,} different queries: too few, or a figure is not a number."]
    told = [
        f"{detectable:.1%} less validation loss than the {opponent}'s.",
        f"Were a model truly so much better, 8 of 10 such nights would show, with {100 * evaluation.confidence:g}% "
        "confidence, that it is better at all; a smaller gain may be real and still not be shown.",
    ]
    asked = next(it for it in rules if it.name == "min_relative_gain")
    if asked.confidence == "to_promote" and asked.limit > 0:
        told += [
            f"As min_relative_gain asks for {asked.limit:.1%}, a model must truly be about "
            f"{asked.limit + detectable:.1%} better to pass it on 8 of 10 nights."
        ]
    told += [
        f"Half of it takes about four times tonight's {n:,} different queries: hold out more days, "
        "window.test_days in the config."
    ]
    return told


def _own_figure(rule: GateRule, gain: float, evaluation: Evaluation) -> float | None:
    """Give the candidate's own figure at a gain over its opponent; None where there is no such figure."""
    opponent = opponent_of(rule, evaluation)
    if rule.measure in COSTS:
        theirs: float | None = getattr(evaluation.costs[opponent], rule.measure)
    else:
        theirs = _queries_of(rule, evaluation).models[opponent][rule.measure]
    if not theirs:
        return None
    return theirs + (-gain if is_lower_better(rule.measure) else gain) * abs(theirs)


def _queries_of(rule: GateRule, evaluation: Evaluation) -> QuerySet:
    return evaluation.of("guard", rule.guard) if rule.guard else evaluation.of("slice", rule.slice)


def _rounded(number: float) -> int:
    """Round up to two digits: the number of queries is an estimate."""
    unit: int = 10 ** max(0, int(log10(number)) - 1)
    return unit * ceil(number / unit)
