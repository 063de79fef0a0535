"""Data Docs: Great Expectations' own page for each suite, made safe and self-contained, and a first page of ours.

Two things of the library's pages are changed. It does not escape the values in its tables of unexpected values, and
the text of queries is an attacker's text: so every text of a result is escaped before it is rendered. And its pages
load scripts and styles from six hosts on the internet: those are taken out, a small style sheet comes in, and a
Content-Security-Policy lets no script run at all. A page is one file and opens anywhere.
"""

import html
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from embft.validation.engine import (
    GX_VERSION,
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
    render_page,
)
from embft.validation.verdicts import RuleOutcome, Verdict
from embft.validation.wording import figure

_MAX_SHOWN = 20  # values of one rule in a page; the quarantine has them all
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.5rem}h2,h3,h4{font-size:1.1rem;margin:1.5rem 0 .5rem}a{color:#0b57d0}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{border:1px solid #d5d5d5;padding:.35rem .6rem;text-align:left;vertical-align:top}
th{background:#f3f3f3}code,pre{white-space:pre-wrap;word-break:break-word}
.bad{color:#b3261e;font-weight:600}.warn{color:#8a5a00;font-weight:600}.good{color:#1b6e3c}.quiet{color:#666}
.why{color:#444}li{margin:.3rem 0}
h5{font-size:1.05rem;margin:1.5rem 0 .3rem}h6{font-size:.95rem;margin:.5rem 0}
.navbar,.btn,.modal,footer,nav,[data-toggle=collapse],[class*=col-md-2],[class*=col-lg-2]{display:none}
.fa-check-circle:before,.fa-check:before{content:"✓"}.fa-times:before{content:"✗"}
.fas{font-style:normal}.text-success{color:#1b6e3c}.text-danger{color:#b3261e}
"""


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
    path.write_text(_self_contained(page), encoding="utf-8")
    return path


def write_index(
    docs_folder: Path, title: str, verdicts: Sequence[Verdict], reasons: Sequence[str], warnings: Sequence[str]
) -> Path:
    """Write the page that a person sees first: what is wrong, then why it matters, then every rule.

    Args:
        docs_folder: Folder that holds the suites' pages.
        title: What was validated.
        verdicts: One for each suite.
        reasons: Why the run stops; none where it goes on.
        warnings: What a person should know of a run that goes on.

    Returns:
        `index.html`.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = figure
    page = environment.from_string(_INDEX).render(
        title=title,
        reasons=reasons,
        warnings=warnings,
        policy=Markup(_POLICY),  # constants of ours, not data
        style=Markup(_STYLE),
        suites=[(verdict, sorted(verdict.rules, key=_urgency)) for verdict in verdicts],
    )
    docs_folder.mkdir(parents=True, exist_ok=True)
    path = docs_folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _urgency(rule: RuleOutcome) -> int:
    if rule.success is None:
        return 2
    return 3 if rule.success else int(rule.severity == "warning")


def _shown(result: ExpectationValidationResult) -> ExpectationValidationResult:
    """Copy a result for display: long lists cut, every text escaped."""
    return ExpectationValidationResult(
        success=result.success,
        expectation_config=result.expectation_config,
        result=_escaped({key: _cut(value) for key, value in result.result.items()}),
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


def _self_contained(page: str) -> str:
    page = re.sub(r"<script\b.*?</script\s*>", "", page, flags=re.DOTALL | re.IGNORECASE)
    page = re.sub(r"<(?:link|img|meta http-equiv)\b[^>]*>", "", page, flags=re.IGNORECASE)
    page = re.sub(r"<style\b.*?</style\s*>", "", page, flags=re.DOTALL | re.IGNORECASE)
    # The library links a page of the suite's text; the first page says more.
    page = re.sub(r'href="(?:\.\./)+[^"]*"', 'href="index.html"', page)
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style>'
    return page.replace("<head>", f"<head>{head}", 1)


_INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style }}</style></head><body>
<h1>{{ title }}:
{% if reasons %}<span class="bad">rejected</span>{% else %}<span class="good">accepted</span>{% endif %}</h1>
{% if reasons or warnings %}
<ul>
{% for it in reasons %}<li><span class="bad">Stops the run</span> {{ it }}</li>{% endfor %}
{% for it in warnings %}<li><span class="warn">Warning</span> {{ it }}</li>{% endfor %}
</ul>
{% endif %}
{% for verdict, rules in suites %}
<h2>{{ verdict.suite }}: {{ "{:,}".format(verdict.rows) }} rows,
 {{ "{:,}".format(verdict.n_broken) }} broken
 · <a href="{{ verdict.suite }}.html">Great Expectations page</a></h2>
{% if verdict.notes %}
<ul>
{% for it in verdict.notes %}<li><span class="quiet">Note</span> {{ it }}</li>{% endfor %}
</ul>
{% endif %}
<table><tr><th>Result</th><th>Rule</th><th>Found</th><th>Why it matters</th></tr>
{% for rule in rules %}
<tr><td>
{% if rule.success is none %}<span class="quiet">not judged</span>
{% elif rule.success %}<span class="good">holds</span>
{% elif rule.error %}<span class="bad">not checked</span>
{% elif rule.severity == "warning" %}<span class="warn">warning</span>
{% elif rule.kind == "row" and verdict.critical_rows == "set_aside" %}<span class="warn">set aside</span>
{% else %}<span class="bad">broken</span>{% endif %}
</td><td>{{ rule.rule }}</td><td>
{% if rule.skipped %}{{ rule.skipped }}{% elif rule.error %}{{ rule.error }}
{% elif rule.kind == "row" %}{{ "{:,}".format(rule.broken_rows) }} row{{ "" if rule.broken_rows == 1 else "s" }}
{%- if rule.examples %}: {{ rule.examples | join(", ") }}{% endif %}
{% elif rule.observed is none %}nothing to measure
{% elif rule.observed is string %}{{ rule.observed }}{% else %}{{ rule.observed | figure }}{% endif %}
</td><td class="why">{{ rule.why }}</td></tr>
{% endfor %}
</table>
{% endfor %}
</body></html>
"""
