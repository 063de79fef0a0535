"""Slips against a plain edit distance over all pairs of queries."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embft.same_queries import OF_ITS_OWN, OFTEN, SameQueries, slips


def same_clicks(counts: dict[str, int]) -> dict[str, str]:
    return slips(counts, {query: {"an item"} for query in counts})


@pytest.mark.parametrize(
    ("rare", "often"),
    [
        ("skyrm", "skyrim"),
        ("skyyrim", "skyrim"),
        ("skytim", "skyrim"),
        ("sykrim", "skyrim"),
        ("gearss of war 3", "gears of war 3"),  # the digit is in another word
        ("xbox360 games", "xbox 360 games"),
        ("dead islan d", "dead island"),
    ],
)
def test_one_slip_in_a_long_word_or_a_space_means_the_frequent_query(rare: str, often: str) -> None:
    assert same_clicks({rare: 1, often: OFTEN}) == {rare: often}


@pytest.mark.parametrize(
    ("rare", "often"),
    [
        ("fifa11 soccer", "fifa12 soccer"),  # another number is another product
        ("iphone4", "iphone5"),
        ("halo 3", "halo 4"),
        ("car toys", "cat toys"),  # short words are a slip away from too many others
        ("table", "fable"),  # the first letter is seldom mistyped
        ("skyri", "skyrims"),  # two slips
        ("sk", "s k"),
        ("苹果手机膜", "苹果手机壳"),  # a film and a case: a character is a word
        ("사과주스병", "사과주스컵"),
        ("👍👍👍👍😀", "👍👍👍👍👍"),
        ("a" + "b" * 100, "b" * 99 + "a"),  # nobody types so much
    ],
)
def test_what_may_mean_something_else_stays_itself(rare: str, often: str) -> None:
    assert same_clicks({rare: 1, often: 1000}) == {}


def test_a_slip_is_far_rarer_than_what_was_meant_and_the_most_frequent_is_meant() -> None:
    assert same_clicks({"battlefeld": 2, "battlefield": 2 * OFTEN - 1}) == {}
    counts = {"controler": 1, "controller": 1000, "controlers": 100}
    assert same_clicks(counts) == {"controler": "controller"}
    # controllerz is a slip of controllers, which is one of controller.
    chain = {"controllerz": 1, "controllers": 10, "controller": 100}
    assert same_clicks(chain) == {"controllerz": "controller", "controllers": "controller"}


def test_a_query_of_its_own_clicks_is_no_slip_however_rare() -> None:
    def of(times: int, item: str) -> SameQueries:
        queries = ["tablet"] * 10 * OF_ITS_OWN + ["table"] * times
        return SameQueries(queries, [["an iPad"]] * 10 * OF_ITS_OWN + [[item]] * times)

    assert of(OF_ITS_OWN, "a desk").meant == {}
    assert of(OF_ITS_OWN, "an iPad").meant == {"table": "tablet"}
    assert of(OF_ITS_OWN - 1, "a desk").meant == {"table": "tablet"}  # one or two clicks say little


def test_a_pasted_page_is_passed_over_and_takes_no_time() -> None:
    queries = [f"{'x' * 50_000}{number}{'y' * 50_000}" for number in range(20)]
    began = process_time()
    assert SameQueries(queries * OFTEN, [["a"]] * 20 * OFTEN).meant == {}
    assert process_time() - began < 1


def test_case_and_spaces_are_one_query_and_unknown_queries_have_a_key() -> None:
    same = SameQueries(["Dead  Island"] * OFTEN + ["dead isalnd"], [["a"]] * (OFTEN + 1))
    assert same.key("DEAD ISALND") == same.key(" dead island ") == "dead island"
    assert same.spellings("dead isalnd") == ["Dead  Island", "dead isalnd"]
    assert same.spellings("Never Seen") == []
    assert same.key("Never Seen") == "never seen"


def _distance(one: str, other: str) -> int:
    """Damerau-Levenshtein by the table (optimal string alignment)."""
    rows = [[i + j if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


_words = st.text("abc", min_size=4, max_size=8).map(lambda tail: "x" + tail)


@given(counts=st.dictionaries(_words, st.sampled_from([1, 2, 15, 200, 4000]), max_size=12))
def test_slips_are_those_that_a_plain_edit_distance_finds(counts: dict[str, int]) -> None:
    found = same_clicks(counts)
    for query, count in counts.items():
        near = [it for it in counts if counts[it] >= OFTEN * count and _distance(query, it) == 1]
        assert (query in found) == bool(near)
    assert not set(found.values()) & found.keys()
