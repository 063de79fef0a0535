"""The guard set: questions about aerodynamics with graded abstracts, which no model here ever learns from."""

import csv
import json
from collections import defaultdict

import pytest

from embft import ItemsSet
from tests import realdata

FOLDER = realdata.DATA / "cranfield"

needs_cranfield = pytest.mark.skipif(
    not (FOLDER / "qrels.tsv").exists(),
    reason=f"no guard set in {FOLDER}; set EMBFT_DATA to the folder that holds cranfield",
)


def read() -> tuple[ItemsSet, list[tuple[str, dict[str, float]]]]:
    """Give the abstracts that have a text, and each question with its graded ones, at least one of grade 1."""
    items = [json.loads(line) for line in (FOLDER / "items.jsonl").open(encoding="utf-8")]
    queries = {it["id"]: it["text"] for it in map(json.loads, (FOLDER / "queries.jsonl").open(encoding="utf-8"))}
    grades: dict[str, dict[str, float]] = defaultdict(dict)
    with (FOLDER / "qrels.tsv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            if (grade := float(row["grade"])) > 0:
                grades[row["query_id"]][row["item_id"]] = grade
    known = [it for it in items if it["text"].strip()]
    texts = ItemsSet([it["id"] for it in known], [it["text"] for it in known])
    known_ids = set(texts.ids)
    cases = []
    for id_, judged in grades.items():
        known_grades = {item: grade for item, grade in judged.items() if item in known_ids}
        if any(grade >= 1 for grade in known_grades.values()):
            cases.append((queries[id_], known_grades))
    return texts, cases
