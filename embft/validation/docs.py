"""Data Docs: Great Expectations' own page for each suite, made safe and self-contained, and a first page of ours.

Two things of the library's pages are changed. It does not escape the values in its tables of unexpected values, and
the text of queries is an attacker's text: so every text of a result is escaped before it is rendered. And its pages
load scripts and styles from six hosts on the internet: those are taken out, a small style sheet comes in, and a
Content-Security-Policy lets no script run at all. A page is one file and opens anywhere.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from embft.templates import templates_of
from embft.validation.drawings import days_svg, hours_svg
from embft.validation.engine import (
    GX_VERSION,
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
    render_page,
)
from embft.validation.profiles import DayProfile
from embft.validation.verdicts import Excess, RuleOutcome, Verdict
from embft.validation.wording import figure, percent

_MAX_SHOWN = 20  # values of one rule in a page; the quarantine has them all
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MAX_CARDS, _MAX_CARDS_A_DAY = 40, 8  # of one kind; result.json has them all


def _sentence(text: str) -> str:
    """Make a clause a sentence; a name at its beginning stays as it is written."""
    is_name = re.match(r"\w+[._]\w", text)
    return f"{text if is_name else text[:1].upper() + text[1:]}."


_PAGES = templates_of("embft.validation")
_PAGES.filters |= {"figure": figure, "percent": percent, "sentence": _sentence}
_PAGES.globals["policy"] = _POLICY


@dataclass(frozen=True)
class LogDays:
    """The log days of a window, for the first page.

    Args:
        newest: The night's own day (ISO), whether or not it has sessions.
        profiles: Of the days that have a log.
        usual: Day → sessions that are usual, where enough is known.
        left_out: Earlier day → why it is not learned from.
    """

    newest: str
    profiles: Sequence[DayProfile]
    usual: Mapping[str, float]
    left_out: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class _Card:
    """One thing that is wrong. Of a sentence that no rule says, only `found` is known."""

    found: str
    rule: RuleOutcome | None = None
    suite: str = ""
    day: str = ""
    is_worst: bool = False  # of all rules that set rows aside


def write_suite_page(docs_folder: Path, suite: str, results: Sequence[ExpectationValidationResult]) -> Path:
    """Write one suite's Great Expectations page.

    Args:
        docs_folder: Folder of the pages; made if missing.
        suite: The suite's name.
        results: The library's results, one for each rule that was judged.

    Returns:
        `<suite>.html`.
    """
    shown = [_shown(result) for result in results]
    passed = sum(bool(result.success) for result in shown)
    page = render_page(
        ExpectationSuiteValidationResult(
            success=passed == len(shown),
            results=shown,
            suite_name=suite,
            statistics={
                "evaluated_expectations": len(shown),
                "successful_expectations": passed,
                "unsuccessful_expectations": len(shown) - passed,
                "success_percent": 100 * passed / len(shown) if shown else None,
            },
            meta={
                "run_id": {"run_name": suite, "run_time": datetime.now(UTC).isoformat()},
                "great_expectations_version": GX_VERSION,
            },
        )
    )
    docs_folder.mkdir(parents=True, exist_ok=True)
    path = docs_folder / f"{suite}.html"
    path.write_text(_self_contained(page, suite), encoding="utf-8")
    return path


def write_index(
    docs_folder: Path,
    title: str,
    verdicts: Sequence[Verdict],
    reasons: Sequence[str],
    warnings: Sequence[str],
    *,
    excess: Sequence[Excess] = (),
    days: LogDays | None = None,
) -> Path:
    """Write the page that a person sees first: what is wrong, why it matters, what to do; then every rule.

    A reason or warning that is a rule's sentence is shown in its parts, any other as it is.

    Args:
        docs_folder: Folder that holds the suites' pages.
        title: What was validated.
        verdicts: One for each suite.
        reasons: Why the run stops; none where it goes on.
        warnings: What a person should know of a run that goes on, without days that are left out.
        excess: Where more rows were set aside than may be.
        days: The window's log days; None where the suites speak of no days.

    Returns:
        `index.html`.
    """
    newest = days.newest if days else ""
    left_out = days.left_out if days else {}
    page = _PAGES.get_template("index.html.j2").render(
        title=title,
        reasons=_cards(reasons, verdicts, excess, newest),
        warnings=_cards(warnings, verdicts, (), newest),
        left_out={day: _cards(left_out[day], verdicts, (), day) for day in sorted(left_out)[-_MAX_CARDS:]},
        n_left_out=len(left_out),
        n_sessions=_n_sessions(days) if days else {},
        max_cards=_MAX_CARDS,
        max_cards_a_day=_MAX_CARDS_A_DAY,
        suites=[(verdict, sorted(verdict.rules, key=_urgency), _not_judged(verdict)) for verdict in verdicts],
        set_aside=[
            (verdict, rule)
            for verdict in verdicts
            if verdict.critical_rows == "set_aside"
            for rule in verdict.rules
            if rule.kind == "row" and rule.severity == "critical" and rule.broken_rows
        ],
        drawings=_drawings(days, stopped=bool(reasons)) if days else [],
    )
    docs_folder.mkdir(parents=True, exist_ok=True)
    path = docs_folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _cards(sentences: Sequence[str], verdicts: Sequence[Verdict], excess: Sequence[Excess], day: str) -> list[_Card]:
    told = {it.sentence: _Card(it.found, it.worst, _suite_of(it.worst, verdicts), is_worst=True) for it in excess}
    for verdict in verdicts:
        for rule in verdict.rules:
            if rule.found:
                told[rule.sentence(rule.found)] = _Card(rule.found, rule, verdict.suite)
            if day in rule.broken_days:
                found = rule.broken_days[day]
                told[rule.sentence(found)] = _Card(found, rule, verdict.suite, day)
    return [next((card for end, card in told.items() if it.endswith(end)), _Card(it)) for it in sentences]


def _suite_of(rule: RuleOutcome, verdicts: Sequence[Verdict]) -> str:
    return next(it.suite for it in verdicts if rule in it.rules)


def _urgency(rule: RuleOutcome) -> int:
    return 2 if rule.success else int(rule.severity == "warning" and not rule.error)


def _not_judged(verdict: Verdict) -> dict[str, list[str]]:
    """Group rules by why they could not be judged: on a model's first nights that is half of them."""
    reasons: dict[str, list[str]] = {}
    for rule in verdict.rules:
        if rule.skipped:
            reasons.setdefault(rule.skipped, []).append(rule.name)
    return reasons


