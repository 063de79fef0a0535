"""`check_ranks`: healthy ranks are silent, and each damage breaks its own rule and names its sessions or items."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embft.stages.validate_ranks import RANGES
from embft.validation.rank_frame import Ranking
from embft.validation.ranks import RanksVerdict, check_ranks
from embft.validation_config import load_suite
from tests.include import REPOSITORY

Rows = list[dict[str, Any]]
RULES = load_suite(REPOSITORY / "include" / "expectations", "ranks")
INPUTS = pa.schema(
    [
        ("session_id", pa.string()),
        ("results", pa.list_(pa.string())),
        ("clicked", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.float32())),
    ]
)
N_TEST = 100
COSINE = Ranking(RANGES["cosine_similarity"], is_similarity=True, is_champions=True)
DISTANCE = Ranking(RANGES["euclidean_distance"], is_similarity=False, is_champions=True)
NO_REFERENCE = "no earlier night to compare with"


def sessions(n: int = 400, seed: int = 7) -> Rows:
    """Sessions of five results, the second clicked, with ranks around 0.5 (clicked) and 0.2 (the others)."""
    ranks = np.random.default_rng(seed).normal(0.2, 0.05, (n, 5))
    ranks[:, 1] += 0.3
    return [
        {"session_id": f"s{row}", "results": [f"B0-{k}" for k in range(5)], "clicked": ["B0-1"], "ranks": it.tolist()}
        for row, it in enumerate(ranks)
    ]


def directions(n: int = 50, dim: int = 16) -> np.ndarray[Any, Any]:
    vectors = np.random.default_rng(3).normal(size=(n, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


Check = Callable[..., RanksVerdict]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check rows: the last hundred, or the last quarter, are the test part, as many before them validation."""

    def run(
        rows: Rows,
        reference: Any = NO_REFERENCE,
        *,
        vectors: np.ndarray[Any, Any] | None = None,
        ranking: Ranking = COSINE,
        **options: Any,
    ) -> RanksVerdict:
        table = pa.Table.from_pylist(rows, schema=INPUTS)
        n_test = min(N_TEST, len(rows) // 4)
        n_train = len(rows) - 2 * n_test
        parts = {
            "train": table.slice(0, n_train),
            "validation": table.slice(n_train, n_test),
            "test": table.slice(n_train + n_test),
        }
        for name, part in parts.items():
            pq.write_table(part, tmp_path / f"{name}.parquet")
        numbers = (directions() if vectors is None else vectors).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), numbers.shape[1])
        pq.write_table(
            pa.table({"id": [f"B0-{k}" for k in range(len(numbers))], "vector": column}), tmp_path / "vectors.parquet"
        )
        return check_ranks(
            {name: tmp_path / f"{name}.parquet" for name in parts},
            RULES,
            vectors=tmp_path / "vectors.parquet",
            ranking=ranking,
            reference=reference,
            docs_folder=tmp_path / "docs",
            **options,
        )

    return run


def broken(verdict: RanksVerdict) -> list[str]:
    return [it.name for it in verdict.verdict.rules if it.success is False]


@pytest.mark.parametrize("n", [30, 400])
def test_healthy_ranks_are_silent_and_say_what_was_not_judged(check: Check, tmp_path: Path, n: int) -> None:
    verdict = check(sessions(n))
    assert broken(verdict) == []
    assert verdict.reasons == verdict.figures["warnings"] == []
    unjudged = [it.name for it in verdict.verdict.rules if it.success is None]
    few = ["champion_puts_clicks_first", "clicks_come_first"] if n == 30 else []
    assert unjudged == [*few, "lead_as_before", "lead_not_lost", "ranks_as_before", "ranks_much_as_before"]
    assert verdict.figures["notes"][-1].endswith(f"(ranks_much_as_before): not judged, {NO_REFERENCE}")
    assert verdict.figures["test_lead"] == pytest.approx(0.3, abs=0.05)
    assert NO_REFERENCE in (tmp_path / "docs" / "index.html").read_text()
    json.dumps(verdict.figures, allow_nan=False)


def test_all_three_parts_are_counted(check: Check) -> None:
    assert check(sessions()).figures["sessions"] == {"train": 200, "validation": 100, "test": 100, "broken": 0}


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ({"ranks": [0.1, None, 0.2, 0.3, 0.1]}, "filled"),
        ({"ranks": [0.1, math.nan, 0.2, 0.3, 0.1]}, "finite"),
        ({"ranks": [0.1, math.inf, 0.2, 0.3, 0.1]}, "finite"),
        ({"ranks": [0.1, -1.5, 0.2, 0.3, 0.1]}, "in_range"),
        ({"ranks": [0.1, 0.4, 0.2]}, "complete"),
        ({"ranks": None}, "complete"),
        ({"clicked": ["B0-9"]}, "clicked_have_ranks"),
        ({"session_id": "s0"}, "sessions_unique"),
    ],
)
def test_a_damaged_session_of_any_part_stops_the_night_and_is_named(
    check: Check, damage: dict[str, Any], rule: str
) -> None:
    rows = sessions()
    for at in (11, 250, 350):  # train, validation, test
        rows[at] |= damage
    verdict = check(rows)
    assert broken(verdict) == [rule]
    assert verdict.figures["sessions"]["broken"] == 3
    assert verdict.reasons[0].startswith("ranks: 3 of 400 rows (0.8 %) break “")
    assert damage.get("session_id", "s11") in verdict.reasons[0]


