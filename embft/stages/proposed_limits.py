"""Limits for a model's rules on a day's figures, from the days that its last nights learned from. Writes nothing."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from embft.config import config_path
from embft.errors import DataRejected
from embft.stages.earlier_nights import accepted_before, newest_night
from embft.stages.stage import open_model
from embft.stages.validate_sessions import day_profiles
from embft.validation.override_diff import diff_of
from embft.validation.proposals import propose
from embft.validation.usual import MIN_DAYS


@dataclass(frozen=True)
class ProposedLimits:
    """What good days propose.

    Args:
        summary: Which days were looked at, and what came out, in a sentence.
        diff: Of the model's config, for `git apply` or `patch -p1`; empty where every limit fits.
    """

    summary: str
    diff: str


def propose_limits(model: str, n_days: int, *, include: Path) -> ProposedLimits:
    """Propose limits of the suite `sessions` from a model's last good days.

    Args:
        model: The model's name.
        n_days: How many days that nights learned from to look at.
        include: The project's `include` folder.

    Returns:
        The proposal.

    Raises:
        DataRejected: There are too few good days to tell anything.
    """
    config, storage, paths = open_model(model, include)
    newest = newest_night(storage, paths, "validate_sessions")
    reference_days = config.validation.reference_days
    nights = []
    if newest:
        after = newest + timedelta(days=1)
        nights = accepted_before(storage, paths, after, "validate_sessions", n_days + reference_days)
    history = day_profiles(nights)
    days = sorted(history)[-n_days:]
    if len(days) < MIN_DAYS:
        raise DataRejected(
            f"{model} has learned from {len(days)} good days so far; it takes {MIN_DAYS} to propose limits: run more "
            "nights first, or backfill some"
        )
    proposals = propose(config.validation.rules("sessions"), days, history, reference_days=reference_days)
    path = config_path(include, model)
    name = path.relative_to(include.absolute().parent if path.is_absolute() else include.parent).as_posix()
    looked = f"{len(days)} good days, {days[0]} to {days[-1]}"
    if not proposals:
        return ProposedLimits(f"every limit fits the {looked}", "")
    told = f"{looked}: new limits for {', '.join(it.rule for it in proposals)}; review them before you apply the diff"
    # Bytes: the file's line ends are to stay.
    return ProposedLimits(told, diff_of(name, path.read_bytes().decode(), proposals))
