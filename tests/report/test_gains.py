"""What the page says of models, and of the candidate's gains on every set of queries."""

from typing import Any

import numpy as np

from embft.report.page import render
from tests.promotion.nights import Costs
from tests.report.facts import BASE, CHALLENGER, CHAMPION, Page, night

N = 60
QUERIES = [f"query {number}" for number in range(N)]


def models_of(**facts: Any) -> str:
    return Page(render(night(**facts))).text.split("Models on the held-out clicks")[1].split("Where it gains")[0]


def gains_of(*models: Any, **facts: Any) -> str:
    return Page(render(night(*models, **facts))).text.split("Validation loss", 2)[2].split(" Data Clicks of")[0]


def test_every_model_shows_every_measure_and_the_best_is_marked() -> None:
    text = models_of()
    assert "Measure base champion version 7 challenger candidate gain of the challenger over the champion" in text
    # 2.0/2.5 · 0.55/0.51 · 0.45/0.41 · 0.7/0.75; the loss is 20 % lower, which is better
    assert "Validation loss ↓ 4.0000 2.5000 ★ 2.0000 +20.0% +20.0% to +20.0%" in text
    assert "nDCG@10 ↑ 0.3000 0.5100 ★ 0.5500 +7.8%" in text
    assert "MRR@10 ↑ 0.2000 0.4100 ★ 0.4500 +9.8%" in text
    assert "Recall@10 ↑ 0.5000 ★ 0.7500 0.7000 -6.7%" in text
    assert "30 clicked sessions with 20 different queries of 2011-10-20" in text
    assert "– marks" not in text


def test_a_mixture_is_named_with_its_share_and_as_the_candidate() -> None:
    text = models_of(interpolation={**CHALLENGER, "val_loss": 1.5})
    assert "challenger mixture 50% trained weights candidate gain of the mixture over the champion" in text
    assert "Validation loss ↓ 4.0000 2.5000 2.0000 ★ 1.5000 +40.0%" in text
    assert "put the mixture into service" in Page(render(night(interpolation={**CHALLENGER, "val_loss": 1.5}))).text


def test_costs_stand_beside_the_measures() -> None:
    costs = {
        name: Costs(model_mb=mb, encode_ms=ms)
        for name, mb, ms in (("base", 30.72, 1.5), ("champion", 30.72, 2.0), ("challenger", 30.72, 1.25))
    }
    text = models_of(measured={"costs": costs})
    assert "Size of the weights in MB ↓ 30.72 30.72 30.72 0.0%" in text
    # (2.0 - 1.25) / 2.0
    assert "Time to encode a query in ms ↓ 1.50 2.00 ★ 1.25 +37.5%" in text


def test_shifts_have_no_better_side() -> None:
    old = {**CHALLENGER, "not_irrelevant_dist_shift": 0.1}
    text = models_of(
        challenger={**old, "not_irrelevant_dist_shift": 0.3},
        champion=old,
        base={**BASE, "not_irrelevant_dist_shift": -1e-9},
    )
    assert "Shift of clicked items 0.0000 0.1000 0.3000 Size" in text


def noisy(mean: float, seed: int, spread: float = 0.1, n: int = N) -> Any:
    values = np.random.default_rng(seed).normal(0.0, spread, size=n)
    return mean + values - values.mean()


def test_every_set_shows_how_many_its_gains_and_what_is_shown() -> None:
    slices = {"head": QUERIES[:5], "torso": QUERIES[5:35], "tail": QUERIES[35:], "unseen": []}
    is_tail = np.arange(N) >= 35
    champion = {"val_loss": np.full(N, 2.0), "ndcg_at_10": np.full(N, 0.5)}
    challenger = {
        "val_loss": np.where(is_tail, 2.5 + noisy(0, 1), 1.5 + noisy(0, 1)),
        "ndcg_at_10": np.where(is_tail, 0.6 + noisy(0, 2, 0.02), 0.5 + noisy(0, 2)),
    }
    guards = {
        "staples": {
            name: {"ndcg_at_10": np.full(20, it)}
            for name, it in (("base", 0.5), ("champion", 0.5), ("challenger", 0.4))
        }
    }
    facts = {
        "measured": {"queries": QUERIES, "slices": slices, "guards": guards},
        "notes": {"staples": ("2 of its items are not in the catalogue", "and more")},
        "evaluation": {"guards": [{"name": "staples", "uri": "s3://bucket/staples.csv"}]},
        "base": champion,
    }
    text = gains_of(challenger, champion, **facts)
    rows = dict(zip(("all", "head", "torso", "tail", "unseen", "staples"), _rows(text), strict=True))
    assert rows["all"].startswith("60 queries, 60 sessions")
    assert rows["head"].count("too few queries") == 2
    assert "no difference shown" in rows["torso"]
    assert rows["torso"].endswith("better")  # the loss
    assert "better" in rows["tail"]  # nDCG@10
    assert rows["tail"].endswith("worse")  # the loss
    assert rows["unseen"] == "0 queries, 0 sessions no query no query"
    assert rows["staples"].startswith("20 queries -20.0% -20.0% to -20.0% worse not measured")
    assert rows["staples"].endswith("Guard staples: 2 of its items are not in the catalogue; and more.")


def _rows(text: str) -> list[str]:
    names = ("all queries", "head queries", "torso queries", "tail queries", "unseen queries", "guard staples")
    places = [text.index(it) for it in names] + [len(text)]
    return [text[start + len(name) : end].strip() for name, start, end in zip(names, places, places[1:], strict=False)]


def test_no_colour_without_holms_correction() -> None:
    # By itself the first slice's gain would be shown; as one of many it is not.
    facts = night(measured={"slices": {"head": ["query 1"]}})
    comparison = next(it for it in facts.evaluation.comparisons if it.measure == "ndcg_at_10")
    for p_adjusted, word in ((0.04, "better"), (0.06, "no difference shown")):
        changed = comparison.model_copy(update={"low": 0.01, "high": 0.1, "p_adjusted": p_adjusted})
        evaluation = facts.evaluation.model_copy(update={"comparisons": (changed,)})
        text = Page(render(facts.model_copy(update={"evaluation": evaluation}))).text
        assert f"+7.8% +1.0% to +10.0% {word} no figure" in text


def test_a_gain_over_nothing_shows_both_figures() -> None:
    text = gains_of(CHALLENGER, {**CHAMPION, "ndcg_at_10": 0.0})
    assert "all queries 20 queries, 30 sessions 0.5500, was 0.0000 better" in text


def test_a_model_without_figures_has_no_gains() -> None:
    text = gains_of({**CHALLENGER, "val_loss": np.nan, "ndcg_at_10": np.nan})
    assert "all queries 20 queries, 30 sessions no figure no figure" in text
