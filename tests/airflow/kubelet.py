"""The emulated cluster's node: runs a pod's command as a local subprocess, and lets it meet its faults."""

import asyncio
import json
import os
import re
import signal
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

# Grace periods are minutes; a test has seconds.
GRACE_FACTOR = 0.05
LINGER_S = 3.0
Fault = dict[str, Any]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Pod:
    """A pod object, its process, its log, and what is to happen to it."""

    body: dict[str, Any]
    faults: list[Fault]
    touch: Callable[[], str]
    process: asyncio.subprocess.Process | None = None
    lines: list[tuple[datetime, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: int = 0

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def is_over(self) -> bool:
        return self.body["status"]["phase"] in ("Succeeded", "Failed")

    def fault(self, *kinds: str) -> Fault | None:
        return next((it for it in self.faults if it["do"] in kinds), None)

    def set_state(self, phase: str, state: dict[str, Any] | None, **status: Any) -> None:
        container = {"name": "base", "ready": phase == "Running", "restartCount": 0, "image": "x", "imageID": "x"}
        kept = {key: self.body["status"][key] for key in ("conditions", "startTime") if key in self.body["status"]}
        self.body["status"] = kept | {"phase": phase, **status}
        if state:
            self.body["status"]["containerStatuses"] = [{**container, "state": state}]
        self.body["metadata"]["resourceVersion"] = self.touch()

    def condition(self, kind: str, status: str, **words: str) -> None:
        conditions = [it for it in self.body["status"].get("conditions", []) if it["type"] != kind]
        self.body["status"]["conditions"] = [*conditions, {"type": kind, "status": status, **words}]

    def tell(self, reason: str, message: str, kind: str = "Normal") -> None:
        metadata = {"name": f"{self.name}.{len(self.events)}", "namespace": self.body["metadata"]["namespace"]}
        self.events.append(
            {
                "metadata": {**metadata, "uid": str(uuid.uuid4()), "resourceVersion": self.touch()},
                "involvedObject": {"kind": "Pod", "name": self.name, "fieldPath": "spec.containers{base}"},
                **{"type": kind, "reason": reason, "message": message, "count": 1},
                **{"firstTimestamp": now(), "lastTimestamp": now()},
            }
        )


class Node:
    """Runs pods; `forget` takes a pod object out of the cluster, `refuse` closes the cluster's API for some seconds.

    `brought` is the environment that image and Secret bring; the rest comes from the pod.
    """

    def __init__(
        self,
        python: str,
        brought: dict[str, str],
        forget: Callable[[Pod], None],
        refuse: Callable[[float], None],
    ) -> None:
        self.python = python
        self.brought = brought
        self.forget = forget
        self.refuse = refuse
        self.tasks: set[asyncio.Task[None]] = set()

    def keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def start(self, pod: Pod) -> None:
        pod.body["status"] = {"phase": "Pending"}
        if pod.fault("never_scheduled"):
            message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
            pod.condition("PodScheduled", "False", reason="Unschedulable", message=message)
            pod.tell("FailedScheduling", message, "Warning")
            return
        pod.condition("PodScheduled", "True")
        pod.tell("Scheduled", "Successfully assigned embft/pod to gpu-node-1")
        pod.body["status"]["startTime"] = now()
        if pod.fault("no_image"):
            message = "failed to resolve reference: not found"
            pod.set_state("Pending", {"waiting": {"reason": "ErrImagePull", "message": message}})
            pod.tell("Failed", f"Failed to pull image: {message}", "Warning")
            return
        await self.run(pod)

    async def run(self, pod: Pod) -> None:
        container = pod.body["spec"]["containers"][0]
        command = [*container["command"], *container.get("args", [])]
        if command[0] == "python":
            command[0] = self.python
        given = {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}
        pod.process = await asyncio.create_subprocess_exec(
            *command,
            env=given | {"PATH": os.environ["PATH"]} | self.brought,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        pod.set_state("Running", {"running": {"startedAt": now()}})
        self.keep(self.follow(pod))

    async def follow(self, pod: Pod) -> None:
        assert pod.process is not None
        assert pod.process.stdout is not None
        async for raw in pod.process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            pod.lines.append((datetime.now(UTC), line))
            for fault in [it for it in pod.faults if "at" in it and re.fullmatch(it["at"], line)]:
                pod.faults.remove(fault)
                self.strike(pod, fault)
        code = await pod.process.wait()
        self.end(pod, 128 - code if code < 0 else code)

    def end(self, pod: Pod, code: int) -> None:
        said = "\n".join(line for _, line in pod.lines[-20:]) if code else ""
        end = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": said, "finishedAt": now()}
        if pod.fault("oom"):
            end |= {"exitCode": 137, "reason": "OOMKilled"}
        if not pod.is_over:
            phase = "Succeeded" if end["exitCode"] == 0 else "Failed"
            pod.set_state("Running" if pod.fault("sidecar") else phase, {"terminated": end})
        if pod.fault("vanish"):
            self.forget(pod)
        pod.ended.set()

    def strike(self, pod: Pod, fault: Fault) -> None:
        """Let happen what is to happen in the middle of a pod's work."""
        kind = fault["do"]
        if kind == "cut_log":
            pod.cuts += 1
        elif kind == "refuse":
            self.refuse(fault["seconds"])
        elif kind == "remove":
            send(pod, signal.SIGKILL)
            self.forget(pod)
        elif kind == "preempt":
            pod.condition("DisruptionTarget", "True", reason="PreemptionByScheduler", message="a more urgent pod came")
            self.delete(pod, grace_s=fault.get("grace_s", 1), linger_s=LINGER_S)
        elif kind in ("evict", "evict_without_status"):
            send(pod, signal.SIGKILL)
            killed = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": now()}}
            evict(pod, killed if kind == "evict" else None)
        elif kind == "deadline":
            send(pod, signal.SIGKILL)
            pod.set_state("Failed", None, reason="DeadlineExceeded", message="Pod was active on the node too long")
        elif kind in ("kill", "oom_now"):
            pod.faults += [{"do": "oom"}] if kind == "oom_now" else []
            send(pod, signal.SIGKILL)

    def delete(self, pod: Pod, grace_s: float, linger_s: float = 0) -> None:
        if pod.process is None or pod.is_over or grace_s == 0:
            send(pod, signal.SIGKILL)
            self.forget(pod)
        elif "deletionTimestamp" not in pod.body["metadata"]:
            gone_by = datetime.now(UTC) + timedelta(seconds=grace_s)
            pod.body["metadata"]["deletionTimestamp"] = gone_by.strftime("%Y-%m-%dT%H:%M:%SZ")
            pod.body["metadata"]["resourceVersion"] = pod.touch()
            self.keep(self.stop(pod, grace_s, linger_s))

    async def stop(self, pod: Pod, grace_s: float, linger_s: float) -> None:
        send(pod, signal.SIGTERM)
        try:
            await asyncio.wait_for(pod.ended.wait(), grace_s)
        except TimeoutError:
            send(pod, signal.SIGKILL)
            await pod.ended.wait()
        await asyncio.sleep(LINGER_S if pod.fault("sidecar") else linger_s)
        self.forget(pod)


def evict(pod: Pod, state: dict[str, Any] | None) -> None:
    message = "The node was low on resource: memory."
    pod.tell("Evicted", message, "Warning")
    pod.set_state("Failed", state, reason="Evicted", message=message)


def send(pod: Pod, number: signal.Signals) -> None:
    if pod.process is not None and pod.process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(pod.process.pid, number)


def faults_of(folder: Path, labels: dict[str, str], ordinal: int) -> list[Fault]:
    """What `faults.json` has for a task's pod: a fault meets its first pod, or `every` one."""
    path = folder / "faults.json"
    listed: list[Fault] = json.loads(path.read_text()) if path.exists() else []
    mine = [it for it in listed if it.get("model") in (None, labels.get("embft-model"))]
    return [dict(it) for it in mine if it.get("every") or ordinal == it.get("pod", 1)]
