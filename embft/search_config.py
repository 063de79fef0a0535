"""The part of a config that says which settings a night's training tries. Free of torch, Optuna and MLflow."""

import json
import math
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from embft.config_base import Strict
from embft.yaml_files import error_at

Scalar = bool | int | float | str | None


class Range(Strict):
    """The values of one setting that are tried: numbers from `low` to `high`, both included, or some choices."""

    low: int | float | None = Field(None, description="Smallest number that is tried.")
    high: int | float | None = Field(None, description="Greatest number that is tried.")
    log: bool = Field(False, description="Draw evenly over orders of magnitude, as suits a learning rate.")
    choices: tuple[Scalar | tuple[Scalar, ...], ...] | None = Field(
        None, min_length=2, description="Values that are tried, in place of low and high."
    )

    @model_validator(mode="after")
    def _is_either_kind(self) -> "Range":
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("choices stand alone; leave low, high and log out")
            if len({spelled(it) for it in self.choices}) < len(self.choices):
                raise ValueError("a value is there twice in choices; each may be there once")
        elif self.low is None or self.high is None:
            raise ValueError("expected {low: …, high: …} with numbers, perhaps with log: true, or {choices: […]}")
        elif self.low >= self.high or math.isclose(self.low, self.high, rel_tol=1e-6):
            raise ValueError(f"low is {self.low}, high is {self.high}; low must be well below high")
        elif self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}; with log: true it must be above 0")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """All choices, or the two numbers between which all others lie."""
        return (self.low, self.high) if self.choices is None else self.choices

    def __contains__(self, value: object) -> bool:
        if self.choices is not None:
            return spelled(value) in {spelled(it) for it in self.choices}
        if self.low is None or self.high is None or isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high


def spelled(value: object) -> str:
    """Spell a value so that equal ones are spelled alike: a list as a tuple, 1 as 1.0, and neither as true."""
    return json.dumps(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)


class Search(Strict):
    """Which settings are tried, and for how long."""

    trials: int = Field(12, ge=1, description="Trials of a night, those that were stopped early or failed included.")
    minutes: float = Field(
        30,
        gt=0,
        description="Time that a night's trials train, of each worker where several train at once (fine_tune may use "
        "up what they leave); the trial under way when it is over keeps its best weights so far.",
    )
    earlier: int = Field(
        3, ge=0, description="So many of the best settings of the previous night are tried first, then those of params."
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        "median",
        description="Trials that are stopped early: those below the median of the others at the same validation, those "
        "that Hyperband drops, or none.",
    )
    trials_in_parallel: int = Field(1, ge=1, le=64, description="Tasks that train trials of a night at the same time.")
    ranges: dict[str, Range] = Field(
        min_length=1, description="Name of one of training.params → the values of it that are tried."
    )

    def check_against(self, params: BaseModel, at: Sequence[str]) -> None:
        """Check that a training can be done with each combination of values in the ranges.

        Args:
            params: What is fixed; its fields are what can be searched.
            at: Where the ranges stand, for the message.

        Raises:
            error_at: A setting does not exist, is of another type, or two ranges contradict each other.
        """
        for name, values in self.ranges.items():
            if problem := _mismatch(name, values, params):
                raise error_at((*at, name), problem)
        firsts = {name: values.ends[0] for name, values in self.ranges.items()}
        # A rule of the settings binds two of them at most, and what holds at the ends of a range holds between.
        for some in combinations(self.ranges, min(2, len(self.ranges))):
            for ends in product(*(self.ranges[name].ends for name in some)):
                changed = firsts | dict(zip(some, ends, strict=True))
                try:
                    type(params).model_validate(params.model_dump() | changed)
                except ValidationError as error:
                    problem = error.errors()[0]["msg"].removeprefix("Value error, ")
                    tried = ", ".join(f"{name} {changed[name]!r}" for name in some)
                    raise error_at((*at, some[-1]), f"{tried} would be tried, and cannot be: {problem}") from None


def is_whole(params: type[BaseModel], name: str) -> bool:
    """Whether a setting is a whole number, perhaps or none."""
    return int in _types_of(params, name) and float not in _types_of(params, name)


def _mismatch(name: str, values: Range, params: BaseModel) -> str | None:
    known = type(params).model_fields
    if name not in known:
        return f"there is no such setting in training.params; expected one of {', '.join(known)}"
    if values.choices is not None:
        return None
    if not {int, float} & _types_of(type(params), name):
        return "is no number, so it takes {choices: […]}, not low and high"
    if is_whole(type(params), name) and not all(isinstance(it, int) for it in values.ends):
        return f"counts, so low and high must be whole numbers (found {values.low} and {values.high})"
    return None


def _types_of(params: type[BaseModel], name: str) -> set[Any]:
    annotation = params.model_fields[name].annotation
    return {annotation, *get_args(annotation)}
