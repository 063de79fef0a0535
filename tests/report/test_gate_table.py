"""What the page says of the gate's rules, and of what a night lacked."""

import re
from typing import Any

import numpy as np
import pytest

from embft.report.page import render
from tests.promotion.nights import Costs
from tests.report.facts import CHALLENGER, CHAMPION, Page, night

N = 40
MEASURED: dict[str, Any] = {"queries": [f"query {number}" for number in range(N)]}


def around(mean: float, spread: float = 0.2) -> Any:
    """Figures of exactly this mean that differ from query to query."""
    values = np.random.default_rng(5).normal(0.0, spread, size=N)
    return mean + values - values.mean()


def gate_of(**facts: Any) -> str:
    return Page(render(night(**facts))).text.split("Verdict", 1)[1].split("Models on the held-out clicks")[0]


def test_every_rule_shows_what_it_looks_at_figure_interval_limit_and_verdict() -> None:
    text = gate_of()
    assert "max_val_loss validation loss 2.0000 2.0000 to 2.0000 at most 3.0000 ✓ passed" in text
    assert (
        "min_relative_gain gain in validation loss over the champion +20.0% +20.0% to +20.0% surely at least +2.0% "
        "✓ passed" in text
    )


def test_rules_of_every_kind_are_worded() -> None:
    rules = [
        {"name": "floor", "measure": "ndcg_at_10", "at_least": 0.4},
        {"name": "kept", "measure": "ndcg_at_10", "slice": "tail", "min_gain": -0.02, "confidence": "to_reject"},
        {"name": "moved", "measure": "val_loss", "at_most": 2.2, "confidence": "to_reject"},
        {"name": "quick", "measure": "encode_ms", "at_most": 5},
        {"name": "no_slower", "measure": "encode_ms", "min_gain": -0.1},
    ]
    costs = {name: Costs(model_mb=30, encode_ms=ms) for name, ms in (("base", 1), ("champion", 2), ("challenger", 2.1))}
    text = gate_of(gate={"rules": rules}, measured={"slices": {"tail": ["query 1", "query 2"]}, "costs": costs})
    assert "floor nDCG@10 0.5500 0.5500 to 0.5500 at least 0.4000 ✓ passed" in text
    # 0.55 / 0.51 - 1; two queries are too few for an interval
    assert "kept gain in nDCG@10 on tail queries over the champion +7.8% not surely below -2.0% ✓ passed" in text
    assert "moved validation loss 2.0000 2.0000 to 2.0000 not surely above 2.2000 ✓ passed" in text
    assert "quick time to encode a query in ms 2.10 at most 5.00 ✓ passed" in text
    assert "no_slower gain in time to encode a query in ms over the champion -5.0% at least -10.0% ✓ passed" in text


def test_a_figure_is_told_apart_from_the_limit_that_it_misses() -> None:
    rules = [{"name": "tight", "measure": "ndcg_at_10", "at_least": 0.55}]
    text = gate_of(challenger={**CHALLENGER, "ndcg_at_10": 0.549996}, gate={"rules": rules})
    assert "tight nDCG@10 0.549996 0.549996 to 0.549996 at least 0.550000 ✗ broken" in text


def test_a_rule_that_cannot_be_judged_says_why() -> None:
    rules = [{"name": "empty_slice", "measure": "ndcg_at_10", "slice": "unseen", "min_gain": 0.0}]
    text = gate_of(gate={"rules": rules}, measured={"slices": {"unseen": []}})
    assert "there is no query on unseen queries to judge nDCG@10 by ✗ not judged" in text
    assert "would have been needed" not in text


def test_a_gain_over_nothing_passes_with_both_figures_in_place_of_a_share() -> None:
    rules = [{"name": "first_hits", "measure": "ndcg_at_10", "min_gain": 0.0}]
    text = gate_of(champion={**CHAMPION, "ndcg_at_10": 0.0}, gate={"rules": rules})
    assert "nDCG@10 0.5500 is above the champion's 0.0000 (rule first_hits asks for 0.0% better) ✓ passed" in text


