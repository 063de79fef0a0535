"""Suites are files that people edit: whatever is wrong in one is told with file, line, rule and key, before a night."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from embft.cli import app
from embft.config import load_config
from tests.include import write_include
from tests.shop import CONFIG

RULE = """\
- name: present
  type: expect_column_values_to_be_between
  kwargs: {column: query_length, min_value: 1}
  severity: critical
  why: a session without a query teaches nothing
"""
MODEL = CONFIG.format(bucket="shop", endpoint="http://127.0.0.1:9", mlflow="sqlite:///none.db")
N_LINES = len(MODEL.splitlines())


@pytest.fixture
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    include = write_include(tmp_path, "tiny", MODEL)
    monkeypatch.setenv("EMBFT_INCLUDE", str(include))
    return include


def check() -> Result:
    return CliRunner().invoke(app, ["config", "check"])


def fault_of(path: Path, text: str) -> str:
    """What is told of a file, from its name on; nothing else is told."""
    path.write_text(text)
    result = check()
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    start = f"error: {path.parent}/"
    assert line.startswith(start)
    return line.removeprefix(start)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "severity: critical",
            "severity: critcal",
            "4: present.severity: Input should be 'critical' or 'warning' (found 'critcal'); did you mean 'critical'?",
        ),
        ("severity:", "severty:", "4: present.severty: unknown key; did you mean 'severity'?"),
        ("  why: a session without a query teaches nothing\n", "", "1: present.why: is missing; it is required"),
        (
            "name: present",
            "name: Present!",
            "1: Present!.name: String should match pattern '^[a-z][a-z0-9_]*$' (found 'Present!')",
        ),
        ("name: present\n  type", "type", "1: 0.name: is missing; it is required"),
        (RULE, RULE + RULE, "6: present.name: 'present' is an earlier rule's name ({path}:1); rename one of them"),
        ("min_value: 1}", "min_value: [1}", "3: not valid YAML"),
        (
            "expect_column_values_to_be_between",
            "expect_column_values_to_be_betwen",
            "1: present: type: Great Expectations knows no 'expect_column_values_to_be_betwen'; did you mean "
            "'expect_column_values_to_be_between'",
        ),
        ("min_value: 1", "mn_value: 1", "1: present: kwargs.mn_value: unknown argument; did you mean 'min_value'"),
        ("min_value: 1", "min_value: [1]", "1: present: kwargs.min_value: "),
        ("min_value: 1", "min_value: .nan", "1: present: kwargs.min_value is nan; it must be a finite number"),
        ("min_value: 1", "max_value: .inf", "1: present: kwargs.max_value is inf; it must be a finite number"),
        (
            "min_value: 1",
            "min_value: 3, max_value: 2.5",
            "1: present: kwargs.min_value is 3.0; it must be at most kwargs.max_value, which is 2.5",
        ),
        ("min_value: 1", "min_value: 1, severity: warning", "1: present: kwargs must not hold severity"),
        ("query_length", "query_lenght", "1: present: kwargs: no column 'query_lenght'; did you mean 'query_length'"),
        (
            "expect_column_values_to_be_between\n  kwargs: {column: query_length, min_value: 1}",
            "expect_column_pair_values_to_be_equal\n  kwargs: {column_A: query_length, column_B: click_rate}",
            "1: kwargs: query_length and click_rate cannot be judged together",
        ),
    ],
)
def test_fault_in_a_suite_names_file_line_rule_and_key(old: str, new: str, said: str, include: Path) -> None:
    path = include / "expectations" / "sessions.yaml"
    assert old in RULE
    told = fault_of(path, RULE.replace(old, new))
    assert told.startswith(f"sessions.yaml:{said.format(path=path)}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "volume: {severity: critcal}",
            "validation.overrides.sessions.volume.severity: Input should be 'critical' or "
            "'warning' (found 'critcal'); did you mean 'critical'?",
        ),
        ("volume: {of: true}", "validation.overrides.sessions.volume.of: unknown key; did you mean 'off'?"),
        (
            "volum: {off: true}",
            "validation.overrides.sessions.volum: the suite sessions has no such rule; did you mean 'volume'?",
        ),
    ],
)
def test_fault_in_an_override_names_the_line_of_the_config(override: str, said: str, include: Path) -> None:
    text = f"{MODEL}validation:\n  overrides:\n    sessions:\n      {override}\n"
    assert fault_of(include / "models" / "tiny.yaml", text) == f"tiny.yaml:{N_LINES + 4}: {said}"


def test_wrong_argument_of_an_override_names_the_config_and_the_rule_that_it_changes(include: Path) -> None:
    suite = include / "expectations" / "sessions.yaml"
    at = suite.read_text().splitlines().index("- name: volume") + 1
    text = f"{MODEL}validation:\n  overrides:\n    sessions:\n      volume: {{kwargs: {{max: 9}}}}\n"
    told = fault_of(include / "models" / "tiny.yaml", text)
    assert told.startswith(f"tiny.yaml:{N_LINES + 4} (a change of {suite}:{at}): volume: kwargs.max: unknown argument")


def test_name_given_twice_in_a_config_s_own_suite_names_its_line(include: Path) -> None:
    own = "".join(f"      {line}\n" for line in (RULE + RULE).splitlines())
    text = f"{MODEL}validation:\n  suites:\n    sessions:\n{own}"
    told = fault_of(include / "models" / "tiny.yaml", text)
    assert told.startswith(f"tiny.yaml:{N_LINES + 9}: validation.suites.sessions.present.name: 'present' is an earlier")


def test_every_fault_is_told_once_though_models_share_the_suite(include: Path) -> None:
    (include / "models" / "other.yaml").write_text(MODEL.replace("name: tiny", "name: other"))
    (include / "expectations" / "ranks.yaml").write_text(RULE)
    (include / "expectations" / "catalogue.yaml").write_text(RULE.replace("query_length", "text_lenght"))
    lines = check().stderr.splitlines()
    assert [line.partition("expectations/")[2].partition(": kwargs")[0] for line in lines] == [
        "catalogue.yaml:1: present",
        "ranks.yaml:1: present",
    ]


def test_rule_that_is_off_is_not_judged(include: Path) -> None:
    config = include / "models" / "tiny.yaml"
    config.write_text(f"{MODEL}validation: {{overrides: {{sessions: {{volume: {{off: true}}}}}}}}\n")
    assert check().exit_code == 0
    names = [rule.name for rule in load_config(config).validation.rules("sessions")]
    assert "volume" not in names
    assert "volume_low" in names


def test_suite_may_be_json_and_not_both(include: Path) -> None:
    suite = include / "expectations" / "sessions.json"
    suite.write_text(json.dumps(yaml.safe_load(RULE)))
    result = check()
    assert result.exit_code == 2
    assert "are the same suite twice; keep one of them" in result.stderr
    (include / "expectations" / "sessions.yaml").unlink()
    assert check().exit_code == 0
    (rule,) = load_config(include / "models" / "tiny.yaml").validation.rules("sessions")
    assert (rule.name, rule.kwargs["min_value"]) == ("present", 1)


def test_shipped_suites_are_right(include: Path) -> None:
    result = check()
    assert result.stdout == f"{include}/models/tiny.yaml: ok\n"
