"""What the page explains of a night: the queries that changed most, the look-up table, and the search."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from embft.finetuning.trials import SearchSummary, Trial, read_trials, write_trials
from embft.promotion.changed_queries import ChangedQueries, ChangedQuery, Hit
from embft.report.page import render
from tests.report.facts import HOSTILE, Page, night


def hits(*ids: str, clicked: Sequence[str] = ()) -> tuple[Hit, ...]:
    return tuple(Hit(id=id_, text=f"the {id_}", clicked=id_ in clicked) for id_ in ids)


def changed(**given: Any) -> ChangedQueries:
    sofa = ChangedQuery(
        query="sofa",
        n_sessions=3,
        before=0.5,
        after=1.0,
        top_before=hits("a", "b", clicked=["b"]),
        top_after=hits("b", "c", clicked=["b"]),
    )
    rug = ChangedQuery(query="rug", n_sessions=1, before=0.4, after=0.3, top_before=hits("d"), top_after=hits("d"))
    told = {"gained": (sofa,), "lost": (rug,), "n_gained": 1200, "n_lost": 7, "n_same": 3, "n_unnamed": 0, **given}
    return ChangedQueries.model_validate({"candidate": "challenger", "opponent": "champion", "min_clients": 5, **told})


def changes_of(it: ChangedQueries | None) -> str:
    text = Page(render(night(changed=it))).text
    return text.split("Queries that changed most")[1].split(" Data Clicks of")[0] if it else text


def test_a_changed_query_shows_its_first_results_before_and_after_with_the_clicked_ones_marked() -> None:
    text = changes_of(changed())
    assert "With the challenger, 1,200 different queries of the held-out clicks rank better" in text
    assert "than with the champion, 7 worse, 3 the same" in text
    assert (
        "Gained most sofa nDCG@10 0.500 → 1.000 in 3 sessions "
        "before: champion the a a − ✓ the b b after: challenger ✓ the b b the c c ＋" in text
    )
    assert "Lost most rug nDCG@10 0.400 → 0.300 in 1 session; the first five are the same" in text
    assert "not named here" not in text


def test_queries_of_few_people_are_told_of_by_their_number_alone() -> None:
    text = changes_of(changed(gained=(), lost=(), n_unnamed=1207))
    assert "1,207 of those that changed are not named here: fewer than 5 people" in text
    assert "Gained most" not in text
    assert "✓ was clicked" not in text


def test_a_pasted_query_does_not_fill_the_page() -> None:
    pasted = ChangedQuery(query="sofa " * 10_000, n_sessions=1, before=0, after=1)
    text = changes_of(changed(gained=(pasted,), lost=()))
    assert len(text) < 1000
    assert "sofa…" in text


def test_a_night_of_before_has_neither_section() -> None:
    assert "Queries that changed most" not in changes_of(None)
    assert "look-up table" not in changes_of(None)


def test_the_look_up_table_stands_beside_the_base_and_is_warned_of_where_it_wins() -> None:
    table = {"ndcg_at_10": 0.6, "mrr_at_10": 0.4, "recall_at_10": 0.7}
    text = Page(render(night(most_clicked=table))).text
    assert "Measure base champion version 7 challenger candidate look-up table of past clicks" in text
    assert "nDCG@10 ↑ 0.3000 0.5100 0.5500 ★ 0.6000 +7.8%" in text
    assert "Validation loss ↓ 4.0000 2.5000 ★ 2.0000 +20.0%" in text  # it has no loss, and that is no fault
    assert "– marks" not in text
    # 0.55 / 0.6 - 1, 0.45 / 0.4 - 1
    over = "Gain of the challenger over the look-up table: nDCG@10 -8.3% (-8.3% to -8.3%), MRR@10 +12.5%"
    assert over in text
    warned = "Warning: a look-up table of past clicks ranks better than this model: nDCG@10 0.6000 to the challenger's"
    assert text.index(warned) < text.index("Each rule")
    assert "Warning" not in Page(render(night(most_clicked={**table, "ndcg_at_10": 0.5}))).text


def test_a_rule_against_the_look_up_table_is_worded() -> None:
    rules = [{"name": "no_table", "measure": "ndcg_at_10", "min_gain": 0.0, "against": "most_clicked"}]
    text = Page(render(night(most_clicked={"ndcg_at_10": 0.6}, gate={"rules": rules}))).text
    assert "no_table gain in nDCG@10 over the look-up table -8.3%" in text
    assert "no_table, gain in nDCG@10 over the look-up table: at least 0.0% (nDCG@10 0.6000); -8.3% was found" in text


def trial(
    number: int,
    quality: float | None = 0.7,
    state: Literal["finished", "pruned", "failed"] = "finished",
    curve: Any = ((0, 3.0), (10, 2.0)),
    **params: Any,
) -> Trial:
    return Trial(
        params_id=f"p{number}",
        params={"batch": 64, "items_lr": 0.01, **params},
        state=state,
        quality=quality,
        seconds=41.6,
        came_from="sampler",
        curve=curve,
    )


SEARCH = SearchSummary(
    objective="validation nDCG@10",
    trials=4,
    pruned=1,
    importances={"margin": 0.25, "items_lr": 0.75},
    best="p1",
)
TRIALS = (
    trial(0, 0.61, margin=0.1),
    trial(1, 0.72, margin=0.2, items_lr=0.0012345, curve=((0, 3.0), (10, 1.5), (20, 1.8))),
    trial(2, 0.99, "pruned", margin=0.3),
    trial(3, None, "failed", margin=None, curve=()),
)


def test_the_search_shows_its_trials_the_best_first_and_which_settings_mattered() -> None:
    html = render(night(search=SEARCH, trials=TRIALS))
    text = Page(html).text.split(" Training ")[1]
    assert "best of a search: 4 trials, 1 stopped early, 1 failed, by validation nDCG@10" in text
    assert "Setting Share items_lr 75 % margin 25 %" in text
    rows = [
        "items_lr 0.00123 margin 0.2 sampler ★ 0.7200 42 finished",
        "items_lr 0.01 margin 0.1 sampler 0.6100 42 finished",
        "items_lr 0.01 margin 0.3 sampler 0.9900 42 stopped early",
        "items_lr 0.01 margin – sampler – 42 failed",
    ]
    assert [text.index(it) for it in rows] == sorted(text.index(it) for it in rows)
    assert "batch" not in text.split("Trials")[1].split("Again by hand")[0]
    assert "Validation loss of 3 trials; the best one has 1.5000 at step 10" in html
    assert len(re.findall('class="trial"', html)) == 2


def test_twenty_trials_are_shown_and_the_others_counted() -> None:
    many = tuple(trial(number, number / 100, margin=number / 100) for number in range(23))
    text = Page(render(night(search=SEARCH, trials=many))).text
    assert text.count(" 42 finished") == 20
    assert "3 more are in trials.json of fine_tune" in text
    assert "★ 0.0100" in text  # what was kept comes first, whatever else was found


def test_a_loss_is_the_better_the_lower_it_is() -> None:
    search = SEARCH.model_copy(update={"objective": "validation loss", "higher_is_better": False, "best": None})
    text = Page(render(night(search=search, trials=TRIALS))).text
    assert text.index("0.6100 42") < text.index("0.7200 42")
    assert "★ 0.7200" not in text


@pytest.mark.parametrize("records", [[], None])
def test_without_a_search_nothing_of_one_is_shown(records: Any) -> None:
    assert "Trials" not in Page(render(night(records=records))).text


def test_trials_are_written_and_read_back(tmp_path: Path) -> None:
    write_trials(tmp_path / "trials.json", TRIALS)
    raw = (tmp_path / "trials.json").read_bytes()
    assert read_trials(raw) == TRIALS
    assert b'"from": "sampler"' in raw
    with pytest.raises(ValidationError):
        trial(0, float("nan"))


def test_what_strangers_typed_is_escaped_and_so_are_settings() -> None:
    hostile = Hit(id=HOSTILE, text=HOSTILE, clicked=True)
    query = ChangedQuery(query=HOSTILE, n_sessions=1, before=0, after=1, top_before=(hostile,), top_after=(hostile,))
    search = SEARCH.model_copy(update={"objective": HOSTILE, "importances": {HOSTILE: 1.0}})
    trials = (trial(1, **{HOSTILE: HOSTILE}), trial(2, **{HOSTILE: "x"}))
    facts = night(changed=changed(gained=(query,), lost=(query,)), search=search, trials=trials)
    facts = facts.model_copy(update={"decision": facts.decision.model_copy(update={"warnings": (HOSTILE,)})})
    html = render(facts)
    assert "<script" not in html
    assert "<img" not in html
    assert not [name for _, attributes in Page(html).tags for name in attributes if name.startswith("on")]
    assert Page(html).text.count("alert('x')") >= 14


def test_page_keeps_its_landmarks_with_every_section() -> None:
    page = Page(render(night(changed=changed(), search=SEARCH, trials=TRIALS)))
    assert len(page.having("table")) == len(page.having("caption"))
    assert all("scope" in th for th in page.having("th"))
    assert {it["aria-labelledby"] for it in page.having("section")} == {it["id"] for it in page.having("h2")}
