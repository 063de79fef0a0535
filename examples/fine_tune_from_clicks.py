"""Fine-tune an embedding model on the clicks of a local folder: no S3, no Airflow, no MLflow.

First `embft simulate --to shop --first-day 2026-03-01 --days 8` (or a log of your own, in the same form),
then `python examples/fine_tune_from_clicks.py shop`.
"""

import gzip
import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import embft


def read_lines(path: Path) -> list[dict]:
    """Read JSON lines, gzipped or not."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def best_title(model: embft.EmbeddingsModelInterface, items: embft.ItemsSet, query: str) -> str:
    """Title of the item that the model finds nearest to a query."""
    scores = model.encode_items(items.items) @ model.encode_queries([query])[0]
    return items.items[scores.argmax()]


def main(folder: Path) -> None:
    """Train on the older clicks, and show what changed for five queries of the newest."""
    rows = read_lines(folder / "catalogue" / "items.jsonl")
    items = embft.ItemsSet([row["id"] for row in rows], [row["text"] for row in rows])
    sessions = [
        embft.FineTuningInput(
            row["session_id"], row["query"], row["clicked"], row["shown"], timestamp=datetime.fromisoformat(row["time"])
        )
        for path in sorted(folder.glob("logs/**/*.jsonl.gz"))
        for row in read_lines(path)
    ]
    parts = embft.ClickstreamSplitter(test_share=0.2).split(sessions)  # by time: the newest are the test
    model = embft.load_model("wordllama")
    queries = [q for q, _ in Counter(session.query for session in parts["test"].not_irrelevant).most_common(5)]
    before = [best_title(model, items, query) for query in queries]

    settings = embft.FineTuningSettings(metric_calculators=("ranking",))
    tuner = embft.EmbeddingsFineTuner.create(
        model, settings, {"train": items, "test": items}, embft.TextQueryRetriever(), embft.FineTuningParams()
    )
    history = embft.fit(tuner, parts["train"], parts["test"], settings, folder / "checkpoints")
    model.save(folder / "model")

    for query, old in zip(queries, before, strict=True):
        print(f"{query}\n  before: {old}\n  after:  {best_title(model, items, query)}")
    for record in (history.records[0], min(history.records, key=lambda record: record.val_loss)):
        print(f"step {record.step:4}: loss {record.val_loss:.3f}, nDCG@10 {record.metrics['val_ndcg_at_10']:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
