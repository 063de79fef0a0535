"""As much of a Kubernetes API as Airflow's pod operator calls, with a kubelet that runs the pod's command here.

A process of its own, so that pods outlive a killed worker. Not here: images, mounts, RBAC, scheduling. Faults are read
from `faults.json` in its folder when a pod is created:

    vanish   the pod object is gone as soon as its command has ended
    oom      the container's end is reported as OOMKilled, 137
    evict    the pod is failed by the "node", without any container status
    cut_log  the log ends after its first line

What was created and what was deleted is appended to `pods.jsonl`.
"""

import asyncio
import json
import os
import signal
import sys
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

GRACE_S = 2.0


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Pod:
    """A pod object, its process and its log."""

    body: dict[str, Any]
    faults: dict[str, Any]
    process: asyncio.subprocess.Process | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    def set_state(self, phase: str, state: dict[str, Any] | None, **status: str) -> None:
        container = {"name": "base", "ready": phase == "Running", "restartCount": 0, "image": "x", "imageID": "x"}
        statuses = [{**container, "state": state}] if state else []
        self.body["status"] = {"phase": phase, "startTime": now(), "containerStatuses": statuses, **status}


class Cluster:
    """All pods of all namespaces, and the one node that runs them."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.python = python
        self.pods: dict[str, Pod] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def note(self, event: str, pod: Pod) -> None:
        with (self.folder / "pods.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, "name": pod.name, "body": pod.body}) + "\n")

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["metadata"]["name"] in self.pods:
            return failure(409, "AlreadyExists")
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "resourceVersion": "1"}
        faults_file = self.folder / "faults.json"
        pod = Pod(body, json.loads(faults_file.read_text()) if faults_file.exists() else {})
        self.note("created", pod)
        self.pods[pod.name] = pod
        await self.start(pod)
        return web.json_response(pod.body, status=201)

    async def start(self, pod: Pod) -> None:
        container = pod.body["spec"]["containers"][0]
        command = [*container["command"], *container.get("args", [])]
        if command[0] == "python":
            command[0] = self.python
        # What the image and the secret would bring; EMBFT_INCLUDE and the like come from the pod.
        given = {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}
        kept = {name: os.environ[name] for name in ("PATH", "FAKE_S3") if name in os.environ}
        pod.process = await asyncio.create_subprocess_exec(
            *command,
            env=given | kept,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        pod.set_state("Running", {"running": {"startedAt": now()}})
        self.keep(self.follow(pod))

    def keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def follow(self, pod: Pod) -> None:
        assert pod.process is not None
        assert pod.process.stdout is not None
        async for raw in pod.process.stdout:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            pod.lines.append((stamp, raw.decode(errors="replace").rstrip("\n")))
        code = await pod.process.wait()
        code = 128 - code if code < 0 else code
        said = "\n".join(line for _, line in pod.lines[-20:]) if code else ""
        end = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": said, "finishedAt": now()}
        if pod.faults.get("oom"):
            end |= {"exitCode": 137, "reason": "OOMKilled"}
        phase = "Succeeded" if end["exitCode"] == 0 else "Failed"
        pod.set_state(phase, {"terminated": end})
        if pod.faults.get("evict"):
            pod.set_state("Failed", None, reason="Evicted", message="The node was low on resource: memory.")
        if pod.faults.get("vanish"):
            self.pods.pop(pod.name, None)
        pod.ended.set()

    async def list(self, request: web.Request) -> web.Response:
        selector = request.query.get("labelSelector", "")
        items = [pod.body for pod in self.pods.values() if matches(pod.body["metadata"].get("labels", {}), selector)]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def get(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        return web.json_response(pod.body) if pod else failure(404, "NotFound")

    async def patch(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return failure(404, "NotFound")
        merge(pod.body, json.loads(await request.text()))
        return web.json_response(pod.body)

    async def delete(self, request: web.Request) -> web.Response:
        pod = self.pods.pop(request.match_info["name"], None)
        if pod is None:
            return failure(404, "NotFound")
        self.note("deleted", pod)
        self.keep(stop(pod))
        return web.json_response(pod.body)

    async def log(self, request: web.Request) -> web.StreamResponse:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return failure(404, "NotFound")
        response = web.StreamResponse()
        await response.prepare(request)
        sent = 0
        while True:
            over = pod.ended.is_set()
            lines = pod.lines[:1] if pod.faults.get("cut_log") else pod.lines
            for stamp, line in lines[sent:]:
                await response.write(f"{stamp} {line}\n".encode())
            sent = len(lines)
            if over or request.query.get("follow") != "True":
                return response
            await asyncio.sleep(0.05)

    async def events(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})


async def stop(pod: Pod) -> None:
    process = pod.process
    if process is None or process.returncode is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(pod.ended.wait(), GRACE_S)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)


def failure(status: int, reason: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}
    return web.json_response(body, status=status)


def matches(labels: dict[str, str], selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        if "!=" in term:
            key, value = term.split("!=")
            fits = labels.get(key) != value
        elif term.startswith("!"):
            fits = term[1:] not in labels
        else:
            key, value = term.split("=")
            fits = labels.get(key) == value
        if not fits:
            return False
    return True


def merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


async def main() -> None:
    folder, python = Path(sys.argv[1]), sys.argv[2]
    cluster = Cluster(folder, python)
    pods = "/api/v1/namespaces/{namespace}/pods"
    app = web.Application()
    app.add_routes(
        [
            web.post(pods, cluster.create),
            web.get(pods, cluster.list),
            web.get(pods + "/{name}", cluster.get),
            web.patch(pods + "/{name}", cluster.patch),
            web.delete(pods + "/{name}", cluster.delete),
            web.get(pods + "/{name}/log", cluster.log),
            web.get("/api/v1/namespaces/{namespace}/events", cluster.events),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (folder / "url").write_text(f"http://127.0.0.1:{port}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
