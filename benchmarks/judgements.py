"""What is learned from clicks (`judgements` in the config), one choice at a time: nDCG at 10 of the static model.

Simulated shop. Six days of 600 searches are trained on, the seventh picks the best epoch, and the clicks of the four
days after it are looked up in a ranking of the whole catalogue. These later clicks share the bias of those trained on:
what stood high was clicked more.

- `not_clicked`: which shown results without a click count as not relevant, by the default loss.
- `not_clicked_listwise`: the same by `listwise_softmax`, which has no other negatives than these.
- `no_click_sessions`: by `listwise_softmax` with `not_irrelevant_only: false`, for by default, with or without them,
  the same is trained.

Best Buy. Real clicks without shown lists, the development split of `benchmarks.quality`; negatives are drawn as
`preprocess_ranks` does: 50 of them for each click, all at random or half of them mined by the model that is trained.

- `negatives`: over all clicks. `negatives_unseen`: over those whose query no train click has.

Figures are means over seeds. A seed changes the simulated log, the order of sessions and what is drawn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import get_args

import pyarrow as pa

import embft
from benchmarks import clicks
from benchmarks.figures import print_figure
from embft.clickstream.judgements import judge
from embft.clickstream.negatives import sample_not_clicked
from embft.clickstream.privacy import ClientHash
from embft.clickstream.reader import DayReader, LogObject
from embft.clickstream.sessions import SCHEMA, read_sessions
from embft.clickstream.simulator import load_shop, simulate
from embft.config import Judgements
from embft.finetuning.catalogue import rank_catalogue
from embft.finetuning.rankers import cosine_similarity
from embft.finetuning.tables import inputs_from_table
from embft.finetuning.threads import cpu_threads
from embft.log_config import Logs
from embft.stages.mining import mined_items
from embft.stages.models import Vocabulary

SHOP = Path(__file__).resolve().parents[1] / "include" / "demo"
FIRST_DAY, TRAIN_DAYS, TEST_DAYS, SESSIONS_PER_DAY = date(2026, 1, 1), 6, 4, 600
N_NEGATIVES = 50
BOTH_LOSSES = {"": "in_batch_softmax", "_listwise": "listwise_softmax"}
QUALITY = "ndcg_at_10"


@dataclass(frozen=True)
class Log:
    """Sessions as a log tells them, by their part, and the catalogue."""

    items: embft.ItemsSet
    train: pa.Table
    validation: pa.Table
    test: pa.Table


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgements", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=["shop", "bestbuy"])
    options = parser.parse_args(arguments)
    seeds = range(options.seeds)
    with cpu_threads(1):  # the static model gains nothing from a second thread
        if options.only != "bestbuy":
            _report_shop(seeds)
        if options.only != "shop":
            if not clicks.has_data():
                print("judgements: no Best Buy clicks in the data folder; set EMBFT_DATA", file=sys.stderr)
                return 2
            _report_best_buy(seeds)
    return 0


def _report_shop(seeds: Sequence[int]) -> None:
    logs = [_simulated(seed) for seed in seeds]
    n_test = sum(log.test.num_rows for log in logs) // len(logs)
    data = f"simulated shop: {TRAIN_DAYS} days of {SESSIONS_PER_DAY} searches, {n_test} later clicked ones measured"
    for suffix, loss in BOTH_LOSSES.items():
        for rule in get_args(Judgements.model_fields["not_clicked"].annotation):
            train = partial(_ndcg_of_shop, logs, Judgements(not_clicked=rule), loss)
            _report(f"not_clicked{suffix}.{rule}", train, seeds, f"{data}; {loss}")
    loss = BOTH_LOSSES["_listwise"]
    for option in get_args(Judgements.model_fields["no_click_sessions"].annotation):
        train = partial(_ndcg_of_shop, logs, Judgements(no_click_sessions=option), loss, not_irrelevant_only=False)
        _report(f"no_click_sessions.{option}", train, seeds, f"{data}; {loss}, not_irrelevant_only: false")


def _ndcg_of_shop(logs: Sequence[Log], choices: Judgements, loss: str, seed: int, **params: bool) -> float:
    log = logs[seed]
    parts = [judge(part, choices).sessions for part in (log.train, log.validation)]
    model = _trained(log.items, *map(_inputs, parts), loss=loss, seed=seed, **params)
    found = rank_catalogue(model, _inputs(log.test), log.items, embft.TextQueryRetriever())
    return float(found[QUALITY].mean())


def _report_best_buy(seeds: Sequence[int]) -> None:
    collection = clicks.best_buy()
    train, validation = _table(collection.train), _table(collection.validation)
    start = embft.load_model("wordllama")
    known = Vocabulary(collection.items, embft.TextQueryRetriever())
    mined = mined_items(start, train["query"].to_pylist(), known, cosine_similarity)
    for option, hard in (("sampled", None), ("mined", mined)):
        measured = defaultdict(list)
        began = perf_counter()
        for seed in seeds:
            draw = partial(sample_not_clicked, item_ids=collection.items.ids, count=N_NEGATIVES, seed=seed)
            parts = [draw(train, mined=hard), draw(validation, clicks_of=pa.concat_tables([train, validation]))]
            model = _trained(collection.items, *map(_inputs, parts), loss=BOTH_LOSSES[""], seed=seed)
            evaluation = collection.evaluation
            scores = model.encode_queries(evaluation.queries) @ model.encode_items(evaluation.item_texts).T
            for part, figures in evaluation.measure(scores).items():
                measured[part].append(figures[QUALITY])
        for part, values in measured.items():
            _print(f"negatives{'' if part == 'all' else '_' + part}.{option}", values, collection.data)
        _log(f"negatives.{option}", began)


def _trained(
    items: embft.ItemsSet,
    train: list[embft.FineTuningInput],
    validation: list[embft.FineTuningInput],
    *,
    loss: str,
    seed: int,
    **params: bool,
) -> embft.EmbeddingsModelInterface:
    """Train the static model as `fine_tune` does, at the defaults but for the loss."""
    settings = embft.FineTuningSettings(metric_calculators=(), devices="cpu", loss_func=loss, seed=seed)
    parts = [
        embft.PairedFineTuningInputsDataset(train, seed),
        embft.PairedFineTuningInputsDataset(validation, seed, clicks_of=train),
    ]
    model = embft.load_model("wordllama")
    tuner = embft.EmbeddingsFineTuner.create(
        model,
        settings,
        {"train": items, "test": items},
        embft.TextQueryRetriever(),
        embft.FineTuningParams(**params),
    )
    with tempfile.TemporaryDirectory() as folder:
        embft.fit(tuner, *parts, settings, Path(folder))
    return model


def _simulated(seed: int) -> Log:
    """Simulate a shop's days and read them back; of the later ones only clicked searches can be measured."""
    n_days = TRAIN_DAYS + 1 + TEST_DAYS
    made = simulate(load_shop(SHOP), first_day=FIRST_DAY, days=n_days, sessions_per_day=SESSIONS_PER_DAY, seed=seed)
    items: list[dict[str, str]] = []
    of_day: dict[date, list[tuple[str, Path]]] = defaultdict(list)
    logs = Logs(uri="s3://shop/logs/dt={day}", noise={"max_sessions_per_client": 20})
    with tempfile.TemporaryDirectory() as folder:
        for number, (key, raw) in enumerate(made):
            if key.startswith("catalogue/"):
                items = [json.loads(line) for line in raw.splitlines()]
                continue
            path = Path(folder) / str(number)
            path.write_bytes(raw)
            of_day[date.fromisoformat(key.split("dt=")[1].split("/")[0])].append((key, path))
        days = [_read(day, dict(objects), logs, Path(folder)) for day, objects in sorted(of_day.items())]
    later = judge(pa.concat_tables(days[TRAIN_DAYS + 1 :]), Judgements(no_click_sessions="drop")).sessions
    catalogue = embft.ItemsSet([it["id"] for it in items], [it["text"] for it in items])
    return Log(catalogue, pa.concat_tables(days[:TRAIN_DAYS]), days[TRAIN_DAYS], later)


