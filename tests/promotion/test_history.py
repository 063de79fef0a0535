"""Who serves, as it follows from the changes, whatever their order."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from embft.promotion.history import Change, History, Step, version_of
from embft.results import Artifact, Champion

DAY = date(2026, 3, 1)
MOMENT = datetime(2026, 3, 1, 4, tzinfo=UTC)


def champion(version: int, day: int, weights: int | None = None) -> Champion:
    """A version that learned up to a day; versions of the same number of weights are the same model."""
    sha256 = f"{version if weights is None else weights:064d}"
    return Champion(
        model="m",
        version=str(version),
        day=DAY + timedelta(days=day),
        mlflow_run_id=f"run-{version}",
        weights={"model.safetensors": Artifact(uri=f"s3://b/{version}", size_bytes=1, sha256=sha256)},
        val_loss=1.0,
    )


A, B, C, D = (champion(number, day=number) for number in range(1, 5))


def promoted(to: Champion, number: int = 1, *, forced: bool = False) -> Change:
    return _change("promotion", to, None, number, forced)


def rolled_back(leaves: Champion, to: Champion, number: int = 1) -> Change:
    return _change("rollback", to, leaves.version, number, False)


def _change(kind: str, to: Champion, leaves: str | None, number: int, forced: bool) -> Change:
    return Change.model_validate(
        {
            "number": number,
            "kind": kind,
            "to": to,
            "leaves": leaves,
            "forced": forced,
            "request": f"{kind} {to.version} {number}",
            "who": "ops",
            "at_utc": MOMENT + timedelta(days=number),
            "why": "a test",
        }
    )


def history(*changes: Change) -> History:
    numbered = [
        it.model_copy(update={"number": number, "at_utc": MOMENT + timedelta(days=number)})
        for number, it in enumerate(changes, 1)
    ]
    return History(tuple(numbered))


def test_nobody_serves_before_the_first_promotion() -> None:
    assert (history().champion, history().previous, history().steps) == (None, None, ())
    assert history().champion_before(DAY) is None


def test_an_older_days_model_never_replaces_a_newer_ones_unless_forced() -> None:
    late = history(promoted(C), promoted(A))
    assert (late.champion, late.previous) == (C, None)
    assert [it.took_effect for it in late.steps] == [True, False]
    forced = history(promoted(C), promoted(A, forced=True))
    assert (forced.champion, forced.previous) == (A, C)


def test_of_one_night_the_first_model_stays_unless_another_is_forced() -> None:
    other = champion(8, day=2, weights=8)
    assert history(promoted(B), promoted(other)).champion == B
    assert history(promoted(B), promoted(other, forced=True)).champion == other
    again = champion(9, day=2, weights=2)  # the same weights, registered anew
    assert history(promoted(B), promoted(again)).champion == again


def test_a_rollback_goes_back_one_and_its_weights_stay_away() -> None:
    past = history(promoted(A), promoted(B), promoted(C), rolled_back(C, B))
    assert (past.champion, past.previous) == (B, A)
    again = champion(9, day=9, weights=3)  # the very weights of C, as a version of another night
    assert history(*past.changes, promoted(again)).champion == B
    assert history(*past.changes, promoted(again, forced=True)).champion == again
    chosen = history(*past.changes, rolled_back(B, C))
    assert (chosen.champion, chosen.rolled_back(C.digest)) == (C, None)
    assert chosen.rolled_back(B.digest) is not None


def test_two_rollbacks_at_once_go_back_once() -> None:
    """Both were asked for because of C."""
    past = history(promoted(A), promoted(B), promoted(C), rolled_back(C, B), rolled_back(C, A))
    assert (past.champion, past.previous) == (B, A)


def test_a_rollback_that_came_after_a_newer_promotion_leaves_it_and_still_marks_its_version() -> None:
    past = history(promoted(A), promoted(B), promoted(C), rolled_back(B, A))
    assert (past.champion, past.previous) == (C, A)
    assert past.rolled_back(B.digest) is not None


def test_a_version_that_was_left_is_no_predecessor_even_where_it_was_left_for_one_that_never_served() -> None:
    past = history(promoted(A), promoted(B), promoted(C), rolled_back(C, D))
    assert (past.champion, past.previous) == (D, B)


def test_where_nobody_serves_a_version_can_be_chosen_as_the_first() -> None:
    chosen = _change("rollback", B, None, 1, False)
    assert (history(chosen).champion, history(chosen).previous) == (B, None)
    assert history(chosen, promoted(C)).previous == B
    late = history(promoted(A), chosen)
    assert (late.champion, late.steps[-1].took_effect, late.rolled_back(A.digest)) == (A, False, None)


def test_a_rerun_of_a_night_has_the_opponent_that_the_night_had() -> None:
    past = history(promoted(A), promoted(B), promoted(C), rolled_back(C, A))
    assert [past.champion_before(it.day) for it in (A, B, C, D)] == [None, A, B, A]


def test_who_served_on_a_date_is_what_followed_from_the_entries_of_then() -> None:
    """B's writer read the history first and wrote last: its entry has a number of the past, and a late time."""
    late = promoted(B).model_copy(update={"number": 2, "at_utc": MOMENT + timedelta(days=9)})
    third = promoted(C).model_copy(update={"number": 3, "at_utc": MOMENT + timedelta(days=2)})
    past = History((promoted(A), late, third))
    served = [past.serving_on(MOMENT + timedelta(days=days)) for days in (0, 1, 2, 10)]
    assert served == [None, A, C, C]


