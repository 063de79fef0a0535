"""What all DAGs of a model have in common: whose they are, how they retry, and what they tell other DAGs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset

from embft.airflow.docs import TASK_DOCS
from embft.config import ModelConfig
from embft.paths import Paths
from embft.pod import GPU_STAGES

# A team's own checks often ask for at least two; every task states its real number itself.
_LEAST_DEFAULT_RETRIES = 2
_LONGEST_WAIT = timedelta(hours=1)


def default_arguments(config: ModelConfig) -> dict[str, Any]:
    """Give the `default_args` of a model's DAGs.

    Args:
        config: The model's config.

    Returns:
        Owner and retries.
    """
    return {
        "owner": config.owner,
        "retries": max(_LEAST_DEFAULT_RETRIES, config.runtime.retries),
        "retry_delay": timedelta(seconds=config.runtime.retry_delay_s),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": _LONGEST_WAIT,
    }


def tags_of(config: ModelConfig, kind: str) -> list[str]:
    """Give the tags of one of a model's DAGs.

    Args:
        config: The model's config.
        kind: What the DAG does, in a word.

    Returns:
        Tags; a model of simulated clicks says so.
    """
    return ["embft", kind, config.name, *(["synthetic"] if config.synthetic else [])]


def runs_in_pod(config: ModelConfig, stage: str) -> bool:
    """Say whether a stage runs in a pod."""
    return config.runtime.stages.get(stage) == "pod"


def task_arguments(config: ModelConfig, include: Path, stage: str) -> dict[str, Any]:
    """Give what a stage's operator is made from, wherever it runs.

    Args:
        config: The model's config.
        include: The project's `include` folder.
        stage: The stage.

    Returns:
        Keyword arguments of `StageOperator` and `StagePodOperator`.
    """
    runtime = config.runtime
    limit_s = runtime.timeout_s
    if runs_in_pod(config, stage) and runtime.kubernetes:
        # The stage's own time begins when its pod has started. A deferred task is looked at anew when it wakes, so
        # it may take twice this to stop; what frees the GPU in time is the pod's own active deadline.
        limit_s += runtime.kubernetes.schedule_timeout_s + runtime.kubernetes.startup_timeout_s
    return {
        "task_id": stage,
        "stage": stage,
        "model": config.name,
        "include": str(include),
        "retries": runtime.retries,
        "execution_timeout": timedelta(seconds=limit_s),
        "doc_md": TASK_DOCS[stage],
        # So that no more trainings run at once than there are GPUs, whoever started them.
        **({"pool": runtime.pool} if runtime.pool and stage in GPU_STAGES else {}),
        **({"outlets": [vectors_asset(config)]} if stage == "publish" else {}),
    }


def vectors_asset(config: ModelConfig) -> Asset:
    """Give the asset that changes when other vectors serve: the pointer that names them.

    Args:
        config: The model's config.

    Returns:
        `<model>_vectors`; a DAG with it as its schedule runs after each change.
    """
    return Asset(name=f"{config.name}_vectors", uri=Paths(config.storage.artifacts, config.name).current_vectors)