def _read(day: date, objects: dict[str, Path], logs: Logs, folder: Path) -> pa.Table:
    """Read a day's objects as `pull` does."""
    sessions, bad = folder / "sessions.parquet", folder / "bad.parquet"
    with DayReader(
        day, logs, ClientHash("of a benchmark alone"), [LogObject(key) for key in objects], folder
    ) as reader:
        reader.read(range(len(objects)), lambda item, *_: objects[item.uri])
        reader.build(sessions, bad)
    return read_sessions(sessions)


def _table(these: Sequence[clicks.Click]) -> pa.Table:
    """Clicks as sessions without a shown list, each of its own id."""
    return pa.Table.from_pylist(list(_rows(these)), schema=SCHEMA)


def _rows(these: Sequence[clicks.Click]) -> Iterator[dict[str, object]]:
    at = datetime.fromtimestamp(0, UTC)
    for number, click in enumerate(these):
        # A second apart: their order is that of the log.
        time = at + timedelta(seconds=number)
        row = {"session_id": str(number), "day": time.date(), "time": time}
        yield {**row, "query": click.query, "clicked": [click.item]}


def _inputs(sessions: pa.Table) -> list[embft.FineTuningInput]:
    named = sessions.select(["session_id", "query", "time", "shown", "clicked", "positions"])
    return inputs_from_table(named.rename_columns(["session_id", "query", "time", "results", "clicked", "positions"]))


def _report(name: str, ndcg: Callable[[int], float], seeds: Sequence[int], data: str) -> None:
    began = perf_counter()
    _print(name, [ndcg(seed) for seed in seeds], data)
    _log(name, began)


def _print(name: str, values: Sequence[float], data: str) -> None:
    spread = f"; seeds {min(values):.4f} to {max(values):.4f}"
    mean = round(statistics.mean(values), 4)
    print_figure(f"judgements.{name}.ndcg10", mean, "1", baseline=None, n=len(values), data=data + spread)


def _log(name: str, began: float) -> None:
    print(f"judgements: {name}: {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