_champions = st.integers(1, 6).flatmap(
    lambda version: st.just(champion(version, day=(version * 7) % 5, weights=(version * 3) % 4))
)
_changes = st.lists(
    st.one_of(
        st.builds(promoted, _champions, forced=st.booleans()),
        st.builds(rolled_back, _champions, _champions),
    ),
    max_size=12,
).map(lambda changes: history(*changes))


@given(_changes)
def test_whatever_was_asked_for_only_what_may_serve_does(past: History) -> None:
    before: Champion | None = None
    for number, step in enumerate(past.steps):
        assert step.before == before
        so_far = History(past.changes[: number + 1])
        assert so_far.champion == step.after
        if step.took_effect:
            assert step.after == step.change.to
            _assert_allowed(step, History(past.changes[:number]))
        else:
            assert version_of(step.after) == version_of(before)
        previous = so_far.previous
        if previous is not None and step.after is not None:
            assert previous.digest != step.after.digest
            assert so_far.rolled_back(previous.digest) is None
        if step.after is not None:
            assert so_far.rolled_back(step.after.digest) is None
        before = step.after
    assert past.champion == before


def _assert_allowed(step: Step, earlier: History) -> None:
    change = step.change
    if change.kind == "rollback":
        left = earlier.known(change.leaves or "")
        assert left is not None
        assert step.before is not None
        assert step.before.digest == left.digest
    elif not change.forced:
        assert step.before is None or change.to.day >= step.before.day
        assert earlier.rolled_back(change.to.digest) is None


@given(_changes, st.randoms(use_true_random=False))
def test_nights_end_with_the_newest_day_in_whatever_order_they_end(past: History, chance: object) -> None:
    nights = [it for it in past.changes if it.kind == "promotion" and not it.forced]
    chance.shuffle(nights)  # type: ignore[attr-defined]
    served = history(*nights).champion
    assert (served and served.day) == max((it.to.day for it in nights), default=None)


@given(_changes)
def test_asked_twice_nothing_more_comes_of_it(past: History) -> None:
    """The same change, written by two writers that did not see each other."""
    if past.changes:
        last = past.changes[-1]
        twice = History((*past.changes, last))
        assert version_of(twice.champion) == version_of(past.champion) or last.leaves == last.to.version
