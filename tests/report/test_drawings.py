"""Drawings: places that can be checked by hand, and figures that would leave the picture."""

import re

import pytest

from embft.report.drawings import curve_svg, share_svg, trials_svg
from embft.report.intervals import Interval, axis_svg, gain_svg, reach_of, rule_svg


def test_curve_marks_its_lowest_point() -> None:
    svg = curve_svg([(0, 3.0), (10, 1.0), (20, 2.0)], [(10, 2.0), (20, 1.5)])
    assert "Validation loss 3.0000 before training, lowest 1.0000 at step 10" in svg
    # Losses 1 … 3 in steps of 1; the plot is 350 wide from 40, 164 high from 26.
    assert '<circle class="best" cx="215.0" cy="190.0" r="5"/>' in svg
    assert 'class="training" points="215.0,108.0 390.0,149.0"' in svg


@pytest.mark.parametrize("loss", [0.0, 2.0, -1e-9])
def test_flat_curve_is_drawn(loss: float) -> None:
    assert "nan" not in curve_svg([(0, loss), (1, loss)])


def test_share_of_nothing_is_empty() -> None:
    assert 'width="0.0"' in share_svg(0, 0)
    assert 'width="50.0"' in share_svg(1, 2)


def test_a_rule_draws_figure_interval_and_limit_on_one_axis_and_tints_the_side_that_passes() -> None:
    # From 1 to 3 and 12 % of that on either side: 0.76 … 3.24, so 1 lies at 0.24 / 2.48, 2 in the middle.
    svg = rule_svg(Interval(2.0, 1.0, 2.5), 3.0, is_ceiling=True, passed=True)
    assert 'class="band" x="0.00%" width="90.32%"' in svg
    assert 'class="limit" x1="90.32%"' in svg
    assert 'class="whisker" x1="9.68%" x2="70.16%"' in svg
    assert 'class="point" cx="50.00%"' in svg
    assert 'class="band" x="90.32%" width="9.68%"' in rule_svg(
        Interval(2.0, 1.0, 2.5), 3.0, is_ceiling=False, passed=False
    )


@pytest.mark.parametrize("found", [(2.0,), (-0.4, -0.5, 0.1), (0.0,), (1e9, 3.0, 2e9), (1.0, None, 2.0)])
@pytest.mark.parametrize("limit", [3.0, 0.0, -0.02])
@pytest.mark.parametrize("is_ceiling", [True, False])
def test_drawings_stay_inside_their_box(found: tuple[float, ...], limit: float, is_ceiling: bool) -> None:
    for svg in (
        rule_svg(Interval(*found), limit, is_ceiling=is_ceiling, passed=True),
        gain_svg(Interval(*found), 0.1, "good", is_shown=True),
    ):
        places = [float(it) for it in re.findall(r'(?:x|x1|x2|cx|width)="([-\d.]+)%"', svg)]
        assert places
        assert all(0 <= it <= 100 for it in places)


def test_a_gain_is_filled_where_it_is_shown_and_hollow_where_not() -> None:
    assert 'class="point" cx="75.00%"' in gain_svg(Interval(0.05, 0.02, 0.08), 0.1, "good", is_shown=True)
    assert 'class="point hollow" cx="75.00%"' in gain_svg(Interval(0.05), 0.1, "soft", is_shown=False)


def test_what_lies_beyond_the_axis_ends_in_an_arrow() -> None:
    cap, from_left, from_right = "M0 -5V5", "M7 -5L1 0L7 5", "M-7 -5L-1 0L-7 5"

    def ends(low: float | None, high: float | None, figure: float = 0.0) -> list[str]:
        return re.findall(r' d="([^"]+)"', gain_svg(Interval(figure, low, high), 0.1, "", is_shown=True))

    assert ends(-0.05, 0.05) == [cap, cap]
    assert ends(-0.2, 0.2) == [from_left, from_right]
    assert ends(None, 0.05) == [from_left, cap]
    assert ends(None, None, figure=-0.3) == [from_left]
    assert ends(None, None, figure=0.3) == [from_right]


def test_one_wide_interval_does_not_press_the_others_into_a_point() -> None:
    narrow = [Interval(0.01, -0.02, 0.04)] * 4
    assert reach_of(narrow) == pytest.approx(0.04)
    assert reach_of([*narrow, Interval(0.0, -9.0, 9.0)]) == pytest.approx(0.15)  # 3 · 0.04, then round
    assert reach_of([]) == reach_of([Interval(0.0)]) == pytest.approx(0.01)
    assert reach_of([Interval(0.0), Interval(0.0), Interval(0.3)]) == pytest.approx(0.3)


@pytest.mark.parametrize(("reach", "told"), [(0.15, "+15%"), (0.003, "+0.3%"), (20.0, "+2,000%")])
def test_axis_names_its_ends(reach: float, told: str) -> None:
    assert re.findall(r">([^<]+)</text>", axis_svg(reach)) == [told.replace("+", "-"), "0", told]


def test_trials_share_an_axis_that_a_runaway_one_does_not_stretch() -> None:
    svg = trials_svg([[(0, 3.0), (20, 90.0)], [(0, 3.0), (10, 2.5)]], [(0, 3.0), (10, 1.0)])
    # Losses 1 … 3, 164 high from 26; steps up to 20, 350 wide from 40. What is above 3 lies on the edge.
    assert re.findall('class="trial" points="([^"]+)"', svg) == ["40.0,26.0 390.0,26.0", "40.0,26.0 215.0,67.0"]
    assert 'class="validation" points="40.0,26.0 215.0,190.0"' in svg
    assert '<circle class="best" cx="215.0" cy="190.0" r="5"/>' in svg
    assert ">90<" not in svg
