"""What is usual: deviations and drifts against independent computations, and their behaviour at the edges."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, spearmanr

from embft.validation.profiles import DayProfile
from embft.validation.usual import MIN_DAYS, SCALES, Usual, _rank_correlation

DAY = date(2026, 3, 20)
FLAT = [20] * 24
RHYTHM = [3, 2, 1, 1, 1, 2, 5, 9, 14, 18, 21, 22, 23, 22, 21, 22, 24, 26, 28, 27, 24, 18, 11, 6]


def profile(
    back: int, *, hours: list[int] = RHYTHM, positions: list[int] | None = None, **figures: float
) -> DayProfile:
    return DayProfile(
        day=DAY - timedelta(days=back),
        figures={name: (value, 0.0) for name, value in figures.items()},
        hours=hours,
        positions=positions or [0] * 11,
        scripts={"latin": sum(hours)},
    )


def usual(*days: DayProfile, reference_days: int = 42) -> Usual:
    return Usual(DAY, {it.day: it for it in days}, reference_days)


def test_a_deviation_by_hand() -> None:
    """Median .50, MAD .02 → (1 + 4/7) · 1.4826 · .02 = .0466; floor .03: √(.0466² + .03²) = .0554; .1 / .0554."""
    days = usual(*(profile(n + 1, click_rate=rate) for n, rate in enumerate((0.5, 0.48, 0.52, 0.5, 0.47, 0.52, 0.53))))
    found = days.deviation("click_rate", profile(0, click_rate=0.6))
    assert found
    assert found.value == pytest.approx(0.1 / np.hypot(11 / 7 * 1.4826 * 0.02, 0.03), rel=1e-3)
    assert (found.usual, found.n_days) == (0.5, 7)


def test_volume_is_compared_as_a_ratio_with_the_same_weekday() -> None:
    """Fridays have 100 sessions, other days 1,000: a Friday of 100 is usual, one of 1,000 is not."""
    days = usual(*(profile(n, n_sessions=100 if n % 7 == 0 else 1000) for n in range(1, 43)))
    ordinary, tenfold = (days.deviation("n_sessions", profile(0, n_sessions=n)) for n in (100, 1000))
    assert ordinary
    assert tenfold
    assert (ordinary.value, ordinary.usual, ordinary.n_days) == pytest.approx(
        (0, 100, 38)
    )  # four have no week before them
    assert tenfold.value == pytest.approx(np.log(10) / np.hypot(SCALES["n_sessions"].floor, (2 / 1100) ** 0.5))
    # Three Fridays are too few: all days are asked.
    few = usual(*(profile(n, n_sessions=100 if n % 7 == 0 else 1000) for n in range(1, 28)))
    found = few.deviation("n_sessions", profile(0, n_sessions=1000))
    assert found
    assert (found.value, found.n_days) == (0, 23)


def test_a_growing_shop_is_usual_and_a_loss_in_its_midst_is_not() -> None:
    """Three per cent more every day, tripled within six weeks: that is no deviation, four fifths lost are."""
    days = usual(*(profile(n, n_sessions=1000 * 1.03**-n) for n in range(1, 43)))
    ordinary, lost = (days.deviation("n_sessions", profile(0, n_sessions=n)) for n in (1000, 200))
    assert ordinary
    assert lost
    assert abs(ordinary.value) < 0.1
    assert lost.value < -8


def test_weekends_of_a_young_log_are_no_loss() -> None:
    """A shop that sleeps on Saturday and Sunday, seen for less than three weeks: 20 March 2026 is a Friday."""
    weekend = [n for n in range(1, 18) if (DAY - timedelta(days=n)).weekday() >= 5]
    days = [profile(n, n_sessions=50 if n in weekend else 500) for n in range(1, 18)]
    saturday = DAY + timedelta(days=1)
    quiet = profile(-1, n_sessions=50)
    known = {it.day: it for it in [*days, profile(0, n_sessions=500)]}
    found = Usual(saturday, known, 42).deviation("n_sessions", quiet)
    assert found
    assert -2.5 < found.value < 0


def test_too_few_days_say_nothing() -> None:
    days = usual(*(profile(n, click_rate=0.5) for n in range(1, MIN_DAYS)))
    assert days.deviation("click_rate", profile(0, click_rate=0.1)) is None
    assert days.hours_shift(profile(0)) is None
    assert days.silent_share(profile(0)) is None
    assert usual().drift("script_drift", profile(0)) is None


def test_the_day_itself_days_after_it_and_old_days_are_no_reference() -> None:
    asked = [profile(n, click_rate=0.5) for n in range(1, 11)]
    others = [profile(n, click_rate=0.9) for n in (0, -1, -2, 11, 12, 30)]
    days = usual(*asked, *others, reference_days=10)
    found = days.deviation("click_rate", profile(0, click_rate=0.5))
    assert found
    assert (found.value, found.n_days) == (0, 10)


@given(st.lists(st.floats(0, 1), min_size=MIN_DAYS, max_size=30), st.floats(0, 1), st.floats(0, 0.2))
def test_a_larger_error_never_makes_a_day_stranger(rates: list[float], rate: float, error: float) -> None:
    days = usual(*(profile(n + 1, click_rate=it) for n, it in enumerate(rates)))
    sure = days.deviation("click_rate", profile(0, click_rate=rate))
    unsure_day = profile(0).model_copy(update={"figures": {"click_rate": (rate, error)}})
    unsure = days.deviation("click_rate", unsure_day)
    assert sure
    assert unsure
    assert abs(unsure.value) <= abs(sure.value)
    assert np.sign(sure.value) == np.sign(rate - np.median(rates))


def test_a_strange_day_in_the_past_moves_nothing() -> None:
    calm = [profile(n, click_rate=0.5 + 0.001 * (n % 5)) for n in range(1, 21)]
    wild = [calm[0].model_copy(update={"figures": {"click_rate": (0.0, 0.0)}}), *calm[1:]]
    today = profile(0, click_rate=0.6)
    before, after = (usual(*days).deviation("click_rate", today) for days in (calm, wild))
    assert before
    assert after
    assert after.value == pytest.approx(before.value, abs=0.05)


def test_drift_against_the_definition() -> None:
    """Jensen–Shannon divergence by its definition: half of both divergences from the mean, less chance.

    Chance is (k − 1)(1/n + 1/m)/8.
    """
    ours = [50, 30, 20] + [0] * 8
    theirs = [70, 20, 10] + [0] * 8
    days = usual(*(profile(n, positions=theirs) for n in range(1, 4)))
    found = days.drift("position_drift", profile(0, positions=ours))
    p, q = np.array(ours[:3]) / 100, np.array(theirs[:3]) / 100
    divergence = (entropy(p, (p + q) / 2) + entropy(q, (p + q) / 2)) / 2
    assert found
    assert found[0] == pytest.approx(divergence - 2 * (1 / 100 + 1 / 300) / 8)


def test_drift_of_samples_of_one_distribution_is_about_nothing() -> None:
    random = np.random.default_rng(7)
    share = np.arange(11, 0, -1) / 66
    days = usual(*(profile(n, positions=random.multinomial(500, share).tolist()) for n in range(1, 43)))
    drifts = [
        days.drift("position_drift", profile(0, positions=random.multinomial(200, share).tolist())) for _ in range(300)
    ]
    values, errors = np.array([it for it in drifts if it]).T
    assert abs(values.mean()) < 0.2 * errors.mean()
    assert 0.7 < values.std() / errors.mean() < 1.4


@given(st.lists(st.integers(0, 9), min_size=24, max_size=24), st.lists(st.integers(0, 9), min_size=24, max_size=24))
def test_rank_correlation_is_spearmans(first: list[int], second: list[int]) -> None:
    ours = _rank_correlation(np.array(first, dtype=float), np.array(second, dtype=float))
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert ours == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)
    else:
        assert ours == 0


@pytest.mark.parametrize("shift", [-9, -5, -3, 0, 4, 8, 12])
def test_shifted_hours_are_found(shift: int) -> None:
    random = np.random.default_rng(1)
    days = usual(*(profile(n, hours=random.poisson(RHYTHM).tolist()) for n in range(1, 15)))
    shifted = np.roll(random.poisson(RHYTHM), shift).tolist()
    assert days.hours_shift(profile(0, hours=shifted)) == pytest.approx(shift, abs=1)


def test_one_crowded_hour_is_no_shift_and_a_small_or_flat_day_neither() -> None:
    days = usual(*(profile(n) for n in range(1, 15)))
    crowded = [*RHYTHM[:22], 250, 300]
    assert days.hours_shift(profile(0, hours=crowded)) in (-1, 0, 1, 2)
    assert days.hours_shift(profile(0, hours=FLAT)) == 0
    assert days.hours_shift(profile(0, hours=[4] * 24)) is None


def test_silent_hours_are_those_in_which_something_was_to_be_expected() -> None:
    days = usual(*(profile(n) for n in range(1, 15)))
    night = [0 if n < 6 else it for n, it in enumerate(RHYTHM)]  # 2 sessions an hour are easily none
    evening = [0 if n >= 18 else it for n, it in enumerate(RHYTHM)]
    assert days.silent_share(profile(0, hours=night)) == 0
    silent = [n for n in range(18, 24) if RHYTHM[n] > 8]
    assert days.silent_share(profile(0, hours=evening)) == pytest.approx(
        sum(RHYTHM[n] for n in silent) / sum(RHYTHM), abs=0.02
    )
    assert days.silent_share(profile(0, hours=[0] * 24)) is None  # that nobody came is volume's to say
    quiet = usual(*(profile(n, hours=[1 if 9 <= h < 19 else 0 for h in range(24)]) for n in range(1, 15)))
    assert quiet.silent_share(profile(0, hours=[9 if h in (3, 9) else 0 for h in range(24)])) == 0
    assert usual(*(profile(n, hours=[0] * 24) for n in range(1, 15))).silent_share(profile(0)) is None
