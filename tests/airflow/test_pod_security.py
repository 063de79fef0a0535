"""The pods that Airflow's operator sends to a cluster: their security, and nothing secret in the clear."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes import client

from embft.airflow.pods import StagePodOperator
from embft.config import STAGES, load_config
from embft.pod import stage_pod
from embft.pod_security import breaches
from tests.airflow.conftest import make_context
from tests.airflow.project import IMAGE, REPO, Project

FULL = {
    "image": IMAGE,
    "gpus": 2,
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu"}],
    "priority_class": "nightly",
    "runtime_class": "nvidia",
    "service_account": "embft-train",
    "env_from_secret": "embft-secrets",
    "grace_s": 90,
}
MINIMAL = {"image": IMAGE}
SECTIONS = pytest.mark.parametrize("section", [FULL, MINIMAL], ids=["full", "minimal"])


def sent(project: Project, section: dict[str, Any], stage: str = "fine_tune") -> dict[str, Any]:
    """What the operator would post, from the project's config and template."""
    project.add_model(runtime={"stages": dict.fromkeys(STAGES, "pod"), "kubernetes": section})
    task = StagePodOperator(task_id=stage, stage=stage, model="shop", include=str(project.include))
    context = make_context(task)
    context["ti"].run_id = context["run_id"]
    task.arguments = task.arguments_for(context, task.read_config())
    pod = task.build_pod_request_obj(dry_run=True)
    body: dict[str, Any] = client.ApiClient().sanitize_for_serialization(pod)
    return body


def set_keys(section: dict[str, Any], but: tuple[str, ...] = ()) -> dict[str, Any]:
    """What is set; the client's models write empty lists as well."""
    return {key: value for key, value in section.items() if value not in ([], {}, None) and key not in but}


@pytest.mark.parametrize("stage", STAGES)
@SECTIONS
def test_every_stages_pod_keeps_to_the_restricted_standard(
    project: Project, section: dict[str, Any], stage: str
) -> None:
    pod = sent(project, section, stage)
    assert breaches(pod) == []
    kubernetes_validate.validate(pod, "1.37", strict=True)


@SECTIONS
def test_the_pod_is_the_one_that_config_check_judges_and_render_job_prints(
    project: Project, section: dict[str, Any]
) -> None:
    pod = sent(project, section)
    template = yaml.safe_load((project.include / "kubernetes" / "finetune_pod.yaml").read_text())
    kubernetes = load_config(project.include / "models" / "shop.yaml").runtime.kubernetes
    assert kubernetes is not None
    expected = stage_pod(kubernetes, "fine_tune", template)["spec"]
    spec = pod["spec"]
    [ours], [theirs] = expected["containers"], spec["containers"]
    theirs = set_keys(theirs, but=("command", "args", "terminationMessagePolicy"))
    assert theirs == set_keys(ours)
    of_pod = ("activeDeadlineSeconds", "containers", "hostNetwork")
    assert set_keys(spec, but=of_pod) == set_keys(expected, but=of_pod)


def test_a_template_of_the_platform_team_is_merged_alike(project: Project) -> None:
    path = project.include / "kubernetes" / "finetune_pod.yaml"
    template = yaml.safe_load(path.read_text())
    template["spec"]["nodeSelector"] = {"zone": "a"}
    template["spec"]["tolerations"] = [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]
    template["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "proxies"}}]
    template["spec"]["serviceAccountName"] = "theirs"
    path.write_text(yaml.safe_dump(template))
    for section in (FULL, MINIMAL):
        spec = sent(project, section)["spec"]
        kubernetes = load_config(project.include / "models" / "shop.yaml").runtime.kubernetes
        assert kubernetes is not None
        expected = stage_pod(kubernetes, "fine_tune", template)["spec"]
        for key in ("nodeSelector", "tolerations", "serviceAccountName"):
            assert spec[key] == expected[key]
        assert spec["containers"][0]["envFrom"] == expected["containers"][0]["envFrom"]


def test_only_stages_that_use_a_gpu_get_one_and_are_told_how_many(project: Project) -> None:
    told = {}
    for stage in STAGES:
        [container] = sent(project, FULL, stage)["spec"]["containers"]
        variables = {it["name"]: it.get("value") for it in container["env"]}
        gpus = container["resources"]["limits"].get("nvidia.com/gpu")
        assert variables.get("EMBFT_GPUS") == gpus
        told[stage] = gpus
    assert {stage for stage, gpus in told.items() if gpus} == {"preprocess_ranks", "fine_tune", "evaluate", "publish"}
    assert told["fine_tune"] == "2"


def test_a_clouds_service_account_goes_without_kubernetes_own_token(project: Project) -> None:
    spec = sent(project, {**FULL, "env_from_secret": None})["spec"]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("embft-train", False)
    assert not spec["containers"][0].get("envFrom")


def test_nothing_secret_stands_in_the_clear(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "hunter2-aws",
        "AWS_SESSION_TOKEN": "hunter2-session",
        "MLFLOW_TRACKING_PASSWORD": "hunter2-mlflow",
        "EMBFT_CLIENT_KEY": "hunter2-client",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    text = json.dumps(sent(project, FULL))
    assert "hunter2" not in text
    assert '"envFrom": [{"secretRef": {"name": "embft-secrets"}}]' in text


def policies() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((REPO / "include" / "kubernetes" / "network_policy.yaml").read_text()))


def test_the_shipped_network_policies_fit_kubernetes_schema() -> None:
    assert len(policies()) == 2
    for policy in policies():
        kubernetes_validate.validate(policy, "1.37", strict=True)


def test_the_network_policy_is_for_the_pods_that_are_started_and_lets_nothing_in(project: Project) -> None:
    labels = sent(project, FULL)["metadata"]["labels"]
    first, several = policies()
    [selected] = first["spec"]["podSelector"]["matchExpressions"]
    assert selected["operator"] == "Exists"
    assert selected["key"] in labels
    assert set(first["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in first["spec"]
    # Open to the pods of a job over several nodes alone.
    assert several["spec"]["podSelector"]["matchLabels"] == {"embft-nodes": "several"}
    assert "embft-nodes" not in labels


@pytest.mark.parametrize("path", sorted((REPO / "include" / "kubernetes").glob("*.yaml")), ids=lambda path: path.name)
def test_no_shipped_manifest_holds_a_secret(path: Path) -> None:
    kinds = {document["kind"] for document in yaml.safe_load_all(path.read_text())}
    assert kinds <= {"Pod", "NetworkPolicy"}
