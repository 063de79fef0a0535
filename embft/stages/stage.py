"""What every stage shares: read the frozen run, find an up-to-date result, work, upload, commit with one PUT.

A stage killed at any moment leaves the old result or the new one, because `result.json` is written last and files go
under a fresh attempt prefix. A stage whose inputs, settings and code are those of its own result returns that result.
"""

import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import embft
from embft.config import ModelConfig, config_path, load_config
from embft.errors import ConfigError, DataRejected
from embft.paths import Paths, stage_command
from embft.results import RunSpec, StageResult, digest_of
from embft.stages.retention import remove_spent_checkpoints
from embft.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a stage's work came to.

    Args:
        files: Output name → local file; names may hold slashes.
        figures: JSON-able figures for people and for later stages.
        status: `rejected` where the data or the model was refused.
        reason: One sentence; required with `rejected`.
        links: Web pages to look at.
        pages: Page's name → local file: what people look at and no stage reads. Nothing depends on their digests.
    """

    files: dict[str, Path]
    figures: dict[str, Any]
    status: Literal["done", "rejected"] = "done"
    reason: str | None = None
    links: dict[str, str] = field(default_factory=dict)
    pages: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a stage sees while it works.

    Args:
        run: The night's frozen facts.
        storage: S3.
        paths: Spells the model's keys.
        inputs: Results of the stages it needs.
        folder: Scratch folder; gone afterwards.
        attempt_uri: Prefix that this attempt's files go under.
        checkpoints_uri: Prefix for what an interrupted attempt leaves to go on from; the same for each attempt at the
            same inputs, settings and code.
        reference: What earlier nights left to compare with, where the stage asks for it.
        fingerprint: The same for each attempt at the same inputs, settings and code.
    """

    run: RunSpec
    storage: Storage
    paths: Paths
    inputs: dict[str, StageResult]
    folder: Path
    attempt_uri: str
    checkpoints_uri: str
    reference: Any = None
    fingerprint: str = ""

    def fetch(self, stage: str, name: str) -> Path:
        """Download one output of a needed stage, digest checked; fetched once per attempt.

        Args:
            stage: A stage named in `needs`.
            name: The output's name.

        Returns:
            The local file.
        """
        path = self.folder / "inputs" / stage / name
        if path.exists():
            return path
        return self.storage.fetch(self.inputs[stage].output(name), path)


@dataclass(frozen=True)
class Stage:
    """One stage of a night.

    Args:
        name: As in the DAG and on the command line.
        needs: Stages whose outputs it reads.
        settings: The part of the run that its outcome depends on, beside its inputs.
        work: The work itself.
        after: Stages that must not have rejected, but whose outputs it does not read.
        reference: Finds what earlier nights left to compare with; the outcome depends on it as on an input.
        resumes: Whether it leaves checkpoints.
        afterwards: Puts away, once the result is committed, what the work left elsewhere.
    """

    name: str
    needs: tuple[str, ...]
    settings: Callable[[RunSpec], Any]
    work: Callable[[Context], Outcome]
    after: tuple[str, ...] = ()
    reference: Callable[[Storage, Paths, RunSpec], Any] | None = None
    resumes: bool = False
    afterwards: Callable[[RunSpec, Paths, StageResult], None] | None = None


@dataclass(frozen=True)
class Prepared:
    """A stage whose inputs were found, before the work."""

    run: RunSpec
    storage: Storage
    paths: Paths
    draft: "Draft"
    results: dict[str, StageResult]
    reference: Any

    def context(self, folder: Path, attempt_uri: str) -> Context:
        """Give what the stage sees while it works.

        Args:
            folder: Scratch folder.
            attempt_uri: Prefix that the attempt's files go under.

        Returns:
            The context.
        """
        fingerprint = self.draft.fingerprint
        checkpoints_uri = f"{self.paths.checkpoints(self.draft.day, self.draft.stage)}/{fingerprint[:16]}"
        return Context(
            self.run,
            self.storage,
            self.paths,
            self.results,
            folder,
            attempt_uri,
            checkpoints_uri,
            self.reference,
            fingerprint,
        )


