"""Tables of queries that users keep: lists that make a slice, labels, and judgements of a guard set."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json as pj
import pyarrow.parquet as pq

from embft.clickstream.values import normalised
from embft.errors import ConfigError
from embft.promotion_config import closest

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_query_table(path: Path, uri: str, columns: Sequence[str]) -> pa.Table:
    """Read a table of queries; they are compared as the log's are: lower-cased, NFC, white space collapsed.

    Args:
        path: The downloaded object.
        uri: Where it came from: its ending says its format, and messages name it.
        columns: Those that are wanted; `query` among them.

    Returns:
        The columns as strings, without rows that have no query.

    Raises:
        ConfigError: It has another format than its ending says, it lacks a column or has it twice, or it has no query.
    """
    table = _read(path, uri)
    for name in columns:
        if name not in table.column_names:
            raise ConfigError(f"{uri} has no column {name!r}; {closest(name, table.column_names)}")
        if table.column_names.count(name) > 1:
            raise ConfigError(f"{uri} has two columns {name!r}, and there is no telling which one is meant; rename one")
    table = table.select(columns)
    try:
        table = table.cast(pa.schema([(name, pa.string()) for name in columns]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(f"{uri}: its columns {', '.join(columns)} cannot be read as text: {error}") from None
    queries = [normalised(query) if query else "" for query in table["query"].to_pylist()]
    table = table.set_column(table.column_names.index("query"), "query", pa.array(queries, pa.string()))
    table = table.filter(pa.array([bool(query) for query in queries], pa.bool_()))
    if not table.num_rows:
        raise ConfigError(f"{uri} has no query; give one a line, or a table with a column `query`")
    return table


def _read(path: Path, uri: str) -> pa.Table:
    ending = Path(uri).suffix.lower()
    try:
        if ending == ".txt":
            return pa.table({"query": path.read_text(encoding="utf-8-sig").splitlines()})
        if ending in _SEPARATORS:
            return _read_csv(path, _SEPARATORS[ending])
        if ending == ".jsonl":
            return pj.read_json(path)
        if ending == ".parquet":
            return pq.read_table(path)
    except (pa.ArrowInvalid, UnicodeDecodeError, ValueError) as error:
        problem = " ".join(str(error).split())[:300]
        raise ConfigError(f"{uri} is no {ending} file with queries: {problem}") from None
    raise ConfigError(f"{uri} ends in {ending or 'nothing'!r}; expected .txt, .csv, .tsv, .jsonl or .parquet")


def _read_csv(path: Path, separator: str) -> pa.Table:
    names = pa.csv.open_csv(path, parse_options=pa.csv.ParseOptions(delimiter=separator)).schema.names
    # As text: an id of digits keeps its zeros.
    return pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