def test_partitions_say_what_one_table_says(check: Check) -> None:
    rows = sessions()
    rows[11] |= {"ranks": [0.1, math.nan, 0.2, 0.3, 0.1]}
    rows[250] |= {"session_id": "s3"}
    rows[350] |= {"session_id": "s3", "ranks": [0.1, 17.0, 0.2, 0.3, 0.1]}
    whole, pieces = check(rows), check(rows, sessions_at_a_time=70)
    assert broken(pieces) == ["finite", "in_range", "sessions_unique"]
    assert pieces.reasons == whole.reasons
    same = {name: value for name, value in whole.figures.items() if isinstance(value, float)}
    assert {name: pieces.figures[name] for name in same} == pytest.approx(same)
    assert pieces.figures["distribution"] == whole.figures["distribution"]


def test_the_range_is_the_rankers_and_is_told(check: Check) -> None:
    far = [{**row, "ranks": [1.7 - rank for rank in row["ranks"]]} for row in sessions()]
    far[8]["ranks"][0] = 2.5
    assert broken(check(far, ranking=DISTANCE)) == ["in_range"]
    reason = check(far, ranking=DISTANCE).reasons[0]
    assert "(first: '2.5, not between 0 and 2' in 's8')" in reason
    assert broken(check(far, ranking=dataclasses.replace(DISTANCE, limits=None))) == []
    assert "not between -1 and 1" in check(far).reasons[0]


def test_every_ranker_by_name_has_its_range() -> None:
    from embft.finetuning.registry import _RANKERS

    assert set(RANGES) == set(_RANKERS)


def test_rounding_of_a_cosine_is_in_range(check: Check) -> None:
    rows = sessions()
    rows[0]["ranks"] = [1.0000001, -1.0000001, 0.5, 0.5, 0.5]
    assert broken(check(rows)) == []


def test_one_rank_for_all_stops_the_night(check: Check) -> None:
    verdict = check([{**row, "ranks": [0.3] * 5} for row in sessions()])
    assert verdict.reasons[0].startswith("ranks: rank_stdev is 0; it must be at least 1e-06 (rule not_constant): ")


def test_sessions_whose_results_all_rank_alike(check: Check) -> None:
    """A few are queries that the model cannot read; many are told; most of them stop the night."""
    for count, expected in (
        (30, []),
        (100, ["many_tell_results_apart"]),
        (250, ["most_tell_results_apart", "many_tell_results_apart"]),
    ):
        rows = [{**row, "ranks": [row["ranks"][0]] * 5} if n < count else row for n, row in enumerate(sessions())]
        assert broken(check(rows)) == expected, count


def test_negated_ranks_of_a_champion_stop_the_night_and_of_a_base_model_are_told(check: Check) -> None:
    rows = [{**row, "ranks": [-rank for rank in row["ranks"]]} for row in sessions()]
    verdict = check(rows)
    assert broken(verdict) == ["champion_puts_clicks_first", "clicks_come_first"]
    assert verdict.reasons[0].startswith("ranks: champion_test_lead_z is -")
    base = check(rows, ranking=dataclasses.replace(COSINE, is_champions=False))
    assert base.reasons == []
    assert broken(base) == ["clicks_come_first"]
    assert "the base model ranked" in base.figures["notes"][0]


def test_of_a_distance_the_smaller_is_nearer(check: Check) -> None:
    rows = [{**row, "ranks": [1 - rank for rank in row["ranks"]]} for row in sessions()]
    assert broken(check(rows, ranking=DISTANCE)) == []
    assert broken(check(sessions(), ranking=DISTANCE)) == ["champion_puts_clicks_first", "clicks_come_first"]


def test_ranks_shuffled_within_their_sessions_are_told(check: Check) -> None:
    random = np.random.default_rng(0)
    verdict = check([{**row, "ranks": random.permutation(row["ranks"]).tolist()} for row in sessions()])
    assert broken(verdict) == ["clicks_come_first"]


def test_a_few_unlucky_sessions_are_no_fault(check: Check) -> None:
    """Of 25 test sessions whose leads are spread three times as wide as their mean, no night is stopped."""
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0, 0.2, 100)
        rows = [
            {**row, "ranks": [0.2, 0.2 + 0.07 + shift, 0.2, 0.2, 0.21]}
            for row, shift in zip(sessions(100), noise, strict=True)
        ]
        assert check(rows).reasons == []


def test_sessions_with_everything_clicked(check: Check) -> None:
    """A few are a shopper's choice; many are told; most of them stop the night."""
    for count, expected in (
        (30, []),
        (100, ["many_have_not_clicked"]),
        (250, ["most_have_not_clicked", "many_have_not_clicked"]),
    ):
        rows = [{**row, "clicked": row["results"]} if n < count else row for n, row in enumerate(sessions())]
        assert broken(check(rows)) == expected, count


