"""Query texts as users also type them: other casing, typing slips. For training alone; what is measured stays as is."""

from __future__ import annotations

import itertools
import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from embft.errors import ConfigError
from embft.same_queries import SameQueries

TextAugmentation = Callable[[str, random.Random], str]
"""(text, source of chance) → text that means the same to a person."""

_MIN_LETTERS = 4
_WORD = re.compile(r"\S+")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# Characters that form one grapheme with the letter beside them, though Unicode does not call them marks.
_BINDING = (
    *((0x1100, 0x11FF), (0xA960, 0xA97F), (0xD7B0, 0xD7FF)),  # parts of Hangul syllables
    *((0x0E33, 0x0E33), (0x0EB3, 0x0EB3), (0xFF9E, 0xFF9F), (0x1F3FB, 0x1F3FF)),  # bind to what is before them
    *((0x0D4E, 0x0D4E), (0x111C2, 0x111C3), (0x1193F, 0x11941), (0x11A84, 0x11A89), (0x11D46, 0x11D46)),  # after
)


def _neighbours() -> dict[str, str]:
    """Key → keys beside it on a QWERTY keyboard: in its row, and in the rows above and below, which are shifted."""
    keys: dict[str, str] = {}
    for number, row in enumerate(_ROWS):
        for place, key in enumerate(row):
            above = _ROWS[number - 1][place : place + 2] if number else ""
            below = _ROWS[number + 1][max(place - 1, 0) : place + 1] if number + 1 < len(_ROWS) else ""
            keys[key] = row[max(place - 1, 0) : place] + row[place + 1 : place + 2] + above + below
    return {**keys, **{key.upper(): beside.upper() for key, beside in keys.items()}}


_BESIDE = _neighbours()


def change_case(text: str, rng: random.Random) -> str:
    """Write a text in lower case, UPPER CASE or With Capitals, whichever differs from it, by chance.

    Guaranteed: both have the same `casefold`, so that no other word comes of it. A casing that breaks this is not
    used (upper case of the Turkish dotless ı is I, which is another letter's); where none is left the text stays. The
    length may change: ß in upper case is SS.

    Args:
        text: Any text.
        rng: Source of chance.

    Returns:
        The text in another casing, or as it is where it has none.
    """
    titled = _WORD.sub(lambda word: word[0][0].title() + word[0][1:].lower(), text)
    casings = [
        cased for cased in (text.lower(), text.upper(), titled) if cased != text and cased.casefold() == text.casefold()
    ]
    return rng.choice(casings) if casings else text


def misspell(text: str, rng: random.Random) -> str:
    """Make one typing slip in one word of four letters or more.

    Two neighbouring letters swapped, one left out, one doubled, or one of a-z replaced by a key beside it on a QWERTY
    keyboard. Words with a digit stay as they are: another model number is another product. A letter beside a combining
    mark is not touched, so that no character falls apart.

    Args:
        text: Any text.
        rng: Source of chance.

    Returns:
        A text at Damerau-Levenshtein distance 1, or the text as it is where no word can take a slip.
    """
    words = [places for word in _WORD.finditer(text) if (places := _slip_places(text, *word.span()))]
    if not words:
        return text
    places = rng.choice(words)
    return rng.choice(_slips(text, places))(rng)


def _slip_places(text: str, start: int, end: int) -> list[int]:
    """Indices of the letters of a word that a slip may touch; none where the word is too short or has a digit."""
    word = text[start:end]
    n_letters = sum(unicodedata.category(char).startswith("L") for char in word)
    if n_letters < _MIN_LETTERS or any(char.isnumeric() for char in word):
        return []
    return [place for place in range(start, end) if _stands_alone(text, place)]


def _stands_alone(text: str, place: int) -> bool:
    """Whether this is a letter that forms a grapheme by itself, and still does when its neighbours change places."""
    if not unicodedata.category(text[place]).startswith("L"):
        return False
    return not any(map(_binds, text[max(place - 1, 0) : place + 2]))


def _binds(char: str) -> bool:
    if char.isascii():
        return False
    return unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf") or any(a <= ord(char) <= b for a, b in _BINDING)


def _slips(text: str, places: list[int]) -> list[Callable[[random.Random], str]]:
    """The kinds of slip that these letters allow; each draws its place when called."""
    pairs = [i for i, after in itertools.pairwise(places) if after == i + 1 and text[i] != text[after]]
    on_keyboard = [i for i in places if text[i] in _BESIDE]

    def swap(rng: random.Random) -> str:
        i = rng.choice(pairs)
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]

    def omit(rng: random.Random) -> str:
        i = rng.choice(places)
        return text[:i] + text[i + 1 :]

    def double(rng: random.Random) -> str:
        i = rng.choice(places)
        return text[:i] + text[i] + text[i:]

    def replace(rng: random.Random) -> str:
        i = rng.choice(on_keyboard)
        return text[:i] + rng.choice(_BESIDE[text[i]]) + text[i + 1 :]

    return [*([swap] if pairs else []), omit, double, *([replace] if on_keyboard else [])]


class Respell:
    """Writes a query as others typed it who made a slip, or did not: so slips share in what was clicked for the query.

    Unlike `misspell`, it teaches the slips that people make, and what a slip in the log was meant to be. It changes
    nothing until a training has read its log.
    """

    def __init__(self) -> None:
        self._same_queries: SameQueries | None = None

    def read(self, same_queries: SameQueries) -> None:
        """Take the spellings of a log."""
        self._same_queries = same_queries

    def __call__(self, text: str, rng: random.Random) -> str:
        """One of the spellings, each as likely as the others; the text as it is where there is only one."""
        spellings = self._same_queries.spellings(text) if self._same_queries else []
        return rng.choice(spellings) if spellings else text

    def __repr__(self) -> str:
        """Part of the id of settings."""
        return "Respell()"


class QueryAugmenter:
    """Changes a share of the texts it is given, anew at each call; the same seed gives the same calls the same texts.

    Args:
        augmentations: What to choose from, each as likely as the others.
        share: Probability that a text is given to one of them, in [0, 1].
        seed: Of the draws.

    Raises:
        ConfigError: `share` is outside [0, 1], or above 0 with nothing to choose from.
    """

    def __init__(self, augmentations: Sequence[TextAugmentation], share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"share is {share}; the share of texts to augment must be in [0, 1], 0 for none")
        if share and not augmentations:
            raise ConfigError(f"share is {share}, but there are no augmentations; give some, or set the share to 0")
        self.augmentations = tuple(augmentations)
        self.share = share
        self._rng = random.Random(seed)

    @property
    def random_state(self) -> Any:
        """Where the draws are, as plain values; set it, and they go on from there."""
        return self._rng.getstate()

    @random_state.setter
    def random_state(self, state: Any) -> None:
        self._rng.setstate(state)

    def read(self, same_queries: SameQueries) -> None:
        """Tell the augmentations that write queries as others did how they are written in the log."""
        for it in self.augmentations:
            if isinstance(it, Respell):
                it.read(same_queries)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Texts in their order, each as it is or changed by one augmentation."""
        return [self._augmented(text) for text in texts]

    def _augmented(self, text: str) -> str:
        if self._rng.random() >= self.share:
            return text
        return self._rng.choice(self.augmentations)(text, self._rng)
