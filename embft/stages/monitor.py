"""`monitor`: the champion and the base model on one day's clicks, by the measures and slices of `evaluate`.

No training, no GPU, and no night is needed: a day's log is pulled here where no night did that. The champion is the one
that had learned from neither the day nor a later one. Ranked is what users get: the published vectors, where those are
the champion's; else the present catalogue under the champion.

All days together are the history that regression rules read, so a day's record must not change behind their back:

- The newest day is measured again when its logs, the champion, the catalogue, the vectors, the settings or embft
  changed.
- Once a later day is there, it is measured again only for other logs, another champion or other settings: the catalogue
  and the vectors of today are not those of that day. So a cleared task of an old day finds its record.
- A day that was never measured (a backfill) is measured with today's catalogue, for there is no other.
- `--force` measures it again in any case.

The history lies in S3, and MLflow has a copy for its charts: the result is committed first, then MLflow gets the
figures, then the result names the run. Killed between any two, the same command completes it.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from embft.clickstream.privacy import ClientHash
from embft.clickstream.sessions import SCHEMA, read_sessions
from embft.config import ModelConfig
from embft.errors import ConfigError, DataRejected
from embft.monitoring.day import MonitoredDay
from embft.paths import Paths
from embft.promotion.pointer import read_pointer
from embft.promotion.vector_sets import VectorSet
from embft.results import Champion, RunSpec, StageResult, digest_of
from embft.stages.frozen_run import frozen_run
from embft.stages.log_days import ListedDay, no_logs
from embft.stages.models import experiment_of
from embft.stages.monitored import committed_days
from embft.stages.monitored_clicks import clicked_day
from embft.stages.monitored_models import measured_day
from embft.stages.pull import pull_day
from embft.stages.stage import Context, Draft, Outcome, commit, open_model
from embft.stages.traffic import ITEMS, traffic_of
from embft.stages.validate_sessions import fetch_catalogue
from embft.storage import Storage

SERIES = "monitoring"


def run(model: str, day: date, *, include: Path, force: bool = False) -> StageResult:
    """Measure the champion on a day's clicks, or return the record that stands.

    Args:
        model: The model's name.
        day: The day whose clicks are looked at.
        include: The project's `include` folder.
        force: Measure again even where the record stands.

    Returns:
        The result; its figures are a `MonitoredDay`. `rejected` where the day has no log.

    Raises:
        ConfigError: The catalogue does not exist, or the champion's weights or vectors are gone.
        DataRejected: The log of a day that was measured is gone, so `--force` has nothing to measure.
        TemporaryError: S3 or MLflow is away; the same command again goes on from there.
    """
    config, storage, paths = open_model(model, include)
    # Guard sets do not change with the clicks: the gate looked at them once, and the champion is the same every day.
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"guards": ()})})
    spec, listed = frozen_run(storage, paths, config, day, promote="never")
    vectors = _published(storage, paths, spec.champion)
    draft = _draft(storage, paths, spec, vectors)
    record = _standing_record(storage, paths, draft, listed[-1], force=force)
    if record is None:

        def work(folder: Path, attempt_uri: str) -> Outcome:
            context = Context(spec, storage, paths, {}, folder, attempt_uri, checkpoints_uri="")
            return _work(context, listed, vectors) if listed[-1].has_logs else _without_logs(config, day)

        record = commit(storage, draft, work, force=force)
    return _tracked(storage, paths, config, record)


def _published(storage: Storage, paths: Paths, champion: Champion | None) -> VectorSet | None:
    """Give the vectors that serve, where they are the champion's; of an old day's champion they are not."""
    pointer = read_pointer(storage, paths)
    is_champions = pointer and champion and (pointer.version, pointer.weights) == (champion.version, champion.digest)
    return pointer if is_champions else None


def _draft(storage: Storage, paths: Paths, spec: RunSpec, vectors: VectorSet | None) -> Draft:
    config, champion = spec.config, spec.champion
    catalogue = storage.head(config.catalogue.uri)
    if catalogue is None:
        raise ConfigError(f"catalogue.uri: {config.catalogue.uri} does not exist")
    return Draft(
        stage="monitor",
        model=spec.model,
        day=spec.day,
        prefix=paths.monitoring(spec.day),
        inputs={
            **{f"log of {it.day}": it.listing_digest for it in spec.window},
            "champion": digest_of([champion.version, champion.digest] if champion else None),
            "catalogue": catalogue.etag,
            "vectors": digest_of([it.sha256 for it in vectors.shards] if vectors else None),
        },
        settings=[
            config.logs,
            config.catalogue,
            config.window.days,
            config.judgements,
            config.training,
            config.evaluation,
            spec.base_model_sha256,
            spec.judged_by_sha256,
            spec.client_key,
        ],
    )


def _standing_record(
    storage: Storage, paths: Paths, draft: Draft, listed: ListedDay, *, force: bool
) -> StageResult | None:
    """Give the record of a day that is not to be measured again, as the module says.

    Raises:
        DataRejected: It is to be, but its log is gone.
    """
    result = storage.read_result(draft.prefix)
    if result is None or result.status == "rejected" or _day_of(result) is None:
        return None
    standing = result.model_copy(update={"reused": True})
    if not listed.has_logs:
        if force:
            raise DataRejected(f"{result.uri} stays as it is, for it cannot be measured again: its log is gone")
        return standing
    own = (f"log of {draft.day}", "champion")
    is_same = all(result.inputs.get(name) == draft.inputs[name] for name in own)
    is_same = is_same and result.settings_digest == digest_of(draft.settings)
    is_past = _has_later_record(storage, paths, draft.day)
    return standing if is_same and is_past and not force else None


def _has_later_record(storage: Storage, paths: Paths, day: date) -> bool:
    """Whether a later day has a record; a day without a log, such as a mistyped one of the far future, has none."""
    later = (it for it in committed_days(storage, paths) if it > day)
    return any(_day_of(result) is not None for it in later if (result := storage.read_result(paths.monitoring(it))))


def _day_of(result: StageResult) -> MonitoredDay | None:
    try:
        return MonitoredDay.model_validate(result.figures)
    except ValidationError:
        return None  # rejected, or of another version of embft


def _without_logs(config: ModelConfig, day: date) -> Outcome:
    reason = (
        f"{no_logs(config, day)}, so the champion could not be measured on that day; when its logs have arrived, run "
        f"`embft monitor --model {config.name} --day {day}` again (in Airflow: clear the task), and if they lie "
        "elsewhere, correct logs.uri"
    )
    return Outcome(files={}, figures={}, status="rejected", reason=reason)


def _work(context: Context, listed: Sequence[ListedDay], vectors: VectorSet | None) -> Outcome:
    run, folder = context.run, context.folder
    pulled = _pulled(context, listed)
    tables = [
        read_sessions(context.storage.fetch(it.outputs["sessions.parquet"], folder / f"{it.day}.parquet"))
        for it in pulled
    ]
    items = _items(context)
    ids = set(items["id"].to_pylist())
    clicked = clicked_day(context, pa.concat_tables([SCHEMA.empty_table(), *tables[:-1]]), tables[-1], items)
    measured = (
        measured_day(context, run.champion, clicked, items, vectors) if run.champion and clicked.queries else None
    )
    n_lost = measured.n_lost if measured else sum(ids.isdisjoint(it) for it in clicked.clicks.clicked)
    day = MonitoredDay(
        model=run.model,
        day=run.day,
        status="measured" if measured else "no_clicks" if run.champion else "no_champion",
        reason=None if measured else _why_not(run, pulled[-1]),
        champion=run.champion.version if run.champion else None,
        champion_day=run.champion.day if run.champion else None,
        vectors=("published" if vectors else "encoded") if measured else None,
        **(measured.summary if measured else {}),
        traffic=traffic_of(context, pulled[-1], clicked, ids, n_lost, measured.cautions if measured else []),
    )
    pq.write_table(items.select(["id"]), folder / ITEMS)
    files = {ITEMS: folder / ITEMS, **(measured.files if measured else {})}
    return Outcome(files=files, figures=day.model_dump(mode="json"))


def _pulled(context: Context, listed: Sequence[ListedDay]) -> list[StageResult]:
    """Give the window's sessions, those of nights where there were any; days without a log are passed over."""
    pull = partial(pull_day, context.storage, context.paths, context.run.config, ClientHash.from_environment())
    return [pull(it) for it in listed if it.has_logs]