def test_sessions_without_a_click_are_healthy(check: Check) -> None:
    assert broken(check([{**row, "clicked": []} if n % 2 else row for n, row in enumerate(sessions())])) == []


@pytest.mark.parametrize("n", [0, 3])  # of three, none is left for validation and test
def test_a_part_without_sessions_stops_the_night(check: Check, n: int) -> None:
    verdict = check(sessions(n), vectors=np.zeros((0, 16)))
    assert broken(verdict) == ["sessions_present"]
    assert verdict.reasons[0].startswith("ranks: smallest_part is 0; it must be at least 1")
    assert verdict.figures["distribution"]["n"] == 0
    json.dumps(verdict.figures, allow_nan=False)


def test_the_test_part_is_compared_with_an_earlier_nights(check: Check) -> None:
    first = check(sessions()).figures
    reference = json.loads(json.dumps({**first["distribution"], "lead": first["test_lead"]}))
    assert reference["n_independent"] == N_TEST
    same = check(sessions(), reference)
    assert (broken(same), same.figures["rank_distance"], same.figures["notes"]) == ([], 0, [])

    train_only = [
        {**row, "ranks": [rank / 2 for rank in row["ranks"]]} if n < 300 else row for n, row in enumerate(sessions())
    ]
    assert broken(check(train_only, reference)) == []

    shifted = check([{**row, "ranks": [rank + 0.3 for rank in row["ranks"]]} for row in sessions()], reference)
    assert broken(shifted) == ["ranks_as_before", "ranks_much_as_before"]
    assert shifted.reasons[0].startswith("ranks: rank_drift is 0.")


@pytest.mark.parametrize(
    ("part", "expected"), [(0.9, []), (0.5, ["lead_as_before"]), (0.1, ["lead_as_before", "lead_not_lost"])]
)
def test_a_lead_that_was_bigger_to_the_same_model(check: Check, part: float, expected: list[str]) -> None:
    """Clicks of some sessions shifted against their results: the lead shrinks, and the spread does not."""
    first = check(sessions()).figures
    verdict = check(sessions(), {**first["distribution"], "lead": first["test_lead"] / part})
    assert verdict.figures["lead_ratio"] == pytest.approx(part)
    assert broken(verdict) == expected


def test_an_empty_reference_is_no_reference(check: Check) -> None:
    assert check(sessions(), {"n": 0, "quantiles": []}).figures["rank_drift"] is None


def test_another_draw_of_the_same_ranks_has_not_drifted(check: Check) -> None:
    verdict = check(sessions(seed=8), check(sessions()).figures["distribution"])
    assert verdict.figures["rank_distance"] > 0
    assert verdict.figures["rank_drift"] == 0


def test_one_exploding_vector_is_named_with_its_item(check: Check) -> None:
    vectors = directions()
    vectors[17] *= 40
    verdict = check(sessions(), vectors=vectors)
    assert broken(verdict) == ["no_vector_explodes"]
    assert "vector_norm_max_over_median is 40; it must be at most 10 (first: 'B0-17' with 40, " in verdict.reasons[0]


def test_an_empty_vector_is_told_with_its_item(check: Check) -> None:
    vectors = directions()
    vectors[17] = 0
    verdict = check(sessions(), vectors=vectors)
    assert broken(verdict) == ["no_vector_vanishes"]
    assert "(first: 'B0-17' with 0, " in verdict.figures["warnings"][0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_vectors_that_are_no_numbers_stop_the_night(check: Check, bad: float) -> None:
    vectors = directions()
    vectors[[5, 17], 3] = bad
    verdict = check(sessions(), vectors=vectors)
    assert broken(verdict) == ["vectors_finite"]
    assert "n_vectors_not_finite is 2; it must be at most 0 (first: 'B0-5', 'B0-17')" in verdict.reasons[0]
    assert verdict.figures["effective_dimensions"] > 8
    json.dumps(verdict.figures, allow_nan=False)


def test_vectors_in_one_place_stop_the_night(check: Check) -> None:
    near = directions()[:1] + 0.01 * np.random.default_rng(1).normal(size=(50, 16))
    assert broken(check(sessions(), vectors=near)) == ["vectors_not_in_one_place"]
    same = np.repeat(directions()[:1], 50, axis=0)
    assert broken(check(sessions(), vectors=same)) == ["vectors_not_in_one_place", "vectors_not_on_one_line"]


def test_vectors_on_one_line_stop_the_night(check: Check) -> None:
    line = np.outer(np.random.default_rng(1).choice([-1, 1], 50), directions()[0])
    assert broken(check(sessions(), vectors=line)) == ["vectors_not_on_one_line"]


def test_a_text_of_the_log_is_escaped(check: Check, tmp_path: Path) -> None:
    rows = sessions()
    rows[3] |= {"session_id": "<script>alert(1)</script>", "ranks": [0.1, 5.0, 0.2, 0.3, 0.1]}
    assert broken(check(rows)) == ["in_range"]
    for page in (tmp_path / "docs").iterdir():
        assert "<script>alert" not in page.read_text()
