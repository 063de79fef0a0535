"""From a config to the arguments of `KubernetesPodOperator`, with the reason for each."""

from pathlib import Path
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from kubernetes.client import models as k8s

from embft.config import Kubernetes, ModelConfig, Toleration, pod_template
from embft.errors import ConfigError
from embft.pod import pod_environment, pod_resources

_LOG_EVERY_S = 60


def pod_settings(config: ModelConfig, stage: str, include: str) -> dict[str, Any]:
    """Spell a stage's pod, but for its day and its command's arguments.

    Args:
        config: The model's config, with `runtime.kubernetes`.
        stage: The stage.
        include: The project's `include` folder.

    Returns:
        Keyword arguments of `KubernetesPodOperator`.

    Raises:
        ConfigError: The config has no `runtime.kubernetes`, or the pod template does not exist.
    """
    kubernetes, template = config.runtime.kubernetes, pod_template(config, Path(include))
    if kubernetes is None or template is None:
        raise ConfigError(f"{stage} of {config.name} is a pod's task, but no stage of runtime.stages runs in a pod")
    return {
        **_what_to_run(config, kubernetes, stage, template),
        **_how_long(config, kubernetes),
        **_how_to_end(kubernetes),
        # None: the cluster that Airflow itself runs in.
        "kubernetes_conn_id": kubernetes.connection_id,
        "namespace": kubernetes.namespace,
    }


def _what_to_run(config: ModelConfig, kubernetes: Kubernetes, stage: str, template: Path) -> dict[str, Any]:
    return {
        "pod_template_file": str(template),
        # Pinned by digest in the config: the code that trains is the code that was reviewed.
        "image": kubernetes.image,
        # The worker's command with the image's own interpreter; arguments follow when the day is known.
        "cmds": ["python"],
        "name": f"embft-{config.name}-{stage}".replace("_", "-")[:50].rstrip("-"),
        # To find and count pods by; Airflow adds dag, task, run and try, which are the same in a staging Airflow.
        "labels": {
            "embft-model": make_safe_label_value(config.name),
            "embft-stage": stage,
            "embft-artifacts": make_safe_label_value(config.storage.artifacts),
        },
        "env_vars": pod_environment(kubernetes, stage),
        # Secrets come by reference alone: the pod's specification, which many may read, holds none.
        "env_from": _secret(kubernetes.env_from_secret) if kubernetes.env_from_secret else [],
        "container_resources": k8s.V1ResourceRequirements(**pod_resources(kubernetes, stage)),
        "node_selector": dict(kubernetes.node_selector),
        "tolerations": [_toleration(it) for it in kubernetes.tolerations],
        "priority_class_name": kubernetes.priority_class,
        "runtime_class_name": kubernetes.runtime_class,
        # Clouds mount their own token for it; that of Kubernetes stays away, as the template says.
        "service_account_name": kubernetes.service_account,
        # Whoever ends the pod, a training has this long to bring its checkpoint to S3.
        "termination_grace_period": kubernetes.grace_s,
    }


def _how_long(config: ModelConfig, kubernetes: Kubernetes) -> dict[str, Any]:
    return {
        # Two waits one after the other: for a node (the autoscaler starts one), then for a big image.
        "schedule_timeout_seconds": kubernetes.schedule_timeout_s,
        "startup_timeout_seconds": kubernetes.startup_timeout_s,
        # The cluster's own limit, counted from the pod's arrival on its node, so the image's pull is in it: a pod whose
        # worker is gone for good must not hold a GPU for ever.
        "active_deadline_seconds": kubernetes.startup_timeout_s + config.runtime.timeout_s,
    }


def _how_to_end(kubernetes: Kubernetes) -> dict[str, Any]:
    return {
        # A retry after the worker's death finds the running pod and goes on with it, instead of starting a second.
        "durable": True,
        # Deferred, the task waits in the triggerer and holds no worker slot for hours.
        "deferrable": kubernetes.deferrable,
        "get_logs": True,
        # Of a deferred task: else its log would come all at once, at the end.
        "logging_interval": _LOG_EVERY_S if kubernetes.deferrable else None,
        # No sidecar: a failed pod with one can hang for ever, and the result is in S3 anyway.
        "do_xcom_push": False,
        # No pod outlives its task, however the task ends; what it said is in the task's log.
        "on_finish_action": "delete_pod",
        "on_kill_action": "delete_pod",
        # Evicted, out of memory, image not found: the cluster says so in events, which go with the pod.
        "log_events_on_failure": True,
        # The whole specification, environment included, in every failure's log helps nobody and may tell too much.
        "log_pod_spec_on_failure": False,
        # The stage's last lines come with the pod's state, even where its log cannot be read.
        "termination_message_policy": "FallbackToLogsOnError",
        # Each line is the stage's own, as on the worker.
        "container_name_log_prefix_enabled": False,
    }


def _secret(name: str) -> list[k8s.V1EnvFromSource]:
    return [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=name))]


def _toleration(toleration: Toleration) -> k8s.V1Toleration:
    return k8s.V1Toleration(
        key=toleration.key, operator=toleration.operator, value=toleration.value, effect=toleration.effect
    )
