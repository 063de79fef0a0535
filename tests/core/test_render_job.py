"""`embft render-job`: the job that is printed, against the schemas of Kubernetes and Kubeflow Trainer."""

import copy
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob
from kubeflow_trainer_api.models.trainer_v1alpha1_training_runtime import TrainerV1alpha1TrainingRuntime
from typer.testing import CliRunner

from embft.cli import app
from embft.pod_security import breaches

REPOSITORY = Path(__file__).parents[2]
IMAGE = "registry.example.com/embft@sha256:" + "a" * 64
CONFIG = """
owner: search
schedule: {start_date: 2026-01-01}
storage: {artifacts: s3://bucket/models}
logs: {uri: "s3://bucket/logs/{day}"}
catalogue: {uri: s3://bucket/items.jsonl}
gate: {max_val_loss: 1.0}
mlflow: {tracking_uri: "http://127.0.0.1:5000"}
"""
SECTION = """
runtime:
  retries: 4
  timeout_s: 7200
  kubernetes:
    image: %s
    gpus: 4
    memory: 64Gi
    grace_s: 90
    node_selector: {pool: gpu}
    tolerations: [{key: nvidia.com/gpu}]
    priority_class: nightly
    runtime_class: nvidia
    service_account: embft-train
    env_from_secret: embft-secrets
"""
KINDS = {"TrainingRuntime": TrainerV1alpha1TrainingRuntime, "TrainJob": TrainerV1alpha1TrainJob}


@pytest.fixture
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "include"
    for name in ("models", "expectations", "kubernetes"):
        (folder / name).mkdir(parents=True)
    for name in ("catalogue", "sessions", "ranks"):
        (folder / "expectations" / f"{name}.yaml").write_text("[]\n")
    template = REPOSITORY / "include" / "kubernetes" / "finetune_pod.yaml"
    (folder / "kubernetes" / "finetune_pod.yaml").write_text(template.read_text())
    write(folder)
    monkeypatch.setenv("EMBFT_INCLUDE", str(folder))
    return folder


def write(include: Path, section: str = SECTION % IMAGE, model: str = "shop") -> None:
    (include / "models" / f"{model}.yaml").write_text(f"name: {model}\n{CONFIG}{section}")


def rendered(nodes: int = 2, model: str = "shop") -> tuple[dict[str, Any], dict[str, Any]]:
    """The runtime and the job that the command prints."""
    arguments = ["render-job", "--model", model, "--day", "2026-03-10", "--nodes", str(nodes)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    runtime, job = yaml.safe_load_all(result.stdout)
    return runtime, job


def pod_of(runtime: dict[str, Any]) -> dict[str, Any]:
    [node] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    template: dict[str, Any] = node["template"]["spec"]["template"]
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "node", **template["metadata"]}}


def survives_the_schema(document: dict[str, Any]) -> bool:
    """Whether nothing is lost on the way through the API's own models; an unknown field would be."""
    model = KINDS[document["kind"]].from_dict(document)
    assert model is not None
    return bool(model.to_dict() == document)


def test_both_objects_fit_trainers_schema_without_an_unknown_field(include: Path) -> None:
    for document in rendered():
        assert survives_the_schema(document)
        wrong = copy.deepcopy(document)
        wrong["spec"]["replicas"] = 2
        assert not survives_the_schema(wrong)


def test_its_pod_fits_kubernetes_schema_and_keeps_to_the_security_standard(include: Path) -> None:
    pod = pod_of(rendered()[0])
    kubernetes_validate.validate(pod, "1.37", strict=True)
    assert breaches(pod) == []


def test_the_job_asks_for_the_nodes_and_a_process_for_each_gpu(include: Path) -> None:
    runtime, job = rendered(nodes=3)
    assert job["spec"]["trainer"]["numNodes"] == 3
    assert job["spec"]["trainer"]["numProcPerNode"] == 4
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "TrainingRuntime",
        "name": runtime["metadata"]["name"],
    }
    assert job["metadata"]["namespace"] == runtime["metadata"]["namespace"] == "embft"
    assert job["metadata"]["name"] == "embft-shop-2026-03-10"


