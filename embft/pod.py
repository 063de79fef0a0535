"""What a stage's pod gets beside its template, in Kubernetes' own words: for Airflow's operator and `render-job`."""

import copy
from pathlib import Path
from typing import Any

from embft.config import Kubernetes, ModelConfig, pod_template
from embft.paths import SEARCH
from embft.pod_security import breaches
from embft.yaml_files import YamlFile

# Stages that encode text or train; the others would hold a GPU and leave it idle.
GPU_STAGES = ("preprocess_ranks", SEARCH, "fine_tune", "evaluate", "publish")
_GPU = "nvidia.com/gpu"


def gpus_of(kubernetes: Kubernetes, stage: str) -> int:
    """Say how many GPUs a stage's pod gets.

    Args:
        kubernetes: The config's section.
        stage: As in the DAG.

    Returns:
        0 for stages that would leave a GPU idle.
    """
    return kubernetes.gpus if stage in GPU_STAGES else 0


def pod_resources(kubernetes: Kubernetes, stage: str) -> dict[str, dict[str, str]]:
    """Spell what the pod's container gets.

    Args:
        kubernetes: The config's section.
        stage: As in the DAG.

    Returns:
        `requests` and `limits`. They are equal: such a pod is the last that a node under pressure evicts.
    """
    amounts = {"cpu": kubernetes.cpu, "memory": kubernetes.memory}
    if gpus := gpus_of(kubernetes, stage):
        amounts[_GPU] = str(gpus)
    return {"requests": dict(amounts), "limits": amounts}


def pod_environment(kubernetes: Kubernetes, stage: str) -> dict[str, str]:
    """Give the variables that the template cannot know.

    Args:
        kubernetes: The config's section.
        stage: As in the DAG.

    Returns:
        EMBFT_GPUS where the pod gets GPUs: a stage that finds fewer says so, in place of hours on the CPU.
    """
    gpus = gpus_of(kubernetes, stage)
    return {"EMBFT_GPUS": str(gpus)} if gpus else {}


def stage_pod(kubernetes: Kubernetes, stage: str, template: dict[str, Any]) -> dict[str, Any]:
    """Merge the config over the template, as Airflow's operator does.

    Args:
        kubernetes: The config's section.
        stage: As in the DAG.
        template: As of `read_template`.

    Returns:
        The pod, but for its name, its labels and its command.
    """
    pod = copy.deepcopy(template)
    spec = pod["spec"]
    container = spec["containers"][0]
    variables = [{"name": name, "value": value} for name, value in pod_environment(kubernetes, stage).items()]
    secret = kubernetes.env_from_secret
    _extend(container, "env", variables)
    _extend(container, "envFrom", [{"secretRef": {"name": secret}}] if secret else [])
    container |= {"name": "base", "image": kubernetes.image, "resources": pod_resources(kubernetes, stage)}
    # What the config leaves out, the template may give.
    given = {
        "nodeSelector": dict(kubernetes.node_selector),
        "tolerations": [it.model_dump(exclude_none=True) for it in kubernetes.tolerations],
        "priorityClassName": kubernetes.priority_class,
        "runtimeClassName": kubernetes.runtime_class,
        "serviceAccountName": kubernetes.service_account,
        "terminationGracePeriodSeconds": kubernetes.grace_s,
    }
    spec |= {key: value for key, value in given.items() if value}
    # As Airflow's operator sets it: a container that starts again by itself would hide its exit code.
    spec["restartPolicy"] = "Never"
    return pod


def _extend(container: dict[str, Any], key: str, items: list[dict[str, Any]]) -> None:
    if items:
        container[key] = [*(container.get(key) or []), *items]


def read_template(path: Path) -> YamlFile:
    """Read a pod template.

    Args:
        path: The file.

    Returns:
        The file; its content is a mapping whose `spec.containers` begins with a mapping.

    Raises:
        ConfigError: It is missing, is not YAML, or is no pod with a container.
    """
    file = YamlFile(path)
    spec = file.content.get("spec") if isinstance(file.content, dict) else None
    containers = spec.get("containers") if isinstance(spec, dict) else None
    if not isinstance(containers, list) or not containers or not isinstance(containers[0], dict):
        raise file.fault(
            ("spec", "containers"), "a pod template needs a container; the first is the stage's, named base"
        )
    return file


def warnings_of_pods(config: ModelConfig, include: Path) -> list[str]:
    """Say where a model's pods have more rights than a stage needs.

    Args:
        config: The model's config.
        include: The project's `include` folder.

    Returns:
        A sentence for each, with file and line of the template; none where no stage runs in a pod.

    Raises:
        ConfigError: The template does not exist, or is none.
    """
    kubernetes, path = config.runtime.kubernetes, pod_template(config, include)
    if kubernetes is None or path is None:
        return []
    file = read_template(path)
    found = breaches(stage_pod(kubernetes, "fine_tune", file.content))
    return [f"{file.place(breach.where)}: {breach}" for breach in found]
