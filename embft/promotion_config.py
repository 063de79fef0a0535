"""The sections `evaluation`, `gate`, `publish` and `retention` of a config: from a trained challenger to a champion."""

import difflib
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Annotated, Literal

from pydantic import Field, model_validator

from embft.config_base import OffIsAWord, S3Object, Strict
from embft.yaml_files import Location, error_at

SLICES = ("all", "head", "torso", "tail", "unseen")
SHIFTS = ("not_irrelevant_dist_shift", "irrelevant_dist_shift")
COSTS = ("model_mb", "encode_ms")
MAIN_CUTOFF = 10

Confidence = Annotated[Literal["off", "to_promote", "to_reject"], OffIsAWord]
# They are a part of file names and of the names of measures in MLflow, which takes 250 characters.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


class QuerySlice(Strict):
    """Queries that are looked at by themselves: listed here, listed in an object, or labelled in a table."""

    name: Name = Field(description="What reports and the gate's rules call it.")
    queries: tuple[str, ...] | None = Field(None, description="The queries themselves.")
    uri: S3Object | None = Field(
        None, description="Object with the queries: .txt, one a line, or .csv, .tsv, .jsonl, .parquet with `query`."
    )
    column: str | None = Field(None, description="Column of that table which labels its queries.")
    value: str | None = Field(None, description="Label of the queries that are meant.")

    @model_validator(mode="after")
    def _says_which(self) -> "QuerySlice":
        if (self.queries is None) == (self.uri is None):
            raise ValueError(f"slice {self.name!r} needs either `queries` or `uri`")
        if (self.column is None) != (self.value is None) or (self.column and not self.uri):
            raise ValueError(f"slice {self.name!r}: `column` and `value` go together, with a `uri`")
        if self.queries is not None and not all(query.strip() for query in self.queries or [""]):
            raise ValueError(f"slice {self.name!r} has a blank query, or none; give what people type")
        if self.uri:
            _must_end(self.uri, TABLES if self.column else (".txt", *TABLES))
        return self


class Guard(Strict):
    """A judgement list on which no new model may be worse, whatever the clicks say."""

    name: Name = Field(description="What reports and the gate call it.")
    uri: S3Object = Field(description="Object with query, item and grade: .csv, .tsv, .jsonl or .parquet.")
    items: S3Object | None = Field(
        None, description="Items of its own, as JSON lines like the catalogue's; left out: the catalogue."
    )
    relevant_from: float = Field(1.0, gt=0, description="Grade from which MRR and Recall take an item as relevant.")
    max_drop: float = Field(
        0.02, ge=0, lt=1, description="Share by which nDCG@10 on it may be below that of the model it replaces."
    )
    confidence: Confidence = Field(
        "off", description="As of a rule of the gate; off: the figure alone is held against the limit."
    )

    @model_validator(mode="after")
    def _is_a_table(self) -> "Guard":
        _must_end(self.uri, TABLES)
        return self

    @property
    def rule(self) -> str:
        """Name of the gate's rule that it brings."""
        return f"guard_{self.name}"


