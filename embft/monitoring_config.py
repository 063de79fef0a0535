"""The sections `monitoring` and `alerts` of a config: the champion on fresh clicks, and what is worth a message."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from embft.config_base import Strict
from embft.promotion_config import SLICES, Evaluation, Name, closest
from embft.yaml_files import Location, error_at

MAIN_MEASURE = "ndcg_at_10"


class _Rule(Strict):
    name: Name = Field(description="What messages and `embft monitor --replay` call it.")
    measure: str = Field(MAIN_MEASURE, description="ndcg_at_10, val_loss, …: as of `evaluate`.")
    slice: str = Field("all", description="Queries it looks at: all, head, torso, tail, unseen, or one of your own.")
    severity: Literal["warning", "critical"] = "warning"
    min_queries: int = Field(
        50, ge=1, description="Distinct clicked queries below which a day says nothing: not enough clicks."
    )


def _must_look_back(rule: str, min_days: int, days: int) -> None:
    if min_days > days:
        raise ValueError(f"rule {rule!r} needs min_days {min_days} of the {days} days it looks back; give fewer")


class LimitRule(_Rule):
    """An absolute limit."""

    kind: Literal["limit"]
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _has_one_limit(self) -> "LimitRule":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"rule {self.name!r} needs one limit: at_least or at_most")
        return self


class TrailingRule(_Rule):
    """A drop against the trailing days: below their median by more than both a share and what is usual."""

    kind: Literal["trailing"]
    days: int = Field(14, ge=3, le=366, description="Judged days before it that say what is usual.")
    min_days: int = Field(7, ge=3, description="Fewer of them say nothing.")
    max_drop: float = Field(0.05, gt=0, lt=1, description="Share of the median by which it may be worse.")
    deviations: float = Field(3.5, gt=0, description="Usual deviations (from MAD, and the day's own error) it may be.")

    @model_validator(mode="after")
    def _can_judge(self) -> "TrailingRule":
        _must_look_back(self.name, self.min_days, self.days)
        return self


class DeclineRule(_Rule):
    """A slow decline: small drops that add up, by a one-sided CUSUM."""

    kind: Literal["decline"]
    days: int = Field(42, ge=5, le=366, description="Judged days that it looks back.")
    min_days: int = Field(10, ge=5, description="Fewer of them say nothing.")
    slack: float = Field(0.5, gt=0, description="Usual deviations that a day may be worse without adding up.")
    threshold: float = Field(10.0, gt=0, description="Usual deviations that may add up.")

    @model_validator(mode="after")
    def _can_judge(self) -> "DeclineRule":
        # The newest day is one of those that it looks at.
        _must_look_back(self.name, self.min_days, self.days - 1)
        return self


class PromotionRule(_Rule):
    """A drop against what the model showed when it was promoted."""

    kind: Literal["promotion"]
    max_drop: float = Field(0.1, gt=0, lt=1, description="Share of it by which it may be worse.")
    deviations: float = Field(3.0, gt=0, description="Standard errors of the difference that it may be.")


class SameClicksRule(_Rule):
    """The clicks of the day monitored before, ranked by what serves now: a drop is no matter of who searched what."""

    kind: Literal["same_clicks"]
    max_drop: float = Field(0.02, gt=0, lt=1, description="Share by which they may be worse than on their own day.")
    deviations: float = Field(
        3.0, gt=0, description="Standard errors of the difference that it may be, where the champion is a new one."
    )


MonitorRule = Annotated[
    LimitRule | TrailingRule | SameClicksRule | DeclineRule | PromotionRule, Field(discriminator="kind")
]
_DEFAULT_RULES: tuple[MonitorRule, ...] = (
    TrailingRule(name="drop", kind="trailing"),
    SameClicksRule(name="same_clicks", kind="same_clicks"),
    DeclineRule(name="decline", kind="decline"),
    PromotionRule(name="promise", kind="promotion"),
)


class Monitoring(Strict):
    """The champion on each day's clicks, whether or not the night's training succeeded."""

    cron: str = Field("0 6 * * *", description="When it runs, five cron fields; it looks at the day before.")
    rules: tuple[MonitorRule, ...] = Field(_DEFAULT_RULES, description="When its figures are a regression.")

    @model_validator(mode="after")
    def _names_each_rule_once(self) -> "Monitoring":
        names = [it.name for it in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rule {twice[0]!r} is there twice; every rule needs a name of its own")
        return self

    def check_against(self, evaluation: Evaluation) -> None:
        """Refuse rules about what is not measured.

        Args:
            evaluation: What is measured.

        Raises:
            ValueError: A measure or slice does not exist; the message names the closest one.
        """
        slices = [*SLICES, *(it.name for it in evaluation.slices)]
        for number, rule in enumerate(self.rules):
            at: Location = ("monitoring", "rules", number)
            _must_be_known(at, "measure", rule.measure, ["val_loss", *evaluation.ranking_measures])
            _must_be_known(at, "slice", rule.slice, slices)


class Alerts(Strict):
    """What is worth a message beside regressions; who gets it stands in include/alerts.yaml."""

    deadline_hours: float | None = Field(
        5.0, gt=0, le=168, description="Time after a night was queued by which it must be over; null: no deadline."
    )
    no_promotion_days: int | None = Field(
        14, ge=1, description="Days without a new champion after which that is told; null: never."
    )


def _must_be_known(rule: Location, what: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise error_at((*rule, what), f"there is no {what} {word!r}; {closest(word, known)}")
