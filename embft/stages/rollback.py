"""`embft rollback`: an earlier version serves again, in MLflow and in the vectors, and the history says why.

In this order, each step repeatable, so that a kill between any two is completed by a re-run: the version's vectors of
the present catalogue, the entry in the history (the commit point), MLflow's aliases, the pointer to the vectors.
"""

import logging
import tempfile
import uuid
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from embft.config import ModelConfig
from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.aliases import misplaced_champion, missing_version, problem_of, settle_aliases
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.history import History, Step, version_of
from embft.promotion.ledger import append, read_history
from embft.promotion.pointer import read_pointer, settle_pointer
from embft.promotion.registry import DAY_TAG, DIGEST_TAG, Registry, Version
from embft.promotion.vector_sets import VectorSet
from embft.promotion.vectors import publish_vectors
from embft.results import Champion, Record, weights_digest
from embft.stages.models import registry_of, weights_of
from embft.stages.stage import open_model, required_result
from embft.storage import Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embft.finetuning.models import EmbeddingsModelInterface

log = logging.getLogger(__name__)


class Rollback(Record):
    """What a rollback came to."""

    model: str
    number: int | None = Field(description="Of its entry in the history; None where nothing had to change.")
    left: str | None = Field(description="Version that it was to replace.")
    to: str = Field(description="Version that it was to bring back.")
    champion: str | None = Field(description="Version that serves now.")
    who: str | None
    why: str | None
    pointer: str | None = Field(description="Version whose vectors serve now; None: no vectors were published yet.")
    said: str = Field(description="What was done, in a sentence.")
    warnings: tuple[str, ...] = ()


def roll_back(
    model: str, *, include: Path, to: str | None = None, why: str | None = None, request: str | None = None
) -> Rollback:
    """Let an earlier version serve again.

    With neither `request` nor `to`, a rollback that was killed half-way is completed, and that is all.

    Args:
        model: The model's name.
        include: The project's `include` folder.
        to: The version; left out, the champion's predecessor.
        why: In a sentence.
        request: What asks for it: asked again, it is completed, and goes no further back.

    Returns:
        What it came to.

    Raises:
        ConfigError: There is no version to go back to, or it does not exist any more.
        TemporaryError: MLflow or S3 is away; the same command again completes it.
    """
    config, storage, paths = open_model(model, include)
    work = _Work(config, storage, paths, registry_of(config))
    history = read_history(storage, paths)
    moved = work.moved_by_hand(history)
    begun = history.step_of(request) if request else None if to else work.half_done(history)
    if begun:
        which = "the same request" if request else f"a rollback by {begun.change.who} that had not come to its end"
        return work.settle(begun, f"completed {which}: ", moved)

    target = work.target(history, to)
    champion = history.champion
    if champion and champion.version == target.version:
        return work.nothing_to_do(champion, moved)
    work.provide_vectors(target)
    request = request or f"by hand {uuid.uuid4()}"
    history = append(
        storage, paths, "rollback", target, leaves=champion, request=request, why=why or "no reason was given"
    )
    step = history.step_of(request)
    assert step is not None, "it was written just now"
    return work.settle(step, "", moved)


