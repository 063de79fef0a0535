"""An include folder of a test's own: one model, and the suites that are shipped."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def write_include(folder: Path, model: str, config: str) -> Path:
    """Make `include` below a folder, with one model's config; give it."""
    include = folder / "include"
    (include / "models").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "include" / "expectations", include / "expectations")
    (include / "models" / f"{model}.yaml").write_text(config)
    return include
