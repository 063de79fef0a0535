"""The fine-tuning of a night over several nodes, as a job of Kubeflow Trainer v2.

Two objects: a TrainingRuntime with the very pod that Airflow's operator would start, and a TrainJob that runs it for
one night. A TrainJob's own patches of a shared runtime would not do: they reach neither the secret's environment nor
the service account's token, and their form changed between Trainer 2.1 and 2.2. These two are the same in all of v2.
"""

import hashlib
from datetime import date
from pathlib import Path
from typing import Any

from embft.config import Kubernetes, ModelConfig, template_of
from embft.errors import ConfigError
from embft.paths import stage_command
from embft.pod import gpus_of, read_template, stage_pod

_API = "trainer.kubeflow.org/v1alpha1"
# The name by which Trainer finds the job, and the container in it, that it gives torchrun's environment.
_NODE = "node"
_STAGE = "fine_tune"
# Longer names would leave no room for what JobSet appends to a pod's: "-node-0-15-abcde", at most 63 in all.
_NAME_LENGTH = 44


def train_job(config: ModelConfig, day: date, nodes: int, include: Path) -> list[dict[str, Any]]:
    """Spell the fine-tuning of a night over several nodes.

    Args:
        config: The model's config, with `runtime.kubernetes`.
        day: The night's day.
        nodes: Pods that train together.
        include: The project's `include` folder, for the pod template.

    Returns:
        A TrainingRuntime and the TrainJob that runs it, to be applied in this order.

    Raises:
        ConfigError: The config has no `runtime.kubernetes`, or its pod template does not exist.
    """
    kubernetes = config.runtime.kubernetes
    if kubernetes is None:
        raise ConfigError(f"{config.name} has no section runtime.kubernetes; it says in which pods a job runs")
    template = read_template(template_of(config.name, kubernetes, include)).content
    return [_runtime(config, kubernetes, template), _job(config, kubernetes, day, nodes)]


def _runtime(config: ModelConfig, kubernetes: Kubernetes, template: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": _API,
        "kind": "TrainingRuntime",
        "metadata": {
            # Without the day: one runtime serves all nights of a model.
            "name": _name(config.name),
            "namespace": kubernetes.namespace,
            "labels": {**_labels(config), "trainer.kubeflow.org/framework": "torch"},
        },
        "spec": {
            # The job says how many nodes; torch makes Trainer set what torchrun reads.
            "mlPolicy": {"torch": {}},
            "template": {"spec": _job_set(config, kubernetes, template)},
        },
    }


def _job(config: ModelConfig, kubernetes: Kubernetes, day: date, nodes: int) -> dict[str, Any]:
    name = _name(config.name)
    return {
        "apiVersion": _API,
        "kind": "TrainJob",
        "metadata": {
            "name": f"{name}-{day.isoformat()}",
            "namespace": kubernetes.namespace,
            "labels": {**_labels(config), "embft-day": day.isoformat()},
        },
        "spec": {
            "runtimeRef": {"apiGroup": _API.split("/")[0], "kind": "TrainingRuntime", "name": name},
            "trainer": {
                "numNodes": nodes,
                # One process for each GPU; Trainer's own guess would be one for each core where there is none.
                "numProcPerNode": max(1, gpus_of(kubernetes, _STAGE)),
                "command": ["python", "-m", "torch.distributed.run"],
                "args": _arguments(config, kubernetes, day),
            },
        },
    }


def _job_set(config: ModelConfig, kubernetes: Kubernetes, template: dict[str, Any]) -> dict[str, Any]:
    pod = stage_pod(kubernetes, _STAGE, template)
    spec = pod["spec"]
    spec["containers"][0]["name"] = _NODE
    spec["activeDeadlineSeconds"] = config.runtime.timeout_s
    of_template = pod.get("metadata") or {}
    metadata = {
        # The pods of one job talk to each other: a network policy lets them by the last of these.
        "labels": {**(of_template.get("labels") or {}), **_labels(config), "embft-nodes": "several"},
        "annotations": of_template.get("annotations") or {},
    }
    return {
        # A node that is lost ends all processes; they start again together and go on from the last checkpoint.
        "failurePolicy": {"maxRestarts": config.runtime.retries},
        "replicatedJobs": [
            {
                "name": _NODE,
                "template": {
                    "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                    # One pod that starts anew on its own would find the others in the middle of an epoch.
                    "spec": {"backoffLimit": 0, "template": {"metadata": metadata, "spec": spec}},
                },
            }
        ],
    }


def _arguments(config: ModelConfig, kubernetes: Kubernetes, day: date) -> list[str]:
    # torchrun kills what does not end 30 s after SIGTERM, whatever grace the pod has; a checkpoint may take longer.
    patience_s = max(1, kubernetes.grace_s - 10)
    stage = ["embft", stage_command(_STAGE), "--model", config.name, "--day", day.isoformat(), "--json"]
    return [f"--shutdown-timeout={patience_s}", "-m", *stage]


def _labels(config: ModelConfig) -> dict[str, str]:
    return {"embft-model": config.name, "embft-stage": _STAGE}


def _name(model: str) -> str:
    name = f"embft-{model}".replace("_", "-")
    room = _NAME_LENGTH - len("-2026-01-01")
    if name == f"embft-{model}" and len(name) <= room:
        return name
    # Cut short or respelt, two models could share a name.
    digest = hashlib.sha256(model.encode()).hexdigest()[:6]
    return f"{name[: room - 7].rstrip('-')}-{digest}"