def test_its_pod_is_what_the_config_says(include: Path) -> None:
    runtime, _ = rendered()
    pod = pod_of(runtime)
    spec = pod["spec"]
    [container] = spec["containers"]
    assert container["name"] == "node"  # Trainer looks for it by this name
    assert container["image"] == IMAGE
    expected = {"cpu": "4", "memory": "64Gi", "nvidia.com/gpu": "4"}
    assert container["resources"] == {"requests": expected, "limits": expected}
    assert {"name": "EMBFT_GPUS", "value": "4"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "embft-secrets"}}]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("nightly", "nvidia")
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("embft-train", False)
    assert (spec["terminationGracePeriodSeconds"], spec["activeDeadlineSeconds"]) == (90, 7200)
    assert pod["metadata"]["labels"]["embft-model"] == "shop"
    assert runtime["spec"]["template"]["spec"]["failurePolicy"] == {"maxRestarts": 4}


@pytest.mark.parametrize("policy", ["", "restartPolicy: OnFailure"])
def test_its_pod_never_starts_again_alone_whatever_the_template_says(include: Path, policy: str) -> None:
    """Left out, Kubernetes would take Always, and refuse the job."""
    template = include / "kubernetes" / "finetune_pod.yaml"
    template.write_text(template.read_text().replace("restartPolicy: Never", policy))
    assert pod_of(rendered()[0])["spec"]["restartPolicy"] == "Never"


def test_without_gpus_there_is_one_process_a_node_and_no_secret_where_none_is_named(include: Path) -> None:
    write(include, (SECTION % IMAGE).replace("gpus: 4", "gpus: 0").replace("embft-secrets", "null"))
    runtime, job = rendered()
    [container] = pod_of(runtime)["spec"]["containers"]
    assert job["spec"]["trainer"]["numProcPerNode"] == 1
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert "EMBFT_GPUS" not in {it["name"] for it in container["env"]}
    assert "envFrom" not in container


def test_torchrun_gives_a_checkpoint_the_pods_grace(include: Path) -> None:
    arguments = rendered()[1]["spec"]["trainer"]["args"]
    assert arguments == [
        "--shutdown-timeout=80",
        "-m",
        *["embft", "fine-tune", "--model", "shop", "--day", "2026-03-10", "--json"],
    ]


def test_two_nodes_find_each_other_and_run_the_jobs_command(include: Path) -> None:
    """The command as Trainer starts it, with the variables that it sets; both nodes are processes of this machine."""
    trainer = rendered()[1]["spec"]["trainer"]
    assert trainer["command"][0] == "python"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
    }
    command = [sys.executable, *trainer["command"][1:], *trainer["args"], "--help"]
    nodes = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "PET_NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert all("Train the challenger" in words for words in said)


@pytest.mark.parametrize("models", [("a_b", "a-b"), ("m" * 63, "m" * 62 + "n")])
def test_models_with_like_names_have_jobs_of_their_own(include: Path, models: tuple[str, str]) -> None:
    names = []
    for model in models:
        write(include, model=model)
        runtime, job = rendered(model=model)
        assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
        names.append(job["metadata"]["name"])
    assert len(set(names)) == 2
    # A label of DNS, with room for what JobSet appends.
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,42}[a-z0-9])", name) for name in names), names


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("", "shop has no section runtime.kubernetes; it says in which pods a job runs"),
        (
            f"runtime: {{kubernetes: {{image: '{IMAGE}', pod_template: kubernetes/lost.yaml}}}}",
            "kubernetes/lost.yaml does not exist",
        ),
    ],
)
def test_a_config_that_says_nothing_of_pods_is_refused(include: Path, section: str, said: str) -> None:
    write(include, section)
    result = CliRunner().invoke(app, ["render-job", "--model", "shop", "--day", "2026-03-10", "--nodes", "2"])
    assert result.exit_code == 2
    assert said in result.stderr
