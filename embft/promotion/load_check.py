"""Does a version load elsewhere, and give the model's vectors? Tried in a fresh process before it may serve."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from packaging.requirements import InvalidRequirement, Requirement

from embft.errors import TemporaryError
from embft.experiments.reaching import without_credentials
from embft.promotion import loading_process
from embft.promotion.registry import Registry, Version

LOAD_CHECK_TAG = "embft.load_check"
TEXTS = ("red shoe", " ".join(["a long query about waterproof walking boots"] * 60), "无线蓝牙耳机", "🎧 🧢", "")
_TOLERANCE = 1e-5
_LIMIT_S = 900.0  # a large model on a busy machine; MLflow being away is found out much sooner
# Whatever the machine has: the check is of the artifact, and a GPU rounds in another way.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


class _Unfit(Exception):
    """What is wrong with the version, in a sentence."""


def load_fault(
    registry: Registry,
    version: Version,
    vectors: Callable[[Sequence[str]], NDArray[np.float32]],
    *,
    limit_s: float = _LIMIT_S,
) -> str | None:
    """Load a version with nothing but its declared requirements, and hold its vectors against the model's own.

    What came out is kept as a tag of the version: one that passed is not checked again.

    Args:
        registry: Of the model.
        version: The version.
        vectors: Gives the model's own vectors of queries; called only where they are looked at.
        limit_s: Time for the process.

    Returns:
        What is wrong; None where the version may serve.

    Raises:
        ConfigError: MLflow, or its store of files, refuses.
        TemporaryError: One of them is away, or the process was stopped or took too long.
    """
    if version.tags.get(LOAD_CHECK_TAG, "").startswith("passed"):
        return None
    with tempfile.TemporaryDirectory(prefix="embft-load-check-") as folder:
        try:
            difference = _difference(registry, version, vectors, Path(folder), limit_s)
        except _Unfit as error:
            registry.tag(version.number, LOAD_CHECK_TAG, f"failed: {error}")
            return str(error)
    registry.tag(version.number, LOAD_CHECK_TAG, f"passed: vectors differ by at most {difference:.1e}")
    return None


def _difference(
    registry: Registry,
    version: Version,
    vectors: Callable[[Sequence[str]], NDArray[np.float32]],
    folder: Path,
    limit_s: float,
) -> float:
    declared = registry.fetch(version, "requirements.txt", folder).read_text()
    link_packages(declared_distributions(declared.splitlines()), folder / "packages")
    found = _in_a_fresh_process(registry, version, folder, limit_s)
    if "error" in found:
        problem = without_credentials((found["error"].splitlines() or [""])[-1])[:500]
        if found["step"] == "fetch":
            registry.fetch(version, "MLmodel", folder)  # says it where MLflow or its files are away, or refuse
            raise TemporaryError(f"version {version.number} cannot be fetched from MLflow: {problem}; try again later")
        raise _Unfit(f"cannot {found['step']} with its declared requirements alone: {problem}")
    if found["pickles"]:
        raise _Unfit(f"holds {', '.join(found['pickles'])}, which may be pickles; only safetensors are served")
    theirs, ours = np.asarray(found["vectors"], np.float64), vectors(TEXTS)
    if theirs.shape != ours.shape:
        raise _Unfit(f"gives vectors of the shape {theirs.shape}, and the model {ours.shape}")
    difference = float(np.abs(theirs - ours).max())
    if not difference <= _TOLERANCE:  # nor a NaN
        raise _Unfit(f"gives vectors that differ from the model's by {difference:.1e}; {_TOLERANCE:g} is allowed")
    return difference


def _in_a_fresh_process(registry: Registry, version: Version, folder: Path, limit_s: float) -> dict[str, Any]:
    answer = folder / "found.json"
    order = {
        "tracking_uri": registry.tracking_uri,  # may hold a password: never an argument, which others can see
        "model_uri": f"models:/{registry.model}/{version.number}",
        "folder": str(folder / "model"),
        "answer": str(answer),
        "texts": TEXTS,
        "packages": str(folder / "packages"),
    }
    (folder / "model").mkdir()
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", loading_process.__file__],
            input=json.dumps(order),
            env=registry.environment | os.environ | _ENVIRONMENT,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        registry.versions()  # says it where MLflow is away
        raise TemporaryError(
            f"version {version.number} was not loaded within {limit_s:.0f} s; try again on a machine that is less busy"
        ) from None
    if not answer.exists():
        last = without_credentials((ended.stderr.strip().splitlines() or ["nothing"])[-1])[:500]
        problem = f"the process that loads version {version.number} ended with {ended.returncode}; it said last: {last}"
        if ended.returncode < 0:
            raise TemporaryError(f"{problem}; it was killed, for its memory perhaps: try again with more")
        raise _Unfit(problem)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def declared_distributions(requirements: Sequence[str]) -> set[str]:
    """Name the distributions that some requirements bring, with what they depend on.

    Args:
        requirements: Lines of a requirements.txt; what is no requirement (options, comments) is passed over.

    Returns:
        Normalised names; those that are not installed here are left out, so that a check without them fails.
    """
    found: dict[str, set[str]] = {}  # name → extras
    open_ = [it for it in map(_requirement, requirements) if it is not None and _applies(it, {""})]
    while open_:
        wanted = open_.pop()
        name, extras = _normal(wanted.name), {"", *wanted.extras}
        if extras <= found.get(name, set()):
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found[name] = extras | found.get(name, set())
        open_ += [it for it in map(Requirement, needs) if _applies(it, extras)]
    return set(found)


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def link_packages(distributions: set[str], folder: Path) -> None:
    """Make a folder that packages are imported from, with links to those of some distributions and to nothing else.

    Args:
        distributions: Names of installed ones.
        folder: Made.
    """
    folder.mkdir()
    for name in distributions:
        distribution = metadata.distribution(name)
        tops = {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "/", "__pycache__")}
        for top in tops:
            link = folder / top
            if not link.exists():  # packages may share a namespace
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line.partition(" #")[0].strip())
    except InvalidRequirement:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
