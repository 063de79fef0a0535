"""A version that is to serve: it loads where only its declared requirements are, and gives the model's vectors."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.services import free_port
from embft.errors import ConfigError, TemporaryError
from embft.promotion import load_check
from embft.promotion.load_check import LOAD_CHECK_TAG, TEXTS, _difference, declared_distributions, load_fault
from embft.promotion.loading_process import pickles
from embft.promotion.registry import Registry, Version
from tests.buckets import new_bucket
from tests.pipeline.nights_by_hand import DAY
from tests.pipeline.promotable import PromotableNights, promotable_nights

GIVEN = np.eye(len(TEXTS), 4)


@pytest.fixture(autouse=True)
def real_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_check, "_difference", _difference)


@pytest.fixture(scope="module")
def nights(module_environment: str, tmp_path_factory: pytest.TempPathFactory) -> PromotableNights:
    """A night whose model is registered, with its files in S3; the check came out well."""
    home = tmp_path_factory.mktemp("load-check")
    made = promotable_nights(home, new_bucket(module_environment), module_environment)
    made.passed(DAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_check, "_difference", _difference)
        made.register(DAY)
    return made


@pytest.fixture
def version(nights: PromotableNights) -> Version:
    """The version, as if it were not checked yet."""
    (found,) = nights.registry.versions()
    return found._replace(tags={})


def tag_of(registry: Registry) -> str:
    return registry.versions()[0].tags[LOAD_CHECK_TAG]


def found_by_the_process(monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
    said = {"step": "done", "pickles": [], "vectors": GIVEN.tolist(), **found}
    monkeypatch.setattr(load_check, "_in_a_fresh_process", lambda *_: said)


def test_a_registered_version_was_loaded_with_its_requirements_from_s3(nights: PromotableNights) -> None:
    registered = nights.storage.read_result(nights.paths.stage(DAY, "register"))
    assert registered is not None
    assert (registered.status, registered.figures["promoted"]) == ("done", True)
    assert tag_of(nights.registry).startswith("passed: vectors differ by at most ")

    def nobody_asks(_: Any) -> Any:
        raise AssertionError("it was checked already")

    assert load_fault(nights.registry, nights.registry.versions()[0], nobody_asks) is None


def test_a_requirement_that_is_not_declared_is_missed(
    nights: PromotableNights, version: Version, tmp_path: Path
) -> None:
    uri = next(
        it.uri for it in nights.storage.objects(nights.paths.mlflow) if it.uri.endswith("artifacts/requirements.txt")
    )
    declared = nights.storage.read(uri) or b""
    pinned = [line.partition("==")[0] for line in declared.decode().splitlines()]
    assert {"mlflow", "boto3", "torch", "safetensors"} <= set(pinned)
    less = [it for it in declared.splitlines() if not it.startswith((b"sentence-transformers", b"transformers"))]
    nights.storage.write(uri, b"\n".join(less))
    fault = load_fault(nights.registry, version, lambda _: GIVEN)
    nights.storage.write(uri, declared)
    assert fault is not None
    assert fault.startswith("cannot load with its declared requirements alone: ")
    assert "sentence_transformers" in fault
    assert tag_of(nights.registry) == f"failed: {fault}"


def test_other_vectors_and_pickles_are_refused(
    nights: PromotableNights, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, near, far = GIVEN.copy(), GIVEN + 5e-6, GIVEN + 2e-5
    broken[0, 0] = float("nan")
    for found, said in (
        (
            {"vectors": (GIVEN + 2e-5).tolist()},
            "gives vectors that differ from the model's by 2.0e-05; 1e-05 is allowed",
        ),
        ({"vectors": broken.tolist()}, "gives vectors that differ from the model's by nan; 1e-05 is allowed"),
        ({"vectors": [[1.0]] * 5}, "gives vectors of the shape (5, 1), and the model (5, 4)"),
        ({"pickles": ["weights.bin"]}, "holds weights.bin, which may be pickles; only safetensors are served"),
        ({"vectors": near.tolist()}, None),
    ):
        found_by_the_process(monkeypatch, **found)
        assert load_fault(nights.registry, version, lambda _: GIVEN) == said


def test_what_is_away_is_tried_again(
    nights: PromotableNights, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        found_by_the_process(patch, step="fetch", error="OSError: a body broke off")
        with pytest.raises(TemporaryError, match="cannot be fetched from MLflow: OSError: a body broke off"):
            load_fault(nights.registry, version, lambda _: GIVEN)
    before = tag_of(nights.registry)
    with pytest.raises(TemporaryError, match=r"version 1 was not loaded within 0 s"):
        load_fault(nights.registry, version, lambda _: GIVEN, limit_s=0.01)

    def killed(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess([], -9, "", "loading\n")

    monkeypatch.setattr(load_check.subprocess, "run", killed)
    with pytest.raises(TemporaryError, match=r"ended with -9; it said last: loading; it was killed"):
        load_fault(nights.registry, version, lambda _: GIVEN)
    assert tag_of(nights.registry) == before


def test_files_that_may_be_pickles_are_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, data in {"a.safetensors": b"x", "sub/b.bin": b"", "c": b"\x80\x04\x95", "d": b"PK\x03\x04."}.items():
        (tmp_path / name).write_bytes(data)
    assert pickles(str(tmp_path)) == ["c", "d", "sub/b.bin"]


def test_requirements_bring_what_they_depend_on_and_nothing_else() -> None:
    found = declared_distributions(["# made by hand", "--index-url x", "sentence-transformers==6.2.0  # pinned"])
    assert {"sentence-transformers", "transformers", "torch", "numpy", "tqdm"} <= found
    assert found.isdisjoint({"embft", "mlflow", "pytest", "datasets", "boto3", "great-expectations"})
    assert declared_distributions(["no-such-package", "torch; sys_platform == 'beos'"]) == set()


@pytest.mark.parametrize(
    ("answer", "error"),
    [(None, TemporaryError), (503, TemporaryError), (403, ConfigError), ("silence", TemporaryError)],
)
def test_an_mlflow_that_is_away_slow_or_refusing_ends_in_time(
    answer: int | str | None, error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    port, server = free_port(), None
    if answer is not None:
        server = subprocess.Popen([sys.executable, "-c", _SERVER, str(port), str(answer)], stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
    started = time.monotonic()
    try:
        with pytest.raises(error, match=rf"MLflow at http://127\.0\.0\.1:{port} (is away|refused)"):
            Registry(f"http://user:secret@127.0.0.1:{port}", "tiny").versions()
    finally:
        if server is not None:
            server.kill()
            server.wait()
    assert time.monotonic() - started < 30


_SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if sys.argv[2] == "silence":
            time.sleep(60)
        self.send_response(int(sys.argv[2]))
        self.end_headers()
    do_POST = do_GET
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""
