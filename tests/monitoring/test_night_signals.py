"""What of a night is told: each cause once, its change, its end; nothing of nights that newer ones have overtaken."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from embft.monitoring.run_facts import Deadline, RunFacts, TaskFailure
from embft.monitoring.sentences import likeness
from tests.monitoring.told_nights import DAY, ToldNights, decision, failure, monitored, retrain, told_nights

NEXT, THIRD = DAY + timedelta(days=1), DAY + timedelta(days=2)
S3_AWAY = "s3://b/models/tiny: S3 at http://127.0.0.1:41233 did not answer within 60 s (try 4); run the command again"


@pytest.fixture
def nights(tmp_path: Path, s3: str) -> ToldNights:
    return told_nights(tmp_path, s3)


def test_a_gate_rejection_is_told_once_until_its_rules_change_and_ends_with_a_promotion(nights: ToldNights) -> None:
    nights.rejected()
    assert nights.told(retrain()) == [("gate", "opened")]
    message = nights.last("gate")
    assert message.words.title == (
        "tiny: tonight's model (2026-03-10) was not promoted: validation loss 3.1913 is 3.0% below the champion's "
        "3.2900, but 5.0% better must be shown (no more than +3.0% is sure)"
    )
    assert (message.kind, message.severity, message.cause) == ("gate_rejected", "warning", "min_relative_gain")
    assert message.synthetic
    details = " ".join(message.words.details)
    assert "min_relative_gain: validation loss 3.1913" in details
    assert "could have shown a true gain of" in details
    assert "No version serves yet." in details
    assert message.words.links == {
        "Report": "http://pages/report.html",
        "MLflow run": "http://mlflow/run",
        "Airflow run": "http://airflow/run",
    }
    assert message.words.command == "embft gate --model tiny --day 2026-03-10 --explain"
    assert nights.told(retrain()) == []

    nights.rejected(NEXT, 0.98)
    assert nights.told(retrain(NEXT)) == [], "the same rule, on the next night, is no news"

    nights.rejected(THIRD, 1.02, min_ndcg=0.8)
    assert nights.told(retrain(THIRD)) == [("gate", "changed")]
    changed = nights.last("gate")
    assert (changed.cause, changed.since) == ("enough_ndcg, min_relative_gain", DAY)
    assert changed.words.title.endswith("(it may even be 2.0% worse) (and 1 more)")
    assert any("3rd night in a row" in it for it in changed.words.details)
    assert nights.told(retrain(NEXT)) == [], "an older night changes nothing that a newer one told"

    nights.promoted("4", fourth := THIRD + timedelta(days=1))
    assert nights.told(retrain(fourth)) == [("gate", "recovered"), ("promotion_1_4", "happened")]
    over = nights.last("gate")
    assert (over.words.title, over.severity) == ("tiny: version 4 of 2026-03-13 was promoted", "warning")
    nights.rejected(NEXT)
    assert nights.told(retrain(NEXT)) == [], "version 4 is of a newer night"


def test_figures_of_another_version_do_not_silence_the_gate(nights: ToldNights) -> None:
    nights.night()
    gone = nights.gate(decision(0.97)).model_copy(update={"figures": {"verdicts": "in another form"}})
    nights.storage.write(gone.uri, gone.to_json())
    assert nights.told(retrain()) == [("gate", "opened")]
    words = nights.last("gate").words
    assert "not promoted: validation loss 3.1913 is 3.0% below" in words.title
    assert any("could not be read" in it for it in words.details)
    # A result that cannot be read at all: the night ended well for Airflow, yet nobody knows what it came to.
    nights.storage.write(gone.uri, b"{")
    assert nights.told(retrain()) == [("night", "opened")]
    assert "damaged or of another version of embft" in nights.last("night").words.title


def test_rejected_data_is_told_with_its_rule_its_shares_and_the_remedy(nights: ToldNights) -> None:
    nights.night(up_to="plan")
    day_rule = "the sessions of 2026-03-10: has_click is 0.001; at least 0.01 (rule clicks_arrive): none; next: look"
    rules = [
        {"suite": "sessions", "name": "clicks_arrive", "severity": "critical", "success": False},
        {"suite": "sessions", "name": "query_not_blank", "severity": "critical", "success": False},
    ]
    told = {"reasons": [day_rule], "rules": rules, "set_aside_by_rule": {"sessions: query_not_blank": 3}}
    docs = {"Data Docs": "http://pages/docs"}
    from embft.stages.log_days import sessions_of_day

    spec = nights.config
    pulled = sessions_of_day(nights.paths, spec, None, DAY)
    reasons = {"no_time": 40, "not_json": 10}
    nights.commit("pull", prefix=pulled, lines=1000, quarantined=50, quarantined_by_reason=reasons)
    nights.commit(
        "validate_sessions", reason=day_rule, status="rejected", links=docs, sessions={"checked": 900}, **told
    )
    assert nights.told(retrain(DAY, failure("validate_sessions", day_rule, 1))) == [("night", "opened")]
    message = nights.last("night")
    assert (message.kind, message.severity) == ("data_rejected", "critical")
    assert message.cause == "validate_sessions: clicks_arrive", "the other rule set some rows aside, and that is all"
    assert message.words.title == (
        "tiny: no new model from the night of 2026-03-10: its clicks or catalogue were rejected: has_click is 0.001"
    )
    details = " ".join(message.words.details)
    assert "next: look" in details
    assert (
        "Of the 1,000 log lines of 2026-03-10, 50 could not be read: no_time 40 (4.0%), not_json 10 (1.0%)" in details
    )
    assert "query_not_blank 3" in details
    assert message.words.links["Data Docs"] == "http://pages/docs"
    # Mended logs are seen by a new plan alone.
    assert "clear plan in Airflow with all that follows it" in details
    assert message.words.command == "embft night --model tiny --day 2026-03-10"

    # The next night's log is missing altogether: another cause; the night after that is the same again.
    for number, day in enumerate((NEXT, THIRD)):
        nothing = f"there is no log object for {day} below s3://b/logs/dt={day}, so nothing was trained; next: wait"
        nights.commit("plan", day, reason=nothing, status="rejected")
        assert nights.told(retrain(day, failure("plan", nothing))) == [("night", "changed")][number:]
    # The log arrives, and the task is cleared.
    nights.promoted("1", THIRD)
    assert nights.told(retrain(THIRD)) == [("night", "recovered"), ("promotion_1_1", "happened")]
    assert nights.last("night").words.title == "tiny: the night of 2026-03-12 is through: version 1 serves"


def test_a_stage_that_failed_for_good_is_told_by_its_own_sentence_once(nights: ToldNights) -> None:
    nights.night(up_to="validate_ranks")
    assert nights.told(retrain(DAY, failure("fine_tune", S3_AWAY), failure("publish", "no"))) == [("night", "opened")]
    message = nights.last("night")
    assert (message.kind, message.severity) == ("stage_failed", "critical")
    assert message.words.title == (
        "tiny: no new model from the night of 2026-03-10: fine_tune failed for good after 3 tries: "
        "s3://b/models/tiny: S3 at http://127.0.0.1:41233 did not answer within 60 s (try 4)"
    )
    assert "Failed as well: publish." in message.words.details
    assert any("clear fine_tune in Airflow" in it for it in message.words.details)
    assert message.words.links == {"Log": "http://airflow/log/fine_tune", "Airflow run": "http://airflow/run"}
    assert message.words.command == "embft fine-tune --model tiny --day 2026-03-10"

    nights.night(NEXT, up_to="validate_ranks")
    again = failure("fine_tune", S3_AWAY.replace("41233", "50001").replace("try 4", "try 3"))
    assert nights.told(retrain(NEXT, again)) == [], "the same fault of the next night"
    assert nights.told(retrain(NEXT, failure("fine_tune"))) == [("night", "changed")]
    assert "its worker or pod was lost" in nights.last("night").words.title

    nights.rejected(NEXT)  # the task was cleared the next morning
    assert nights.told(retrain(NEXT)) == [("night", "recovered"), ("gate", "opened")]
    assert nights.last("night").words.title.endswith("is through: its model was rejected by the gate")
    # The results of that run stay when the night is run anew and fails early.
    assert nights.told(retrain(NEXT, failure("evaluate", "out of memory"))) == [("night", "opened")]


def test_workers_of_the_search_that_failed_are_told_as_a_warning_where_the_night_went_on(nights: ToldNights) -> None:
    lost = [failure(f"search[{it}]", "no node for 1800 s", 4) for it in (0, 1)]
    nights.night(up_to="validate_ranks")
    assert nights.told(retrain(DAY, *lost, failure("fine_tune", S3_AWAY))) == [("night", "opened")]
    assert "Failed as well: search." in nights.last("night").words.details
    nights.rejected()
    assert nights.told(retrain(DAY, *lost)) == [("night", "recovered"), ("search", "opened"), ("gate", "opened")]
    message = nights.last("search")
    assert (message.kind, message.severity) == ("stage_failed", "warning")
    assert message.words.title == "tiny: 2 workers of the search of 2026-03-10 failed for good: no node for 1800 s"
    assert "Nothing has to be cleared." in message.words.details[1]
    assert message.words.links["Log"] == "http://airflow/log/search[0]"
    nights.rejected(NEXT)
    assert nights.told(retrain(NEXT, *lost)) == [], "the same fault of the next night"
    assert nights.told(retrain(NEXT)) == [("search", "recovered")]


def test_each_end_of_a_night_is_told_as_what_it_is(nights: ToldNights) -> None:
    nights.night()
    nights.gate(decision(0.9))
    unloadable = "version 3 was not promoted: it does not load; nothing else changed"
    nights.commit("register", reason=unloadable, status="rejected", version="3", promoted=False)
    assert nights.told(retrain(DAY, failure("register", unloadable, 1))) == [("night", "opened")]
    assert "register failed for good at its only try: version 3 was not promoted" in nights.last("night").words.title
    nights.commit("register", reason="registered, not promoted: promote=never", version="3", promoted=False)
    assert nights.told(retrain()) == [("night", "recovered")]
    assert nights.last("night").words.details == ("registered, not promoted: promote=never.",)
    approve = retrain(DAY, failure("approve", "nobody answered"))
    assert nights.told(approve) == [("night", "opened")]
    assert nights.last("night").words.title.startswith("tiny: the night of 2026-03-10 did not come to its end: approve")
    assert nights.last("night").words.command is None
    # Three instances of a mapped task are one fault; what only waited for it is none, and neither is telling itself.
    lost = [failure(f"pull[{it}]", "cannot read day 2026-03-0{it}") for it in range(3)]
    # And a result that is gone silences no task that failed behind it.
    assert nights.told(retrain(NEXT, *lost, failure("tell", "a channel is down"))) == [("night", "changed")]
    nights.night(NEXT, up_to="plan")
    assert nights.told(retrain(NEXT, *lost, failure("tell", "a channel is down"))) == []
    assert nights.last("night").words.command == "embft pull --model tiny --day 2026-03-11"
    # A verdict of a try before is not taken for what failed this time.
    nights.commit("validate_sessions", NEXT, reason="too few clicks", status="rejected")
    assert nights.told(retrain(NEXT, failure("validate_sessions", "S3 is away"))) == [("night", "changed")]
    assert nights.last("night").kind == "stage_failed"


def test_a_missed_deadline_is_told_while_the_night_goes_on_and_ends_with_it(nights: ToldNights) -> None:
    nights.night(up_to="validate_ranks")
    late = {"deadline": Deadline(hours=5, queued_utc=datetime(2026, 3, 11, 2, tzinfo=UTC))}
    assert nights.told(retrain(**late)) == [("deadline", "opened")]
    message = nights.last("deadline")
    assert message.words.title == (
        "tiny: the night of 2026-03-10 is not over 5 h after it was queued at 02:00 UTC; still to come: fine_tune, "
        "evaluate, gate, register, publish"
    )
    assert (message.kind, message.severity) == ("deadline_missed", "critical")
    assert nights.told(retrain(**late)) == []
    # The night after it waits for it, and is late as well; the end of the first is not the end of that.
    assert nights.told(retrain(NEXT, **late)) == [("deadline", "changed")]
    nights.promoted("1")
    assert nights.told(retrain()) == [("promotion_1_1", "happened")]
    assert nights.told(retrain(**late)) == [], "all of its results are there: nothing is late but the telling"
    nights.promoted("2", NEXT)
    assert nights.told(retrain(NEXT)) == [("deadline", "recovered"), ("promotion_2_2", "happened")]
    assert nights.last("deadline").words.title == "tiny: the late night of 2026-03-11 is through: version 2 serves"
    stopped = TaskFailure(task="evaluate")
    nights.night(THIRD, up_to="fine_tune")
    assert nights.told(retrain(THIRD, stopped)) == [("night", "opened")]
    assert "evaluate failed for good: it said nothing: its worker" in nights.last("night").words.title


def test_a_failed_monitoring_or_rollback_is_told_by_itself(nights: ToldNights) -> None:
    def run(kind: str, day: date | None, *failed: str) -> RunFacts:
        tasks = tuple(failure(it, "MLflow at http://m:5000 refused; correct mlflow.tracking_uri") for it in failed)
        return RunFacts.model_validate({"kind": kind, "run_id": "r", "day": day, "failed": tasks})

    assert nights.told(run("monitor", DAY, "monitor")) == [("monitor", "opened")]
    assert nights.last("monitor").words.title == (
        "tiny: 2026-03-10 was not monitored: monitor failed for good after 3 tries: MLflow at http://m:5000 refused"
    )
    assert nights.told(run("monitor", NEXT, "monitor")) == []
    assert nights.told(run("monitor", THIRD)) == [], "it has no result either: nobody can tell"
    nothing = "there is no log object for 2026-03-12 below s3://b/logs, so nothing was monitored; next: wait"
    nights.commit("monitor", THIRD, prefix=nights.paths.monitoring(THIRD), reason=nothing, status="rejected")
    nights.commit("plan", THIRD, reason="there is no log object", status="rejected")
    assert nights.told(monitored(THIRD, failure("monitor", nothing, 1))) == [], "the night tells of its missing log"
    nights.commit("plan", THIRD)
    assert nights.told(monitored(THIRD, failure("monitor", nothing, 1))) == [("monitor", "changed")]
    assert (nights.last("monitor").kind, nights.last("monitor").words.title) == (
        "data_rejected",
        "tiny: 2026-03-12 was not monitored: there is no log object for 2026-03-12 below s3://b/logs, so nothing was "
        "monitored",
    )
    nights.commit("monitor", THIRD, prefix=nights.paths.monitoring(THIRD))
    assert nights.told(run("monitor", THIRD)) == [("monitor", "recovered")]

    assert nights.told(run("rollback", None, "rollback")) == [("rollback", "opened")]
    assert nights.told(run("rollback", None)) == [("rollback", "recovered")]


def test_the_same_fault_reads_alike_on_every_night() -> None:
    said = "s3://b/runs/{}/x is gone (etag {}), {} of 437 lines of {} at 0x7f{}: “{}” in /tmp/tmp{}/f"
    first = said.format("2026-03-10", "0123456789abcdef", 41, "2026-03-10T02:00:11Z", "aa01", "red couch", "ab")
    second = said.format("2026-03-11", "fedcba9876543210", 3, "2026-03-11T02:07:00Z", "1bcd", "blue pram", "cd")
    assert likeness(first) == likeness(second)
    assert likeness("no space left on device") != likeness("out of memory")