def open_model(model: str, include: Path) -> tuple[ModelConfig, Storage, Paths]:
    """Read a model's config, and open its storage.

    Args:
        model: The model's name.
        include: The project's `include` folder.

    Returns:
        The config, S3, and the speller of keys.
    """
    config = load_config(config_path(include, model))
    return config, Storage(config.storage), Paths(config.storage.artifacts, config.name)


def read_run(storage: Storage, paths: Paths, day: date) -> RunSpec:
    """Read the frozen run of a night.

    Args:
        storage: S3.
        paths: Of the model.
        day: The night's day.

    Returns:
        What `plan` froze.

    Raises:
        ConfigError: The night was never planned, or its plan cannot be read.
        DataRejected: `plan` found nothing to work on.
    """
    plan = accepted(required_result(storage, paths, day, "plan"))
    raw = storage.read(plan.outputs["run.json"].uri)
    if raw is None:
        raise ConfigError(f"{plan.outputs['run.json'].uri} is gone; run `{_hint(paths.model, day, 'plan')}` again")
    return RunSpec.from_json(raw, plan.outputs["run.json"].uri)


def run_stage(stage: Stage, model: str, day: date, *, include: Path, force: bool = False) -> StageResult:
    """Run one stage of a night, or return its own up-to-date result.

    Args:
        stage: The stage.
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.
        force: Work even where an up-to-date result exists.

    Returns:
        The committed result; `reused` says whether any work was done.

    Raises:
        ConfigError: An earlier stage has no result.
        DataRejected: An earlier stage rejected the data or the model.
    """
    prepared = prepare(stage, model, day, include=include)
    storage, paths = prepared.storage, prepared.paths

    def work(folder: Path, attempt_uri: str) -> Outcome:
        return stage.work(prepared.context(folder, attempt_uri))

    result = commit(storage, prepared.draft, work, force=force)
    if stage.resumes:
        remove_spent_checkpoints(storage, paths, paths.checkpoints(day, stage.name), now=datetime.now(UTC))
    if stage.afterwards and not result.reused:
        stage.afterwards(prepared.run, paths, result)
    return result


def prepare(stage: Stage, model: str, day: date, *, include: Path) -> Prepared:
    """Find what a stage of a night works on.

    Args:
        stage: The stage.
        model: The model's name.
        day: The night's day.
        include: The project's `include` folder.

    Returns:
        Its inputs, and the draft of its result.

    Raises:
        ConfigError: An earlier stage has no result.
        DataRejected: An earlier stage rejected the data or the model.
    """
    _, storage, paths = open_model(model, include)
    run = read_run(storage, paths, day)
    earlier = {name: accepted(required_result(storage, paths, day, name)) for name in (*stage.needs, *stage.after)}
    results = {name: earlier[name] for name in stage.needs}
    reference = stage.reference(storage, paths, run) if stage.reference else None
    draft = Draft(
        stage=stage.name,
        model=model,
        day=day,
        prefix=paths.stage(day, stage.name),
        inputs={**output_digests(results), **({"reference": digest_of(reference)} if stage.reference else {})},
        settings=stage.settings(run),
        pages_prefix=paths.pages(day, stage.name),
    )
    return Prepared(run, storage, paths, draft, results, reference)


def output_digests(results: dict[str, StageResult]) -> dict[str, str]:
    """Name every output of some results with its digest: what a stage that reads them depends on.

    Args:
        results: Any name → result.

    Returns:
        `<name>/<output>` → sha256.
    """
    return {
        f"{name}/{output}": artifact.sha256
        for name, result in results.items()
        for output, artifact in result.outputs.items()
    }


@dataclass(frozen=True)
class Draft:
    """A result before the work: what it will depend on, and where it will be committed."""

    stage: str
    model: str
    day: date
    prefix: str
    inputs: dict[str, str]
    settings: Any
    pages_prefix: str = ""

    @property
    def fingerprint(self) -> str:
        """The fingerprint that an up-to-date result would have."""
        return digest_of([self.inputs, digest_of(self.settings), code_version()])


