"""`embft validate --init`: limits from good days, as a diff that a person reviews and applies."""

import subprocess
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from embft.cli import app
from embft.config import load_config
from embft.errors import ConfigError
from embft.validation.override_diff import diff_of
from embft.validation.profiles import DayProfile
from embft.validation.proposals import Proposal, propose
from embft.validation_config import Expectation
from tests.validation.good_nights import Shop, new_shop, profile, write_nights

FIRST = date(2026, 1, 5)
BETWEEN = "expect_column_values_to_be_between"


@pytest.fixture
def shop(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = new_shop(tmp_path, s3)
    monkeypatch.setenv("EMBFT_INCLUDE", str(shop.include))
    return shop


def init(*options: str) -> Result:
    return CliRunner().invoke(app, ["validate", "--init", "--model", "tiny", *options])


def profiles(n_sessions: Iterable[int], click_rates: Iterable[float] | None = None) -> list[DayProfile]:
    counts = list(n_sessions)
    rates = list(click_rates) if click_rates else [0.4] * len(counts)
    return [
        profile(FIRST + timedelta(days=n), n_sessions=count, click_rate=rate)
        for n, (count, rate) in enumerate(zip(counts, rates, strict=True))
    ]


def proposed(days: list[DayProfile], column: str, *, severity: str = "critical", **limits: float) -> list[Proposal]:
    rule = Expectation(name="it", type=BETWEEN, kwargs={"column": column, **limits}, severity=severity, why="because")
    history = {it.day: it for it in days}
    return propose([rule], list(history), history, reference_days=42)


def test_diff_goes_into_the_config_that_then_loads_with_its_limits_and_comments(shop: Shop) -> None:
    config = shop.include / "models" / "tiny.yaml"
    before = config.read_text() + "validation:\n  # a big shop\n  max_quarantined: 0.02   # two in a hundred\n"
    config.write_text(before)
    write_nights(shop, profiles(20_000 if n % 20 else 60_000 for n in range(1, 41)))  # two sales
    result = init()
    assert result.exit_code == 0, result.output
    assert config.read_text() == before
    assert result.stdout.startswith("--- a/include/models/tiny.yaml\n+++ b/include/models/tiny.yaml\n")
    assert "28 good days, 2026-01-17 to 2026-02-13: new limits for" in result.stderr

    subprocess.run(["patch", "-p1"], cwd=shop.include.parent, input=result.stdout.encode(), check=True)
    after = config.read_text()
    assert [line for line in after.splitlines() if line in before.splitlines()] == before.splitlines()
    assert "      # volume, 28 days: 0 … 7.3\n      volume:\n        kwargs: {" in after
    rules = {rule.name: rule.kwargs for rule in load_config(config).validation.rules("sessions")}
    # ln(60,000 / 20,000) / √(0.15² + 1/60,000) = 7.3; half as far again, and up to the next half
    assert rules["volume"] == {"column": "n_sessions_deviation", "min_value": -2.5, "max_value": 11}
    # What was applied fits: the same days propose nothing more.
    again = init()
    assert (again.exit_code, again.stdout) == (0, "")
    assert "every limit fits the 28 good days" in again.stderr


def test_fewer_than_seven_good_days_propose_nothing(shop: Shop) -> None:
    days = profiles([1000] * 9)
    write_nights(shop, days[:6])
    write_nights(shop, days[6:7], left_out=[days[6].day])
    write_nights(shop, days[7:], status="rejected")
    result = init()
    assert (result.exit_code, result.stdout) == (3, "")
    assert "tiny has learned from 6 good days so far; it takes 7" in result.stderr
    write_nights(shop, days[7:8])
    assert init().exit_code == 0


def test_model_without_a_night_is_told_so(shop: Shop) -> None:
    result = init("--days", "14")
    assert result.exit_code == 3
    assert "0 good days" in result.stderr


@pytest.mark.parametrize(
    ("counts", "limits", "expected"),
    [
        # never beyond a usual day: as near as a limit may come
        ([1000] * 30, {"max_value": 8}, {"max_value": 2.5}),
        ([1000] * 30, {"max_value": 2.4}, None),
        # ln 2 / √(0.15² + 1/2000) = 4.57; from 1.25 to 2 times that a limit is left alone
        ([1000] * 29 + [2000], {"max_value": 5}, {"max_value": 7}),
        ([1000] * 29 + [2000], {"max_value": 6}, None),
        ([1000] * 29 + [2000], {"max_value": 9}, None),
        ([1000] * 29 + [2000], {"max_value": 10}, {"max_value": 7}),
        # each side by itself
        ([1000] * 29 + [500], {"min_value": -3, "max_value": 2.5}, {"min_value": -7}),
        # a day like this may be good, and still no limit lets everything through
        ([1000] * 29 + [90_000], {"max_value": 8}, {"max_value": 12}),
    ],
)
def test_limit_of_a_deviation(counts: list[int], limits: dict[str, float], expected: dict[str, float] | None) -> None:
    found = proposed(profiles(counts), "n_sessions_deviation", **limits)
    assert [it.limits for it in found] == ([expected] if expected else [])


def test_warning_may_lie_nearer_than_a_stop() -> None:
    days = profiles([1000] * 29 + [2000])
    assert not proposed(days, "n_sessions_deviation", severity="warning", max_value=5)
    (found,) = proposed(days, "n_sessions_deviation", severity="warning", max_value=4)
    assert found.limits == {"max_value": 6}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        # 0.3 … 0.4 was seen; a limit lies as far outside as they are apart
        ({"min_value": 0.02}, {"min_value": 0.2}),
        ({"min_value": 0.15}, None),
        ({"min_value": 0.28}, {"min_value": 0.2}),
        ({"max_value": 0.42}, {"max_value": 0.5}),
        ({"max_value": 0.5}, None),
        ({"max_value": 1}, {"max_value": 0.5}),
    ],
)
def test_limit_of_a_share(limits: dict[str, float], expected: dict[str, float] | None) -> None:
    days = profiles([1000] * 28, [0.3, 0.4] * 14)
    assert [it.limits for it in proposed(days, "click_rate", **limits)] == ([expected] if expected else [])