class Evaluation(Strict):
    """What models are measured by, on the held-out clicks."""

    cutoffs: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (MAIN_CUTOFF,), description="k of nDCG@k, MRR@k and Recall@k; 10 is always among them."
    )
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Of every interval, and of the gate's rules.")
    resamples: int = Field(10_000, ge=1000, le=1_000_000, description="Of the bootstrap over queries.")
    slices: tuple[QuerySlice, ...] = Field((), description="Beside head, torso, tail and unseen queries.")
    guards: tuple[Guard, ...] = ()

    @model_validator(mode="after")
    def _names_each_once(self) -> "Evaluation":
        for kind, names in (
            ("slice", [*SLICES, *(it.name for it in self.slices)]),
            ("guard", [it.name for it in self.guards]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{kind} {twice[0]!r} is there twice; {', '.join(SLICES)} are slices already")
        if MAIN_CUTOFF not in self.cutoffs:
            raise ValueError(f"cutoffs is {list(self.cutoffs)}; add {MAIN_CUTOFF}, which reports and guards go by")
        return self

    @property
    def ordered_cutoffs(self) -> list[int]:
        """Each cut-off once, the main one first."""
        return sorted(set(self.cutoffs), key=lambda k: (k != MAIN_CUTOFF, k))

    @property
    def ranking_measures(self) -> tuple[str, ...]:
        """Names of the retrieval measures, the main cut-off's first."""
        return tuple(f"{name}_at_{k}" for k in self.ordered_cutoffs for name in ("ndcg", "mrr", "recall"))

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of all that is measured per session."""
        return ("val_loss", *self.ranking_measures, *SHIFTS)


class GateRule(Strict):
    """One further limit: of the challenger's own figure, or of its gain over the model it would replace."""

    name: Name = Field(description="What the decision and `embft gate --what-if` call it.")
    measure: str = Field(description="val_loss, ndcg_at_10 …, a distance shift, model_mb or encode_ms.")
    slice: str = Field("all", description="Queries it looks at: all, head, torso, tail, unseen, or one of your own.")
    guard: str | None = Field(None, description="Guard set that it looks at in place of the clicks.")
    at_most: float | None = Field(None, description="The challenger's figure must not be above this.")
    at_least: float | None = Field(None, description="The challenger's figure must not be below this.")
    min_gain: float | None = Field(
        None,
        gt=-1,
        lt=10,
        description="Share by which it must be better than the champion; below 0, by which it may be worse.",
    )
    against: Literal["champion", "most_clicked"] = Field(
        "champion",
        description="Whom `min_gain` is over: the champion (the base model before there is one), or a look-up table of "
        "the items clicked most for each query.",
    )
    confidence: Confidence = Field(
        "off",
        description="off: the figure alone is held against the limit. to_promote: the limit must be shown to be kept. "
        "to_reject: only a limit that is shown to be broken rejects.",
    )

    @model_validator(mode="after")
    def _has_one_limit(self) -> "GateRule":
        limits = [name for name in ("at_most", "at_least", "min_gain") if getattr(self, name) is not None]
        if len(limits) != 1:
            raise ValueError(
                f"rule {self.name!r} has {' and '.join(limits) or 'no limit'}; give one: at_most, at_least or min_gain"
            )
        if self.measure in SHIFTS and self.min_gain is not None:
            raise ValueError(f"rule {self.name!r}: {self.measure} is itself a difference; give at_most or at_least")
        if self.measure in COSTS and (self.confidence != "off" or self.slice != "all" or self.guard):
            raise ValueError(
                f"rule {self.name!r}: {self.measure} is of the model, not of queries: no slice, guard or confidence"
            )
        if self.against == "most_clicked":
            self._check_against_most_clicked()
        if self.guard and self.slice != "all":
            raise ValueError(f"rule {self.name!r} names a slice and a guard; give one of the two")
        return self

    def _check_against_most_clicked(self) -> None:
        if self.guard or self.measure in ("val_loss", *SHIFTS, *COSTS):
            raise ValueError(
                f"rule {self.name!r} is against most_clicked, a look-up table of clicks, which has only nDCG, MRR and "
                f"Recall, and no figure on guard sets; give such a measure, as ndcg_at_{MAIN_CUTOFF}, and no guard"
            )
        if self.min_gain is None:
            raise ValueError(f"rule {self.name!r} is against most_clicked, so its limit is a min_gain over it")

    @property
    def limit(self) -> float:
        """The one limit there is."""
        return next(it for it in (self.at_most, self.at_least, self.min_gain) if it is not None)


class Approval(Strict):
    """A person looks before a model that passed the gate serves; whoever is silent rejects.

    A run that promotes nothing (a backfill, `promote: never`) asks nobody.
    """

    timeout_hours: float = Field(12, gt=0, le=168, description="Time to answer; then it counts as rejected.")


class Gate(Strict):
    """What a challenger must show before it may serve. Loss limits are on the held-out validation loss."""

    max_val_loss: float = Field(
        gt=0,
        description="Absolute limit: the challenger's loss must not be above it. Set it anew when loss, margin or "
        "batch size change.",
    )
    min_relative_gain: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Relative limit: share by which the loss must fall below the champion's. Another seed alone "
        "moves it by some 2 %, which is no progress.",
    )
    confidence: Annotated[Literal["off", "to_promote"], OffIsAWord] = Field(
        "to_promote", description="to_promote: that gain must be shown with evaluation.confidence; off: found."
    )
    rules: tuple[GateRule, ...] = Field((), description="Further limits.")
    approval: Approval | None = Field(None, description="Ask a person, too; left out: nobody is asked.")

    @model_validator(mode="after")
    def _names_each_rule_once(self) -> "Gate":
        names = [it.name for it in self.rules]
        taken = sorted(
            {name for name in names if names.count(name) > 1 or name in ("max_val_loss", "min_relative_gain")}
        )
        if taken:
            raise ValueError(f"rule {taken[0]!r} is there twice; every rule needs a name of its own")
        return self

    def check_against(self, evaluation: Evaluation) -> None:
        """Refuse rules about what is not measured, and those that could never break.

        Args:
            evaluation: What is measured.

        Raises:
            ValueError: A measure, slice or guard does not exist; the message names the closest one. Or a rule has the
                name of a guard's own, or no break could be shown by so few resamples.
        """
        for number, rule in enumerate(self.rules):
            at: Location = ("gate", "rules", number)
            known = evaluation.ranking_measures if rule.guard else (*evaluation.measures, *COSTS)
            _must_be_known(at, "measure", rule.measure, known)
            _must_be_known(at, "slice", rule.slice, [*SLICES, *(it.name for it in evaluation.slices)])
            if rule.guard:
                _must_be_known(at, "guard", rule.guard, [it.name for it in evaluation.guards])
            _must_be_its_own(at, rule.name, [it.rule for it in evaluation.guards])
        _must_be_breakable([*self.rules, *evaluation.guards], evaluation)


class Publish(Strict):
    """The catalogue's vectors under the champion."""

    items_per_shard: int = Field(50_000, ge=1, description="Items of a Parquet shard: encoded, and uploaded, at once.")
    keep_previous: int = Field(
        2, ge=0, description="Former champions whose vectors are kept, so that a rollback needs no encoding."
    )


class Retention(Strict):
    """What `embft prune` removes."""

    keep_days: int = Field(90, ge=1, description="Age in days at which a night's files may go.")


def closest(word: str, known: Iterable[str]) -> str:
    """Suggest what a misspelled word was meant to be.

    Args:
        word: As it was written.
        known: What exists.

    Returns:
        "; did you mean …?", or what there is.
    """
    names: Sequence[str] = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(names) or 'none'}"


