"""What passes between the stages: results, the frozen run, and the champion's record. JSON in S3, nothing else."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embft.config import ModelConfig
from embft.errors import ConfigError


class Record(BaseModel):
    """Base of what is written to S3 as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> bytes:
        """Give the record as indented UTF-8 JSON."""
        return self.model_dump_json(indent=2).encode()

    @classmethod
    def from_json(cls, raw: bytes, uri: str) -> Self:
        """Read the record back.

        Args:
            raw: Its JSON.
            uri: Where it was found, for the message.

        Returns:
            The record.

        Raises:
            ConfigError: It is damaged, or another version of embft wrote it.
        """
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "the whole"
            raise ConfigError(
                f"{uri} is damaged or of another version of embft ({where}: {fault['msg']}); "
                "run the stage that wrote it again with --force"
            ) from None


class Artifact(Record):
    """One file that a stage wrote."""

    uri: str
    size_bytes: int
    sha256: str


class StageResult(Record):
    """A stage's `result.json`: what it read, what it wrote, what came out.

    `status` is `rejected` where the stage examined its data or model and refused it; `reason` then says why.
    """

    stage: str
    model: str
    day: date
    uri: str
    attempt: str
    status: Literal["done", "rejected"]
    reason: str | None = None
    inputs: dict[str, str] = Field(description="What the stage read, name → digest.")
    settings_digest: str
    code_version: str
    outputs: dict[str, Artifact]
    pages: dict[str, Artifact] = Field(
        default_factory=dict, description="For people; no stage reads them, and they are removed when they are old."
    )
    figures: dict[str, Any]
    links: dict[str, str] = Field(default_factory=dict, description="Web pages to look at, name → address.")
    started_utc: datetime
    finished_utc: datetime
    reused: bool = False

    def output(self, name: str) -> Artifact:
        """Give one of the outputs.

        Args:
            name: The output's.

        Returns:
            Where it lies.

        Raises:
            ConfigError: The stage wrote none of that name: another version of embft did its work.
        """
        if name not in self.outputs:
            raise ConfigError(
                f"{self.uri} names no {name}: embft {self.code_version}, which wrote it, made none; run {self.stage} "
                "again with --force"
            )
        return self.outputs[name]

    @property
    def fingerprint(self) -> str:
        """Digest of all that the outcome depends on. Equal fingerprints: no work."""
        return digest_of([self.inputs, self.settings_digest, self.code_version])


class Champion(Record):
    """A version that may serve: what it is, the night it comes from, and its weights."""

    model: str
    version: str
    day: date
    mlflow_run_id: str
    weights: dict[str, Artifact] = Field(description="The saved model's files, relative name → artifact.")
    val_loss: float

    @property
    def digest(self) -> str:
        """What the version is made of."""
        return weights_digest(self.weights)


def weights_digest(weights: Mapping[str, Artifact]) -> str:
    """Give one digest of a saved model's files: models of the same digest give the same vectors.

    Args:
        weights: Relative name → artifact.

    Returns:
        64 hex digits.
    """
    return files_digest({name: it.sha256 for name, it in weights.items()})


def files_digest(sha256s: Mapping[str, str]) -> str:
    """Give `weights_digest` of files that are not uploaded yet: relative name → sha256."""
    return digest_of(sha256s)


class LogDay(Record):
    """One day of the window as `plan` found it."""

    day: date
    objects: int
    size_bytes: int
    listing_digest: str


class RunSpec(Record):
    """`run.json`: a night's frozen facts. Every later stage reads this one, in whatever pod or image."""

    model: str
    day: date
    config: ModelConfig
    promote: Literal["auto", "never", "force"]
    window: tuple[LogDay, ...]
    champion: Champion | None = Field(description="The newest promotion of an earlier day; None before the first.")
    base_model_sha256: str | None = Field(None, description="Of the listing of a base model in S3; None elsewhere.")
    judged_by_sha256: str | None = Field(None, description="Of the listing of slices and guard sets in S3.")
    client_key: str | None = Field(None, description="Fingerprint of the key that client ids are hashed with.")

    @property
    def subject(self) -> str:
        """What a page about the run begins its title with."""
        return self.config.subject

    @property
    def test_from(self) -> date:
        """First held-out day."""
        return self.window[-self.config.window.test_days].day


def digest_of(value: Any) -> str:
    """Give the sha256 of a JSON-able value, independent of the order of keys.

    Args:
        value: Anything that `json` or pydantic can write.

    Returns:
        64 hex digits.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_jsonable)
    return hashlib.sha256(text.encode()).hexdigest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
