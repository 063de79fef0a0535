"""The made-up shop: the same every time, honest about being made up, and with something to learn in its clicks."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from zlib import decompress

import numpy as np
import pytest

from embft.clickstream.click_model import PositionBasedModel
from embft.clickstream.lexical import LexicalRanker, words_of
from embft.clickstream.shop import Shop
from embft.clickstream.simulator import LIST_LENGTH, load_shop, simulate
from embft.errors import ConfigError
from embft.log_config import Logs, Noise
from tests.clickstream.good_lines import DayLog, Read

FIRST = date(2026, 3, 8)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
BROKEN = DAYS[2]
CAPPED = Logs(uri="s3://shop/logs/dt={day}", noise=Noise(max_sessions_per_client=20))


@pytest.fixture(scope="module")
def logs(shop: Shop) -> dict[str, bytes]:
    return dict(simulate(shop, first_day=FIRST, days=3, sessions_per_day=600, seed=7, broken_day=BROKEN))


def records(content: bytes) -> list[dict[str, object]]:
    text = decompress(content, 31) if content[:2] == b"\x1f\x8b" else content
    return [json.loads(line) for line in text.splitlines()]


def read_objects(read: Read, logs: dict[str, bytes], day: date) -> DayLog:
    return read({key: content for key, content in logs.items() if f"dt={day}/" in key}, day=day, logs=CAPPED)


def test_keys_are_the_catalogue_and_two_objects_a_day(logs: dict[str, bytes]) -> None:
    parts = [f"logs/dt={day}/part-00{part}.jsonl.gz" for day in DAYS for part in (0, 1)]
    assert list(logs) == ["catalogue/items.jsonl", *parts]


def test_every_line_says_that_it_is_synthetic(logs: dict[str, bytes]) -> None:
    for key, content in logs.items():
        if key != f"logs/dt={BROKEN}/part-001.jsonl.gz":
            assert all(record["synthetic"] is True for record in records(content))


def test_same_seed_gives_the_same_bytes_and_another_gives_others(shop: Shop, logs: dict[str, bytes]) -> None:
    again = dict(simulate(shop, first_day=FIRST, days=3, sessions_per_day=600, seed=7, broken_day=BROKEN))
    assert again == logs
    other = dict(simulate(shop, first_day=FIRST, days=1, sessions_per_day=600, seed=8))
    assert other[f"logs/dt={FIRST}/part-000.jsonl.gz"] != logs[f"logs/dt={FIRST}/part-000.jsonl.gz"]


def test_days_can_be_added_later(shop: Shop, logs: dict[str, bytes]) -> None:
    added = dict(simulate(shop, first_day=DAYS[1], days=1, sessions_per_day=600, seed=7))
    for part in (0, 1):
        key = f"logs/dt={DAYS[1]}/part-00{part}.jsonl.gz"
        assert added[key] == logs[key]


def test_good_day_has_copies_and_a_bot_and_no_bad_line(read: Read, logs: dict[str, bytes]) -> None:
    accounting = read_objects(read, logs, FIRST).accounting
    assert accounting.quarantined == 0
    assert 5 <= accounting.duplicates <= 12
    assert accounting.filtered == {"client_cap": 40}  # the bot's 60 searches, less the 20 that the cap allows
    assert accounting.sessions == 620


def test_broken_day_is_accounted_for_and_survives(read: Read, logs: dict[str, bytes]) -> None:
    found = read_objects(read, logs, BROKEN)
    reasons = found.accounting.quarantined_by_reason
    assert reasons["truncated"] == 1
    assert {"not_json", "not_utf8", "query_type", "clicked_type", "time_unreadable"} <= set(reasons)
    assert 0 < found.accounting.quarantined < 0.05 * found.accounting.lines
    assert found.accounting.sessions > 0.8 * 620


def test_broken_day_must_be_one_of_the_days(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="2026-04-01 is not one of the days 2026-03-08 to 2026-03-10"):
        simulate(shop, first_day=FIRST, days=3, sessions_per_day=10, seed=7, broken_day=date(2026, 4, 1))


def test_clicks_fall_with_the_position(read: Read, logs: dict[str, bytes]) -> None:
    n_shown, n_clicked = np.zeros(LIST_LENGTH), np.zeros(LIST_LENGTH)
    for day in DAYS:
        for row in read_objects(read, logs, day).sessions.to_pylist():
            assert len(row["shown"]) == LIST_LENGTH
            n_shown += 1
            n_clicked += [item in row["clicked"] for item in row["shown"]]
    rates = n_clicked / n_shown
    assert rates[0] > rates[1] > rates[2:5].mean() > rates[5:].mean() > 0
    assert rates[0] > 5 * rates[5:].mean()


def test_what_is_clicked_is_mostly_what_was_searched_for(read: Read, shop: Shop, logs: dict[str, bytes]) -> None:
    kind_of = {product.id: product.kind for product in shop.products}
    meant = {name: kind for kind, names in shop.words.kinds.items() for name in names}
    right: list[bool] = []
    for day in DAYS:
        for row in read_objects(read, logs, day).sessions.to_pylist():
            right += [kind_of[item] == meant[row["query"]] for item in row["clicked"] if row["query"] in meant]
    assert len(right) >= 200
    # 112 kinds: chance alone would be right once in a hundred.
    assert sum(right) > 0.7 * len(right)


def test_shoppers_names_are_not_the_catalogues(shop: Shop) -> None:
    assert 280 <= len(shop.products) <= 360
    known = {word for product in shop.products for word in words_of(product.text)}
    for kind, names in shop.words.kinds.items():
        assert any(not set(words_of(name)) & known for name in names), f"{kind}: every name shares a word"
    assert all(not set(words_of(fad.say)) <= known for fad in shop.words.fads)


def test_some_words_begin_on_a_later_day(shop: Shop) -> None:
    before, after = (set(shop.words.fads_of(day).values()) for day in (DAYS[0], DAYS[2]))
    assert len(after - before) >= 4
    assert len(before - after) >= 4


def test_any_size_of_day_works(shop: Shop) -> None:
    tiny = dict(simulate(shop, first_day=FIRST, days=1, sessions_per_day=1, seed=7, broken_day=FIRST))
    assert len(records(tiny[f"logs/dt={FIRST}/part-000.jsonl.gz"])) == 1


def test_shop_with_a_kind_nobody_sells_is_refused(shop: Shop, tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "include" / "demo"
    (tmp_path / "catalogue.jsonl").write_bytes((folder / "catalogue.jsonl").read_bytes())
    words = (folder / "shopper_words.yaml").read_text(encoding="utf-8")
    (tmp_path / "shopper_words.yaml").write_text(words.replace("  sofa: [", "  sofaa: ["), encoding="utf-8")
    with pytest.raises(ConfigError, match="sofa, sofaa"):
        load_shop(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_shop(tmp_path / "nowhere")


def test_position_based_model_by_hand() -> None:
    # eta 1: ranks are looked at with 1, 1/2, 1/4 … of ranks 1, 2, 4; noise at rank 2 is 0.1 · 1/2.
    model = PositionBasedModel(eta=1, trust_noise=0.1)
    probabilities = model.click_probabilities(np.array([[1.0, 0.0, 0.5]]))
    np.testing.assert_allclose(probabilities, [[1, 0.5 * 0.05, (0.5 + 0.5 * 0.1 / 3) / 3]])
    drawn = model.clicks(np.tile([[1.0, 0.0, 0.5]], (40_000, 1)), np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), probabilities[0], atol=0.01)


def test_lexical_ranker_finds_its_words_and_the_rarer_one_first() -> None:
    ranker = LexicalRanker(["red lamp", "red rug", "red lamps and rugs", "blue sofa"])
    scores = ranker.scores("red RUGS")
    assert scores[1] > scores[2] > scores[0] > scores[3] == 0
    assert not ranker.scores("couch").any()