def _must_be_known(rule: Location, what: str, word: str, known: Iterable[str]) -> None:
    names = list(known)
    if word not in names:
        raise error_at((*rule, what), f"there is no {what} {word!r}; {closest(word, names)}")


def _must_be_its_own(rule: Location, name: str, of_guards: Sequence[str]) -> None:
    if name in of_guards:
        raise error_at((*rule, "name"), f"{name!r} is the name of that guard's own rule; give this one another")


def _must_be_breakable(rules: Sequence[GateRule | Guard], evaluation: Evaluation) -> None:
    # No p is below 1 / (resamples + 1), and Holm's method multiplies it by the number of such rules.
    n = sum(it.confidence == "to_reject" for it in rules)
    share = (1 - evaluation.confidence) / 2
    if n / (evaluation.resamples + 1) >= share:
        raise error_at(
            ("evaluation", "resamples"),
            f"{evaluation.resamples} resamples cannot show a break of {n} rules `to_reject` with a confidence of "
            f"{evaluation.confidence:g}, so nothing would ever break them; take {ceil(n / share)} or more",
        )


def _must_end(uri: str, endings: Sequence[str]) -> None:
    if not uri.lower().endswith(tuple(endings)):
        raise ValueError(f"{uri} must end in {', '.join(endings[:-1])} or {endings[-1]}, which says what it holds")
