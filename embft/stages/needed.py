"""What of the nights must stay, however old it is: of registered versions, of the history, and of what serves."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from embft.errors import ConfigError
from embft.paths import Paths
from embft.promotion.history import History
from embft.promotion.pointer import read_pointer
from embft.results import RunSpec, StageResult
from embft.stages.log_days import sessions_of_day
from embft.storage import Storage, StoredObject

_PARALLEL = 8
_OF_VERSIONS = ("plan", "fine_tune", "evaluate", "gate", "register")

VERSIONS = "of registered versions, of the history of champions, or of what serves"
REFERENCES = "what kept nights are compared with"
UNREADABLE = "of another version of embft, or damaged"


def needed_files(
    storage: Storage,
    paths: Paths,
    nights: Mapping[date, Sequence[StoredObject]],
    history: History,
    registered: Collection[date],
) -> dict[str, str]:
    """Find the files that a registered version, the history, or the pointer to the vectors needs.

    Args:
        storage: S3.
        paths: Of the model.
        nights: Day → all that its night left.
        history: Of the champions.
        registered: Days whose model has a version in MLflow.

    Returns:
        Address → why it stays.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    needed = {it.uri: VERSIONS for change in history.changes for it in change.to.weights.values()}
    pointer = read_pointer(storage, paths)
    if pointer:
        needed[pointer.catalogue.uri] = VERSIONS
    days = {*registered, *(change.to.day for change in history.changes)} & nights.keys()
    results = results_at(storage, (paths.stage(day, stage) for day in days for stage in _OF_VERSIONS))
    for day in days:
        uris = {it.uri for it in nights[day]}
        needed |= {uri: VERSIONS for uri in uris if _is_result(uri)}
        for prefix in (paths.stage(day, stage) for stage in _OF_VERSIONS):
            result = results[prefix]
            if result:
                needed |= {it.uri: VERSIONS for it in result.outputs.values()}
            elif Paths.result(prefix) in uris:
                needed |= {uri: UNREADABLE for uri in uris if uri.startswith(f"{prefix}/")}
    return needed


def reference_files(
    nights: Mapping[date, Sequence[StoredObject]], kept: Iterable[date], reference_days: int
) -> dict[str, str]:
    """Find the results that kept nights were compared with: without them, a re-run would come to another word.

    Args:
        nights: Day → all that its night left.
        kept: Nights that stay.
        reference_days: How far back nights look.

    Returns:
        Address → why it stays.
    """
    before = {day - timedelta(days=back) for day in kept for back in range(1, reference_days + 1)}
    return {it.uri: REFERENCES for day in before & nights.keys() for it in nights[day] if _is_result(it.uri)}


def needed_sessions(storage: Storage, paths: Paths, kept: Iterable[date]) -> set[str] | None:
    """Find the pulled sessions that nights learn from.

    Args:
        storage: S3.
        paths: Of the model.
        kept: The nights.

    Returns:
        Their prefixes; None where a night cannot tell, for another version of embft planned it.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    plans = [paths.stage(day, "plan") for day in kept]
    prefixes: set[str] = set()
    for prefix, plan in results_at(storage, plans).items():
        if plan is None and storage.head(Paths.result(prefix)):
            return None
        uri = plan.outputs["run.json"].uri if plan and "run.json" in plan.outputs else None
        raw = storage.read(uri) if uri else None
        if uri is None or raw is None:
            continue
        try:
            spec = RunSpec.from_json(raw, uri)
        except ConfigError:
            return None
        prefixes |= {sessions_of_day(paths, spec.config, spec.client_key, it.day) for it in spec.window}
    return prefixes


def results_at(storage: Storage, prefixes: Iterable[str]) -> dict[str, StageResult | None]:
    """Read results side by side.

    Args:
        storage: S3.
        prefixes: Of the stages.

    Returns:
        Prefix → its result; None where it has none that this version of embft can read.

    Raises:
        StorageUnavailable: S3 did not answer.
    """
    wanted = list(prefixes)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return dict(zip(wanted, pool.map(storage.read_result, wanted), strict=True))


def _is_result(uri: str) -> bool:
    return uri == Paths.result(uri.rpartition("/")[0]) and "/attempts/" not in uri
