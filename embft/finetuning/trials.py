"""What a search over settings leaves behind: each trial with its settings, its fate and its curve. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

TRIALS = "trials.json"


class _Written(BaseModel):
    # A later version may have added fields, and NaN is no JSON.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Trial(_Written):
    """One training of the search: the settings that it tried, and what came of them."""

    params_id: str = Field(description="Digest of the settings; a settings' set is trained once.")
    params: dict[str, float | int | str | bool | None] = Field(description="Name of each setting searched → its value.")
    state: Literal["finished", "pruned", "failed"]
    quality: float | None = Field(
        description="What the search goes by, as `SearchSummary.objective` says; None where there is no figure."
    )
    seconds: float = Field(ge=0, description="Of the training, its validations included.")
    came_from: Literal["earlier nights", "sampler", "config"] = Field(
        alias="from", description="Who proposed the settings."
    )
    curve: tuple[tuple[int, float], ...] = Field((), description="Optimiser step and validation loss, in order.")
    mlflow_run_id: str | None = None


class SearchSummary(_Written):
    """`figures["search"]` of `fine_tune`: what was searched for, and which settings mattered."""

    objective: str = Field(description="What a trial's quality is, such as `validation nDCG@10`.")
    higher_is_better: bool = Field(True, description="Whether more of it is better; a loss is better the lower it is.")
    trials: int = Field(ge=0, description="All of them, whatever became of them.")
    pruned: int = Field(ge=0, description="Trials that were stopped as hopeless.")
    importances: dict[str, float] = Field(
        default_factory=dict, description="Setting → its share of the differences in quality; they add up to 1."
    )
    best: str | None = Field(None, description="`params_id` of the trial whose weights were kept.")


_TRIALS = TypeAdapter(tuple[Trial, ...])


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write the trials as JSON, in their order.

    Args:
        path: The file.
        trials: Of the search.
    """
    path.write_bytes(_TRIALS.dump_json(tuple(trials), indent=2, by_alias=True))


def read_trials(content: bytes) -> tuple[Trial, ...]:
    """Read what `write_trials` wrote.

    Args:
        content: Of the file.

    Returns:
        The trials, in their order.

    Raises:
        ValueError: It is something else.
    """
    return _TRIALS.validate_json(content)
