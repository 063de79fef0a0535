"""What the simulator knows and a log only hints at: how relevant items are, and how often each place is looked at.

Estimators are tested against it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embft.clickstream.click_model import ClickModelName, Floats
from embft.clickstream.simulated_scene import LIKES_DEPARTMENT, LIKES_KIND, LIKES_WANTED, Scene
from embft.clickstream.simulated_searches import DaySearches
from embft.clickstream.values import normalised

RELEVANCE_SCHEMA = pa.schema(
    [
        pa.field("query", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("relevance", pa.float64(), nullable=False),
    ],
    metadata={"synthetic": "true"},
)


class Truth:
    """Collects the truth while days are simulated.

    Args:
        scene: Of all days.
        click_model: Its name.
    """

    def __init__(self, scene: Scene, click_model: ClickModelName) -> None:
        self._scene = scene
        self._click_model = click_model
        self._wanted: Counter[tuple[str, int]] = Counter()
        self._looked_at: Floats = np.zeros(scene.list_length)
        self._n_people = 0

    def add(self, searches: DaySearches) -> None:
        """Take a day into account: people's searches, not the bot's.

        Args:
            searches: The day's.
        """
        people = searches.n_people
        self._wanted.update(zip(searches.queries[:people], searches.wanted[:people].tolist(), strict=True))
        self._looked_at += people * searches.looked_at
        self._n_people += people

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Write what is known.

        Yields:
            `truth/relevance.parquet`: query as `normalised`, item, and relevance: the probability that a shopper with
            that query who looks at the item clicks it, the mean over the simulated searches that were answered from
            the item's department. What nobody had in mind, nor anything of its kind, is left out: its relevance is
            `LIKES_DEPARTMENT`. Then `truth/propensities.json`: the probability that each rank is looked at; of the
            cascade, which knows no such number, the mean over all people's searches.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(self._relevance(), sink)
        yield "truth/relevance.parquet", sink.getvalue().to_pybytes()
        # Nine digits: a sum of many equal numbers is off by less.
        propensities = (self._looked_at / max(self._n_people, 1)).round(9).tolist()
        truth = {"click_model": self._click_model, "propensities": propensities, "synthetic": True}
        yield "truth/propensities.json", json.dumps(truth, indent=2).encode() + b"\n"

    def _relevance(self) -> pa.Table:
        wanted_of: dict[str, Counter[int]] = defaultdict(Counter)
        for (query, row), count in self._wanted.items():
            wanted_of[normalised(query)][row] += count
        rows_of_kind = [np.flatnonzero(self._scene.kinds == it).tolist() for it in range(self._scene.kinds.max() + 1)]
        rows: list[tuple[str, str, float]] = []
        for query in sorted(wanted_of):
            rows += [
                (query, self._scene.ids[row], value) for row, value in self._of_query(wanted_of[query], rows_of_kind)
            ]
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(columns, RELEVANCE_SCHEMA, strict=True)],
            schema=RELEVANCE_SCHEMA,
        )

    def _of_query(self, wanted: Counter[int], rows_of_kind: list[list[int]]) -> Iterator[tuple[int, float]]:
        """Give row and relevance of each item that was wanted, or whose kind was."""
        scene = self._scene
        n_of_kind: Counter[int] = Counter()
        n_of_department: Counter[int] = Counter()
        for row, count in wanted.items():
            n_of_kind[int(scene.kinds[row])] += count
            n_of_department[int(scene.departments[row])] += count
        for kind in sorted(n_of_kind):
            for row in rows_of_kind[kind]:
                n_all = n_of_department[int(scene.departments[row])]
                # Shares, not sums: a share of one gives the planted number to the bit.
                same, kin = wanted[row] / n_all, (n_of_kind[kind] - wanted[row]) / n_all
                others = (n_all - n_of_kind[kind]) / n_all
                yield row, LIKES_WANTED * same + LIKES_KIND * kin + LIKES_DEPARTMENT * others