def standing_result(storage: Storage, draft: Draft) -> StageResult | None:
    """Give the committed result if it is up to date and whole.

    Args:
        storage: S3.
        draft: What the result depends on.

    Returns:
        The result marked as reused, or None where there is work to do.
    """
    result = storage.read_result(draft.prefix)
    if result is None or result.fingerprint != draft.fingerprint or storage.missing_output(result):
        return None
    return result.model_copy(update={"reused": True})


def commit(storage: Storage, draft: Draft, work: Callable[[Path, str], Outcome], *, force: bool = False) -> StageResult:
    """Do the work unless its result stands already; upload its files; write `result.json` last.

    Args:
        storage: S3.
        draft: What the result depends on.
        work: Given a scratch folder and the attempt's prefix, does the work.
        force: Work even where an up-to-date result exists.

    Returns:
        The result as committed, or the one that stood.
    """
    standing = None if force else standing_result(storage, draft)
    if standing:
        log.info("%s of %s is up to date: %s", draft.stage, draft.day, standing.uri)
        return standing

    started = datetime.now(UTC)
    attempt = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    attempt_uri = Paths.attempt(draft.prefix, attempt)
    with tempfile.TemporaryDirectory(prefix=f"embft-{draft.stage}-") as folder:
        outcome = work(Path(folder), attempt_uri)
        outputs = storage.upload_all(outcome.files, attempt_uri)
        pages = storage.upload_all(outcome.pages, f"{draft.pages_prefix}/{attempt}") if outcome.pages else {}
    result = StageResult(
        stage=draft.stage,
        model=draft.model,
        day=draft.day,
        uri=Paths.result(draft.prefix),
        attempt=attempt,
        status=outcome.status,
        reason=outcome.reason,
        inputs=draft.inputs,
        settings_digest=digest_of(draft.settings),
        code_version=code_version(),
        outputs=outputs,
        pages=pages,
        figures=outcome.figures,
        links=outcome.links,
        started_utc=started,
        finished_utc=datetime.now(UTC),
    )
    storage.write(result.uri, result.to_json())
    return result


@cache
def code_version() -> str:
    """Give the package's version and a digest of its source: changed code never reuses an old result."""
    package = Path(embft.__file__).parent
    digest = hashlib.sha256()
    # Templates too: a report is made by its template as much as by the code around it.
    for path in sorted(path for pattern in ("*.py", "*.j2") for path in package.rglob(pattern)):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return f"{embft.__version__}+{digest.hexdigest()[:12]}"


def docs_link(config: ModelConfig, pages_prefix: str, attempt_uri: str) -> dict[str, str]:
    """Name the first page of an attempt's Data Docs, for `Outcome.links`.

    Args:
        config: The model's.
        pages_prefix: Of the stage's pages.
        attempt_uri: Prefix of the attempt.

    Returns:
        Nothing where no browser of the storage is named.
    """
    url = config.storage.page_of(f"{pages_prefix}/{os.path.basename(attempt_uri)}/docs/index.html")
    return {"Data Docs": url} if url else {}


def files_below(folder: Path, name: str) -> dict[str, Path]:
    """Name every file of a folder as an output below `name/`.

    Args:
        folder: The local folder.
        name: The outputs' common folder.

    Returns:
        Output name → local file, sorted.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in files}


def required_result(storage: Storage, paths: Paths, day: date, stage: str) -> StageResult:
    """Read the result of a stage that must have run.

    Args:
        storage: S3.
        paths: Of the model.
        day: The night's day.
        stage: The stage.

    Returns:
        Its committed result.

    Raises:
        ConfigError: It has none.
    """
    result = storage.read_result(paths.stage(day, stage))
    if result is None:
        raise ConfigError(
            f"{Paths.result(paths.stage(day, stage))} does not exist or is of another version of embft; "
            f"run `{_hint(paths.model, day, stage)}` first"
        )
    return result


def accepted(result: StageResult) -> StageResult:
    """Pass a result on, unless it is a rejection.

    Args:
        result: Of an earlier stage.

    Returns:
        The same result.

    Raises:
        DataRejected: The stage rejected its data or model.
    """
    if result.status == "rejected":
        raise DataRejected(f"{result.stage} rejected {result.model} of {result.day}: {result.reason}")
    return result


def _hint(model: str, day: date, stage: str) -> str:
    return f"embft {stage_command(stage)} --model {model} --day {day}"
