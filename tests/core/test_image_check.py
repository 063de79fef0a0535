"""How `make image-check` reads the Dockerfile. The check itself takes a network and minutes, and is no part of this."""

from pathlib import Path

import pytest

from tests.image_check import REPOSITORY, STAGE, Image, steps_of


def test_a_stage_has_the_steps_of_those_below_it_first() -> None:
    dockerfile = """
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS base
# a comment
RUN one \\
    two
FROM base AS train
RUN three
FROM base AS other
RUN four
"""
    assert steps_of(dockerfile, "train") == [("RUN", "one      two"), ("RUN", "three")]


def test_the_shipped_image_is_made_of_steps_that_the_check_knows() -> None:
    steps = steps_of((REPOSITORY / "Dockerfile").read_text(), STAGE)
    assert {instruction for instruction, _ in steps} == {"ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT"}
    assert ("USER", "embft") in steps
    [install] = [rest for instruction, rest in steps if instruction == "RUN" and rest.startswith("pip install")]
    assert "-c requirements.lock" in install


def test_a_stage_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match="has no stage 'train'; it has base"):
        steps_of("FROM python AS base\nRUN one\n", "train")


def test_a_step_that_the_check_does_not_know_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("venv.create", lambda *_, **__: None)
    with pytest.raises(SystemExit, match="knows no step RUN apt-get install git; teach it this one"):
        Image(tmp_path).apply("RUN", "apt-get install git")
