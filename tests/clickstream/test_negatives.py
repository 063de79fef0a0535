"""The drawn not-clicked side: seeded by session, never clicked, uniform."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from embft.clickstream.negatives import sample_not_clicked
from embft.clickstream.sessions import SCHEMA
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.rankers import cosine_similarity, euclidean_distance
from embft.stages.mining import mined_items
from embft.stages.models import Vocabulary

ITEMS = [f"i{number:03d}" for number in range(200)]


def table(rows: list[tuple[str, str, list[str], list[str] | None]]) -> pa.Table:
    """Sessions given as id, query, clicked and shown."""
    records = [
        {
            "session_id": id_,
            "day": date(2026, 3, 10),
            "time": datetime(2026, 3, 10, tzinfo=UTC),
            "query": query,
            "clicked": clicked,
            "shown": shown,
        }
        for id_, query, clicked, shown in rows
    ]
    return pa.Table.from_pylist(records, schema=SCHEMA)


def shown(sessions: pa.Table, *, items: list[str] = ITEMS, count: int = 5, seed: int = 1) -> dict[str, list[str]]:
    filled = sample_not_clicked(sessions, items, count=count, seed=seed)
    assert filled.schema == SCHEMA
    return dict(zip(filled["session_id"].to_pylist(), filled["shown"].to_pylist(), strict=True))


def test_unknown_list_becomes_the_clicked_and_the_drawn_and_a_known_one_stays() -> None:
    found = shown(table([("a", "lamp", ["i001"], None), ("b", "lamp", [], ["x", "y"]), ("c", "lamp", [], [])]))
    assert found["a"][0] == "i001"
    assert len(found["a"]) == len(set(found["a"])) == 6
    assert set(found["a"]) <= set(ITEMS)
    assert (found["b"], found["c"]) == (["x", "y"], [])


def test_what_was_clicked_for_the_query_by_anybody_is_never_drawn() -> None:
    others = [(f"o{number}", "lamp", [item], None) for number, item in enumerate(ITEMS[:190])]
    found = shown(table([*others, ("a", "lamp", [], None)]), count=20)
    assert sorted(found["a"]) == ITEMS[190:]
    for number, item in enumerate(ITEMS[:190]):
        assert set(found[f"o{number}"]) - {item} <= set(ITEMS[190:])


def test_clicks_of_other_sessions_bar_items_without_being_drawn_for() -> None:
    mine, others = ("a", "lamp", [], None), [(f"o{number}", "lamp", [item], None) for number, item in enumerate(ITEMS)]
    drawn = sample_not_clicked(table([mine]), ITEMS, count=20, seed=1, clicks_of=table([mine, *others[:190]]))
    assert drawn["session_id"].to_pylist() == ["a"]
    assert sorted(drawn["shown"].to_pylist()[0]) == ITEMS[190:]


@pytest.mark.parametrize("n_items", [12, 200])
def test_session_gets_the_same_items_in_any_window_and_order_of_the_catalogue(n_items: int) -> None:
    items = ITEMS[:n_items]
    mine = ("a", "lamp", ["i001"], None)
    first = shown(table([mine]), items=items)
    other = shown(table([("z", "rug", ["i002"], None), mine]), items=[*reversed(items), items[0]])
    assert other["a"] == first["a"]


@pytest.mark.parametrize("n_items", [12, 200])
def test_item_that_becomes_clicked_is_replaced_and_the_others_stay(n_items: int) -> None:
    items = ITEMS[:n_items]
    before = shown(table([("a", "lamp", [], None)]), items=items)["a"]
    after = shown(table([("a", "lamp", [], None), ("b", "lamp", [before[2]], None)]), items=items)["a"]
    assert after[:4] == [*before[:2], *before[3:]]
    assert after[4] not in before


def test_seed_and_session_change_the_draw() -> None:
    rows = table([("a", "lamp", [], None), ("b", "lamp", [], None)])
    one, two = shown(rows), shown(rows, seed=2)
    assert len({tuple(draw) for draw in (one["a"], one["b"], two["a"], two["b"])}) == 4


def test_smaller_catalogue_gives_all_that_was_not_clicked() -> None:
    found = shown(table([("a", "lamp", ["i001", "gone"], None)]), items=ITEMS[:4], count=30)
    assert found["a"][:2] == ["i001", "gone"]
    assert sorted(found["a"][2:]) == ["i000", "i002", "i003"]
    assert shown(table([("a", "lamp", [], None)]), items=[])["a"] == []


def test_what_was_clicked_for_a_query_bars_it_for_its_slips_and_other_spellings() -> None:
    log = [(f"o{number}", "dead island", [item], None) for number, item in enumerate(ITEMS[:195])]
    found = shown(table([*log, ("slip", "dead isalnd", [], None), ("case", " DEAD island", [], None)]), count=20)
    assert sorted(found["slip"]) == sorted(found["case"]) == ITEMS[195:]


def test_every_item_is_drawn_alike() -> None:
    found = shown(table([(f"s{number}", "lamp", [], None) for number in range(4000)]))
    counts = Counter(item for draw in found.values() for item in draw)
    # 4000 · 5 / 200 = 100 draws each, standard deviation 10: six of them on either side.
    assert len(counts) == 200
    assert 40 < min(counts.values())
    assert max(counts.values()) < 160


def mined(query: str = "lamp", *, first: int = 100, last: int = 190) -> dict[str, list[str]]:
    return {query: ITEMS[first:last]}


def test_half_of_a_draw_is_mined_and_none_of_it_was_clicked_for_the_query() -> None:
    rows = table([("a", "lamp", ["i001"], None), ("b", "lamp", ["i150"], None), ("c", "rug", ["i002"], None)])
    plain = sample_not_clicked(rows, ITEMS, count=50, seed=1)["shown"].to_pylist()
    drawn = sample_not_clicked(rows, ITEMS, count=51, seed=1, mined=mined())["shown"].to_pylist()
    for shown_of in drawn[:2]:
        hard, others = shown_of[1:26], shown_of[26:]
        assert (len(hard), len(others)) == (25, 26)
        assert set(hard) <= set(ITEMS[100:190])
        assert not {"i001", "i150"} & {*hard, *others}
        assert len({*hard, *others}) == 51
    assert drawn[0][1:26] != drawn[1][1:26]
    assert drawn[2][:51] == plain[2]  # nothing is mined for rugs


def test_too_few_mined_items_are_made_up_for_and_the_draw_is_the_same_in_any_window() -> None:
    mine = ("a", "lamp", ["i100"], None)
    few = mined(first=100, last=103)
    alone = sample_not_clicked(table([mine]), ITEMS, count=20, seed=1, mined=few)["shown"].to_pylist()[0]
    assert sorted(alone[1:3]) == ["i101", "i102"]
    assert len(set(alone)) == 21
    window = table([("z", "rug", ["i005"], None), mine])
    again = sample_not_clicked(window, [*reversed(ITEMS)], count=20, seed=1, mined=few)["shown"].to_pylist()[1]
    assert again == alone
    assert (
        sample_not_clicked(table([mine]), ITEMS, count=20, seed=1, mined={})["shown"].to_pylist()[0]
        == shown(table([mine]), count=20)["a"]
    )


class OnACircle:
    """A model of texts that are numbers: one degree each, so that near numbers are near texts."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_items(self, texts: Sequence[str]) -> NDArray[np.float32]:
        degrees = np.radians([float(text) for text in texts])
        return np.stack([np.cos(degrees), np.sin(degrees)], 1).astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded += texts
        return self.encode_items(texts)


