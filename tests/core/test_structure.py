"""The house rules that a reader relies on: who imports what, what stays light, and that the map is true."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
PACKAGE = REPOSITORY / "embft"
HEAVY = ("torch", "pytorch_lightning", "sentence_transformers", "mlflow", "datasets", "great_expectations", "airflow")
HEAVY += ("optuna",)


def importers(library: str) -> set[str]:
    """Give the modules of the package that import a library, anywhere in their text."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [it.name for it in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
            if any(name.split(".")[0] == library for name in names):
                found.add(path.relative_to(PACKAGE).as_posix())
    return found


def loaded_by(code: str) -> set[str]:
    """Give the heavy libraries that a fresh interpreter has loaded after some code."""
    script = f"import sys\n{code}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("boto3", {"storage.py", "storage_errors.py"}),
        ("duckdb", {"clickstream/workspace.py"}),
        ("optuna", {"experiments/study.py"}),
        ("great_expectations", {"validation/engine.py", "validation/docs.py"}),
        (
            "mlflow",
            {
                "experiments/connection.py",
                "experiments/iterations.py",
                "experiments/reaching.py",
                "experiments/trials.py",
                "experiments/weights.py",
                "promotion/artifacts.py",
                "promotion/loading_process.py",
                "promotion/registry.py",
            },
        ),
    ],
)
def test_only_these_modules_import(library: str, allowed: set[str]) -> None:
    found = importers(library)
    assert found
    assert found <= allowed


def test_only_the_airflow_package_imports_airflow() -> None:
    found = importers("airflow")
    assert found
    assert {name.split("/")[0] for name in found} == {"airflow"}


@pytest.mark.parametrize(
    "code",
    [
        "import embft",
        "import embft.cli",
        "import embft.config, embft.results, embft.storage",
        "import embft.stages.plan, embft.stages.pull",
        "import embft.stages.gate",
        "import embft.stages.fine_tune, embft.stages.search",
        "import embft.clickstream.simulator",
    ],
)
def test_light_modules_load_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == set()


def test_readme_map_names_every_module_and_package() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    tree = {path.name for path in PACKAGE.glob("*.py")} | {
        f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir()
    }
    missing = {name for name in tree if name not in readme} - {"__init__.py", "__main__.py", "__pycache__/"}
    assert not missing


def test_readme_names_only_make_targets_that_exist() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", readme))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_target_of_the_makefile_can_be_made() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    targets = phony[1].split()
    assert len(targets) >= 8
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", *targets]
    done = subprocess.run(command, cwd=REPOSITORY, env=alone, capture_output=True, text=True, check=False)
    # A recipe that stands twice, or a target that is none, is told on stderr.
    assert (done.returncode, done.stderr) == (0, "")
