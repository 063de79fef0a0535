"""What a stage's pod gets beside its template, in Kubernetes' own words: for Airflow's operator and `render-job`."""

from embft.config import Kubernetes

# Stages that encode text or train; the others would hold a GPU and leave it idle.
_GPU_STAGES = ("preprocess_ranks", "fine_tune", "evaluate", "publish")
_GPU = "nvidia.com/gpu"


def gpus_of(kubernetes: Kubernetes, stage: str) -> int:
    """Say how many GPUs a stage's pod gets.

    Args:
        kubernetes: The config's section.
        stage: As in the DAG.

    Returns:
        0 for stages that would leave a GPU idle.
    """
    return kubernetes.gpus if stage in _GPU_STAGES else 0


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
