"""Several processes train as one does. Without a GPU they are processes on the CPU that talk by gloo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from embft import EmbeddingsFineTuner, FineTuningParams, FineTuningSettings, StaticEmbeddingsModel, TextQueryRetriever
from embft.errors import ConfigError, TemporaryError
from embft.finetuning.devices import Layout, check_devices, encoding_device
from embft.finetuning.processes import Place, this_process
from embft.finetuning.sharing import shared_training
from embft.finetuning.threads import cpu_threads
from tests.finetuning.together import CASES, ITEMS, Trained, train

# Two processes with two threads each wait for each other on two cores: 100 s in place of 5.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
Trainings = dict[str, Trained]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def together(folder: Path) -> list[Trainings]:
    """What each of two processes has after training every case."""
    command = [sys.executable, "-m", "tests.finetuning.together", "all", str(folder)]
    subprocess.run(command, env=os.environ | ONE_THREAD, check=True, timeout=300)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(folder: Path) -> Trainings:
    with cpu_threads(1):
        return {name: train(name, folder / "alone" / name) for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(case: str, together: list[Trainings], alone: Trainings) -> None:
    for theirs in together:
        assert_alike(theirs[case], alone[case])


def test_two_processes_go_on_with_an_interrupted_training(together: list[Trainings], alone: Trainings) -> None:
    for theirs in together:
        assert_alike(theirs["resumed"], alone["transformer"])


def assert_alike(training: Trained, expected: Trained) -> None:
    for theirs, ours in zip(training[0], expected[0], strict=True):
        assert theirs["step"] == ours["step"]
        # Sums are taken in another order: float32 has 7 digits.
        for name in ("val_loss", "train_loss") if ours["train_loss"] else ("val_loss",):
            assert theirs[name] == pytest.approx(ours[name], rel=2e-6)
        assert theirs["metrics"] == pytest.approx(ours["metrics"], rel=1e-5, abs=1e-6)
    for name, values in expected[1].items():
        if not name.endswith("key.bias"):  # no attention depends on it: its gradient is 0, and Adam scales up noise
            torch.testing.assert_close(training[1][name], values, rtol=1e-4, atol=5e-5, msg=name)


def test_the_first_process_alone_writes_files(folder: Path, together: list[Trainings]) -> None:
    for case in [*CASES, "resumed"]:
        assert [it.name for it in (folder / "0" / case / "checkpoints").iterdir()] == ["best.ckpt"]
        assert not (folder / "1" / case / "checkpoints").exists()
    assert len(list((folder / "kept").iterdir())) == 1


def test_a_killed_process_ends_the_training_at_once_and_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.finetuning.together", "pair", str(tmp_path)]
    leader = subprocess.Popen(command, env=os.environ | ONE_THREAD, stderr=subprocess.PIPE, text=True)
    try:
        wait_for((tmp_path / "0" / "checkpoints" / "best.ckpt").exists, leader)  # the first validation is over
        (follower,) = children_of(leader.pid)
        began = time.monotonic()
        os.kill(follower, signal.SIGKILL)
        _, told = leader.communicate(timeout=60)
    finally:
        leader.kill()
    assert "exit code 75: process 1 of 2 (counted from 0) was ended by SIGKILL" in told
    assert "lower `batch_size`" in told
    assert time.monotonic() - began < 15


LEADER = """
import logging, sys, time
from pathlib import Path
from embft.finetuning import processes
processes._GRACE_S = 0.5
with processes.followers([sys.executable, "-c", {follower!r}], 1, Path({folder!r})):
    time.sleep(60)
