"""The gate: may the challenger serve? Pure: reads no clock, disk or network, and imports nothing heavy."""

from collections.abc import Mapping
from datetime import date
from math import isfinite, nan

from pydantic import Field

from embft.config import Gate
from embft.results import Record


class RuleVerdict(Record):
    """One rule of the gate with its figure and its limit."""

    rule: str
    figure: float
    limit: float
    passed: bool
    sentence: str


class Decision(Record):
    """`decision.json`: may the challenger serve, and why."""

    model: str
    day: date
    passed: bool
    reason: str = Field(description="One sentence that a person can act on.")
    opponent: str = Field(description="`champion`, or `base` before the first promotion.")
    rules: tuple[RuleVerdict, ...]


def decide(model: str, day: date, measures: Mapping[str, Mapping[str, float]], rules: Gate) -> Decision:
    """Say whether the challenger may replace the champion, and why.

    A refusal is a result, not an error. Equal loss keeps the champion. Without a champion the base model stands in:
    a first model, too, must be better than no training at all.

    Args:
        model: The model's name.
        day: The night's day.
        measures: `base`, `challenger` and, where there is one, `champion` → their measures; `val_loss` is read.
        rules: The limits.

    Returns:
        The decision with every rule's verdict. A loss that is missing or not finite is rejected with that reason.
    """
    opponent = "champion" if "champion" in measures else "base"
    losses = {who: measures.get(who, {}).get("val_loss", nan) for who in ("challenger", opponent)}
    for who, loss in losses.items():
        if not isfinite(loss):
            reason = f"rejected: the {who}'s validation loss is {loss}, so it cannot be compared; see fine_tune's log"
            return Decision(model=model, day=day, passed=False, reason=reason, opponent=opponent, rules=())
    verdicts = (
        _absolute(losses["challenger"], rules),
        _relative(losses["challenger"], losses[opponent], opponent, rules),
    )
    broken = [verdict.sentence for verdict in verdicts if not verdict.passed]
    reason = f"rejected: {'; '.join(broken)}" if broken else f"passed: {verdicts[1].sentence}"
    return Decision(model=model, day=day, passed=not broken, reason=reason, opponent=opponent, rules=verdicts)


def _absolute(loss: float, rules: Gate) -> RuleVerdict:
    passed = loss <= rules.max_val_loss
    sentence = (
        f"validation loss {loss:.4f} is {'within' if passed else 'above'} gate.max_val_loss {rules.max_val_loss:g}"
    )
    return RuleVerdict(
        rule="gate.max_val_loss", figure=loss, limit=rules.max_val_loss, passed=passed, sentence=sentence
    )


def _relative(loss: float, opposed: float, opponent: str, rules: Gate) -> RuleVerdict:
    gain = (opposed - loss) / opposed if opposed else 0.0
    passed = loss < opposed and gain >= rules.min_relative_gain
    direction = f"{abs(gain):.1%} {'below' if gain >= 0 else 'above'}"
    sentence = (
        f"validation loss {loss:.4f} is {direction} the {opponent}'s {opposed:.4f} "
        f"(gate.min_relative_gain asks for {rules.min_relative_gain:.1%} below)"
    )
    return RuleVerdict(
        rule="gate.min_relative_gain", figure=gain, limit=rules.min_relative_gain, passed=passed, sentence=sentence
    )
