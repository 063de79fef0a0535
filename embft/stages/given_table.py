"""A table that a person gives to a suite, and the config that it is judged by."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embft.config import ModelConfig, config_path, load_config
from embft.errors import ConfigError
from embft.paths import Paths
from embft.results import Artifact, StageResult
from embft.stages.earlier_nights import accepted_before, newest_night
from embft.stages.validate_sessions import fetch_before
from embft.storage import Storage, storage_of_environment
from embft.validation.window import Before
from embft.validation.wording import figure, quoted
from embft.validation_config import SUITES, SuiteName, load_suite

_OUTPUT = {"catalogue": "items.parquet", "sessions": "sessions.parquet", "ranks": "inputs/train.parquet"}
# Where no model is named, the defaults of a config are taken. What has no default is never asked for.
_NO_MODEL = {
    "name": "shared-rules",
    "owner": "nobody",
    "schedule": {"start_date": date.min},
    "storage": {"artifacts": "s3://none"},
    "logs": {"uri": "s3://none/{day}"},
    "catalogue": {"uri": "s3://none/none"},
    "gate": {"max_val_loss": 1},
    "mlflow": {"tracking_uri": "none"},
}


class GivenTable:
    """The table, and the config that it is judged by.

    Args:
        source: A file, s3:// object, or the s3:// `result.json` of the stage that wrote the table.
        model: The model's name; None for the shared rules and a config's defaults.
        include: The project's `include` folder.
        folder: For what is fetched.
    """

    def __init__(self, source: str, model: str | None, include: Path, folder: Path) -> None:
        self.source, self.model, self.folder = source, model, folder
        self.config = load_config(config_path(include, model)) if model else _config_of_no_model(include)

    @property
    def today(self) -> date:
        """The day that it is where the log's days begin and end."""
        return datetime.now(self.config.zone).date()

    @cached_property
    def storage(self) -> Storage:
        """S3 as the model reaches it, or the environment."""
        if self.model:
            return Storage(self.config.storage)
        return storage_of_environment(self.source, named=f"--input {self.source}")

    @cached_property
    def result(self) -> StageResult | None:
        """The stage's result that the input names; None where it names a table.

        Raises:
            ConfigError: There is no such result.
        """
        if not (self.source.startswith("s3://") and self.source.endswith("/result.json")):
            return None
        raw = self.storage.read(self.source)
        if raw is None:
            raise ConfigError(f"--input: {self.source} does not exist")
        return StageResult.from_json(raw, self.source)

    def path(self, suite: SuiteName) -> Path:
        """Give the table as a local file.

        Args:
            suite: Says which output of a stage's result it is.

        Returns:
            The file.

        Raises:
            ConfigError: There is no such file, or the result names no such table.
        """
        if not self.source.startswith("s3://"):
            if not Path(self.source).is_file():
                raise ConfigError(f"--input: {self.source} is no file; give a file, or s3://bucket/key")
            return Path(self.source)
        path = self.folder / "input"
        if self.result is None:
            self.storage.download(self.source, path)
            return path
        return self.storage.fetch(self.output(_OUTPUT[suite]), path)

    def output(self, name: str) -> Artifact:
        """Give an output of the stage's result; a stage that rejected its data may have written none.

        Args:
            name: The output's.

        Returns:
            Where it lies.

        Raises:
            ConfigError: The result names no such output.
        """
        outputs = self.result.outputs if self.result else {}
        if name not in outputs:
            raise ConfigError(f"--input: {self.source} names no {name}; it names {', '.join(outputs) or 'nothing'}")
        return outputs[name]

    def read(self, path: Path, schema: pa.Schema, *, may_have_nulls: bool = False, **options: Any) -> pa.Table:
        """Read some columns of a Parquet file.

        Args:
            path: The file.
            schema: Its columns; those that are not nullable must be there.
            may_have_nulls: Whether those that are not nullable may have nulls all the same.
            **options: Of `pyarrow.parquet.read_table`.

        Returns:
            The columns.

        Raises:
            ConfigError: It is no Parquet file, has other columns, or nulls where none may be.
        """
        with _explained(self.source):
            there = pq.read_schema(path).names
            missing = [field.name for field in schema if not field.nullable and field.name not in there]
            if missing:
                raise ConfigError(f"--input: {self.source} has no column {', '.join(missing)}; it has {quoted(there)}")
            with self._types_explained(path, schema):
                table = pq.read_table(path, schema=schema, **options)
        if not may_have_nulls:
            self._refuse_nulls(table)
        return table

    @contextmanager
    def _types_explained(self, path: Path, schema: pa.Schema) -> Iterator[None]:
        """Name the first column of another type, where that is why a file cannot be read.

        Raises:
            ConfigError: A column cannot be read as what it must be.
            ArrowException: Another thing is wrong.
        """
        try:
            yield
        except pa.ArrowException:
            field = next((it for it in schema if not _is_readable(path, schema, it.name)), None)
            there = pq.read_schema(path)
            if field is None or field.name not in there.names:
                raise
            raise ConfigError(
                f"--input: {self.source} has {there.field(field.name).type} in the column {field.name}; "
                f"write it as {field.type}"
            ) from None

    def _refuse_nulls(self, table: pa.Table) -> None:
        """Refuse a null where there must be a value.

        Raises:
            ConfigError: There is one.
        """
        for field in table.schema:
            n_nulls = table[field.name].null_count
            if n_nulls and not field.nullable:
                raise ConfigError(
                    f"--input: {self.source} has nulls in the column {field.name} ({figure(n_nulls)} of "
                    f"{figure(table.num_rows)} rows); put a value there, or leave those rows out"
                )

    def before(self, day: date | None) -> Before:
        """Fetch what earlier nights left to compare with.

        Args:
            day: Nights of this day and after are not asked; None asks all of them.

        Returns:
            Nothing where no model is named.
        """
        if not self.model:
            return Before()
        paths = Paths(self.config.storage.artifacts, self.config.name)
        if day is None:
            newest = newest_night(self.storage, paths, "validate_sessions")
            day = newest + timedelta(days=1) if newest else self.today
        n_days = self.config.validation.reference_days
        nights = accepted_before(self.storage, paths, day, "validate_sessions", n_days)
        return fetch_before(self.storage, nights, self.folder)


def _config_of_no_model(include: Path) -> ModelConfig:
    suites = {name: load_suite(include / "expectations", name) for name in SUITES}
    return ModelConfig.model_validate({**_NO_MODEL, "validation": {"suites": suites}})


def _is_readable(path: Path, schema: pa.Schema, column: str) -> bool:
    try:
        pq.read_table(path, schema=schema, columns=[column])
    except pa.ArrowException:
        return False
    return True


@contextmanager
def _explained(source: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise ConfigError(f"--input: {source} cannot be read as Parquet: {quoted(error, 200)}") from None
