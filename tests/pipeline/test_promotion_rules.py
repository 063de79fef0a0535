"""Slices, guard sets and further rules on a real night, through the command line."""

import json
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from math import log2
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from embft.cli import app
from embft.errors import ConfigError, StorageRefused
from embft.finetuning.interpolation import choose_share
from embft.finetuning.models import load_model
from embft.promotion.changed_queries import ChangedQueries
from embft.promotion.evaluation_record import Evaluation
from tests.buckets import new_bucket
from tests.mlflow_database import new_database
from tests.pipeline.conftest import Project
from tests.shop import ITEMS, NIGHT, WORDS, day_sessions, make_shop, write_day

EVALUATION = """\
evaluation:
  cutoffs: [10, 3]
  slices:
    - {{name: sleep, queries: ["Bedside  LIGHT", pram]}}
    - {{name: tools, uri: "s3://{bucket}/judged/kinds.csv", column: kind, value: tool}}
    - {{name: nobody, queries: [never searched]}}
  guards:
    - {{name: staples, uri: "s3://{bucket}/judged/staples.tsv"}}
    - name: general
      uri: "s3://{bucket}/judged/general.jsonl"
      items: "s3://{bucket}/judged/items.jsonl"
      max_drop: 0.9
gate:
  rules:
    - {{name: tools, measure: ndcg_at_3, slice: tools, at_least: 0.01}}
    - {{name: size, measure: model_mb, at_most: 100}}
"""


SECRET = "what nobody else searches"  # five times, by one shopper


