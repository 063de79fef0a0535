"""Damage to what a log says was shown and clicked, each kind at three strengths; for logs that have shown lists."""

from benchmarks.corruption_lines import Damaged, Kind, Log, rewritten


def clicks_on_the_first_position(log: Log, share: float) -> Damaged:
    """A share of the clicked searches has its click on the first result."""
    return rewritten(log, _clicked(log, share), lambda line: {**line, "clicked": line["shown"][:1]})


def lists_upside_down(log: Log, share: float) -> Damaged:
    """A share of the clicked searches has its list from the last result to the first."""
    return rewritten(log, _clicked(log, share), lambda line: {**line, "shown": line["shown"][::-1]})


def lists_shuffled(log: Log, share: float) -> Damaged:
    """A share of the clicked searches has its list in any order."""
    return rewritten(
        log, _clicked(log, share), lambda line: {**line, "shown": log.chance.permutation(line["shown"]).tolist()}
    )


def lists_lost(log: Log, share: float) -> Damaged:
    """A share of the searches does not say what was shown."""
    return rewritten(log, log.some(share), lambda line: {**line, "shown": None})


def clicked_not_shown(log: Log, share: float) -> Damaged:
    """A share of the clicked searches clicks an item that was not shown."""
    return rewritten(
        log,
        _clicked(log, share),
        lambda line: {**line, "clicked": [next(it for it in log.item_ids if it not in line["shown"])]},
    )


def unknown_shown(log: Log, share: float) -> Damaged:
    """In a share of the searches, what was shown and not clicked is of another shop."""
    ids = [line["clicked"] for line in log.stranger]
    return rewritten(
        log,
        log.some(share),
        lambda line: {
            **line,
            "shown": [it if it in line["clicked"] else str(log.chance.choice(ids)) for it in line["shown"]],
        },
    )


def all_shown_is_clicked(log: Log, share: float) -> Damaged:
    """A share of the searches counts all that was shown as clicked."""
    return rewritten(log, log.some(share), lambda line: {**line, "clicked": line["shown"]})


def _clicked(log: Log, share: float) -> list[int]:
    where = [at for at, line in enumerate(log.lines) if line["clicked"]]
    return sorted(log.chance.choice(where, size=max(1, round(share * len(where))), replace=False).tolist())


KINDS = (
    Kind(clicks_on_the_first_position, (0.2, 0.5, 1.0)),
    Kind(lists_upside_down, (0.2, 0.5, 1.0)),
    Kind(lists_shuffled, (0.2, 0.5, 1.0)),
    Kind(lists_lost, (0.05, 0.3, 1.0)),
    Kind(clicked_not_shown, (0.02, 0.3, 1.0)),
    Kind(unknown_shown, (0.1, 0.5, 1.0)),
    Kind(all_shown_is_clicked, (0.1, 0.5, 1.0)),
)
