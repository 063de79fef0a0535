"""Great Expectations itself: rules become expectations, a frame becomes findings. Nothing else imports the library.

Row positions come from the frame's own RangeIndex. `unexpected_index_column_names` would give the same rows twelve
times slower (100,000 rows, half of them broken: 2.4 s against 0.2 s), as it builds a dict for each row.
"""

import contextlib
import difflib
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from embft.errors import ConfigError
from embft.validation.wording import columns_of
from embft.validation_config import Expectation


@contextlib.contextmanager
def _no_analytics() -> Iterator[None]:
    """Keep the library from reporting usage; the caller's environment is as before afterwards."""
    name = "GX_ANALYTICS_ENABLED"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


with _no_analytics():
    import great_expectations as gx
    from great_expectations.compatibility.pydantic import ValidationError as GxValidationError
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

GX_VERSION: str = gx.__version__

__all__ = [
    "GX_VERSION",
    "ExpectationSuiteValidationResult",
    "ExpectationValidationResult",
    "Finding",
    "build",
    "find",
    "judges_rows",
    "merged",
    "render_page",
]
_MAP_EXPECTATIONS = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
# Their answer on a row depends on other rows.
_COMPARES_ROWS = re.compile(
    r"^expect_(column_values_to_be_(unique|increasing|decreasing)|compound_columns_to_be_unique"
    r"|column_value_z_scores_to_be_less_than|column_values_to_not_be_outliers)$"
)
# What the engine itself hands to an expectation; a rule's kwargs must not.
_OURS = ("meta", "severity", "notes", "result_format", "catch_exceptions", "batch_id", "id")


_UNBOUNDED = ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list", "unexpected_index_query")
_MAX_PARTIAL = 20  # as many as the library itself lists
NO_POSITIONS: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Finding:
    """What Great Expectations said about one rule.

    Args:
        success: Its answer; False where it raised.
        positions: Rows that break the rule, all of them, in ascending order; empty for rules without rows.
        observed: The observed value as the library gives it.
        error: What it raised instead of an answer.
        result: The library's own result, for Data Docs.
    """

    success: bool
    positions: NDArray[np.int64]
    observed: Any
    error: str | None
    result: ExpectationValidationResult


def build(suite: str, rules: Sequence[Expectation], columns: Sequence[str]) -> list[Any]:
    """Turn rules into Great Expectations' objects, so that a fault in a suite is found before any data is read.

    Args:
        suite: The suite's name, for messages.
        rules: The rules.
        columns: Columns that a rule may speak about.

    Returns:
        One expectation a rule, in order; each carries its index in `meta`.

    Raises:
        ConfigError: A type that the library does not know, an argument that it refuses, or a column that the
            frame does not have; one line each.
    """
    built, faults = [], []
    for index, rule in enumerate(rules):
        try:
            _check_columns(rule, columns)
            built.append(_expectation(rule, index))
        except ValueError as error:
            faults.append(f"{rule.where or f'suite {suite}, rule {index + 1}'}: {rule.name}: {error}")
    if faults:
        raise ConfigError("\n".join(faults))
    return built


def judges_rows(rule: Expectation) -> bool:
    """Say whether a rule judges each row by itself. With `mostly` below 1 it judges a share, and so the set.

    A rule that compares rows with one another judges the set, too: rules on rows see one partition after the other,
    and what they say must not depend on where a table is cut.

    Args:
        rule: A rule that `build` accepts.

    Returns:
        True for map expectations without tolerance that look at no other row.
    """
    if _COMPARES_ROWS.match(rule.type) or rule.kwargs.get("mostly", 1) < 1:
        return False
    return issubclass(get_expectation_impl(rule.type), _MAP_EXPECTATIONS)


def find(suite: str, frame: pd.DataFrame, expectations: Sequence[Any]) -> list[Finding]:
    """Run expectations on a frame.

    Args:
        suite: The suite's name.
        frame: Any frame; its index is not looked at.
        expectations: From `build`.

    Returns:
        One finding for each expectation, in the same order. One that raised, or that gave no answer, is not a
        success.
    """
    if not expectations:
        return []
    with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the caller's JSON
        # Copies, for an expectation belongs to the run that it was in, and partitions make many runs.
        fresh = [expectation.copy(update={"id": None}) for expectation in expectations]
        results = {result.expectation_config.meta["rule"]: result for result in _run(suite, frame, fresh)}
    findings = []
    for expectation in expectations:
        result = results.get(expectation.meta["rule"]) or _raised(expectation, "Great Expectations gave no result")
        findings.append(_finding(result))
    return findings


def merged(first: Finding, second: Finding) -> Finding:
    """Put the findings of one rule on the rows of two partitions together; which rows they are is not kept.

    Args:
        first: Of a rule that `judges_rows`.
        second: Of the same rule on further rows.

    Returns:
        A finding on all rows.
    """
    results = [first.result.result, second.result.result]
    counts = {key: sum(int(it.get(key) or 0) for it in results) for key in ("element_count", "missing_count")}
    n_unexpected = sum(int(it.get("unexpected_count") or 0) for it in results)
    n_present = counts["element_count"] - counts["missing_count"]
    partial = [value for it in results for value in it.get("partial_unexpected_list") or ()]
    success = first.success and second.success
    error = first.error or second.error
    result = ExpectationValidationResult(
        success=success,
        expectation_config=first.result.expectation_config,
        result={
            **counts,
            "unexpected_count": n_unexpected,
            "unexpected_percent": 100 * n_unexpected / n_present if n_present else None,
            "partial_unexpected_list": partial[:_MAX_PARTIAL],
        },
        exception_info=(first if first.error else second).result.exception_info,
    )
    return Finding(success, NO_POSITIONS, _observed(result.result), error, result)


