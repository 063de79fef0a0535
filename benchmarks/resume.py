"""A training that is interrupted five times against one that is not: wall time, and the steps that are done twice.

Each try is a process of its own, as a pod's is, with its checkpoints in S3. Three are told to stop (SIGTERM, as a node
that is drained does), two are shot (SIGKILL, as a node that dies does). Both end in the same weights, or this fails.
"""

import argparse
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import clicks, training
from benchmarks.figures import print_figure
from demo import services
from tests.buckets import new_bucket

N_CLICKS = 4096
EPOCHS = 2
BATCH_SIZE = 64
STEPS = N_CLICKS // BATCH_SIZE * EPOCHS
EACH_S = 15.0
# After a share of all steps, each in another place between two checkpoints.
INTERRUPTIONS = [
    (0.17, signal.SIGTERM),
    (0.35, signal.SIGKILL),
    (0.52, signal.SIGTERM),
    (0.68, signal.SIGKILL),
    (0.84, signal.SIGTERM),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train undisturbed and disturbed, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs=3, metavar=("CHECKPOINTS", "STEPS_FILE", "WEIGHTS_FILE"), help="one try")
    options = parser.parse_args(arguments)
    if not clicks.has_data():
        print("resume: no Best Buy clicks in the data folder; set EMBFT_DATA", file=sys.stderr)
        return 2
    if options.train:
        train_once(options.train[0], Path(options.train[1]), Path(options.train[2]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with services.s3_server(home / "s3", services.free_port(), home / "s3.log") as endpoint:
            os.environ.update(services.s3_environment(endpoint) | {"AWS_ENDPOINT_URL": endpoint})
            report(new_bucket(endpoint).name, home)
    return 0


def train_once(checkpoints: str, steps_file: Path, weights_file: Path) -> None:
    """Train, or go on with a training; every step done is a line of the file.

    Args:
        checkpoints: s3:// prefix.
        steps_file: Gets the number of each step.
        weights_file: Gets the digest of the trained weights.
    """
    import embft
    from embft.stages.checkpoints import StoredCheckpoints
    from embft.storage import storage_of_environment

    class Steps:
        def __call__(self, ranked: object) -> list[Any]:
            if tuner.training:
                with steps_file.open("a") as file:
                    file.write(f"{tuner.steps_done}\n")
            return []

        def of_validation(self, validation: object) -> list[Any]:
            return []

    collection = clicks.best_buy()
    settings = embft.FineTuningSettings(
        metric_calculators=(Steps(),), devices="cpu", batch_size=BATCH_SIZE, num_epochs=EPOCHS
    )
    parts = [
        embft.PairedFineTuningInputsDataset(clicks.sessions_of(part, collection, n_negatives=0))
        for part in (collection.train[-N_CLICKS:], collection.validation[:256])
    ]
    model = training.load("minilm")
    items_sets = {"train": collection.items, "test": collection.items}
    tuner = embft.EmbeddingsFineTuner.create(
        model, settings, items_sets, embft.TextQueryRetriever(), embft.FineTuningParams()
    )
    storage = storage_of_environment(checkpoints, named="checkpoints")
    with tempfile.TemporaryDirectory() as folder:
        store = StoredCheckpoints(storage, checkpoints, Path(folder) / "stored")
        embft.fit(tuner, *parts, settings, folder, patience=9, checkpoints=store, checkpoint_each_s=EACH_S)
    digest = hashlib.sha256()
    for values in model.state_dict().values():
        digest.update(values.numpy().tobytes())
    weights_file.write_text(digest.hexdigest())


def report(bucket: str, home: Path) -> None:
    """Run both trainings and print the figures.

    Raises:
        RuntimeError: They end in different weights.
    """
    plain_s, plain_steps, plain_weights = run(f"s3://{bucket}/plain", home / "plain", [])
    broken_s, steps, weights = run(f"s3://{bucket}/broken", home / "broken", INTERRUPTIONS)
    if weights != plain_weights:
        raise RuntimeError("the interrupted training ended in other weights than the undisturbed one")
    n, repeated = len(INTERRUPTIONS), repeated_steps(steps)
    per_interval = EACH_S * len(plain_steps) / plain_s
    data = (
        f"MiniLM on {N_CLICKS} newest Best Buy clicks, {STEPS} steps of {BATCH_SIZE} in {plain_s:.0f} s undisturbed, "
        f"a checkpoint each {EACH_S:.0f} s ({per_interval:.0f} steps) in S3, 3 SIGTERM and 2 SIGKILL; same weights"
    )
    print_figure("resume.wall_ratio", round(broken_s / plain_s, 3), "1", baseline="undisturbed", n=1, data=data)
    print_figure("resume.steps_repeated_max", max(repeated, default=0), "steps", baseline=None, n=n, data=data)
    print_figure("resume.steps_repeated_sum", sum(repeated), "steps", baseline=None, n=n, data=data)
    lost = (broken_s - plain_s) / n
    print_figure("resume.seconds_per_interruption", round(lost, 1), "s", baseline=None, n=n, data=data)


def run(
    checkpoints: str, home: Path, interruptions: Sequence[tuple[float, signal.Signals]]
) -> tuple[float, list[int], str]:
    """Train with interruptions, each followed by a new process at once.

    Returns:
        Seconds of all processes, the steps they did, and the digest of the weights.

    Raises:
        RuntimeError: A process ended before it was interrupted.
    """
    home.mkdir()
    steps_file, weights_file = home / "steps", home / "weights"
    command = [sys.executable, "-m", "benchmarks.resume", "--train", checkpoints, str(steps_file), str(weights_file)]
    began = time.perf_counter()
    for share, how in interruptions:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not steps_file.exists() or steps_of(steps_file)[-1] < share * STEPS:
            if process.poll() is not None:
                raise RuntimeError(f"the training ended before it was interrupted: {process.stderr.read()[-2000:]}")
            time.sleep(0.05)
        process.send_signal(how)
        process.communicate()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    return time.perf_counter() - began, steps_of(steps_file), weights_file.read_text()


def steps_of(path: Path) -> list[int]:
    """Read the steps done so far; a line that is being written counts when it is whole."""
    return [int(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] or [-1]


def repeated_steps(steps: Sequence[int]) -> list[int]:
    """Count the steps done twice, for each resumption that did any."""
    return [before - after + 1 for before, after in itertools.pairwise(steps) if after <= before]


if __name__ == "__main__":
    sys.exit(main())
