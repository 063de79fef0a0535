"""Importing the library leaves the caller's environment as it was, and the shipped suites are right."""

import os

import pytest

from embft.validation.engine import _no_analytics, build
from embft.validation_config import Expectation


@pytest.mark.parametrize("before", [None, "true"])
def test_usage_is_not_reported_and_the_environment_is_as_before(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GX_ANALYTICS_ENABLED", raising=False)
    if before:
        monkeypatch.setenv("GX_ANALYTICS_ENABLED", before)
    with _no_analytics():
        assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    assert os.environ.get("GX_ANALYTICS_ENABLED") == before


def test_every_shipped_rule_says_why_and_is_known(suites: dict[str, tuple[Expectation, ...]]) -> None:
    for name, rules in suites.items():
        assert len(rules) >= 5
        columns = [str(value) for rule in rules for key, value in rule.kwargs.items() if key.startswith("column")]
        assert len(build(name, rules, columns)) == len(rules)
        assert all(len(rule.why) > 20 and len(rule.remedy) > 10 for rule in rules)