def test_share_s_limit_stays_a_share_and_evidence_says_what_was_seen() -> None:
    days = profiles([1000] * 10, [0.02, 0.99] * 5)
    assert [(it.limits, it.evidence) for it in proposed(days, "click_rate", min_value=0.1, max_value=0.9)] == [
        ({"min_value": 0, "max_value": 1}, "10 days: 0.02 … 0.99")
    ]


def test_figure_that_few_days_have_is_left_alone() -> None:
    days = profiles([1000] * 13)  # deviations of six
    assert not proposed(days, "n_sessions_deviation", max_value=8)
    assert not proposed(days, "known_click_share", min_value=0.9)


TOP = "# a shop\nname: tiny   # as the file\n"
LIMITS = [
    Proposal("volume", {"min_value": -5, "max_value": 9.5}, "28 days: -3.3 … 6.2"),
    Proposal("click_rate", {"min_value": 0.29}, "28 days: 0.35 … 0.41"),
]


def applied(text: str, limits: list[Proposal], home: Path, command: list[str]) -> str:
    path = home / "include" / "models" / "tiny.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    diff = diff_of("include/models/tiny.yaml", text, limits)
    subprocess.run(command, cwd=home, input=diff.encode(), check=True, capture_output=True)
    return path.read_bytes().decode()


@pytest.mark.parametrize(
    "text",
    [
        TOP,
        TOP.rstrip("\n"),
        TOP.replace("\n", "\r\n"),
        TOP + "validation:\n",
        TOP + "validation:",
        TOP + "validation: ~  # nothing yet\ngate: 1\n",
        TOP + "validation:\n    # indented by four\n    max_quarantined: 0.1",
        TOP + "validation:\n  overrides:\n    ranks:\n      filled: {off: true}\ngate: 1\n",
        TOP + "validation:\n  overrides:\n    sessions:\n      # ours\n      no_twins: {off: true}\ngate: 1\n",
        TOP + "validation:\n  overrides:\n    sessions:\n      volume: {kwargs: {max_value: 12}}  # a sale\n",
        TOP
        + "validation:\n  overrides:\n    sessions:\n      volume:\n        kwargs:\n          max_value: 12  # so\n",
        TOP + "validation:\n  overrides:\n    sessions:\n      volume:\n        severity: warning\n",
        TOP + "validation: {max_quarantined: 0.1}\n",
        TOP + "validation: {overrides: {}}\n",
        '{"name": "tiny"}\n',
    ],
)
@pytest.mark.parametrize("command", [["patch", "-p1"], ["git", "apply"]], ids=["patch", "git"])
def test_diff_applies_however_the_config_is_written(command: list[str], text: str, tmp_path: Path) -> None:
    after = applied(text, LIMITS, tmp_path, command)
    sessions = yaml.safe_load(after)["validation"]["overrides"]["sessions"]
    assert sessions["volume"]["kwargs"] == {"min_value": -5, "max_value": 9.5}
    assert sessions["click_rate"]["kwargs"] == {"min_value": 0.29}
    assert {line.partition("#")[2] for line in text.splitlines()} <= {
        line.partition("#")[2].rstrip("\r") for line in after.split("\n")
    }
    assert ("\r\n" in text) == ("\r\n" in after)
    assert diff_of("tiny.yaml", after, LIMITS) == ""


def test_evidence_of_an_earlier_proposal_is_replaced(tmp_path: Path) -> None:
    once = applied(TOP, LIMITS, tmp_path, ["patch", "-p1"])
    twice = applied(once, [Proposal("volume", {"max_value": 7}, "30 days: -1 … 4.5")], tmp_path, ["patch", "-p1"])
    assert "# volume, 30 days: -1 … 4.5\n      volume:\n        kwargs: {min_value: -5, max_value: 7}\n" in twice
    assert twice.count("# volume,") == 1
    assert "# click_rate, 28 days: 0.35 … 0.41" in twice


@pytest.mark.parametrize("nothing", ["~", "null", " ~  ", "~  # nothing yet"])
def test_no_white_space_is_left_where_nothing_stood(nothing: str) -> None:
    diff = diff_of("tiny.yaml", f"{TOP}validation: {nothing}\ngate: 1\n", LIMITS)
    assert [line for line in diff.splitlines() if line.startswith("+") and line != line.rstrip()] == []


@pytest.mark.parametrize(
    "end",
    [
        "shared: &it\n  max_quarantined: 0.1\nvalidation: *it\n",
        "...\n",
        "note: |+\n  kept\n\n",
        "validation:\n  max_quarantined: 0.1\t# a tab\n",
    ],
)
def test_config_that_no_text_can_be_put_into_gets_the_lines_for_a_person(end: str) -> None:
    advice = r"lines cannot be put into safely; put this below validation\.overrides\.sessions by hand:\n# volume"
    with pytest.raises(ConfigError, match=advice):
        diff_of("tiny.yaml", TOP + end, LIMITS)