@pytest.fixture(scope="module")
def shop(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop with lists of its own, and its night up to the gate."""
    home = tmp_path_factory.mktemp("judged")
    bucket = new_bucket(module_environment)
    include = make_shop(home, bucket, module_environment, new_database(home))
    searched = day_sessions(NIGHT, 80)
    secret = {"query": SECRET, "client": "shopper-0", "time": f"{NIGHT}T20:00:00+00:00"}
    write_day(
        bucket,
        NIGHT,
        [*searched, *({**it, **secret, "session_id": f"secret-{it['session_id']}"} for it in searched[1:6])],
    )
    bucket.put("judged/kinds.csv", b"query,kind\nHole Maker,tool\nwifi box,other\n")
    bucket.put("judged/staples.tsv", b"query\titem\tgrade\ncouch\tso-0\t2\ncouch\tso-1\t1\npram\tgone\t1\n")
    general = [{"query": f"question {n}", "item": f"a{n}", "grade": 1} for n in range(12)]
    bucket.put("judged/general.jsonl", "\n".join(map(json.dumps, general)).encode())
    items = [{"id": f"a{n}", "text": f"abstract about question {n}"} for n in range(12)]
    bucket.put("judged/items.jsonl", "\n".join(map(json.dumps, items)).encode())
    config = include / "models" / "tiny.yaml"
    config.write_text(config.read_text().replace("gate:\n", EVALUATION.format(bucket=bucket.name)))
    return Project(include, bucket, "tiny")


@pytest.fixture(scope="module")
def judged(shop: Project) -> Project:
    for result in shop.night(NIGHT):
        if result.stage == "gate":
            assert result.status == "done", result.reason
            break
    return shop


def gate(shop: Project, *options: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBFT_INCLUDE", str(shop.include))
        return CliRunner().invoke(app, ["gate", "--model", "tiny", "--day", NIGHT.isoformat(), *options])


def test_every_set_of_queries_is_measured_for_every_model(judged: Project, tmp_path: Path) -> None:
    outputs = judged.stage("evaluate", NIGHT).outputs
    evaluation = Evaluation.from_json(judged.storage.read(outputs["evaluation.json"].uri) or b"", "evaluation.json")
    sets = {(it.kind, it.name): it for it in evaluation.sets}
    mixed = judged.stage("fine_tune", NIGHT).figures
    assert evaluation.new_share == mixed["new_share"] == choose_share(lambda it: mixed["mixtures"][str(it)]).new_share
    assert [name for _, name in sets][:5] == ["all", "head", "torso", "tail", "unseen"]
    assert (sets["slice", "sleep"].n_queries, sets["slice", "tools"].n_queries) == (2, 1)
    assert sets["slice", "nobody"].n_sessions == 0
    assert {"val_loss", "ndcg_at_10", "recall_at_3", "irrelevant_dist_shift"} <= sets["slice", "all"].models[
        "base"
    ].keys()
    assert sets["guard", "staples"].n_queries == 1
    assert "'gone'" in sets["guard", "staples"].notes[0]
    assert sets["guard", "general"].models["challenger"]["ndcg_at_10"] is not None
    per_query = pq.read_table(judged.storage.fetch(outputs["per_query.parquet"], tmp_path / "per_query.parquet"))
    tools = [it for it in per_query.to_pylist() if "tools" in it["slices"]]
    assert {it["query"] for it in tools} == {"hole maker"}
    told = sets["slice", "tools"].models["challenger"]["ndcg_at_3"]
    assert told == pytest.approx(sum(it["challenger.ndcg_at_3"] for it in tools) / len(tools))


@pytest.fixture(scope="module")
def output(judged: Project) -> Callable[[str, str], bytes]:
    """Reads what a stage left, without asking whether it is up to date."""
    storage, paths = judged.storage, judged.paths

    def read(stage: str, name: str) -> bytes:
        result = storage.read_result(paths.stage(NIGHT, stage))
        assert result is not None
        return storage.read(result.outputs[name].uri) or b""

    return read


def rows_of(parquet: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(BytesIO(parquet)).to_pylist()
    return rows


def test_the_look_up_table_is_measured_as_sorting_the_clicks_by_hand_would(
    judged: Project, output: Callable[[str, str], bytes]
) -> None:
    before = [
        it for part in ("train", "validation") for it in rows_of(output("preprocess_ranks", f"inputs/{part}.parquet"))
    ]
    items = rows_of(output("preprocess_ranks", "items/items.parquet"))
    base = load_model(judged.spec(NIGHT).config.training.base_model)
    vectors = base.encode_items([it["text"] for it in items])
    n_seen = 0
    for row in rows_of(output("evaluate", "per_query.parquet")):
        counts = Counter(id_ for it in before if it["query"] == row["query"] for id_ in it["clicked"])
        scores = vectors @ base.encode_queries([row["query"]])[0]
        ranking = sorted(range(len(items)), key=lambda n: (-counts[items[n]["id"]], -scores[n]))
        places = [place for place, n in enumerate(ranking, start=1) if items[n]["id"] in row["clicked"]]
        ideal = sum(1 / log2(1 + place) for place in range(1, len(places) + 1))
        assert row["most_clicked.ndcg_at_10"] == pytest.approx(
            sum(1 / log2(1 + it) for it in places if it <= 10) / ideal
        )
        assert row["most_clicked.recall_at_3"] == sum(it <= 3 for it in places) / len(places)
        n_seen += bool(counts)
    assert n_seen > 50
    evaluation = Evaluation.from_json(output("evaluate", "evaluation.json"), "evaluation.json")
    assert list(evaluation.models) == ["base", "most_clicked", "challenger"]
    assert "val_loss" not in evaluation.models["most_clicked"]
    assert "most_clicked" not in evaluation.costs
    assert [it.measure for it in evaluation.against_most_clicked][0:2] == ["mrr_at_10", "mrr_at_3"]


def test_queries_that_changed_are_named_with_their_results_but_none_of_a_single_shopper(
    output: Callable[[str, str], bytes],
) -> None:
    found = ChangedQueries.model_validate_json(output("evaluate", "changed_queries.json"))
    assert (found.candidate, found.opponent) == ("challenger", "base")
    named = [it.query for it in (*found.gained, *found.lost)]
    assert len(named) >= 4
    assert set(named) <= set(WORDS.values())
    assert found.n_gained + found.n_lost == len(named) + found.n_unnamed
    best = found.gained[0]
    assert best.after > best.before
    assert [len(it) for it in (best.top_before, best.top_after)] == [5, 5]
    assert all(ITEMS[it.id] == it.text for it in best.top_after)
    assert any(it.clicked for it in best.top_after)
    page = output("gate", "report.html").decode()
    assert f"<h4>{best.query}</h4>" in page
    assert SECRET in {it["query"] for it in rows_of(output("evaluate", "per_query.parquet"))}
    assert SECRET not in found.to_json().decode() + page
    assert found.n_unnamed == 1


def test_an_evaluation_is_done_once_for_the_same_lists_and_anew_for_others(judged: Project) -> None:
    assert judged.stage("evaluate", NIGHT).reused
    before = judged.spec(NIGHT).judged_by_sha256
    judged.bucket.put("judged/kinds.csv", b"query,kind\nhole maker,tool\ncouch,tool\n")
    judged.stage("plan", NIGHT)
    try:
        assert judged.spec(NIGHT).judged_by_sha256 != before
    finally:
        judged.bucket.put("judged/kinds.csv", b"query,kind\nHole Maker,tool\nwifi box,other\n")
        judged.stage("plan", NIGHT)


def test_the_decision_is_explained_and_other_limits_are_tried_without_a_trace(judged: Project) -> None:
    before = {it.uri: it.etag for it in judged.storage.objects(judged.paths.root)}
    explained = gate(judged, "--explain")
    assert explained.exit_code == 0
    for rule in ("max_val_loss", "min_relative_gain", "guard_staples", "guard_general", "tools", "size"):
        assert rule in explained.stdout
    page = gate(judged, "--explain", "--markdown").stdout
    assert page.startswith("**passed: validation loss")
    assert "| size |" in page
    tried = json.loads(gate(judged, "--what-if", "tools=0.9999", "--what-if", "size=1", "--json").stdout)
    assert [it["rule"] for it in tried["rules"] if not it["passed"]] == ["tools", "size"]
    misspelled = gate(judged, "--what-if", "toolz=1")
    assert (misspelled.exit_code, "did you mean 'tools'" in misspelled.output) == (2, True)
    assert gate(judged, "--what-if", "tools=much").exit_code == 2
    assert {it.uri: it.etag for it in judged.storage.objects(judged.paths.root)} == before


def test_a_list_that_is_gone_is_named_before_anything_is_trained(judged: Project) -> None:
    raw = judged.storage.read(f"s3://{judged.bucket.name}/judged/staples.tsv") or b""
    judged.delete(f"s3://{judged.bucket.name}/judged/staples.tsv")
    try:
        with pytest.raises((ConfigError, StorageRefused), match=r"judged/staples\.tsv"):
            judged.stage("plan", NIGHT)
    finally:
        judged.bucket.put("judged/staples.tsv", raw)
