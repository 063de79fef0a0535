"""A window whose lists are told for half of its sessions, preprocessed as the section `judgements` says."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embft.results import StageResult
from tests.buckets import new_bucket
from tests.pipeline.conftest import Project
from tests.shop import FIRST, ITEMS, NIGHT, day_sessions, make_shop, write_day

CHOICES = """\
judgements:
  not_clicked: skip_above
  no_click_sessions: drop
  negatives: mined
"""


@pytest.fixture
def shop(s3: str, tmp_path: Path) -> Project:
    bucket = new_bucket(s3)
    include = make_shop(tmp_path, bucket, s3, f"sqlite:///{tmp_path}/mlflow.db")
    for number in range(5):
        day = FIRST + timedelta(days=number)
        sessions = day_sessions(day, 80)
        for session in sessions[::2]:
            session["shown"] = None
        write_day(bucket, day, sessions)
    return Project(include, bucket, "tiny")


def inputs(shop: Project, result: StageResult, part: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(shop.storage.read(result.outputs[f"inputs/{part}.parquet"].uri) or b""))


def test_changed_judgements_make_the_inputs_anew(shop: Project) -> None:
    shop.stage("plan", NIGHT)
    for number in range(5):
        shop.stage("pull", NIGHT, log_day=FIRST + timedelta(days=number))
    shop.stage("validate_sessions", NIGHT)
    plain = shop.stage("preprocess_ranks", NIGHT)
    assert (
        plain.figures["not_clicked"]
        == "sampled from the catalogue for 200 of 400 sessions, whose log has no shown list"
    )
    assert plain.figures["judgements"] == {"short_clicks": 0, "results_not_counted": 0, "sessions_dropped": 0}
    assert plain.figures["unseen_queries"] == {"queries": 0, "sessions": 0}
    assert shop.stage("preprocess_ranks", NIGHT).reused

    config = shop.include / "models" / "tiny.yaml"
    config.write_text(config.read_text().replace("training:\n", f"{CHOICES}training:\n"))
    shop.stage("plan", NIGHT)
    judged = shop.stage("preprocess_ranks", NIGHT)
    assert not judged.reused
    assert judged.figures["not_clicked"].startswith("mined and sampled from the catalogue for 200 of 400 sessions")
    assert judged.figures["judgements"]["sessions_dropped"] == 50  # one session in eight has no click
    for part in ("train", "validation", "test"):
        before, after = inputs(shop, plain, part), inputs(shop, judged, part)
        assert all(after["clicked"].to_pylist())
        rows = {row["session_id"]: row for row in before.to_pylist()}
        for row in after.to_pylist():
            was = rows[row["session_id"]]
            if len(was["results"]) == 10:  # what was shown: a click on the n-th result leaves n of ten
                assert row["results"] == was["results"][: was["results"].index(row["clicked"][0]) + 1]
            else:
                assert (row["results"] == was["results"]) == (part != "train")  # mined in train alone
                assert set(row["results"]) <= set(ITEMS)
