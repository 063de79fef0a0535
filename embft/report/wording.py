"""How the page writes figures, gains and limits."""

from embft.promotion.decision import RuleVerdict
from embft.promotion_config import COSTS, GateRule

_MOST_DIGITS = 6


def percent(share: float, digits: int = 1) -> str:
    """Give a gain for people: `+2.0%`; without a sign where it is rounded to nothing."""
    text = f"{share:+,.{digits}%}"
    return text if text.strip("+-0.%") else text[1:]


class Scale:
    """How the figures of a rule are written: with as many digits as tell them from its limit.

    Args:
        verdict: The rule's.
    """

    def __init__(self, verdict: RuleVerdict) -> None:
        self._is_share = verdict.is_share
        self._digits = 1 if verdict.is_share else 2 if verdict.measure in COSTS else 4
        others = [it for it in (verdict.figure, verdict.low, verdict.high) if it is not None and it != verdict.limit]
        while self._digits < _MOST_DIGITS and self.told(verdict.limit) in map(self.told, others):
            self._digits += 1

    def told(self, figure: float) -> str:
        """Write a figure, or the limit."""
        return percent(figure, self._digits) if self._is_share else f"{figure:z,.{self._digits}f}"

    def interval(self, low: float | None, high: float | None) -> str:
        """Write an interval; nothing where there is none."""
        return interval(None if low is None else self.told(low), None if high is None else self.told(high))


def interval(low: str | None, high: str | None) -> str:
    """Join the ends of an interval; nothing where it has none."""
    return "" if low is high is None else f"{low or 'no bound'} to {high or 'no bound'}"


def limit_told(rule: GateRule, verdict: RuleVerdict, scale: Scale) -> str:
    """Say what a rule asks for.

    Args:
        rule: The rule.
        verdict: What became of it.
        scale: How its figures are written.

    Returns:
        The limit; `surely` where the whole interval must keep it, `not surely` where only all of it breaks it.
    """
    is_ceiling, limit = verdict.bound == "at_most", scale.told(verdict.limit)
    if rule.confidence == "to_reject":
        return f"not surely {'above' if is_ceiling else 'below'} {limit}"
    # Equal keeps the champion, whatever the limit.
    at_least = "above" if rule.name == "min_relative_gain" and not verdict.limit else "at least"
    return f"{'surely ' if rule.confidence == 'to_promote' else ''}{'at most' if is_ceiling else at_least} {limit}"
