"""What a champion showed on the night that it was promoted: what it is held to afterwards."""

import logging
from pathlib import Path

import pyarrow.parquet as pq

from embft.errors import ConfigError, DataRejected
from embft.monitoring.day import Shown
from embft.monitoring.summary import RESAMPLES
from embft.paths import Paths
from embft.promotion.evaluation import NO_GUARDS, figures_of
from embft.promotion.evaluation_record import Evaluation
from embft.results import Champion, weights_digest
from embft.stages.models import weights_of
from embft.storage import Storage

log = logging.getLogger(__name__)


def promised_by(storage: Storage, paths: Paths, champion: Champion, folder: Path) -> dict[str, Shown]:
    """Read what a champion's own night found of it.

    Args:
        storage: S3.
        paths: Of the model.
        champion: The version.
        folder: Scratch folder.

    Returns:
        Slice → its figures on the held-out clicks of that night; empty where they are gone, or the night was run again
        since and trained another model.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    trained, evaluated = (storage.read_result(paths.stage(champion.day, it)) for it in ("fine_tune", "evaluate"))
    if trained is None or evaluated is None:
        return {}
    try:
        file = storage.fetch(evaluated.output("evaluation.json"), folder / "evaluation.json")
        evaluation = Evaluation.from_json(file.read_bytes(), evaluated.uri)
        per_query = pq.read_table(storage.fetch(evaluated.output("per_query.parquet"), folder / "promised.parquet"))
    except (ConfigError, DataRejected) as error:
        log.warning("what version %s showed on its night is not known: %s", champion.version, error)
        return {}
    if weights_digest(weights_of(trained, evaluated, evaluation)) != champion.digest:
        return {}
    sets = [it for it in evaluation.sets if it.kind == "slice"]
    rows = {it.name: it for it in figures_of(per_query, NO_GUARDS, [it.name for it in sets])}
    return {
        it.name: Shown(
            n_queries=it.n_queries,
            figures=it.models[evaluation.candidate],
            errors=rows[it.name].errors(evaluation.candidate, RESAMPLES),
        )
        for it in sets
        if it.n_queries
    }
