"""`make image-check`: the steps of the Dockerfile's `train` image in a clean environment, where there is no engine.

What it shows: that the image's packages install from the lock file alone, that the image's command starts, that no
Airflow comes along, and that a night runs with it under what the pod template allows. What it cannot show: the base
image, and whatever an engine does.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field
from pathlib import Path

from demo import services
from tests.as_pod import as_pod, possible
from tests.buckets import new_bucket
from tests.shop import NIGHT, make_shop

REPOSITORY = Path(__file__).parents[1]
STAGE = "train"
# Where the image keeps the project; here a temporary folder stands for it.
HOME = "/opt/embft"
CHECKS = [
    ["-c", "import embft.cli, embft.finetuning.trainer, embft.stages.fine_tune, great_expectations, mlflow, torch"],
    ["-c", "import importlib.util as i; assert i.find_spec('airflow') is None, 'the image holds Airflow'"],
    ["-m", "pip", "check"],
    ["-m", "torch.distributed.run", "--help"],
]
# That the conditions hold is checked too: a night under none would show nothing.
PROBE = """
import errno, os, sys
assert os.getuid() == 10001, os.getuid()
try:
    open(sys.argv[1], "w")
except OSError as error:
    assert error.errno == errno.EROFS, error
else:
    raise SystemExit("the image's folder can be written to")
"""
COMMANDS = [["--help"], ["fine-tune", "--help"], ["config", "check"]]


@dataclass
class Image:
    """What stands for an image: a folder for its project, and an environment for its Python."""

    root: Path
    project: Path = field(init=False)
    variables: dict[str, str] = field(init=False)
    entrypoint: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.project = self.root / "embft"
        self.project.mkdir()
        venv.create(self.root / "venv", with_pip=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("EMBFT_", "PYTHON"))}
        self.variables = {**inherited, "PATH": f"{self.root / 'venv' / 'bin'}:{inherited['PATH']}"}

    def run(self, command: list[str], home: Path | None = None) -> None:
        """Run a command as in the image, with a home as in a pod; anything but success ends the check."""
        print("+", shlex.join(command), "(as in a pod)" if home else "", flush=True)
        # The environment's own interpreter is found by PATH, as the image's is.
        found = [shutil.which(command[0], path=self.variables["PATH"]) or command[0], *command[1:]]
        words, variables = as_pod(found, self.variables, home) if home else (found, self.variables)
        done = subprocess.run(
            words,
            cwd=self.project,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{done.stdout[-5000:]}\nimage-check: {shlex.join(command)}: exit code {done.returncode}")

    def apply(self, instruction: str, rest: str) -> None:
        """Do one step of the Dockerfile."""
        words = shlex.split(rest)
        if instruction == "ENV":
            self.variables |= {name: value.replace(HOME, str(self.project)) for name, _, value in _pairs(words)}
        elif instruction == "COPY":
            for name in words[:-1]:
                _copy(REPOSITORY / name, self.project / words[-1], into=words[-1].endswith("/"))
        elif instruction == "RUN" and words[:2] == ["pip", "install"]:
            self.run(words)
        elif instruction == "ENTRYPOINT":
            self.entrypoint = [word.strip(' "') for word in rest.strip("[]").split(",")]
        elif instruction == "WORKDIR" and rest == HOME:
            pass
        elif instruction == "USER" or (instruction == "RUN" and words[0] == "useradd"):
            print(f"- not done here, it would change this machine: {instruction} {rest}", flush=True)
        else:
            raise SystemExit(f"image-check: tests/image_check.py knows no step {instruction} {rest}; teach it this one")


def steps_of(dockerfile: str, stage: str) -> list[tuple[str, str]]:
    """Give the instructions that make a stage, those of the stages below it first."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE))
    steps: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in filter(None, map(str.strip, joined.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            below, _, name = rest.partition(" AS ")
            steps[name] = list(steps.get(below, []))
        elif name:
            steps[name].append((instruction, rest.strip()))
    if stage not in steps:
        raise SystemExit(f"image-check: the Dockerfile has no stage {stage!r}; it has {', '.join(steps)}")
    return steps[stage]


def _pairs(words: list[str]) -> list[tuple[str, str, str]]:
    return [word.partition("=") for word in words]


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target / source.name if into else target)


def run_night(image: Image) -> None:
    """Run a night of a tiny shop as a pod runs a stage."""
    if not possible():
        print("image-check: no night was run as in a pod; that takes root and the right to mount")
        return
    # User 10001 must be able to read what the image holds.
    image.root.chmod(0o755)
    home = image.root / "home"
    home.mkdir()
    (image.root / "probe.py").write_text(PROBE)
    image.run(["python", str(image.root / "probe.py"), str(image.project / "new")], home)
    (image.root / "s3").mkdir()
    with services.s3_server(image.root / "s3", services.free_port(), image.root / "s3.log") as endpoint:
        keys = services.s3_environment(endpoint)
        os.environ |= keys  # the bucket is made in this process
        # One process runs all stages, so MLflow's database may lie in its home.
        include = make_shop(image.root / "shop", new_bucket(endpoint), endpoint, f"sqlite:///{home}/mlflow.db")
        image.variables |= {**keys, "EMBFT_INCLUDE": str(include)}
        image.run([*image.entrypoint, "night", "--model", "tiny", "--day", NIGHT.isoformat()], home)


def main() -> None:
    """Make the stand-in for the image, check it, and remove it."""
    steps = steps_of((REPOSITORY / "Dockerfile").read_text(encoding="utf-8"), STAGE)
    with tempfile.TemporaryDirectory(prefix="embft-image-") as root:
        image = Image(Path(root))
        for instruction, rest in steps:
            image.apply(instruction, rest)
        if not image.entrypoint:
            raise SystemExit(f"image-check: the stage {STAGE} has no ENTRYPOINT; a person who runs the image needs one")
        for check in CHECKS:
            image.run(["python", *check])
        for command in COMMANDS:
            image.run([*image.entrypoint, *command])
        run_night(image)
    print(f"image-check: the steps of {STAGE} work on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
