"""The "restricted" pod security standard: each of its rules, one pod that breaks it, and the sentence that says so."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from embft.cli import app
from embft.config import Kubernetes
from embft.pod import stage_pod
from embft.pod_security import breaches

REPOSITORY = Path(__file__).parents[2]
IMAGE = "registry.example.com/embft@sha256:" + "a" * 64
TEMPLATE = yaml.safe_load((REPOSITORY / "include" / "kubernetes" / "finetune_pod.yaml").read_text())
POD = stage_pod(Kubernetes(image=IMAGE), "fine_tune", TEMPLATE)


def broken(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> list[str]:
    """What is said of the shipped pod after a change to its specification or its container."""
    pod = copy.deepcopy(POD)
    change(pod["spec"], pod["spec"]["containers"][0])
    return [str(breach) for breach in breaches(pod)]


def set_in(section: dict[str, Any], **values: Any) -> None:
    section.update(values)


def test_the_shipped_pod_keeps_to_the_standard() -> None:
    assert breaches(POD) == []


def test_the_shipped_template_lacks_only_what_the_config_gives() -> None:
    assert [str(it) for it in breaches(TEMPLATE)] == [
        "spec.containers.0.resources.limits: has no cpu and no memory",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec, _: set_in(spec, hostNetwork=True), "spec.hostNetwork: is True; leave it out"),
        (lambda spec, _: set_in(spec, hostPID=True), "spec.hostPID: is True"),
        (
            lambda spec, _: spec["volumes"].append(
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
            ),
            "spec.volumes.2.projected: mounts a token of the service account",
        ),
        (lambda spec, _: set_in(spec, hostIPC=True), "spec.hostIPC: is True"),
        (
            lambda spec, _: spec.pop("automountServiceAccountToken"),
            "spec.automountServiceAccountToken: is not false; a stage needs no rights in the cluster",
        ),
        (
            lambda spec, _: set_in(spec["securityContext"], runAsUser=0),
            "spec.securityContext.runAsUser: is 0, which is root",
        ),
        (
            lambda spec, _: spec["securityContext"].pop("runAsNonRoot"),
            "spec.containers.0.securityContext.runAsNonRoot: is not true, here or for the pod",
        ),
        (
            lambda spec, _: spec["securityContext"].pop("seccompProfile"),
            "spec.containers.0.securityContext.seccompProfile: is missing, here and for the pod",
        ),
        (
            lambda spec, _: set_in(spec["securityContext"], seccompProfile={"type": "Unconfined"}),
            "spec.securityContext.seccompProfile.type: is 'Unconfined'; expected RuntimeDefault or Localhost",
        ),
        (
            lambda spec, _: set_in(spec["securityContext"], appArmorProfile={"type": "Unconfined"}),
            "spec.securityContext.appArmorProfile.type: is 'Unconfined'",
        ),
        (
            lambda spec, _: set_in(spec["securityContext"], sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
            "spec.securityContext.sysctls.0: 'kernel.msgmax' is not among the safe ones",
        ),
        (
            lambda spec, _: set_in(spec["securityContext"], seLinuxOptions={"type": "spc_t"}),
            "spec.securityContext.seLinuxOptions: is set; expected no user, no role",
        ),
        (
            lambda spec, _: set_in(spec["securityContext"], windowsOptions={"hostProcess": True}),
            "spec.securityContext.windowsOptions.hostProcess: is True",
        ),
        (
            lambda _, base: set_in(base["securityContext"], privileged=True),
            "spec.containers.0.securityContext.privileged: is True; leave it out",
        ),
        (
            lambda _, base: base["securityContext"].pop("allowPrivilegeEscalation"),
            "spec.containers.0.securityContext.allowPrivilegeEscalation: is not false",
        ),
        (
            lambda _, base: set_in(base["securityContext"], readOnlyRootFilesystem=False),
            "spec.containers.0.securityContext.readOnlyRootFilesystem: is not true; scratch files go to an emptyDir",
        ),
        (
            lambda _, base: set_in(base["securityContext"], runAsNonRoot=False),
            "spec.containers.0.securityContext.runAsNonRoot: is false",
        ),
        (
            lambda _, base: set_in(base["securityContext"], procMount="Unmasked"),
            "spec.containers.0.securityContext.procMount: is 'Unmasked'; expected Default",
        ),
        (
            lambda _, base: set_in(base["securityContext"], capabilities={"add": ["SYS_ADMIN"]}),
            "spec.containers.0.securityContext.capabilities.add: holds SYS_ADMIN; a stage needs none",
        ),
        (
            lambda _, base: base["securityContext"].pop("capabilities"),
            'spec.containers.0.securityContext.capabilities.drop: lacks "ALL"',
        ),
        (
            lambda _, base: set_in(base, ports=[{"containerPort": 80, "hostPort": 80}]),
            "spec.containers.0.ports.0.hostPort: is 80; leave it out",
        ),
        (
            lambda _, base: set_in(base, livenessProbe={"httpGet": {"host": "10.0.0.1", "port": 80}}),
            "spec.containers.0.livenessProbe.httpGet.host: is '10.0.0.1'",
        ),
        (
            lambda _, base: set_in(base, lifecycle={"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}}),
            "spec.containers.0.lifecycle.preStop.tcpSocket.host: is '10.0.0.1'",
        ),
        (
            lambda _, base: base.pop("resources"),
            "spec.containers.0.resources.limits: has no cpu and no memory",
        ),
        (
            lambda _, base: base["env"].append({"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}),
            "AWS_SECRET_ACCESS_KEY is written in the clear; take it from a Secret by valueFrom.secretKeyRef",
        ),
        (
            lambda _, base: base["env"].append({"name": "DB_PWD", "value": "x"}),
            "DB_PWD is written in the clear",
        ),
        (
            lambda _, base: base["env"].append({"name": "MLFLOW_TRACKING_URI", "value": "https://me:x@mlflow.example"}),
            "MLFLOW_TRACKING_URI is written in the clear",
        ),
        (
            lambda spec, _: spec["volumes"].append({"name": "disk", "hostPath": {"path": "/"}}),
            "spec.volumes.2.hostPath: is a kind of volume that the standard refuses; expected one of configMap, csi",
        ),
        (
            lambda spec, _: spec["volumes"].append({"name": "more", "emptyDir": {}}),
            "spec.volumes.2.emptyDir: has no sizeLimit; it may fill the node's disk",
        ),
    ],
)
def test_each_breach_is_named_with_its_field(
    change: Callable[[dict[str, Any], dict[str, Any]], object], said: str
) -> None:
    found = broken(change)
    assert [sentence for sentence in found if said in sentence], found


def test_sidecars_and_init_containers_are_held_to_it_too() -> None:
    found = broken(lambda spec, _: set_in(spec, initContainers=[{"name": "fetch", "image": "busybox"}]))
    fields = {sentence.split(": ")[0].removeprefix("spec.initContainers.0.") for sentence in found}
    assert fields == {
        "securityContext.allowPrivilegeEscalation",
        "securityContext.readOnlyRootFilesystem",
        "securityContext.capabilities.drop",
        "resources.limits",
    }


def test_a_secret_by_reference_is_no_breach() -> None:
    reference = {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "embft", "key": "api"}}}
    assert broken(lambda _, base: base["env"].append(reference)) == []


@pytest.mark.parametrize("profile", ["unconfined", "none"])
def test_an_old_annotation_that_lifts_apparmor_is_named(profile: str) -> None:
    name = "container.apparmor.security.beta.kubernetes.io/base"
    pod = {**POD, "metadata": {"annotations": {name: profile}}}
    assert [str(it) for it in breaches(pod)] == [f"metadata.annotations.{name}: is {profile}; expected runtime/default"]


def test_a_field_that_is_null_counts_as_left_out() -> None:
    assert broken(lambda _, base: set_in(base["securityContext"], runAsNonRoot=None, procMount=None)) == []


@pytest.fixture
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "include"
    (folder / "models").mkdir(parents=True)
    (folder / "kubernetes").mkdir()
    (folder / "expectations").mkdir()
    for name in ("catalogue", "sessions", "ranks"):
        (folder / "expectations" / f"{name}.yaml").write_text("[]\n")
    text = (REPOSITORY / "include" / "models" / "demo.yaml").read_text()
    pod = f"  stages: {{fine_tune: pod}}\n  kubernetes: {{image: {IMAGE}}}\n"
    (folder / "models" / "demo.yaml").write_text(text + pod)
    monkeypatch.setenv("EMBFT_INCLUDE", str(folder))
    return folder


def write_template(include: Path, text: str) -> Path:
    path = include / "kubernetes" / "finetune_pod.yaml"
    path.write_text(text)
    return path


def test_config_check_warns_with_file_and_line_and_lets_the_platform_team_decide(include: Path) -> None:
    shipped = (REPOSITORY / "include" / "kubernetes" / "finetune_pod.yaml").read_text()
    path = write_template(include, shipped.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"))
    line = next(n for n, it in enumerate(path.read_text().splitlines(), 1) if "readOnlyRootFilesystem" in it)
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0
    where = f"warning: {path}:{line}: spec.containers.0.securityContext.readOnlyRootFilesystem: is not true"
    assert where in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_config_check_is_silent_about_the_shipped_template(include: Path) -> None:
    write_template(include, (REPOSITORY / "include" / "kubernetes" / "finetune_pod.yaml").read_text())
    result = CliRunner().invoke(app, ["config", "check"])
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spec: {containers: []}", "finetune_pod.yaml:1: spec.containers: a pod template needs a container"),
        ("spec: [", "finetune_pod.yaml:2: not valid YAML"),
        ("nothing", "finetune_pod.yaml:1: spec.containers: a pod template needs a container"),
    ],
)
def test_a_template_that_is_none_is_a_fault(include: Path, text: str, said: str) -> None:
    write_template(include, text)
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_template_of_the_wrong_shape_is_told_and_no_crash(include: Path) -> None:
    write_template(include, "spec: {volumes: 1, securityContext: [], containers: [{securityContext: x, env: {}}]}")
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0
    assert "spec.containers.0.securityContext.runAsNonRoot: is not true" in result.stderr


@pytest.mark.parametrize(
    "container",
    [
        "{env: [{name: 3, value: x}]}",
        "{securityContext: {capabilities: {drop: 5, add: SYS_ADMIN}}}",
        "{securityContext: {capabilities: {drop: ALL}}}",
    ],
)
def test_values_of_the_wrong_kind_are_no_crash(include: Path, container: str) -> None:
    write_template(include, f"metadata: {{annotations: {{1: x}}}}\nspec: {{containers: [{container}]}}")
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0, result.exception
    assert 'spec.containers.0.securityContext.capabilities.drop: lacks "ALL"' in result.stderr