class _Work:
    """The steps, and what they need."""

    def __init__(self, config: ModelConfig, storage: Storage, paths: Paths, registry: Registry) -> None:
        self.config = config
        self.storage = storage
        self.paths = paths
        self.registry = registry

    def moved_by_hand(self, history: History) -> list[str]:
        """Warn where MLflow's alias is not where the history has it."""
        misplaced = misplaced_champion(history, self.registry.aliases())
        if misplaced:
            log.warning("%s", misplaced)
        return [misplaced] if misplaced else []

    def half_done(self, history: History) -> Step | None:
        """Give the last change where it is a rollback that aliases or vectors do not follow yet."""
        last = history.steps[-1] if history.steps else None
        if last is None or last.change.kind != "rollback" or not last.took_effect:
            return None
        pointer = read_pointer(self.storage, self.paths)
        places = {self.registry.aliases().get("champion"), pointer.version if pointer else last.change.to.version}
        return None if places == {last.change.to.version} else last

    def target(self, history: History, to: str | None) -> Champion:
        """Find the version to go back to, and that it is whole.

        Raises:
            ConfigError: There is none.
        """
        target = history.previous if to is None else None
        version = version_of(target) if to is None else to
        if version is None:
            raise ConfigError(
                f"no version served before {version_of(history.champion) or 'any did'}, so there is nothing to roll "
                "back to; name a registered version with --to"
            )
        existing = {it.number: it for it in self.registry.versions()}
        if version not in existing:
            raise ConfigError(missing_version(self.config.name, version, list(existing)))
        if target and (problem := problem_of(target, existing)):
            raise ConfigError(problem)
        found = target or self._champion_of(history, existing[version])
        gone = next((it.uri for it in found.weights.values() if self.storage.head(it.uri) is None), None)
        if gone:
            raise ConfigError(
                f"{gone}, of version {version}, is gone from S3, so that version cannot serve; choose another with "
                f"--to: there is {', '.join(existing)}"
            )
        self._must_load(existing[version], found)
        return found

    def _must_load(self, version: Version, found: Champion) -> None:
        """See that the version passed its load check, which `register` made unless it was interrupted; else make it.

        Raises:
            ConfigError: It did not, and does not.
        """
        from embft.promotion.load_check import load_fault

        def vectors(texts: Sequence[str]) -> "NDArray[np.float32]":
            with tempfile.TemporaryDirectory(prefix="embft-rollback-") as folder:
                return self._load(found, Path(folder)).to("cpu").encode_queries(texts)

        fault = load_fault(self.registry, version, vectors)
        if fault:
            raise ConfigError(f"version {version.number} cannot serve: it {fault}; choose another with --to")

    def _champion_of(self, history: History, version: Version) -> Champion:
        """Give what a version is made of: as the history has it, or else as its night left it.

        Raises:
            ConfigError: Its night has other weights by now.
        """
        known, digest = history.known(version.number), version.tags.get(DIGEST_TAG)
        if known and known.digest == digest:
            return known
        day = self._day_of(version)
        trained, evaluated = (required_result(self.storage, self.paths, day, it) for it in ("fine_tune", "evaluate"))
        artifact = evaluated.outputs["evaluation.json"]
        evaluation = Evaluation.from_json(self.storage.read(artifact.uri) or b"", artifact.uri)
        weights = weights_of(trained, evaluated, evaluation)
        loss = evaluation.models[evaluation.candidate]["val_loss"]
        if weights_digest(weights) != digest or loss is None:
            raise ConfigError(
                f"version {version.number} was made of weights that its night of {day} no longer has: it was trained "
                "anew since, and they never served; choose another version with --to"
            )
        run_id = str(trained.figures["mlflow_run_id"])
        return Champion(
            model=self.config.name,
            version=version.number,
            day=day,
            mlflow_run_id=run_id,
            weights=weights,
            val_loss=loss,
        )

    def _day_of(self, version: Version) -> date:
        tag = version.tags.get(DAY_TAG)
        try:
            return date.fromisoformat(tag or "")
        except ValueError:
            has = "no tag" if tag is None else f"the tag {tag!r} for"
            raise ConfigError(
                f"version {version.number} of {self.config.name} has {has} {DAY_TAG}, the day (YYYY-MM-DD) of the "
                "night that made it, so what it is made of is not known; choose a version that a night registered"
            ) from None

    def provide_vectors(self, target: Champion) -> None:
        """Have the version's vectors of the catalogue that serves now; made where they are not there."""
        pointer = read_pointer(self.storage, self.paths)
        if pointer is None:
            return
        with tempfile.TemporaryDirectory(prefix="embft-rollback-") as folder:
            publish_vectors(
                self.storage,
                self.paths,
                target,
                pointer.catalogue,
                pointer.day,
                load=lambda: self._load(target, Path(folder) / "model"),
                folder=Path(folder),
                items_per_shard=self.config.publish.items_per_shard,
            )

    def _load(self, target: Champion, folder: Path) -> "EmbeddingsModelInterface":
        from embft.finetuning.devices import encoding_device
        from embft.finetuning.models import load_model

        for name, artifact in target.weights.items():
            self.storage.fetch(artifact, folder / name)
        return load_model(folder).to(encoding_device(self.config.training.settings))

    def settle(self, step: Step, completed: str, warnings: list[str]) -> Rollback:
        """Let aliases and vectors follow the history; say what came of the rollback."""
        change = step.change
        pointer, settled = self._follow(change.to)
        champion = version_of(read_history(self.storage, self.paths).champion)
        in_place = f" in place of {change.leaves}" if change.leaves else ", the first that does"
        said = f"{completed}version {change.to.version} of {self.config.name} serves{in_place}"
        if champion != change.to.version:
            replaced = f"replaced {change.leaves} or " if change.leaves else ""
            said = f"{completed}version {champion} serves, which {replaced}came after the rollback"
        log.warning("ROLLBACK by %s: %s (%s)", change.who, said, change.why)
        return Rollback(
            model=self.config.name,
            number=change.number,
            left=change.leaves,
            to=change.to.version,
            champion=champion,
            who=change.who,
            why=change.why,
            pointer=pointer.version if pointer else None,
            said=said,
            warnings=(*warnings, *settled),
        )

    def nothing_to_do(self, champion: Champion, warnings: list[str]) -> Rollback:
        """Bring aliases and vectors back to the champion, where they are not."""
        pointer, settled = self._follow(champion)
        return Rollback(
            model=self.config.name,
            number=None,
            left=None,
            to=champion.version,
            champion=champion.version,
            who=None,
            why=None,
            pointer=pointer.version if pointer else None,
            said=f"version {champion.version} of {self.config.name} serves already",
            warnings=(*warnings, *settled),
        )

    def _follow(self, target: Champion) -> tuple[VectorSet | None, tuple[str, ...]]:
        settled = settle_aliases(self.registry, self.storage, self.paths)
        if version_of(read_history(self.storage, self.paths).champion) == target.version:
            # They may be there no more, or tonight's publishing moved on to another catalogue meanwhile.
            self.provide_vectors(target)
        return settle_pointer(self.storage, self.paths), settled
