"""`embft alerts tell`: each thing once, to whom it concerns, whoever is killed or away, and whatever cannot be read."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embft.cli import app
from embft.monitoring.day import MonitoredDay
from embft.monitoring.message import Signal, Words
from embft.monitoring.run_facts import RunFacts
from embft.promotion.history import Change
from embft.stages import tell as telling
from embft.stages.open_alerts import open_alerts
from embft.stages.rollback import Rollback
from tests.monitoring.histories import START, day_of, days_of
from tests.monitoring.told_nights import DAY, ToldNights, decision, failure, monitored, receiving, retrain, told_nights

NEXT = DAY + timedelta(days=1)


@pytest.fixture
def nights(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> ToldNights:
    made = told_nights(tmp_path, s3)
    monkeypatch.setenv("EMBFT_INCLUDE", str(made.include))
    return made


def command(*words: str) -> Any:
    return CliRunner().invoke(app, ["alerts", *words, "--model", "tiny"])


def test_a_promotion_is_told_quietly_and_a_rollback_with_who_and_why(
    nights: ToldNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBFT_ACTOR", "ops@laptop")
    with receiving(nights, monkeypatch) as team:
        nights.promoted("1")
        nights.promoted("2", NEXT)
        assert nights.told() == [("promotion_1_1", "happened"), ("promotion_2_2", "happened")]
        message = nights.last("promotion_2_2")
        assert message.words.title == (
            "tiny: version 2 serves: nDCG@10 0.74 instead of 0.71 (4.2% better), validation loss 10.0% lower than the "
            "champion's"
        )
        assert (message.severity, message.receivers) == ("info", ())
        assert (
            message.words.details[0] == "It comes from the night of 2026-03-11, and replaces version 1, of 2026-03-10."
        )
        assert message.words.details[1].startswith("Why: validation loss 2.9610")
        assert message.words.links == {"Report": "http://pages/report.html", "MLflow run": "http://mlflow/run"}
        assert message.words.command == "embft rollback --model tiny"

        nights.promote("1")  # no effect: version 2 is of a newer night
        monkeypatch.setenv("EMBFT_ACTOR", "rollback_tiny manual__2026-03-12T08:00:00, started by ops@laptop")
        nights.roll_back("1", why="bad results\nfor <!channel>")
        run = RunFacts(kind="rollback", run_id="manual__2026-03-12T08:00:00", url="http://airflow/run")
        assert nights.told(run) == [("rollback_3_1", "happened")]
        assert nights.told(run) == []
        assert nights.last("rollback_3_1").words.links == {"Airflow run": "http://airflow/run"}
        assert nights.last("rollback_3_1").day == datetime.now(UTC).date(), "not that of the version's night"
        title = "tiny: version 1 serves again in place of 2, rolled back by ops@laptop: bad results for <!channel>"
        assert team.titles() == [title]
    # Who comes to an old history is not told of all that is in it.
    assert [it.incident for it in nights.tell(later=timedelta(days=4)).messages] == []
    nights.storage.remove([it.uri for it in nights.storage.objects(nights.paths.incidents)])
    assert nights.tell(later=timedelta(days=4)).messages == ()


def test_of_a_promotion_whose_night_was_run_anew_no_wrong_figures_are_told(nights: ToldNights) -> None:
    nights.promoted("1")
    nights.commit("fine_tune", files={"model/model.safetensors": b"others"})
    nights.tell()
    words = nights.last("promotion_1_1").words
    assert words.title == "tiny: version 1 serves"
    assert "trained anew since" in words.details[-1]
    assert words.links == {}


def test_no_promotion_for_long_is_told_once_with_the_fates_of_the_nights(nights: ToldNights) -> None:
    assert nights.told(later=timedelta(days=99)) == [], "no night ran yet"
    nights.night()
    assert nights.told(later=timedelta(days=14)) == []
    assert nights.told(later=timedelta(days=16)) == [("no_promotion", "opened")]
    message = nights.last("no_promotion")
    assert message.words.title == (
        "tiny: no new model for 16 days, more than 14 (alerts.no_promotion_days): no version serves yet"
    )
    assert (message.kind, message.severity) == ("no_promotion", "warning")
    assert "None of the last 14 nights came to a verdict" in message.words.details[0]
    assert nights.told(later=timedelta(days=17)) == []

    nights.promoted("1")
    entry = nights.storage.objects(nights.paths.history)[0].uri
    late = Change.from_json(nights.storage.read(entry) or b"", entry).model_copy(
        update={"at_utc": datetime.now(UTC) + timedelta(days=18)}
    )
    nights.storage.write(entry, late.to_json())
    assert nights.told(later=timedelta(days=19)) == [("promotion_1_1", "happened"), ("no_promotion", "recovered")]
    assert nights.last("no_promotion").words.title == "tiny: version 1 was promoted"

    newest = (datetime.now(UTC) + timedelta(days=38)).date()
    nights.gate(decision(0.97), newest - timedelta(days=2))
    nights.gate(decision(0.97, min_ndcg=0.8), newest - timedelta(days=5))
    nights.gate(decision(0.97), newest - timedelta(days=30))
    assert nights.told(later=timedelta(days=38)) == [("no_promotion", "opened")]
    words = nights.last("no_promotion").words
    assert words.title.endswith(
        "no new model for 20 days, more than 14 (alerts.no_promotion_days): version 1, of 2026-03-10, still serves"
    )
    assert "Of the last 14 nights, 2 came to the gate, and it rejected 2." in words.details
    assert "Rules that were broken: min_relative_gain (2), enough_ndcg (1)." in words.details
    assert any(it.startswith("The newest verdict, of 20") for it in words.details)


def test_everybody_who_was_told_hears_of_the_end(nights: ToldNights, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(nights, monkeypatch, "critical") as team:
        nights.night(up_to="validate_ranks")
        assert [it.outcome for it in nights.tell(retrain(DAY, failure("fine_tune", "no GPU"))).deliveries] == ["sent"]
        # Now only promotions are for them; still they hear that what they were told is over.
        text = (nights.include / "alerts.yaml").read_text()
        nights.channels(text.replace("severity: critical", "severity: critical, models: [other]"))
        nights.rejected()
        assert nights.told(retrain()) == [("night", "recovered"), ("gate", "opened")]
        assert [(it["incident"], it["state"]) for it in team.bodies] == [("night", "opened"), ("night", "recovered")]


def test_two_who_tell_at_once_tell_one_thing(nights: ToldNights, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving(nights, monkeypatch, settles_s=1.2) as team:
        nights.rejected()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: nights.tell(retrain()), range(4)))
        assert len(nights.messages()) == 1
        nights.tell(retrain())
        assert [it["incident"] for it in team.bodies] == ["gate"]


def test_what_a_killed_teller_wrote_is_sent_by_the_next_one(
    nights: ToldNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    nights.rejected()
    with receiving(nights, monkeypatch) as team:
        with monkeypatch.context() as patch:
            patch.setattr(telling, "deliver", killed)
            with pytest.raises(Killed):
                nights.tell(retrain())
        found = json.loads(command("list", "--json").stdout)
        assert [(it["message"]["incident"], it["channels"]) for it in found["kept"]] == [("gate", ["team"])]
        assert [it["incident"] for it in found["incidents"]] == ["gate"]
        said = command("list").stdout
        assert "waits for team: tiny: tonight's model (2026-03-10) was not promoted" in said
        after = datetime.now(UTC) + timedelta(days=15)
        assert open_alerts("tiny", include=nights.include, now=after).kept == (), "what is two weeks old is no news"

        team.status = 503
        down = command("tell")
        assert (down.exit_code, team.bodies) == (75, [])
        assert "error: team: " in down.stderr
        team.status = 200
        sent = nights.tell(later=timedelta(minutes=10))
        assert ([it.outcome for it in sent.deliveries], sent.exit_code) == (["sent"], 0)
        assert [it["incident"] for it in team.bodies] == ["gate"]
        assert json.loads(command("list", "--json").stdout)["kept"] == []


def test_a_channels_file_that_is_wrong_loses_nothing(nights: ToldNights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.rejected()
    with receiving(nights, monkeypatch) as team:
        good = (nights.include / "alerts.yaml").read_text()
        nights.channels(good.replace("to: [team]", "to: [tream]"))
        told = nights.tell(retrain())
        assert ([it.incident for it in told.messages], told.exit_code) == (["gate"], 2)
        assert "there is no channel 'tream'" in told.problems[0]
        wrong = command("tell")
        assert (wrong.exit_code, "there is no channel 'tream'" in wrong.stderr) == (2, True)
        nights.channels(good)
        assert nights.tell().exit_code == 0
        assert [it["incident"] for it in team.bodies] == ["gate"]


def test_evidence_that_cannot_be_read_silences_nothing_else(
    nights: ToldNights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nights.promoted("1")
    nights.rejected(NEXT)
    entry = nights.storage.objects(nights.paths.history)[0].uri
    nights.storage.write(entry, b"{")

    def bug(*_: object) -> list[Signal]:
        raise ZeroDivisionError("a day without queries")

    monkeypatch.setattr("embft.monitoring.replay.regression_signals", bug)
    nights.monitored(DAY)
    told = nights.tell(retrain(NEXT))
    assert ([it.incident for it in told.messages], told.exit_code) == (["gate"], 2)
    assert "is damaged" in told.problems[0]
    assert "Which version serves could not be read" in nights.last("gate").words.details[-1]
    assert "OPENED: tiny: tonight's model (2026-03-11) was not promoted" in caplog.text
    assert "ZeroDivisionError: a day without queries" in nights.tell(monitored(DAY)).problems[1]


def test_regressions_are_told_of_the_monitoring_history(nights: ToldNights, monkeypatch: pytest.MonkeyPatch) -> None:
    fell = Signal(
        incident="regression_drop",
        kind="regression",
        day=DAY,
        state="on",
        cause="deep",
        severity="warning",
        words=Words(title="tiny: nDCG@10 fell to 0.61"),
    )
    seen: list[list[date]] = []

    def judged(days: Sequence[MonitoredDay], _: object) -> list[Signal]:
        seen.append([it.day for it in days])
        return [fell]

    monkeypatch.setattr("embft.monitoring.replay.regression_signals", judged)
    nights.monitored(NEXT)
    nights.monitored(DAY)
    assert nights.told(retrain(DAY)) == [], "a night knows nothing of them"
    assert nights.told() == [], "nor is anybody called for old days that are monitored anew"
    nights.commit("validate_sessions", NEXT, links={"Data Docs": "http://pages/docs"})
    run = monitored(NEXT).model_copy(update={"url": "http://airflow/run"})
    assert nights.told(run) == [("regression_drop", "opened")]
    links = {"Data Docs": "http://pages/docs", "Airflow run": "http://airflow/run"}
    assert nights.last("regression_drop").words.links == links
    nights.monitored(today := datetime.now(UTC).date())
    assert nights.told() == []
    assert seen == [[DAY, NEXT], [DAY, NEXT, today]]


def test_a_rollback_is_proposed_only_from_the_version_that_got_worse(nights: ToldNights) -> None:
    for day in [*days_of([0.72, 0.721] * 5, champion="1"), day_of(10, 0.6, champion="1", again=(0.72, 0.6))]:
        nights.measured(day)
    fell = monitored(START + timedelta(10))

    def told_anew() -> Words:
        nights.storage.remove([it.uri for it in nights.storage.objects(nights.paths.incidents)])
        assert ("regression_all", "opened") in nights.told(fell)
        return nights.last("regression_all").words

    nights.promoted("1", START - timedelta(1))
    words = told_anew()
    assert (words.command, words.details[-1]) == (None, "There is no version before it to go back to.")
    # The night of the same day, which learned from it, ended before the day was monitored.
    nights.promoted("2", START + timedelta(10))
    words = told_anew()
    assert words.command is None
    assert words.details[-1] == "Version 2, from the night of 2026-03-11, serves now; no figure here is of it."
    nights.measured(day_of(10, 0.6, champion="2", again=(0.72, 0.6)))
    assert told_anew().command == "embft rollback --model tiny --why 'nDCG@10 got worse on 2026-03-11'"


def test_a_clock_that_went_back_lets_no_end_be_sent_before_its_beginning(
    nights: ToldNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(nights, monkeypatch) as team:
        team.status = 503
        nights.rejected()
        nights.tell(retrain())
        nights.promoted("1", NEXT)
        nights.tell(retrain(NEXT), later=timedelta(hours=-2))
        team.status = 200
        nights.tell()
        assert [it["state"] for it in team.bodies] == ["opened", "recovered"]


def test_a_rollback_by_hand_says_when_people_hear_of_it(nights: ToldNights, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Rollback(
        model="tiny",
        number=3,
        left="2",
        to="1",
        champion="1",
        who="ops",
        why="bad",
        pointer=None,
        said="version 1 serves",
    )
    monkeypatch.setattr("embft.stages.rollback.roll_back", lambda *_, **__: done)

    def rollback(*options: str) -> Any:
        return CliRunner().invoke(app, ["rollback", "--model", "tiny", *options])

    hint = "told by the next run, or now: embft alerts tell --model tiny"
    assert hint not in rollback().stdout, "without a channel there is nobody to tell"
    with receiving(nights, monkeypatch):
        assert hint in rollback().stdout
        assert json.loads(rollback("--json").stdout)["said"] == "version 1 serves"
    nights.channels("channel: {}")
    wrong = rollback()
    assert (wrong.exit_code, "nobody is told before this is mended" in wrong.stderr) == (0, True)


def test_the_command_reads_a_runs_facts_and_refuses_others(nights: ToldNights, tmp_path: Path) -> None:
    nights.rejected()
    facts = tmp_path / "run.json"
    facts.write_bytes(retrain().to_json())
    done = command("tell", "--run", str(facts), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [it["incident"] for it in told["messages"]] == ["gate"]
    assert (told["deliveries"], told["calls"]) == ([], [])
    assert "there is nothing new to tell of tiny" in command("tell").stdout
    listed = command("list").stdout
    assert "gate" in listed
    assert "2026-03-10" in listed
    facts.write_text('{"kind": "retrain"}')
    refused = command("tell", "--run", str(facts))
    assert (refused.exit_code, "holds no facts of a run (run_id: Field required)" in refused.stderr) == (2, True)
    assert command("tell", "--run", str(tmp_path / "none")).exit_code == 2


def test_a_regression_has_the_pages_of_its_day_and_no_rollback_where_nobody_served_before(
    nights: ToldNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Words(
        title="tiny: nDCG@10 fell to 0.61", links={"MLflow": "http://m"}, command="embft rollback --model tiny"
    )
    told = {"kind": "regression", "state": "on", "severity": "warning", "incident": "regression_all"}
    fell = Signal.model_validate({**told, "day": DAY, "words": words})
    monkeypatch.setattr("embft.monitoring.replay.regression_signals", lambda *_: [fell])
    nights.monitored(DAY)
    run = monitored(DAY).model_copy(update={"url": "http://airflow/run"})
    assert nights.told(run) == [("regression_all", "opened")]
    message = nights.last("regression_all")
    assert message.words.links == {"MLflow": "http://m", "Airflow run": "http://airflow/run"}
    assert message.words.command is None