def test_a_rejected_night_says_which_figures_would_have_done() -> None:
    rules = [{"name": "floor", "measure": "ndcg_at_10", "min_gain": 0.1}]
    text = gate_of(challenger={**CHALLENGER, "val_loss": 3.5}, gate={"rules": rules})
    needed = text.split("What would have been needed")[1]
    assert "max_val_loss, validation loss: at most 3.0000; 3.5000 was found." in needed
    # every query has the same figures, so that 2 % is sure: 0.98 · 2.5
    assert (
        "min_relative_gain, gain in validation loss over the champion: at least +2.0% (validation loss 2.4500)"
        in needed
    )
    # 1.1 · 0.51, and 0.55 / 0.51 - 1
    assert "floor, gain in nDCG@10 over the champion: at least +10.0% (nDCG@10 0.5610); +7.8% was found." in needed
    assert "would have been needed" not in gate_of()


def test_a_gain_that_was_found_but_not_shown_says_how_many_queries_would_show_it() -> None:
    facts = night({"val_loss": around(1.9, 0.3)}, {"val_loss": np.full(N, 2.0)}, measured=MEASURED)
    verdict = facts.decision.rules[1]
    assert verdict.figure == pytest.approx(0.05)
    assert verdict.low is not None
    assert verdict.low < 0.02 < verdict.figure
    told = Page(render(facts)).text.split("What would have been needed")[1]
    target = 0.02 + verdict.figure - verdict.low
    assert f"at least about {target:+.1%} (validation loss {2 * (1 - target):.4f}) to be sure of +2.0%; +5.0%" in told
    found = re.search(r"which would do with about (\d+) different queries in place of 40\.", told)
    assert found
    # An interval shrinks with the root of the queries: to the 3 % between the gain and the limit.
    exact = N * ((verdict.figure - verdict.low) / 0.03) ** 2
    assert exact <= int(found[1]) <= 1.1 * exact + 1


def test_a_hopelessly_small_surplus_asks_for_no_number_of_queries() -> None:
    facts = night({"val_loss": around(1.9599)}, {"val_loss": np.full(N, 2.0)}, measured=MEASURED)
    assert "too close to the limit to be shown by any likely number of queries." in Page(render(facts)).text


def test_a_shown_break_says_from_where_on_it_would_not_have_been_shown() -> None:
    rules = [{"name": "kept", "measure": "ndcg_at_10", "min_gain": -0.02, "confidence": "to_reject"}]
    models = [{"val_loss": 2.0, "ndcg_at_10": around(0.45, 0.02)}, {"val_loss": 2.5, "ndcg_at_10": np.full(N, 0.5)}]
    facts = night(*models, gate={"rules": rules}, measured=MEASURED)
    verdict = facts.decision.rules[2]
    assert verdict.high is not None
    assert verdict.high < -0.02
    target = -0.02 + -0.1 - verdict.high
    told = f"at least about {target:+.1%} (nDCG@10 {0.5 * (1 + target):.4f}); -10.0% was found."
    assert told in Page(render(facts)).text


def test_the_smallest_gain_that_could_be_shown_is_told_with_what_the_limit_adds() -> None:
    facts = night({"val_loss": around(1.0)}, {"val_loss": np.full(N, 2.0)}, measured=MEASURED)
    detectable = facts.decision.detectable
    assert detectable
    text = Page(render(facts)).text.split("The smallest gain that this night could have shown")[1]
    assert text.strip().startswith(f"{detectable:.1%} less validation loss than the champion's.")
    assert f"a model must truly be about {0.02 + detectable:.1%} better to pass it on 8 of 10 nights" in text
    assert "Half of it takes about four times tonight's 40 different queries" in text
    by_figure = Page(render(night(gate={"confidence": "off"}))).text
    assert "a model must truly be" not in by_figure
