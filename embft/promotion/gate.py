"""The gate: may the candidate serve? Pure: reads no clock, disk or network, and imports nothing heavy.

A limit that must be *shown* to be kept (`to_promote`) needs the whole interval on its good side. All such rules must
hold at once, so the chance that a worse model slips through is that of one rule at most, and several need no correction
(Berger 1982, intersection-union tests). A rule that only a *shown* break can break (`to_reject`) is one of several
chances to stop a good model by accident; those are corrected together by Holm's method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np

from embft.promotion.bootstrap import MIN_QUERIES, Pair, Sample, holm
from embft.promotion.decision import Decision, RuleVerdict
from embft.promotion.evaluation import Kind, QueryFigures, finite
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.wording import finding, measure_name, model_name, most_clicked_warning, opponent_of, where
from embft.promotion_config import COSTS, MAIN_CUTOFF, Gate, GateRule, Guard


def decide(
    evaluation: Evaluation,
    sets: Sequence[QueryFigures],
    rules: Gate,
    guards: Sequence[Guard] = (),
    rolled_back: str | None = None,
) -> Decision:
    """Say whether the candidate may replace the champion, and why.

    A refusal is a result, not an error. Equal loss keeps the champion. Without a champion the base model stands in:
    a first model, too, must be better than no training at all. What cannot be judged (a figure that is not a number, a
    slice without a query) is rejected with that reason.

    Args:
        evaluation: What was measured, and of whom.
        sets: The figures behind it, per query.
        rules: The limits.
        guards: The guard sets; each brings a rule of its own.
        rolled_back: Why these very weights may not serve: somebody took them out of service.

    Returns:
        The decision with every rule's verdict.
    """
    bench = _Bench(evaluation, sets)
    judged = [bench.judge(rule) for rule in all_rules(rules, guards)]
    adjusted = holm([it.p_kept for it in judged])
    verdicts = [_verdict(it, p, evaluation.confidence) for it, p in zip(judged, adjusted, strict=True)]
    broken = [*([rolled_back] if rolled_back else []), *(it.sentence for it in verdicts if not it.passed)]
    loss = bench.loss()
    return Decision(
        model=evaluation.model,
        day=evaluation.day,
        passed=not broken,
        reason=f"rejected: {'; '.join(broken)}" if broken else f"passed: {verdicts[1].sentence}",
        candidate=evaluation.candidate,
        opponent=evaluation.opponent,
        detectable=finite(loss.gain.detectable(evaluation.confidence)) if loss else None,
        rules=tuple(verdicts),
        warnings=tuple(it for it in (most_clicked_warning(evaluation),) if it),
    )


def all_rules(rules: Gate, guards: Sequence[Guard]) -> list[GateRule]:
    """List the required rules, those of the guard sets, and the further ones.

    Args:
        rules: The limits.
        guards: The guard sets.

    Returns:
        In the order of the decision.
    """
    required = [
        GateRule(name="max_val_loss", measure="val_loss", at_most=rules.max_val_loss),
        GateRule(
            name="min_relative_gain", measure="val_loss", min_gain=rules.min_relative_gain, confidence=rules.confidence
        ),
    ]
    of_guards = [
        GateRule(
            name=it.rule,
            measure=f"ndcg_at_{MAIN_CUTOFF}",
            guard=it.name,
            min_gain=-it.max_drop,
            confidence=it.confidence,
        )
        for it in guards
    ]
    return [*required, *of_guards, *rules.rules]


@dataclass(frozen=True)
class _Judged:
    """A rule, and what was found: a sentence, and what is held against the limit; or why it cannot be judged."""

    rule: GateRule
    sample: Sample
    sentence: str
    is_judged: bool = True

    @property
    def is_upper(self) -> bool:
        return self.rule.at_most is not None

    @property
    def p_kept(self) -> float:
        """The p of "the limit is kept", for a rule that only a shown break can break; NaN for any other."""
        if not self.is_judged or self.rule.confidence != "to_reject":
            return nan
        sign = -1 if self.is_upper else 1
        return Sample(sign * self.sample.figure, sign * self.sample.resampled).p_at_least(sign * self.rule.limit)


class _Bench:
    """Where rules are held against figures; each set of queries is resampled once."""

    def __init__(self, evaluation: Evaluation, sets: Sequence[QueryFigures]) -> None:
        self._evaluation = evaluation
        self._sets = {(it.kind, it.name): it for it in sets}
        self._compared: dict[tuple[Kind, str, str], dict[str, Pair]] = {}

    def judge(self, rule: GateRule) -> _Judged:
        if rule.measure in COSTS:
            return self._judge_cost(rule)
        kind: Kind = "guard" if rule.guard else "slice"
        figures = self._sets.get((kind, rule.guard or rule.slice))
        if figures is None or not figures.table.num_rows:
            return _not_judged(rule, f"there is no query{where(rule)} to judge {measure_name(rule.measure)} by")
        opponent = opponent_of(rule, self._evaluation)
        if not figures.has(opponent, rule.measure):
            whose = f" of the {model_name(opponent)}" if rule.against == "most_clicked" else ""
            what = f"the evaluation has no {measure_name(rule.measure)}{where(rule)}{whose}"
            return _not_judged(rule, f"{what}; run evaluate again with --force")
        pair = self.pair(kind, figures.name, rule.measure, opponent)
        if who := self._broken(figures, rule.measure, opponent):
            what = f"the {model_name(who)}'s {measure_name(rule.measure)}{where(rule)} is not a number"
            return _not_judged(rule, f"{what}, so it cannot be compared; see the logs of fine_tune and evaluate")
        if not isfinite(pair.ours.figure):
            return _not_judged(rule, f"no query{where(rule)} has a {measure_name(rule.measure)}")
        sample = pair.ours if rule.min_gain is None else pair.gain
        if rule.confidence == "to_promote" and not sample.is_sure:
            n = len(set(figures.queries))
            what = f"{n} different queries{where(rule)} are too few to show what {measure_name(rule.measure)} is"
            return _not_judged(rule, f"{what}; {MIN_QUERIES} are needed")
        return self._judged(rule, sample, pair.ours.figure, pair.theirs.figure)

    def _broken(self, figures: QueryFigures, measure: str, opponent: str) -> str | None:
        """Say whose figure is no number where another model has one; a session may be such that no model has one."""
        told = {who: figures.of(who, measure) for who in figures.models}
        has_one = np.logical_or.reduce([~np.isnan(it) for it in told.values()])
        them = (self._evaluation.candidate, opponent)
        return next((who for who in them if not np.isfinite(told[who][has_one]).all()), None)

    def pair(self, kind: Kind, name: str, measure: str, opponent: str) -> Pair:
        if (kind, name, opponent) not in self._compared:
            it = self._evaluation
            compared = self._sets[kind, name].compared(it.candidate, opponent, it.resamples)
            self._compared[kind, name, opponent] = compared
        return self._compared[kind, name, opponent][measure]

    def loss(self) -> Pair | None:
        everything = self._sets.get(("slice", "all"))
        has_one = everything is not None and "val_loss" in everything.measures
        return self.pair("slice", "all", "val_loss", self._evaluation.opponent) if has_one else None

    def _judge_cost(self, rule: GateRule) -> _Judged:
        costs, it = self._evaluation.costs, self._evaluation
        ours, theirs = (getattr(costs[who], rule.measure) for who in (it.candidate, it.opponent))
        figure = ours if rule.min_gain is None else (theirs - ours) / theirs
        return self._judged(rule, Sample(figure, np.zeros(0)), ours, theirs)

    def _judged(self, rule: GateRule, sample: Sample, ours: float, theirs: float) -> _Judged:
        opposed = (opponent_of(rule, self._evaluation), theirs)
        return _Judged(rule, sample, finding(rule, sample, ours, opposed, self._evaluation.confidence))


def _not_judged(rule: GateRule, problem: str) -> _Judged:
    return _Judged(rule, Sample(nan, np.zeros(0)), problem, is_judged=False)


def _verdict(judged: _Judged, p_kept: float, confidence: float) -> RuleVerdict:
    rule, sample = judged.rule, judged.sample
    low, high = sample.interval(confidence)
    return RuleVerdict(
        rule=rule.name,
        measure=rule.measure,
        figure=finite(sample.figure),
        low=finite(low),
        high=finite(high),
        limit=rule.limit,
        bound="at_most" if judged.is_upper else "at_least",
        is_share=rule.min_gain is not None,
        passed=judged.is_judged and _holds(judged, low, high, p_kept, confidence),
        sentence=judged.sentence,
    )


def _holds(judged: _Judged, low: float, high: float, p_kept: float, confidence: float) -> bool:
    rule, sample = judged.rule, judged.sample
    # Too few queries show nothing, and their p is NaN; but what a guard set found must not be passed over.
    is_by_figure = rule.confidence == "off" or (rule.guard is not None and not sample.is_sure)
    if rule.confidence == "to_reject" and not is_by_figure:
        return not p_kept < (1 - confidence) / 2
    worst = sample.figure if is_by_figure else high if judged.is_upper else low
    if rule.name == "min_relative_gain" and not worst > 0:
        return False  # equal keeps the champion, whatever the limit
    return worst <= rule.limit if judged.is_upper else worst >= rule.limit
