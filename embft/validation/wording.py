"""Rules, figures and examples in words that a person on call understands."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from embft.validation_config import Expectation

_MAX_TEXT = 60
_ROWS = ("values", "pair values", "multicolumn values", "compound columns")
_STATISTICS = {
    "expect_column_mean_to_be_between": "the mean of {column}",
    "expect_column_median_to_be_between": "the median of {column}",
    "expect_column_sum_to_be_between": "the sum of {column}",
    "expect_column_min_to_be_between": "the smallest {column}",
    "expect_column_max_to_be_between": "the largest {column}",
    "expect_column_stdev_to_be_between": "the standard deviation of {column}",
    "expect_column_unique_value_count_to_be_between": "the number of distinct {column}",
    "expect_column_proportion_of_unique_values_to_be_between": "the share of distinct {column}",
    "expect_column_values_to_be_between": "{column}",
    "expect_column_value_lengths_to_be_between": "the length of {column}",
    "expect_table_row_count_to_be_between": "the number of rows",
}


def columns_of(rule: Expectation) -> list[str]:
    """Name the columns that a rule speaks about.

    Args:
        rule: Any rule.

    Returns:
        Column names in the order of the rule's arguments; none for a rule on the table.
    """
    named = [rule.kwargs[key] for key in ("column", "column_A", "column_B") if key in rule.kwargs]
    listed = rule.kwargs.get("column_list")
    return [str(name) for name in [*named, *(listed if isinstance(listed, list | tuple) else [])]]


def in_words(rule: Expectation) -> str:
    """Say what a rule demands.

    Args:
        rule: Any rule.

    Returns:
        A clause such as `query_length must be at least 1` or `the mean of has_click must be between 0.01 and 1`.
    """
    columns = " and ".join(columns_of(rule))
    share = rule.kwargs.get("mostly")
    mostly = "" if share is None else f" in at least {percent(float(share))} of rows"
    if rule.type in _STATISTICS:
        return f"{_STATISTICS[rule.type].format(column=columns)} must be {allowed(rule.kwargs)}{mostly}"
    subject, _, demand = rule.type.removeprefix("expect_").partition("_to_")
    if not demand:
        return f"{_words(rule.type)} {columns}".strip()
    subject = _words(subject.replace("column_", ""))
    who = columns if subject in _ROWS else f"the {subject}{f' of {columns}' if columns else ''}"
    must = "must not " if demand.startswith("not_") else "must "
    arguments = {key: value for key, value in rule.kwargs.items() if not key.startswith("column") and key != "mostly"}
    listed = ", ".join(f"{key} {_brief(value)}" for key, value in arguments.items())
    return f"{who} {must}{_words(demand.removeprefix('not_'))}{f' ({listed})' if listed else ''}{mostly}"


def allowed(kwargs: Mapping[str, Any]) -> str:
    """Say which values a rule with `min_value` and `max_value` allows.

    Args:
        kwargs: The rule's arguments.

    Returns:
        `at least 1`, `at most 5`, `above 0`, `between 1 and 5` …
    """
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    at_least = "above" if kwargs.get("strict_min") else "at least"
    at_most = "below" if kwargs.get("strict_max") else "at most"
    if low is not None and low == high:
        return figure(low)
    if low is not None and high is not None:
        if at_least == "above" or at_most == "below":
            return f"{at_least} {figure(low)} and {at_most} {figure(high)}"
        return f"between {figure(low)} and {figure(high)}"
    return f"{at_least} {figure(low)}" if low is not None else f"{at_most} {figure(high)}"


def observation(rule: Expectation, observed: Any) -> str:
    """Say what was found where a rule on the set is broken, and what is allowed.

    Args:
        rule: The rule.
        observed: JSON-able; None where there was nothing to look at.

    Returns:
        A clause such as `the sum of has_click is 0; it must be at least 1`.
    """
    found = "unknown, as there was nothing to measure" if observed is None else figure(observed)
    if rule.type in _STATISTICS and "mostly" not in rule.kwargs:
        columns = ", ".join(columns_of(rule))
        return f"{_STATISTICS[rule.type].format(column=columns)} is {found}; it must be {allowed(rule.kwargs)}"
    return f"{in_words(rule)}; found: {observed if isinstance(observed, str) else found}"


def figure(value: Any) -> str:
    """Write a figure as people do: 1,234 · 0.0421 · text quoted and cut.

    Args:
        value: A number, a text, or a small JSON value.

    Returns:
        The text.
    """
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return _brief(value)


def percent(share: float) -> str:
    """Write a share of 1 as a percentage.

    Args:
        share: 0 … 1.

    Returns:
        Such as `68.7 %`; what is not nothing never reads as 0.0 %.
    """
    return f"{100 * share:.1f} %" if share == 0 or share >= 0.001 else f"{100 * share:.1g} %"


def quoted(text: object, limit: int = _MAX_TEXT) -> str:
    """Quote one value from the data: control characters escaped, cut.

    Args:
        text: Any value; logs are an attacker's text.
        limit: Characters to keep.

    Returns:
        One line.
    """
    whole = str(text)
    return repr(whole[:limit]) + ("…" if len(whole) > limit else "")


def examples_in_words(examples: Iterable[str]) -> str:
    """Write examples in brackets.

    Args:
        examples: Quoted already.

    Returns:
        ` (first: 'a', 'b')`, or nothing where there are none.
    """
    listed = ", ".join(examples)
    return f" (first: {listed})" if listed else ""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _brief(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    text = repr(value)
    return text[:_MAX_TEXT] + ("…" if len(text) > _MAX_TEXT else "")
