from __future__ import annotations

import subprocess
import sys

import pytest

import embft


def test_importing_embft_loads_nothing_heavy() -> None:
    heavy = (
        "{'torch', 'numpy', 'pandas', 'pyarrow', 'mlflow', 'datasets', 'pytorch_lightning', 'transformers', 'pydantic'}"
    )
    code = f"import sys, embft; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("embft.finetuning.params", "{'torch', 'numpy', 'mlflow'}"),
        ("embft.finetuning.paired, embft.finetuning.tables", "{'torch', 'mlflow', 'datasets', 'pandas'}"),
        ("embft.experiments.manager", "{'torch', 'mlflow'}"),
        (
            "embft.finetuning.validation, embft.finetuning.registry, embft.finetuning.ranks",
            "{'pytorch_lightning', 'transformers', 'sentence_transformers', 'mlflow', 'datasets', 'pandas', 'sklearn'}",
        ),
    ],
)
def test_modules_that_light_stages_import_stay_light(module: str, forbidden: str) -> None:
    code = f"import sys, {module}; print(sorted({forbidden} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted_and_each_resolves() -> None:
    assert embft.__all__ == sorted(embft.__all__)
    for name in embft.__all__:
        assert getattr(embft, name).__name__ == name
    assert set(embft.__all__) <= set(dir(embft))


def test_unknown_name_is_an_attribute_error_that_says_where_to_look() -> None:
    with pytest.raises(AttributeError, match=r"'Tuner'.*__all__"):
        embft.Tuner  # noqa: B018