"""
FOLLOWER = """
import time
from pathlib import Path
from embft.finetuning.processes import stay_with_leader
stay_with_leader()
Path({folder!r}, "up").touch()
time.sleep(60)
"""


@pytest.fixture
def lead(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a leader, that sleeps as one in a collective of GPUs does, with a follower that does as it is told."""
    started = []

    def start(follower: str) -> subprocess.Popen[str]:
        script = LEADER.format(follower=follower.format(folder=str(tmp_path)), folder=str(tmp_path))
        started.append(subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("follower", "code", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 75, "was ended by SIGKILL before the training was"),
        ("raise SystemExit(2)", 2, "ended with exit code 2 before the training was over"),
        ("raise SystemExit(75)", 75, "ended with exit code 75 before the training was over"),
        ("raise ValueError", 1, "ended with exit code 1 before the training was over"),
    ],
)
def test_a_leader_that_would_wait_for_the_dead_is_ended_as_the_dead_was(
    lead: Callable[[str], subprocess.Popen[str]], follower: str, code: int, told: str
) -> None:
    leader = lead(follower)
    _, said = leader.communicate(timeout=20)
    assert leader.returncode == code
    assert said.splitlines()[-1].startswith("error: process 1 of 2 (counted from 0) " + told)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_follower_outlives_its_leader(
    lead: Callable[[str], subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    leader = lead(FOLLOWER)
    wait_for((tmp_path / "up").exists, leader)
    (follower,) = children_of(leader.pid)
    os.kill(follower, signal.SIGTERM)  # as a worker does that tells the whole group: to stop is the leader's affair
    time.sleep(1)
    assert leader.poll() is None
    leader.send_signal(number)
    wait_for(lambda: not is_alive(follower))


def test_a_gpu_that_a_pod_was_promised_and_lacks_is_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBFT_GPUS", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match=r"asked for 2 GPU\(s\).*sees 1.*is built for CPUs"):
        check_devices(FineTuningSettings())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(TemporaryError, match=r"asked for 2 GPU\(s\).*sees 1.*driver"):
        check_devices(FineTuningSettings(devices=1))
    monkeypatch.setenv("EMBFT_GPUS", "two")
    with pytest.raises(ConfigError, match="'two'"):
        check_devices(FineTuningSettings())


def test_devices_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert check_devices(FineTuningSettings()) == Layout("cuda", 1, Place())
    assert check_devices(FineTuningSettings(devices="cpu")) == Layout("cpu", 1, Place())
    assert check_devices(FineTuningSettings(devices=3)).n_to_start == 2
    monkeypatch.setenv("EMBFT_GPUS", "4")
    assert check_devices(FineTuningSettings()).n_to_start == 3
    with pytest.raises(ConfigError, match=r"devices is 5.*this machine has 4"):
        check_devices(FineTuningSettings(devices=5))


def test_texts_are_encoded_on_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bf16 = FineTuningSettings(precision="bf16-mixed")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert encoding_device(bf16) == "cpu"  # the pod that trains has the GPU that this precision needs
    monkeypatch.setenv("EMBFT_GPUS", "1")
    with pytest.raises((ConfigError, TemporaryError), match=r"asked for 1 GPU\(s\)"):
        encoding_device(bf16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert encoding_device(bf16) == "cuda:0"
    assert encoding_device(FineTuningSettings(devices="cpu")) == "cpu"


def test_processes_that_torchrun_started_on_two_machines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    layout = check_devices(FineTuningSettings(devices="cpu"))
    assert (layout.n_processes, layout.n_nodes, layout.n_local, layout.n_to_start) == (4, 2, 2, 0)
    assert layout.place == Place(3, 4, 1, 2, is_started=True)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_devices(FineTuningSettings()) == Layout("cuda", 2, layout.place)
    with pytest.raises(ConfigError, match=r"2 process\(es\) were started on this machine for 1 GPU"):
        check_devices(FineTuningSettings(devices=1))
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    with pytest.raises(ConfigError, match="LOCAL_WORLD_SIZE"):
        this_process()


def test_several_gpus_need_several_processes_and_dense_gradients(tiny_model: StaticEmbeddingsModel) -> None:
    splits = {"train": ITEMS, "test": ITEMS}
    tuner = EmbeddingsFineTuner.create(
        tiny_model, FineTuningSettings(), splits, TextQueryRetriever(), FineTuningParams()
    )
    alone = Layout("cuda", 2, Place())
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node 2"), shared_training(tuner, alone):
        pass
    started = Layout("cuda", 2, Place(0, 2, 0, 2, is_started=True))
    with pytest.raises(ConfigError, match="set `devices` to 1"), shared_training(tuner, started):
        pass


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return [int(line) for line in listed.stdout.split()]


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return state.strip()[:1] not in ("", "Z")
