"""`embft gate` on a night of long ago: what became of it since, and what it was evaluated by."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embft.errors import ConfigError, DataRejected
from embft.promotion.decision import Decision
from embft.promotion.ledger import append
from embft.stages.gate import decision_with, standing_decision
from embft.stages.stage import Outcome, commit
from tests.buckets import new_bucket
from tests.pipeline.nights_by_hand import DAY, NightsByHand, nights_by_hand
from tests.promotion.nights import evaluated

WhatIf = Callable[[], Decision]


@pytest.fixture
def night(module_environment: str, tmp_path: Path) -> NightsByHand:
    made = nights_by_hand(tmp_path, new_bucket(module_environment), module_environment)
    made.night()
    made.train()
    evaluation, sets = evaluated({"base": {"val_loss": 2.0}, "challenger": {"val_loss": [0.5] * 20}})
    pq.write_table(sets[0].table, tmp_path / "per_query")
    pq.write_table(
        pa.table({"guard": pa.array([], pa.string()), "query": pa.array([], pa.string())}), tmp_path / "none"
    )
    files = {"evaluation.json": made.file("evaluation", evaluation.to_json()), "guards.parquet": tmp_path / "none"}
    made.commit("evaluate", DAY, {**files, "per_query.parquet": tmp_path / "per_query"})
    return made


@pytest.fixture
def what_if(night: NightsByHand, tmp_path: Path) -> WhatIf:
    include = night.project.include
    return lambda: decision_with("tiny", DAY, {"max_val_loss": 1.0}, include=include, folder=tmp_path / "fetched")


def test_no_limit_lets_weights_serve_again_that_were_rolled_back(night: NightsByHand, what_if: WhatIf) -> None:
    assert what_if().passed
    others = night.commit("fine_tune", DAY.replace(day=1), {"model/w": night.file("w", b"others")}).outputs
    first = night.champion("0").model_copy(update={"weights": others, "day": DAY.replace(day=1)})
    append(night.storage, night.paths, "promotion", first, request="0", why="better", forced=False)
    night.promote("1")
    append(night.storage, night.paths, "rollback", first, request="x", why="brand queries are broken")
    decision = what_if()
    assert not decision.passed
    assert "were rolled back" in decision.reason
    assert "(brand queries are broken)" in decision.reason


def test_an_evaluation_of_another_version_of_embft_is_told_with_what_to_do(
    night: NightsByHand, what_if: WhatIf, tmp_path: Path
) -> None:
    night.commit(
        "evaluate", DAY, {"evaluation.json": tmp_path / "evaluation", "per_query.parquet": tmp_path / "per_query"}
    )
    with pytest.raises(ConfigError, match=r"names no guards\.parquet: embft .* run evaluate again with --force"):
        what_if()


def test_a_night_that_the_evaluation_rejected_says_why(night: NightsByHand, what_if: WhatIf) -> None:
    rejected = Outcome(files={}, figures={}, status="rejected", reason="guard 'staples' cannot be measured")
    commit(night.storage, night.draft("evaluate", DAY), lambda *_: rejected, force=True)
    with pytest.raises(DataRejected, match="evaluate rejected tiny of 2026-03-05: guard 'staples' cannot be measured"):
        what_if()
    commit(night.storage, night.draft("gate", DAY), lambda *_: Outcome(files={}, figures={}), force=True)
    with pytest.raises(ConfigError, match=r"names no decision\.json"):
        standing_decision("tiny", DAY, include=night.project.include)