@pytest.mark.parametrize(("ranker", "is_similarity"), [(cosine_similarity, True), (euclidean_distance, False)])
def test_the_eleventh_to_hundredth_nearest_are_mined_for_each_query(ranker: Any, is_similarity: bool) -> None:
    degrees = [str(number) for number in range(0, 150)]
    model, catalogue = OnACircle(), ItemsSet([f"i{it}" for it in degrees], degrees)
    found = mined_items(
        model,  # type: ignore[arg-type]
        ["0", "149", "0"],
        Vocabulary(catalogue, TextQueryRetriever()),
        ranker,
        is_similarity=is_similarity,
    )
    assert found == {"0": [f"i{n}" for n in range(10, 100)], "149": [f"i{n}" for n in range(139, 49, -1)]}
    assert model.encoded == ["0", "149"]


@pytest.mark.parametrize(("ranker", "is_similarity"), [(cosine_similarity, True), (euclidean_distance, False)])
def test_what_scores_nearly_as_high_as_the_clicked_item_is_no_negative(ranker: Any, is_similarity: bool) -> None:
    degrees = [str(number) for number in range(0, 150)]
    known = Vocabulary(ItemsSet([f"i{it}" for it in degrees], degrees), TextQueryRetriever())
    found = mined_items(
        OnACircle(),  # type: ignore[arg-type]
        ["0", "149"],
        known,
        ranker,
        clicked={"0": {"i60", "i20", "gone"}, "149": {"i2"}},
        is_similarity=is_similarity,
    )
    # By cosine, 95 % of cos 20° is that of 26.8°: i27 is the first below. As a distance, 5 % more than 2 sin 10° is
    # that of 21.01°: i22 is. The item clicked for 149 is not among its hundred nearest: the first ten are left out.
    assert found["0"] == [f"i{n}" for n in range(27 if is_similarity else 22, 100)]
    assert found["149"] == [f"i{n}" for n in range(139, 49, -1)]


def test_catalogue_of_ten_has_nothing_to_mine() -> None:
    catalogue = ItemsSet([f"i{n}" for n in range(10)], [str(n) for n in range(10)])
    known = Vocabulary(catalogue, TextQueryRetriever())
    assert mined_items(OnACircle(), ["3"], known, cosine_similarity) == {"3": []}  # type: ignore[arg-type]
