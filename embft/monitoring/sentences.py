"""What messages make of the sentences in which stages say what is wrong."""

import re

_LONGEST = 300
# In this order: an address holds digits, and a digest begins with one at times.
_CHANGING = (
    re.compile(r"“[^”]*”"),  # examples from tonight's rows
    re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE),
    re.compile(r"(?<!\w)/[\w.-]+(?:/[\w.-]*)+"),
    re.compile(r"\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)[0-9a-f]{8,}\b(?:-[0-9a-f]{4,})*", re.IGNORECASE),
    re.compile(r"\d[\d.,:]*"),
)


def likeness(sentence: str) -> str:
    """Give what of a sentence is the same when the same fault comes again on another night.

    Args:
        sentence: A stage's own words.

    Returns:
        It without addresses, paths, digests, figures, dates and quoted examples.
    """
    for pattern in _CHANGING:
        sentence = pattern.sub("#", sentence)
    return re.sub(r"#(?:[\s:T-]*#)+", "#", one_line(sentence))[:_LONGEST]


def one_line(text: str, longest: int | None = None) -> str:
    """Put a text into one line, cut where it is too long.

    Args:
        text: Any text.
        longest: Characters that there may be.

    Returns:
        The line.
    """
    line = " ".join(text.split())
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def first_clause(sentence: str, longest: int = 200) -> str:
    """Give the beginning of a sentence, for a title: what is wrong, without what follows from it.

    Args:
        sentence: A stage's own words.
        longest: Characters that there may be.

    Returns:
        Up to the first semicolon.
    """
    return one_line(sentence.partition("; ")[0], longest)
