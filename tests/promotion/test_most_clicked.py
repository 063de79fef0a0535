"""The look-up table of past clicks: what it ranks, and what the gate says of a model that loses to it."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from embft.console import decision_markdown
from embft.finetuning.catalogue import RankedCatalogue
from embft.finetuning.inputs import FineTuningInput
from embft.finetuning.items import ItemsSet, TextQueryRetriever
from embft.finetuning.params import FineTuningParams, FineTuningSettings
from embft.promotion.evaluation_record import Evaluation
from embft.promotion.gate import decide
from embft.promotion.measuring import HeldOut, Measuring
from embft.promotion.most_clicked import click_counts
from embft.promotion_config import Gate, GateRule
from tests.promotion.nights import evaluated
from tests.promotion.test_evaluation import N_ITEMS, RandomModel, by_definition, session

N = 40
OFF = {"max_val_loss": 5.0, "min_relative_gain": 0, "confidence": "off"}


@pytest.fixture(scope="module")
def items() -> ItemsSet:
    return ItemsSet([f"i{n}" for n in range(N_ITEMS)], [f"item {n}" for n in range(N_ITEMS)])


def measured(past: list[FineTuningInput], held_out: list[FineTuningInput], items: ItemsSet) -> Any:
    told = HeldOut(held_out, items, TextQueryRetriever(), [], {})
    measuring = Measuring(told, FineTuningParams(), FineTuningSettings(), [10])
    return measuring.most_clicked(click_counts(past), RankedCatalogue(RandomModel(), items))  # type: ignore[arg-type]


def test_the_table_ranks_by_clicks_and_then_as_the_base_does(items: ItemsSet) -> None:
    """Every figure again, by sorting in plain Python."""
    chance = np.random.default_rng(3)
    queries = [f"query {n}" for n in range(12)]
    past = [session(n, queries[chance.integers(8)], f"i{chance.integers(6)}") for n in range(200)]
    held_out = [session(n, queries[n % 12], f"i{chance.integers(9)}", f"i{9 + n % 5}") for n in range(48)]
    ours = measured(past, held_out, items)

    model = RandomModel()
    scores = model.encode_queries(queries) @ model.encode_items(list(items.items)).T
    for n, it in enumerate(held_out):
        counts = Counter(id_ for before in past if before.query == it.query for id_ in before.events)
        base = scores[queries.index(it.query)]
        ranking = sorted(range(N_ITEMS), key=lambda row: (-counts[f"i{row}"], -base[row]))
        places = np.empty(N_ITEMS)
        places[ranking] = range(N_ITEMS)
        expected = by_definition(-places, {int(id_[1:]) for id_ in it.events})
        assert {name: figures[n] for name, figures in ours.items()} == pytest.approx(expected, abs=1e-6)


def test_a_query_counts_whatever_its_case_and_spacing(items: ItemsSet) -> None:
    held_out = [session(0, "red shoe", "i7")]
    found = [
        measured([session(1, past, "i7")], held_out, items)["mrr_at_10"][0] for past in ("Red  SHOE ", "red shoes")
    ]
    assert found[0] == 1.0 > found[1]


def test_thousands_of_clicks_leave_the_order_of_all_other_items_as_it_is(items: ItemsSet) -> None:
    past = [*[session(0, "q", "i1")] * 30_000, *[session(0, "q", "i2")] * 29_999]
    found = measured(past, [session(0, "q", "i1"), session(1, "q", "i2"), session(2, "new", "i1")], items)
    assert found["ndcg_at_10"][:2] == pytest.approx([1.0, 1 / math.log2(3)])
    model = RandomModel()
    scores = (model.encode_queries(["new"]) @ model.encode_items(list(items.items)).T)[0]
    assert found["ndcg_at_10"][2] == pytest.approx(by_definition(scores, {1})["ndcg_at_10"])


def test_a_base_that_could_not_serve_leaves_the_table_without_a_figure(items: ItemsSet) -> None:
    measuring = Measuring(
        HeldOut([session(0, "q", "i1")], items, TextQueryRetriever(), [], {}),
        FineTuningParams(),
        FineTuningSettings(),
        [10],
    )
    assert all(np.isnan(it).all() for it in measuring.most_clicked({"q": {"i1": 1}}, behind=None).values())


def night(
    table: Any, challenger: Any = 0.6, *, rules: tuple[GateRule, ...] = (), **options: Any
) -> tuple[Any, Evaluation]:
    """Decide on a night whose loss is fine; the figures are nDCG@10."""
    ndcg = {"base": 0.3, "champion": 0.5, "challenger": challenger}
    losses = {"base": 3.0, "champion": 2.0, "challenger": 1.0}
    values = {
        name: {"val_loss": np.full(N, losses[name]), "ndcg_at_10": np.broadcast_to(it, N)} for name, it in ndcg.items()
    }
    if table is not None:
        values["most_clicked"] = {"ndcg_at_10": np.broadcast_to(table, N)}
    evaluation, sets = evaluated(values, **options)
    return decide(evaluation, sets, Gate(**OFF, rules=rules)), evaluation


def noisy(mean: float, spread: float) -> Any:
    values = np.random.default_rng(2).normal(0, spread, N)
    return mean + values - values.mean()


def test_a_model_that_loses_to_the_table_passes_with_a_warning_that_names_both_figures() -> None:
    decision, _ = night(0.75)
    assert decision.passed
    assert decision.opponent == "champion"
    # 0.6 / 0.75 - 1
    told = (
        "a look-up table of past clicks ranks better than this model: nDCG@10 0.7500 to the challenger's 0.6000; "
        "with 95% confidence the model is 20.0% to 20.0% worse"
    )
    assert decision.warnings == (told,)
    assert f"⚠ A{told[1:]}." in decision_markdown(decision)


@pytest.mark.parametrize("table", [0.6, 0.5, None])
def test_a_model_that_is_as_good_as_the_table_is_not_warned_of(table: float | None) -> None:
    decision, evaluation = night(table)
    assert decision.warnings == ()
    assert [it.measure for it in evaluation.against_most_clicked] == ([] if table is None else ["ndcg_at_10"])


def test_a_loss_that_is_not_shown_is_told_as_such() -> None:
    (told,) = night(noisy(0.61, 0.3))[0].warnings
    assert "; that is not sure: with 95% confidence the model is" in told
    (told,) = night(0.75, queries=["a", "b"] * (N // 2))[0].warnings
    assert told.endswith("2 different queries are too few to say how sure that is")


def against(**changes: Any) -> GateRule:
    return GateRule.model_validate(
        {"name": "no_table", "measure": "ndcg_at_10", "min_gain": 0.0, "against": "most_clicked", **changes}
    )


def test_a_rule_may_ask_for_a_gain_over_the_table() -> None:
    assert night(0.55, rules=(against(),))[0].passed
    decision, _ = night(0.75, rules=(against(),))
    assert decision.reason == (
        "rejected: nDCG@10 0.6000 is 20.0% below the look-up table's 0.7500 (rule no_table asks for 0.0% better)"
    )
    few = tuple(f"query {n}" for n in range(15))
    sliced = against(slice="head", confidence="to_promote")
    table = np.where(np.arange(N) < 15, 0.75, 0.1)
    decision, _ = night(table, rules=(sliced,), slices={"head": few})
    assert not decision.passed
    assert decision.rules[-1].figure == pytest.approx(-0.2)
    old, _ = night(None, rules=(against(),))
    assert old.reason == "rejected: the evaluation has no nDCG@10 of the look-up table; run evaluate again with --force"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"measure": "val_loss"}, "has only nDCG, MRR and Recall"),
        ({"measure": "encode_ms"}, "has only nDCG, MRR and Recall"),
        ({"guard": "staples"}, "no figure on guard sets"),
        ({"min_gain": None, "at_least": 0.5}, "so its limit is a min_gain over it"),
        ({"against": "most_clickd"}, "'champion' or 'most_clicked'"),
    ],
)
def test_a_rule_that_the_table_has_no_figure_for_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        against(**changes)


def test_an_evaluation_from_before_the_table_is_still_read() -> None:
    _, evaluation = night(None)
    old = evaluation.model_dump_json(exclude={"against_most_clicked"})
    assert "most_clicked" not in old
    assert Evaluation.from_json(old.encode(), "s3://b/evaluation.json") == evaluation
