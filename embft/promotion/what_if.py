"""A night's gate with other limits: what would have been decided."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from embft.errors import ConfigError
from embft.promotion.gate import all_rules
from embft.promotion_config import Gate, Guard, closest

_REQUIRED = ("max_val_loss", "min_relative_gain")


def with_limits(rules: Gate, guards: Sequence[Guard], limits: Mapping[str, float]) -> tuple[Gate, tuple[Guard, ...]]:
    """Give the rules with other limits.

    Args:
        rules: As configured.
        guards: As configured.
        limits: Name of a rule → its limit; that of `guard_<name>` is the gain asked for, and so below 0.

    Returns:
        Both, changed.

    Raises:
        ConfigError: There is no such rule, or the limit is out of range.
    """
    known = [it.name for it in all_rules(rules, guards)]
    for name in limits:
        if name not in known:
            raise ConfigError(f"--what-if {name}=…: there is no such rule; {closest(name, known)}")
    content: dict[str, Any] = rules.model_dump()
    content |= {name: limits[name] for name in _REQUIRED if name in limits}
    for rule in content["rules"]:
        if rule["name"] in limits:
            kind = next(it for it in ("at_most", "at_least", "min_gain") if rule[it] is not None)
            rule[kind] = limits[rule["name"]]
    changed = [{**it.model_dump(), "max_drop": -limits.get(it.rule, -it.max_drop)} for it in guards]
    try:
        return Gate.model_validate(content), tuple(Guard.model_validate(it) for it in changed)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(f"--what-if: {fault['loc'][-1]} cannot be {fault['input']!r}: {fault['msg']}") from None
