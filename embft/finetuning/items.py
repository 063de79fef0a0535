"""`ItemsSet`, the catalogue a session's ids point into, and `QueryRetriever`, what of a query the model gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from embft.errors import DataRejected

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class ItemsSet:
    """Item id → text, looked up in O(1), in the order given.

    Args:
        ids: Unique ids.
        texts: The text of each id, aligned to `ids`.

    Raises:
        DataRejected: The lists differ in length, an id occurs twice, or there is no item.
    """

    def __init__(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        if len(ids) != len(texts):
            raise DataRejected(f"{len(ids)} item ids for {len(texts)} item texts; there must be one text for each id")
        if not ids:
            raise DataRejected("the catalogue has no item; check its location in the model's config")
        self.ids: tuple[str, ...] = tuple(ids)
        self.texts: tuple[str, ...] = tuple(texts)
        self._text_of = dict(zip(self.ids, self.texts, strict=True))
        if len(self._text_of) != len(self.ids):
            raise DataRejected(
                f"item id {_first_repeated(self.ids)!r} occurs twice in the catalogue; ids must be unique"
            )

    @classmethod
    def from_table(cls, table: pa.Table) -> ItemsSet:
        """Build from a table with the string columns `id` and `text`; other columns are not kept.

        Args:
            table: One row per item.

        Returns:
            Items in the table's order.

        Raises:
            DataRejected: A column is missing, or the rules of the class are broken.
        """
        missing = {"id", "text"} - set(table.column_names)
        if missing:
            raise DataRejected(f"a table of items lacks the columns {sorted(missing)}; it has {table.column_names}")
        return cls(table.column("id").to_pylist(), table.column("text").to_pylist())

    @property
    def dataset(self) -> Dataset:
        """The items as a Hugging Face `Dataset` with the columns `id` and `text`, made when first asked for.

        Importing `datasets` takes 2 to 4 seconds, and looking up a text does not need it.
        """
        from datasets import Dataset

        return Dataset.from_dict({"id": list(self.ids), "text": list(self.texts)})

    def items_by_ids(self, ids: Iterable[str]) -> list[str]:
        """Texts of these ids, in their order.

        Args:
            ids: Ids, repeated or not.

        Returns:
            One text for each id.

        Raises:
            DataRejected: An id is not in the catalogue.
        """
        return [self[id_] for id_ in ids]

    def __getitem__(self, id_: str) -> str:
        """Text of one item.

        Raises:
            DataRejected: The catalogue lacks it.
        """
        try:
            return self._text_of[id_]
        except KeyError:
            raise DataRejected(
                f"item {id_!r} is not among the {len(self)} items of the catalogue; "
                "remove it from the sessions (`remove_results`) or give a catalogue of the same days"
            ) from None

    def __contains__(self, id_: object) -> bool:
        """Whether the catalogue has this id."""
        return id_ in self._text_of

    def __iter__(self) -> Iterator[str]:
        """Ids, in order."""
        return iter(self.ids)

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.ids)

    def __repr__(self) -> str:
        """Size only: a catalogue is long."""
        return f"ItemsSet({len(self)} items)"


def _first_repeated(ids: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(id_ for id_ in ids if id_ in seen or seen.add(id_))  # type: ignore[func-returns-value]


class QueryRetriever(ABC):
    """Says what of a session's query is given to the model."""

    @abstractmethod
    def __call__(self, query: Any) -> str:
        """Text for the query tower; the model adds its own prompt."""


class TextQueryRetriever(QueryRetriever):
    """The query is its text, unchanged.

    Lower-casing or trimming here would train the model on another text than it is served with; what a model
    always does to a text belongs into its tokenizer, and what a log needs belongs into the log's reader.
    """

    def __call__(self, query: Any) -> str:
        """The text itself.

        Raises:
            DataRejected: The query is not a text.
        """
        if not isinstance(query, str):
            raise DataRejected(f"query {query!r} is not a text; give a QueryRetriever that makes one of it")
        return query
