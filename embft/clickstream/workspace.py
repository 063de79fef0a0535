"""A day's records while it is put together: DuckDB tables, which go to disk when they outgrow the memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

_MEMORY = "384MB"
_BATCH_ROWS = 65_536
_INSERTED_ROWS = 20_000


class Workspace:
    """One day's tables. Threads add to them through cursors of their own.

    Args:
        folder: Scratch folder for what does not fit the memory.
        threads: How many DuckDB may use.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY,
                "threads": threads,
                "temp_directory": str(folder / "spill"),
                # The order is asked for where it matters.
                "preserve_insertion_order": False,
            },
        )

    def cursor(self) -> "Workspace":
        """Give a connection to the same tables for another thread."""
        other = object.__new__(Workspace)
        other._connection = self._connection.cursor()
        return other

    def close(self) -> None:
        """Let go of the memory and the files."""
        self._connection.close()

    def add(self, table: str, rows: pa.Table) -> None:
        """Append rows.

        Args:
            table: An existing table with the rows' columns.
            rows: Arrow data.
        """
        if rows.num_rows:
            self._connection.register("added", rows)
            self._connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM added")
            self._connection.unregister("added")

    def create(self, table: str, schema: pa.Schema) -> None:
        """Make an empty table.

        Args:
            table: Its name.
            schema: Its columns.
        """
        self._connection.register("added", schema.empty_table())
        self._connection.execute(f"CREATE TABLE {table} AS SELECT * FROM added")
        self._connection.unregister("added")

    def run(self, sql: str, values: dict[str, Any] | None = None) -> None:
        """Execute a statement.

        Args:
            sql: With $name where a value goes.
            values: By name.
        """
        self._connection.execute(sql, values)

    def rows(self, sql: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Ask for a few rows.

        Args:
            sql: With $name where a value goes.
            values: By name.

        Returns:
            The rows as tuples.
        """
        return self._connection.execute(sql, values).fetchall()

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Stream what a query gives.

        Args:
            sql: The query.

        Yields:
            Record batches, in the query's order.
        """
        yield from self._connection.sql(sql).to_arrow_reader(_BATCH_ROWS)

    def schema(self, table: str) -> pa.Schema:
        """Give a table's columns."""
        schema: pa.Schema = self._connection.sql(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema
        return schema


class Gathered:
    """Rows on their way into a table: each insertion costs some time, however few they are.

    Args:
        tables: Where the table is.
        name: Its name.
    """

    def __init__(self, tables: Workspace, name: str) -> None:
        self._tables = tables
        self._name = name
        self._waiting: list[pa.RecordBatch] = []
        self._n_rows = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Append rows, now or with later ones.

        Args:
            rows: With the table's columns.
        """
        self._waiting.append(rows)
        self._n_rows += rows.num_rows
        if self._n_rows >= _INSERTED_ROWS:
            self.flush()

    def flush(self) -> None:
        """Append what waits."""
        if self._waiting:
            self._tables.add(self._name, pa.Table.from_batches(self._waiting))
        self._waiting, self._n_rows = [], 0