def _n_sessions(days: LogDays) -> dict[str, int]:
    return {it.day.isoformat(): sum(it.hours) for it in days.profiles}


def _drawings(days: LogDays, *, stopped: bool) -> list[Markup]:
    bad = {*days.left_out, *([days.newest] if stopped else [])}
    n_sessions = _n_sessions(days)
    hours = {it.day.isoformat(): it.hours for it in days.profiles}
    drawings = [days_svg(n_sessions, days.usual, bad)] if n_sessions else []
    others = [it for day, it in hours.items() if day not in bad]
    if days.newest in hours and len(others) > 1:
        drawings.append(hours_svg(days.newest, hours[days.newest], np.median(others, axis=0).tolist()))
    return drawings


def _shown(result: ExpectationValidationResult) -> ExpectationValidationResult:
    """Copy a result for display: long lists cut, every text escaped."""
    shown = _escaped({key: _cut(value) for key, value in result.result.items()})
    if "unexpected_percent" not in shown:  # rules on distinct values give a count alone, and its page trips over that
        shown = {key: value for key, value in shown.items() if "unexpected" not in key}
    return ExpectationValidationResult(
        success=result.success,
        expectation_config=result.expectation_config,
        result=shown,
        exception_info=_escaped(dict(result.exception_info or {})),
    )


def _cut(value: Any) -> Any:
    return value[:_MAX_SHOWN] if isinstance(value, list) else value


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {html.escape(str(key)): _escaped(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(part) for part in value]
    if isinstance(value, np.generic):  # the library's own renderer trips over NumPy's floats
        value = value.item()
    if value is None or isinstance(value, bool | int | float):
        return value
    return html.escape(str(value))


def _self_contained(page: str, suite: str) -> str:
    """Take out what would be loaded or run, and put in our style and the way back to the first page."""
    page = re.sub(r"<script\b.*?</script\s*>", "", page, flags=re.DOTALL | re.IGNORECASE)
    page = re.sub(r"<(?:link|img|meta http-equiv)\b[^>]*>", "", page, flags=re.IGNORECASE)
    page = re.sub(r"<style\b.*?</style\s*>", "", page, flags=re.DOTALL | re.IGNORECASE)
    # The library links a page of the suite's text; the first page says more.
    page = re.sub(r'href="(?:\.\./)+[^"]*"', 'href="index.html"', page)
    # Its headings begin at the fifth level, and its tables do not say what a header is for.
    page = re.sub(r"(</?)h([56])\b", lambda it: f"{it[1]}h{int(it[2]) - 3}", page)
    page = re.sub(r"<th\b", '<th scope="col"', page)
    head = _PAGES.get_template("suite_head.html.j2").render()
    body = _PAGES.get_template("suite_body.html.j2").render(suite=suite)
    return page.replace("<html>", '<html lang="en">', 1).replace("<head>", head, 1).replace("<body>", body, 1)