def render_page(results: ExpectationSuiteValidationResult) -> str:
    """Render a suite's results as Great Expectations' Data Docs do.

    Args:
        results: Results whose texts are escaped already: the library leaves cells of its tables as they are.

    Returns:
        The page, with the library's scripts and styles in it.
    """
    document = ValidationResultsPageRenderer().render(results)
    return str(DefaultJinjaPageView().render(document, show_how_to_buttons=False))


def _run(suite: str, frame: pd.DataFrame, expectations: Sequence[Any]) -> list[ExpectationValidationResult]:
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(
                init_temp_docs_sites=False
            ),  # else it leaves one each run
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    batch = context.data_sources.add_pandas("embft").add_dataframe_asset(suite)
    definition = gx.ValidationDefinition(
        name=suite,
        data=batch.add_batch_definition_whole_dataframe("frame"),
        suite=context.suites.add(gx.ExpectationSuite(suite, expectations=list(expectations))),
    )
    try:
        outcome = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame.reset_index(drop=True)},
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
    except Exception as error:  # some metrics raise past the library's own net, and then take every rule with them
        if len(expectations) == 1:
            return [_raised(expectations[0], f"{type(error).__name__}: {error}")]
        alone = [expectation.copy(update={"id": None}) for expectation in expectations]
        return [result for expectation in alone for result in _run(suite, frame, [expectation])]
    return list(outcome.results)


def _raised(expectation: Any, message: str) -> ExpectationValidationResult:
    return ExpectationValidationResult(
        success=False,
        expectation_config=expectation.configuration,
        result={},
        exception_info={"raised_exception": True, "exception_message": message, "exception_traceback": ""},
    )


def _finding(result: ExpectationValidationResult) -> Finding:
    error = _error(result.exception_info or {})
    positions = np.asarray(result.result.get("unexpected_index_list") or [], dtype=np.int64)
    observed = _observed(result.result)
    return Finding(bool(result.success) and error is None, np.sort(positions), observed, error, _short(result))


def _observed(result: Mapping[str, Any]) -> Any:
    if result.get("observed_value") is None and result.get("unexpected_percent") is not None:
        return f"{result['unexpected_percent']:.4g} % of {result['element_count']:,} rows break it"
    return result.get("observed_value")


def _short(result: ExpectationValidationResult) -> ExpectationValidationResult:
    """Leave out the lists of every broken row: they are read already, on no page, and as long as the data."""
    return ExpectationValidationResult(
        success=result.success,
        expectation_config=result.expectation_config,
        result={key: value for key, value in result.result.items() if key not in _UNBOUNDED},
        exception_info=result.exception_info,
    )


def _error(info: dict[str, Any]) -> str | None:
    """Read both shapes of `exception_info`: flat, and one entry for each metric that failed."""
    entries = [info] if "raised_exception" in info else [entry for entry in info.values() if isinstance(entry, dict)]
    messages = [str(entry.get("exception_message")) for entry in entries if entry.get("raised_exception")]
    return messages[0] if messages else None


def _expectation(rule: Expectation, index: int) -> Any:
    ours = [key for key in _OURS if key in rule.kwargs]
    if ours:
        raise ValueError(f"kwargs must not hold {', '.join(ours)}; embft sets that itself")
    if not isinstance(rule.kwargs.get("mostly", 1), int | float):
        raise ValueError(f"kwargs.mostly is {rule.kwargs['mostly']!r}; it must be a number from 0 to 1")
    try:
        kind = get_expectation_impl(rule.type)
    except ExpectationNotFoundError:
        known = sorted(list_registered_expectation_implementations())
        raise ValueError(f"type: Great Expectations knows no {rule.type!r}{_did_you_mean(rule.type, known)}") from None
    try:
        built = kind(**rule.kwargs, severity=rule.severity, notes=rule.why, meta={"rule": index})
    except GxValidationError as error:
        known = [name for name in kind.__fields__ if name not in _OURS]
        raise ValueError("; ".join(_argument_faults(error, rule, known))) from None
    _check_limits(getattr(built, "min_value", None), getattr(built, "max_value", None))
    return built


def _check_limits(low: Any, high: Any) -> None:
    """Refuse limits that the library takes, and and fails with, or lets nothing through, once there are data.

    Args:
        low: The built expectation's `min_value`; None where it has none.
        high: Its `max_value`.

    Raises:
        ValueError: One is not finite, or they are the wrong way round.
    """
    for name, limit in (("min_value", low), ("max_value", high)):
        if isinstance(limit, float) and not math.isfinite(limit):
            raise ValueError(
                f"kwargs.{name} is {limit}; it must be a finite number, or left out where there is no limit"
            )
    with contextlib.suppress(TypeError):  # None, or a number and a date
        if low > high:
            raise ValueError(f"kwargs.min_value is {low}; it must be at most kwargs.max_value, which is {high}")


def _argument_faults(error: Any, rule: Expectation, known: Sequence[str]) -> Iterator[str]:
    for fault in error.errors():
        name = ".".join(map(str, fault["loc"]))
        if fault["type"] == "value_error.extra":
            yield f"kwargs.{name}: unknown argument{_did_you_mean(name, known)}"
        elif name == "__root__":
            yield f"kwargs: {fault['msg']}"
        else:
            found = f" (found {rule.kwargs[name]!r})" if name in rule.kwargs else ""
            yield f"kwargs.{name}: {fault['msg']}{found}"


def _check_columns(rule: Expectation, columns: Sequence[str]) -> None:
    if rule.type == "expect_column_to_exist":
        return
    for name in columns_of(rule):
        if name not in columns:
            hint = _did_you_mean(name, columns)
            raise ValueError(f"kwargs: no column {name!r}{hint}; the columns are {', '.join(columns)}")


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
