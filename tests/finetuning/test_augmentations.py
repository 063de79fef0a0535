from __future__ import annotations

import random
import unicodedata
from collections import Counter

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from embft.errors import ConfigError
from embft.finetuning.augmentations import QueryAugmenter, change_case, misspell
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.paired import PairedFineTuningInputsDataset
from embft.finetuning.params import FineTuningSettings
from embft.finetuning.registry import make_augmenter

_SEEDS = st.integers(0, 2**32)
# Letters with marks, joined scripts, emoji with joiners, Hangul in parts and as a whole, digits, lone surrogates.
_HARD = (
    "aabcezQßİıéſǆ"
    + "\u0301\u0323\u200d\u200c\ufe0f"
    + "क\u094dषि\u0bcdகிกำเລຳ"
    + "각각"
    + "👩🏽🇩🇪"
    + "1½٣_-' \t"
    + "\ud800"
)
_texts = st.text() | st.text(_HARD) | st.text("abcde fghij kl1")


def _distance(left: str, right: str) -> int:
    """Damerau-Levenshtein distance (neighbours swapped count 1), by the table of all prefixes."""
    table = {(i, 0): i for i in range(len(left) + 1)} | {(0, j): j for j in range(len(right) + 1)}
    for i in range(1, len(left) + 1):
        for j in range(1, len(right) + 1):
            differs = int(left[i - 1] != right[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + differs)
            if i > 1 and j > 1 and left[i - 2 : i] == right[j - 1] + right[j - 2]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[len(left), len(right)]


@given(text=_texts, seed=_SEEDS)
@example("shoes", 0)
@example("", 0)
def test_a_slip_is_one_edit_or_none(text: str, seed: int) -> None:
    changed = misspell(text, random.Random(seed))
    assert changed == text or _distance(text, changed) == 1
    assert changed == misspell(text, random.Random(seed))


@given(text=_texts, seed=_SEEDS)
def test_a_slip_breaks_no_character_apart(text: str, seed: int) -> None:
    changed = misspell(text, random.Random(seed))
    before, after = (Counter(regex.findall(r"\X", it)) for it in (text, changed))
    # At most one grapheme goes and one comes, and each of these is a single letter.
    for moved in (before - after, after - before):
        assert moved.total() <= 1
        assert all(len(it) == 1 and unicodedata.category(it).startswith("L") for it in moved)


@given(text=_texts, seed=_SEEDS)
def test_short_words_and_words_with_digits_stay(text: str, seed: int) -> None:
    changed = misspell(text, random.Random(seed))
    before, after = text.split(), changed.split()
    assert len(before) == len(after)
    for word, now in zip(before, after, strict=True):
        if any(char.isnumeric() for char in word) or len(word) < 4:
            assert word == now


def test_every_kind_of_slip_occurs_and_the_keyboard_is_a_keyboard() -> None:
    slips = {misspell("word", random.Random(seed)) for seed in range(500)}
    swapped, omitted = {"owrd", "wrod", "wodr"}, {"ord", "wrd", "wod", "wor"}
    doubled = {"wword", "woord", "worrd", "wordd"}
    beside = {"w": "qeas", "o": "ipkl", "r": "etdf", "d": "sferxc"}
    replaced = {"word".replace(key, other) for key, others in beside.items() for other in others}
    assert slips == swapped | omitted | doubled | replaced


def test_case_is_kept_by_a_replaced_letter() -> None:
    assert all(misspell("WORD", random.Random(seed)).isupper() for seed in range(100))


@pytest.mark.parametrize("text", ["привет", "παπούτσια", "הנעליים", "スニーカー", "각각각각"])
def test_letters_that_are_on_no_qwerty_key_are_swapped_left_out_or_doubled(text: str) -> None:
    slips = {misspell(text, random.Random(seed)) for seed in range(100)}
    assert len(slips - {text}) > 1
    assert all(set(slip) <= set(text) for slip in slips)


@pytest.mark.parametrize(
    "text", ["", " ", "hat", "iphone12", "a b c", "½½½½abcd", "e\u0301e\u0301e\u0301e\u0301", "👩👩👩👩"]
)
def test_texts_without_a_word_that_can_take_a_slip_stay(text: str) -> None:
    assert {misspell(text, random.Random(seed)) for seed in range(20)} == {text}


@given(text=_texts, seed=_SEEDS)
@example("straße", 0)
@example("İstanbul", 0)
@example("ısı", 1)
@example("ΟΔΟΣ", 0)
def test_another_casing_is_the_same_word(text: str, seed: int) -> None:
    assert change_case(text, random.Random(seed)).casefold() == text.casefold()


def test_casings_are_lower_upper_and_title() -> None:
    cased = {change_case("red Men's shoe", random.Random(seed)) for seed in range(50)}
    assert cased == {"red men's shoe", "RED MEN'S SHOE", "Red Men's Shoe"}
    assert {change_case("straße", random.Random(seed)) for seed in range(50)} == {"STRASSE", "Straße"}
    assert change_case("ısı 42", random.Random(0)) == "ısı 42"  # upper case is that of another word: isi
    assert change_case("42", random.Random(0)) == "42"


_lists = st.lists(_texts, max_size=10)


@given(texts=_lists, seed=_SEEDS)
def test_a_share_of_0_changes_nothing(texts: list[str], seed: int) -> None:
    assert QueryAugmenter([misspell, change_case], 0, seed)(texts) == texts
    assert QueryAugmenter([], 0, seed)(texts) == texts


@given(texts=_lists, seed=_SEEDS)
def test_a_share_of_1_gives_every_text_to_an_augmentation(texts: list[str], seed: int) -> None:
    assert QueryAugmenter([lambda text, rng: text + "!"], 1, seed)(texts) == [text + "!" for text in texts]


@given(texts=_lists, share=st.floats(0, 1), seed=_SEEDS)
def test_the_same_seed_gives_the_same_texts_call_after_call(texts: list[str], share: float, seed: int) -> None:
    one, two = (QueryAugmenter([misspell, change_case], share, seed) for _ in range(2))
    assert [one(texts) for _ in range(3)] == [two(texts) for _ in range(3)]


def test_each_call_draws_anew_about_the_share_of_the_texts() -> None:
    texts = ["running shoes"] * 2000
    augmenter = QueryAugmenter([misspell, change_case], 0.3, seed=5)
    first, second = augmenter(texts), augmenter(texts)
    assert first != second
    for changed in (first, second):
        assert sum(text != "running shoes" for text in changed) == pytest.approx(600, abs=100)  # 5 sigma


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=f"share is {share}"):
        QueryAugmenter([misspell], share)


def test_a_share_of_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"share is 0\.5, but there are no augmentations"):
        QueryAugmenter([], 0.5)


def test_respelling_takes_the_logs_own_slips_and_what_they_mean_and_nothing_else() -> None:
    clicks = [("Dead Island", 20), ("dead isalnd", 1), ("dead islnd", 2), ("fifa 12", 30)]
    log = [FineTuningInput(f"{query} {n}", query, ["a"], []) for query, count in clicks for n in range(count)]
    augmenter = make_augmenter(FineTuningSettings(query_augmentations=("respell",), augmented_share=1.0, seed=1))
    assert augmenter is not None
    assert augmenter(["dead isalnd"]) == ["dead isalnd"]  # it has read no log yet
    augmenter.read(PairedFineTuningInputsDataset(log).same_queries)
    island = {"Dead Island", "dead isalnd", "dead islnd"}
    for query in sorted(island):
        assert set(augmenter([query] * 60)) == island
    assert augmenter(["fifa 12", "fifa 13"]) == ["fifa 12", "fifa 13"]
