"""`ItemsSet`, the catalogue a session's ids point into, and `QueryRetriever`, what of a query the model gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from embft.errors import DataRejected
from embft.finetuning.parts import Aggregation, Item, ItemParts, check_aggregation

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class ItemsSet:
    """Item id → item, looked up in O(1), in the order given.

    An item is a text, or the path of an image for a text-image model.

    Args:
        ids: Unique ids.
        items: The item of each id, aligned to `ids`.

    `get(id)` gives an item, or None where the catalogue lacks it; `items_set[id]` raises there.

    Raises:
        DataRejected: The lists differ in length, an id occurs twice, there is no item, or one is of another kind.
    """

    def __init__(self, ids: Sequence[str], items: Sequence[Item]) -> None:
        if len(ids) != len(items):
            raise DataRejected(f"{len(ids)} item ids for {len(items)} items; there must be one item for each id")
        if not ids:
            raise DataRejected("the catalogue has no item; check its location in the model's config")
        for id_, item in zip(ids, items, strict=True):
            if item is None or not isinstance(item, Hashable):
                raise DataRejected(
                    f"item {id_!r} is a {type(item).__name__}; an item is a text, or the path of an image"
                )
        self.ids: tuple[str, ...] = tuple(ids)
        self.items: tuple[Item, ...] = tuple(items)
        self._item_of = dict(zip(self.ids, self.items, strict=True))
        self.get: Callable[[str], Item | None] = self._item_of.get
        if len(self._item_of) != len(self.ids):
            raise DataRejected(
                f"item id {_first_repeated(self.ids)!r} occurs twice in the catalogue; ids must be unique"
            )
        self._parts_of: Mapping[Item, tuple[Item, ...]] = {}
        self._aggregation: Aggregation = "max"

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

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, preprocess: Callable[[Mapping[str, Any]], Item], id_column: str = "id"
    ) -> ItemsSet:
        """Build from a Hugging Face `Dataset` whose rows are made into items.

        Args:
            dataset: One row per item.
            preprocess: Row → item, such as `lambda row: f"{row['title']} by {row['brand']}"`.
            id_column: Column of the ids; they are read as text.

        Returns:
            Items in the dataset's order.

        Raises:
            DataRejected: The column is missing, or the rules of the class are broken.
        """
        if id_column not in dataset.column_names:
            raise DataRejected(f"a dataset of items lacks the column {id_column!r}; it has {dataset.column_names}")
        rows = ((str(row[id_column]), preprocess(row)) for row in dataset)
        ids, items = zip(*rows, strict=True) if len(dataset) else ((), ())
        return cls(ids, items)

    @property
    def dataset(self) -> Dataset:
        """The items as a Hugging Face `Dataset` with the columns `id` and `text`, made when first asked for.

        Importing `datasets` takes 2 to 4 seconds, and looking up an item does not need it.
        """
        from datasets import Dataset

        return Dataset.from_dict({"id": list(self.ids), "text": list(self.items)})

    def split(self, splitter: Callable[[Any], Sequence[Item]], aggregation: Aggregation = "max") -> ItemsSet:
        """The same items, each ranked by its parts: for texts longer than the model reads, or than one vector holds.

        Args:
            splitter: Item → its parts, at least one; see `split_words`.
            aggregation: What of the parts' ranks is the item's rank. With a similarity "max" is the nearest part.

        Returns:
            A new set; ranks of it are still one per item.

        Raises:
            ConfigError: The aggregation is unknown.
            DataRejected: An item came out without a part.
        """
        check_aggregation(aggregation)
        whole = ItemsSet(self.ids, self.items)
        parts_of = {item: tuple(splitter(item)) for item in dict.fromkeys(self.items)}
        if empty := next((item for item, parts in parts_of.items() if not parts), None):
            raise DataRejected(f"the splitter made no part of the item {empty!r:.80}; it must give at least one")
        whole._parts_of = {item: parts for item, parts in parts_of.items() if parts != (item,)}
        whole._aggregation = aggregation
        return whole

    def parts(self, items: Sequence[Item]) -> ItemParts:
        """What to encode for these items, and how to come from ranks of parts to ranks of items.

        Args:
            items: Items of this set.

        Returns:
            Their parts; the items themselves where the set is not split.
        """
        if not self._parts_of:
            return ItemParts(list(items), None, len(items), self._aggregation)
        parts_of = [self._parts_of.get(item, (item,)) for item in items]
        owner = np.repeat(np.arange(len(items)), [len(parts) for parts in parts_of])
        return ItemParts(list(chain.from_iterable(parts_of)), owner, len(items), self._aggregation)

    def items_by_ids(self, ids: Iterable[str]) -> list[Item]:
        """Items of these ids, in their order.

        Args:
            ids: Ids, repeated or not.

        Returns:
            One item for each id.

        Raises:
            DataRejected: An id is not in the catalogue.
        """
        return [self[id_] for id_ in ids]

    def __getitem__(self, id_: str) -> Item:
        """One item.

        Raises:
            DataRejected: The catalogue lacks it.
        """
        try:
            return self._item_of[id_]
        except KeyError:
            raise DataRejected(
                f"item {id_!r} is not among the {len(self)} items of the catalogue; "
                "remove it from the sessions (`remove_results`) or give a catalogue of the same days"
            ) from None

    def __contains__(self, id_: object) -> bool:
        """Whether the catalogue has this id."""
        return id_ in self._item_of

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
