"""The section `validation` of a config, and the suites of Great Expectations rules that users edit."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, RootModel, model_validator

from embft.config_base import Strict
from embft.errors import ConfigError
from embft.yaml_files import YamlFile, error_at

SuiteName = Literal["catalogue", "sessions", "ranks"]
SUITES: tuple[SuiteName, ...] = ("catalogue", "sessions", "ranks")
Severity = Literal["critical", "warning"]


class Expectation(Strict):
    """One Great Expectations rule, by the library's own names."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", description="What people and `validation.overrides` call it; once in a suite."
    )
    type: str = Field(description="Expectation type, such as expect_column_values_to_not_be_null.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Its arguments.")
    severity: Severity = "critical"
    why: str = Field(description="What goes wrong if this is broken; shown to the person on call.")
    remedy: str = Field("", description="What that person is to do next.")
    where: str = Field("", description="File and line; embft fills it in.")

    @property
    def effect(self) -> dict[str, Any]:
        """The rule without its place in the file: a comment above it changes no verdict."""
        return self.model_dump(mode="json", exclude={"where"})


class Override(Strict):
    """What one model changes of a shared rule. What is left out stays as it is."""

    off: bool = Field(False, description="This model does without the rule.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Arguments to replace or add.")
    severity: Severity | None = None
    why: str | None = None
    remedy: str | None = None
    where: str = Field("", description="File and line; embft fills it in.")

    def applied(self, rule: Expectation) -> Expectation:
        """Give the rule as changed, with the place of the change: the rule by itself may be good."""
        changed = self.model_dump(include={"severity", "why", "remedy"}, exclude_none=True)
        if self.where:
            changed["where"] = f"{self.where} (a change of {rule.where})"
        return rule.model_copy(update={**changed, "kwargs": {**rule.kwargs, **self.kwargs}})


class Validation(Strict):
    """What the data must keep to, and what is compared with what."""

    max_quarantined: float = Field(
        0.05, ge=0, le=1, description="Share of lines (pull) or rows (validation) set aside above which a run stops."
    )
    reference_days: int = Field(
        42, ge=7, le=366, description="Days before a day, as earlier nights saw them, that say what is usual."
    )
    keep_pages_days: int = Field(90, ge=1, description="Age in days at which Data Docs are removed from S3.")
    suites: dict[SuiteName, tuple[Expectation, ...]] = Field(
        default_factory=dict, description="Rules by suite; a suite left out comes from include/expectations/."
    )
    overrides: dict[SuiteName, dict[str, Override]] = Field(
        default_factory=dict, description="Suite → name of a rule → what this model changes of it."
    )

    @model_validator(mode="after")
    def _names_each_rule_once(self) -> "Validation":
        for suite, rules in self.suites.items():
            _refuse_name_twice(rules, ("suites", suite))
        return self

    @model_validator(mode="after")
    def _overrides_what_there_is(self) -> "Validation":
        for suite, overrides in self.overrides.items():
            known = [rule.name for rule in self.suites.get(suite, ())]
            for name in overrides:
                if name not in known:
                    close = difflib.get_close_matches(name, known, n=1)
                    hint = f"did you mean {close[0]!r}?" if close else f"its rules are {', '.join(known) or 'none'}"
                    raise error_at(("overrides", suite, name), f"the suite {suite} has no such rule; {hint}")
        return self

    def rules(self, suite: SuiteName) -> tuple[Expectation, ...]:
        """Give a suite's rules as this model keeps them, overrides applied.

        Args:
            suite: The suite's name.

        Returns:
            The rules in the file's order, without those that are off.
        """
        overrides = self.overrides.get(suite, {})
        kept = [rule for rule in self.suites[suite] if not overrides.get(rule.name, Override()).off]
        return tuple(overrides.get(rule.name, Override()).applied(rule) for rule in kept)


class _Suite(RootModel[tuple[Expectation, ...]]):
    @model_validator(mode="after")
    def _names_each_rule_once(self) -> "_Suite":
        _refuse_name_twice(self.root, ())
        return self


def _refuse_name_twice(rules: Sequence[Expectation], location: tuple[str, ...]) -> None:
    first: dict[str, Expectation] = {}
    for index, rule in enumerate(rules):
        if rule.name in first:
            where = f" ({first[rule.name].where})" if first[rule.name].where else ""
            raise error_at(
                (*location, index, "name"), f"{rule.name!r} is an earlier rule's name{where}; rename one of them"
            )
        first[rule.name] = rule


def load_suite(folder: Path, suite: SuiteName) -> tuple[Expectation, ...]:
    """Read one suite of expectations.

    Args:
        folder: `include/expectations`.
        suite: The suite's name; its file is `<suite>.yaml` or `<suite>.json`.

    Returns:
        The rules in the file's order.

    Raises:
        ConfigError: There is no such file or there are two, it cannot be read, or a rule breaks the schema.
    """
    # YAML takes JSON as it is.
    found = [path for path in (folder / f"{suite}.yaml", folder / f"{suite}.json") if path.exists()]
    if len(found) > 1:
        raise ConfigError(f"{found[0]} and {found[1]} are the same suite twice; keep one of them")
    return load_suite_file(found[0] if found else folder / f"{suite}.yaml")


def load_suite_file(path: Path) -> tuple[Expectation, ...]:
    """Read a file of expectations.

    Args:
        path: A YAML or JSON list of name, type, kwargs, severity, why and remedy.

    Returns:
        The rules in the file's order.

    Raises:
        ConfigError: The file is missing, cannot be read, or a rule breaks the schema.
    """
    file = YamlFile(path)
    return file.validated(_placed(file.expanded(list), file, ()), _Suite).root


def add_suites(config: dict[str, Any], file: YamlFile, folder: Path) -> None:
    """Complete a config's raw content with the shared suites that it does not replace, and with the rules' places.

    Args:
        config: The content of the file; changed in place. What is no mapping stays, for the schema to refuse.
        file: The config's file.
        folder: `include/expectations`.

    Raises:
        ConfigError: A suite cannot be read, or breaks the schema.
    """
    validation = config.setdefault("validation", {})
    suites = validation.setdefault("suites", {}) if isinstance(validation, dict) else None
    if not isinstance(suites, dict):
        return
    for name in SUITES:
        if name in suites:
            suites[name] = _placed(suites[name], file, ("validation", "suites", name))
        else:
            suites[name] = load_suite(folder, name)
    overrides = validation.get("overrides")
    for suite, changes in overrides.items() if isinstance(overrides, dict) else ():
        for name, change in changes.items() if isinstance(changes, dict) else ():
            if isinstance(change, dict):
                changes[name] = {**change, "where": file.place(("validation", "overrides", suite, name))}


def _placed(rules: Any, file: YamlFile, location: tuple[str, ...]) -> Any:
    """Note at each rule where it stands. What is no rule stays, for the schema to refuse."""
    if not isinstance(rules, list):
        return rules
    return [
        {**rule, "where": file.place((*location, index))} if isinstance(rule, dict) else rule
        for index, rule in enumerate(rules)
    ]