def _items(context: Context) -> pa.Table:
    """Read the present catalogue; of an id that is there twice, which the night refuses, the first text counts."""
    folder = context.folder / "catalogue"
    folder.mkdir()
    items = fetch_catalogue(context.storage, context.run.config, folder).items
    first = {id_: row for row, id_ in reversed(list(enumerate(items["id"].to_pylist())))}
    return items.take(sorted(first.values()))


def _why_not(run: RunSpec, pulled: StageResult) -> str:
    if run.champion is None:
        return f"no version had been promoted that learned from days before {run.day}, so there is nothing to measure"
    lines, bad, sessions = (pulled.figures[name] for name in ("lines", "quarantined", "sessions"))
    dwell = run.config.judgements.min_dwell_s
    short = f" of {dwell:g} s or more (judgements.min_dwell_s)" if dwell else ""
    unread = f"; {bad} lines could not be read" if bad else ""
    return f"none of the {sessions} searches of {run.day} has a click{short}: its log has {lines} lines{unread}"


def _tracked(storage: Storage, paths: Paths, config: ModelConfig, record: StageResult) -> StageResult:
    """Let MLflow have a day's figures, too, and the record name the run that has them."""
    day = _day_of(record)
    if day is None or day.status != "measured" or day.mlflow_run_id:
        return record
    tracker = experiment_of(config, paths)
    # The axis of a chart is the day, however late it was measured.
    step = (day.day - date(1970, 1, 1)).days
    end = datetime.combine(day.day + timedelta(days=1), time(), config.zone).astimezone(UTC)
    run_id = tracker.log_series(SERIES, _measures(day), step=step, at=end)
    url = tracker.url_of(run_id)
    named = day.model_copy(update={"mlflow_run_id": run_id, "mlflow_url": url})
    links = {"MLflow": url} if url else {}
    written = record.model_copy(
        update={"figures": named.model_dump(mode="json"), "links": {**record.links, **links}, "reused": False}
    )
    storage.write(record.uri, written.to_json())
    return written.model_copy(update={"reused": record.reused})


def _measures(day: MonitoredDay) -> dict[str, float]:
    """Name the figures: `monitor.champion.ndcg_at_10`, and of slices `monitor.tail.champion.ndcg_at_10`."""
    return {
        f"monitor.{'' if it.name == 'all' else f'{it.name}.'}{model}.{measure}": figure
        for it in day.sets
        for model, figures in it.models.items()
        for measure, figure in figures.items()
        if figure is not None
    }
