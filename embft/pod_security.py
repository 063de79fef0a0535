"""Where a pod falls short of Kubernetes' "restricted" pod security standard, and of what embft asks for beyond it.

A cluster that enforces the standard refuses such a pod at night; one that does not, runs it with more rights than a
stage needs. Either way a person should know when the template is edited.

Source: kubernetes.io/docs/concepts/security/pod-security-standards, profiles Baseline and Restricted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from embft.yaml_files import Location

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
_SELINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_PROFILES = ("RuntimeDefault", "Localhost")
_SECRET_NAME = re.compile(r"(?i)secret|passw|passphrase|pwd|token|credential|(access|api|client|private)_?key")
_PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")


@dataclass(frozen=True)
class Breach:
    """One thing that is too permissive.

    Args:
        where: Keys and indices from the pod's top.
        message: What is there and what is expected.
    """

    where: Location
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.where))}: {self.message}"


def breaches(pod: dict[str, Any]) -> list[Breach]:
    """Check a pod.

    Args:
        pod: As it would be sent to a cluster, or a pod template.

    Returns:
        Every breach, in the pod's order; none for a pod that keeps to the standard and to what embft asks for.
    """
    found = [*_of_annotations(_map(pod, "metadata")), *_of_spec(_map(pod, "spec"))]
    return [Breach(where, message) for where, message in found]


_Found = Iterator[tuple[Location, str]]


def _of_annotations(metadata: dict[str, Any]) -> _Found:
    for name, value in _map(metadata, "annotations").items():
        is_profile = str(name).startswith("container.apparmor.security.beta.kubernetes.io/")
        if is_profile and not re.match(r"(runtime/default|localhost/.*|)$", str(value)):
            yield ("metadata", "annotations", name), f"is {value}; expected runtime/default"


def _of_spec(spec: dict[str, Any]) -> _Found:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        yield from _must_not(spec, key, ("spec", key))
    # Beyond the standard: a stage talks to S3 and MLflow, never to the cluster.
    if spec.get("automountServiceAccountToken") is not False:
        yield ("spec", "automountServiceAccountToken"), "is not false; a stage needs no rights in the cluster"
    context = _map(spec, "securityContext")
    yield from _of_any_context(context, ("spec", "securityContext"))
    for index, sysctl in enumerate(_list(context, "sysctls")):
        if sysctl.get("name") not in _SAFE_SYSCTLS:
            yield ("spec", "securityContext", "sysctls", index), f"{sysctl.get('name')!r} is not among the safe ones"
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(_list(spec, key)):
            yield from _of_container(container, context, ("spec", key, index))
    for index, volume in enumerate(_list(spec, "volumes")):
        yield from _of_volume(volume, ("spec", "volumes", index))


def _of_container(container: dict[str, Any], of_pod: dict[str, Any], where: Location) -> _Found:
    own = _map(container, "securityContext")
    here = (*where, "securityContext")
    yield from _of_any_context(own, here)
    yield from _must_not(own, "privileged", (*here, "privileged"))
    if own.get("allowPrivilegeEscalation") is not False:
        yield (*here, "allowPrivilegeEscalation"), "is not false"
    if own.get("readOnlyRootFilesystem") is not True:
        yield (*here, "readOnlyRootFilesystem"), "is not true; scratch files go to an emptyDir"
    if own.get("procMount") not in (None, "Default"):
        yield (*here, "procMount"), f"is {own['procMount']!r}; expected Default"
    non_root = own.get("runAsNonRoot")
    if (of_pod.get("runAsNonRoot") if non_root is None else non_root) not in (True, False):
        yield (*here, "runAsNonRoot"), "is not true, here or for the pod"
    if not own.get("seccompProfile") and not of_pod.get("seccompProfile"):
        yield (*here, "seccompProfile"), "is missing, here and for the pod; expected type RuntimeDefault"
    yield from _of_capabilities(_map(own, "capabilities"), (*here, "capabilities"))
    for index, port in enumerate(_list(container, "ports")):
        yield from _must_not(port, "hostPort", (*where, "ports", index, "hostPort"))
    for place, action in _actions(container):
        if action.get("host"):
            yield (*where, *place, "host"), f"is {action['host']!r}; a probe or hook asks its own pod alone"
    yield from _of_values(container, where)


def _of_any_context(context: dict[str, Any], here: Location) -> _Found:
    """Check what a pod and a container can both set."""
    if context.get("runAsNonRoot") is False:
        yield (*here, "runAsNonRoot"), "is false"
    if context.get("runAsUser") == 0:
        yield (*here, "runAsUser"), "is 0, which is root"
    for key in ("seccompProfile", "appArmorProfile"):
        profile = _map(context, key)
        if profile and profile.get("type") not in _PROFILES:
            yield (*here, key, "type"), f"is {profile.get('type')!r}; expected {' or '.join(_PROFILES)}"
    selinux = _map(context, "seLinuxOptions")
    if selinux.get("type") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield (*here, "seLinuxOptions"), "is set; expected no user, no role, and a type of containers"
    yield from _must_not(_map(context, "windowsOptions"), "hostProcess", (*here, "windowsOptions", "hostProcess"))


def _of_capabilities(capabilities: dict[str, Any], here: Location) -> _Found:
    drop, add = (it if isinstance(it, list) else [] for it in (capabilities.get("drop"), capabilities.get("add")))
    if "ALL" not in drop:
        yield (*here, "drop"), 'lacks "ALL"'
    added = [str(name) for name in add if name != "NET_BIND_SERVICE"]
    if added:
        yield (*here, "add"), f"holds {', '.join(added)}; a stage needs none"


def _of_values(container: dict[str, Any], where: Location) -> _Found:
    """Check what embft asks for beyond the standard: limits, and no secret in the clear."""
    limits = _map(_map(container, "resources"), "limits")
    lacking = [name for name in ("cpu", "memory") if name not in limits]
    if lacking:
        yield (*where, "resources", "limits"), f"has no {' and no '.join(lacking)}"
    for index, variable in enumerate(_list(container, "env")):
        name, value = str(variable.get("name", "")), str(variable.get("value") or "")
        if value and (_SECRET_NAME.search(name) or _PASSWORD_IN_URL.search(value)):
            message = f"{name} is written in the clear; take it from a Secret by valueFrom.secretKeyRef"
            yield (*where, "env", index), message


def _of_volume(volume: dict[str, Any], where: Location) -> _Found:
    for kind in sorted(volume.keys() - {"name"} - _VOLUMES):
        yield (
            (*where, kind),
            f"is a kind of volume that the standard refuses; expected one of {', '.join(sorted(_VOLUMES))}",
        )
    if any("serviceAccountToken" in it for it in _list(_map(volume, "projected"), "sources")):
        yield (*where, "projected"), "mounts a token of the service account; a stage needs no rights in the cluster"
    if "emptyDir" in volume and not _map(volume, "emptyDir").get("sizeLimit"):
        yield (*where, "emptyDir"), "has no sizeLimit; it may fill the node's disk"


def _actions(container: dict[str, Any]) -> Iterator[tuple[Location, dict[str, Any]]]:
    lifecycle = _map(container, "lifecycle")
    probes = ("livenessProbe", "readinessProbe", "startupProbe")
    holders: list[tuple[Location, dict[str, Any]]] = [((name,), _map(container, name)) for name in probes]
    holders += [(("lifecycle", name), _map(lifecycle, name)) for name in ("postStart", "preStop")]
    for place, holder in holders:
        for kind in ("httpGet", "tcpSocket"):
            yield (*place, kind), _map(holder, kind)


def _must_not(section: dict[str, Any], key: str, where: Location) -> _Found:
    if section.get(key):
        yield where, f"is {section[key]!r}; leave it out"


# A template is a person's file: what has the wrong shape counts as left out, and the cluster refuses it.
def _map(section: dict[str, Any], key: str) -> dict[str, Any]:
    value = section.get(key)
    return value if isinstance(value, dict) else {}


def _list(section: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = section.get(key)
    return [it for it in value if isinstance(it, dict)] if isinstance(value, list) else []
