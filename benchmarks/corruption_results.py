"""What became of damage: caught or not, by which rule, and which rows were set aside; as a table and as figures."""

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from benchmarks.figures import print_figure

STRENGTHS = ("weak", "middle", "strong")
_MAX_RULES = 4


@dataclass(frozen=True)
class Seen:
    """What one night made of one kind of damage at one strength.

    Args:
        group: What was damaged: log lines, shown lists, catalogue, ranks.
        kind: Name of the damage.
        strength: One of `STRENGTHS`.
        harmless: The same rows came of it.
        caught: It raised a reason or a warning, or what it damaged was set aside.
        rules: What spoke up.
        touched: Rows that were damaged.
        right: Of the rows set aside, those that were damaged.
        wrong: The others.
    """

    group: str
    kind: str
    strength: str
    harmless: bool = False
    caught: bool = False
    rules: Sequence[str] = field(default_factory=list)
    touched: int = 0
    right: int = 0
    wrong: int = 0


class Results:
    """All that was seen."""

    def __init__(self, seen: Sequence[Seen]) -> None:
        self._by_kind: dict[tuple[str, str], dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
        for it in seen:
            self._by_kind[it.group, it.kind][it.strength].append(it)

    def print_table(self) -> None:
        """Print what became of each kind at each strength, for people."""
        table = Table("what", "kind", "strength", "caught", "by", "rows damaged", "set aside right", "wrong")
        for (group, kind), strengths in self._by_kind.items():
            for strength, seen in strengths.items():
                rows = [sum(getattr(it, name) for it in seen) for name in ("touched", "right", "wrong")]
                table.add_row(group, kind, strength, _caught_in_words(seen), _rules(seen), *map(str, rows))
        Console(file=sys.stderr, width=200).print(table)

    def print_figures(self, data: Mapping[str, str]) -> None:
        """Print the share of kinds that were caught at each strength, and what became of each kind.

        Args:
            data: Group → what was damaged, in a phrase.
        """
        for strength in reversed(STRENGTHS):
            kinds = [of[strength] for of in self._by_kind.values() if not _is_harmless(of[strength])]
            n_caught = sum(all(it.caught or it.harmless for it in seen) for seen in kinds)
            every = [it for seen in kinds for it in seen]
            print_figure(
                f"validation.caught.{strength}",
                round(n_caught / len(kinds), 3),
                "1",
                baseline=None,
                n=len(kinds),
                data=f"kinds of damage, one at a time; caught: on every day that was damaged; "
                f"{sum(it.right for it in every)} rows set aside rightly and {sum(it.wrong for it in every)} wrongly",
            )
        for (group, kind), strengths in self._by_kind.items():
            n_caught = sum(all(it.caught for it in seen) for seen in strengths.values())
            told = "; ".join(f"{strength}: {_in_words(seen)}" for strength, seen in strengths.items())
            print_figure(
                f"validation.damage.{kind}",
                n_caught,
                "strengths",
                baseline=None,
                n=sum(len(seen) for seen in strengths.values()),
                data=f"{data[group]}; {told}",
            )


def _is_harmless(seen: Sequence[Seen]) -> bool:
    return all(it.harmless for it in seen)


def _in_words(seen: Sequence[Seen]) -> str:
    aside = f", {sum(it.right for it in seen)} of {sum(it.touched for it in seen)} rows set aside"
    wrong = sum(it.wrong for it in seen)
    by = f" by {_rules(seen)}" if any(it.caught for it in seen) and _rules(seen) else ""
    return (
        f"{_caught_in_words(seen)}{by}"
        f"{aside if any(it.right for it in seen) else ''}{f', {wrong} wrongly' if wrong else ''}"
    )


def _caught_in_words(seen: Sequence[Seen]) -> str:
    if _is_harmless(seen):
        return "harmless, the same rows"
    n_caught = sum(it.caught for it in seen)
    return "caught" if n_caught == len(seen) else f"{n_caught} of {len(seen)} caught" if n_caught else "not caught"


def _rules(seen: Sequence[Seen]) -> str:
    counts = Counter(rule for it in seen for rule in it.rules)
    return ", ".join(rule for rule, _ in counts.most_common(_MAX_RULES))
