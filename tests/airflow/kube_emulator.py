"""As much of a Kubernetes API as Airflow's pod operator calls, with a node that runs the pod's command here.

A process of its own, so that pods outlive a killed worker. Not here: images, mounts, RBAC, a scheduler. A pod that a
real cluster would refuse is refused: its body is held against the Kubernetes OpenAPI schema, unknown fields included.

Faults are read from `faults.json` in its folder when a pod is asked for, a list of objects: `do`, and for those in the
middle of the work `at`, a pattern of the log line at which they come. `every` pod of the task meets it, or its first.

    answer            POST answers `status`, `times` times, perhaps with `retry_after` or a `message`
    lose_answer       the pod is created, but the connection closes without an answer
    never_scheduled   no node has room; the pod stays Pending
    no_image          the image cannot be pulled
    cut_log           log streams end; what follows can be read anew
    refuse            the API takes no connection for `seconds`, and loses those it has
    remove            the pod object is gone at once, and its process with it
    preempt           SIGTERM, `grace_s`, SIGKILL; the ended pod can be seen some seconds longer
    evict             SIGKILL; the pod is Failed as Evicted; `evict_without_status`: with no container's status
    deadline          SIGKILL; the pod is Failed as DeadlineExceeded
    kill              SIGKILL
    oom, oom_now      the container's end, or its end now, is reported as OOMKilled
    vanish            the pod object is gone as soon as its command has ended
    sidecar           something beside the command runs on when that has ended, and takes seconds to stop

What was created, refused and deleted is appended to `pods.jsonl`.
"""

import asyncio
import json
import signal
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
from aiohttp import web

from tests.airflow.kubelet import GRACE_FACTOR, Node, Pod, faults_of, now, send

VERSION = "1.37"


class Cluster:
    """All pods of all namespaces, and the API to them."""

    def __init__(self, folder: Path, python: str, brought: dict[str, str]) -> None:
        self.folder = folder
        self.pods: dict[str, Pod] = {}
        self.asked: dict[tuple[str, ...], int] = {}
        self.made: dict[tuple[str, ...], int] = {}
        self.version = 0
        self.node = Node(python, brought, self.forget, self.refuse)
        self.refused_s = asyncio.Queue[float]()

    def touch(self) -> str:
        self.version += 1
        return str(self.version)

    def refuse(self, seconds: float) -> None:
        self.refused_s.put_nowait(seconds)

    def note(self, event: str, body: dict[str, Any]) -> None:
        with (self.folder / "pods.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, "name": body["metadata"]["name"], "body": body}) + "\n")

    def forget(self, pod: Pod) -> None:
        if self.pods.pop(pod.name, None):
            self.note("deleted", pod.body)

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        labels = body["metadata"].get("labels", {})
        task = tuple(labels.get(it, "") for it in ("dag_id", "run_id", "task_id", "map_index"))
        self.asked[task] = self.asked.get(task, 0) + 1
        faults = faults_of(self.folder, labels, self.made.get(task, 0) + 1)
        refusal = next((it for it in faults if it["do"] == "answer"), None)
        if refusal and self.asked[task] <= refusal["times"]:
            again = {"Retry-After": str(refusal["retry_after"])} if "retry_after" in refusal else {}
            reason = "TooManyRequests" if again else "InternalError"
            return failure(refusal["status"], reason, refusal.get("message", ""), headers=again)
        if body["metadata"]["name"] in self.pods:
            return failure(409, "AlreadyExists")
        wrong = fault_in(body)
        if wrong:
            self.note("refused", body)
            return failure(422, "Invalid", wrong)
        self.made[task] = self.made.get(task, 0) + 1
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "resourceVersion": self.touch()}
        pod = self.pods[body["metadata"]["name"]] = Pod(body, faults, self.touch)
        if pod.fault("sidecar"):
            # As a mesh's webhook does it; whoever created the pod has not asked for it.
            body["spec"]["containers"].append({"name": "proxy", "image": "proxy"})
        self.note("created", pod.body)
        await self.node.start(pod)
        if pod.fault("lose_answer") and request.transport:
            request.transport.abort()
        return web.json_response(pod.body, status=201)

    async def list(self, request: web.Request) -> web.Response:
        selector = request.query.get("labelSelector", "")
        items = [pod.body for pod in self.pods.values() if matches(pod.body["metadata"].get("labels", {}), selector)]
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items})

    async def get(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        return web.json_response(pod.body) if pod else failure(404, "NotFound")

    async def patch(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return failure(404, "NotFound")
        merge(pod.body, json.loads(await request.text()))
        pod.body["metadata"]["resourceVersion"] = self.touch()
        return web.json_response(pod.body)

    async def delete(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None:
            return failure(404, "NotFound")
        options = json.loads(await request.text() or "{}")
        asked = request.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
        grace_s = float(pod.body["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)
        self.node.delete(pod, grace_s * GRACE_FACTOR)
        return web.json_response(pod.body)

    async def log(self, request: web.Request) -> web.StreamResponse:
        pod, query = self.pods.get(request.match_info["name"]), request.query
        if pod is None:
            return failure(404, "NotFound")
        if pod.process is None:
            return failure(400, "BadRequest", 'container "base" in pod is waiting to start: ContainerCreating')
        response = web.StreamResponse()
        await response.prepare(request)
        sent, cuts = first_line(pod, query), pod.cuts
        while True:
            over = pod.ended.is_set()
            for moment, line in pod.lines[sent:]:
                stamp = f"{moment:%Y-%m-%dT%H:%M:%S.%fZ} " if is_true(query.get("timestamps")) else ""
                await response.write(f"{stamp}{line}\n".encode())
            sent = len(pod.lines)
            if over or cuts != pod.cuts or not is_true(query.get("follow")):
                return response
            await asyncio.sleep(0.05)

    async def events(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("fieldSelector", "").removeprefix("involvedObject.name=")
        pod = self.pods.get(name)
        if not is_true(request.query.get("watch")):
            metadata = {"resourceVersion": str(self.version)}
            items = pod.events if pod else []
            return web.json_response({"kind": "EventList", "apiVersion": "v1", "metadata": metadata, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        known = int(request.query.get("resourceVersion") or 0)
        until = datetime.now(UTC) + timedelta(seconds=float(request.query.get("timeoutSeconds", 30)))
        while datetime.now(UTC) < until and pod:
            for event in [it for it in pod.events if int(it["metadata"]["resourceVersion"]) > known]:
                known = int(event["metadata"]["resourceVersion"])
                await response.write(json.dumps({"type": "ADDED", "object": event}).encode() + b"\n")
            await asyncio.sleep(0.1)
        return response


def fault_in(body: dict[str, Any]) -> str | None:
    """What a real cluster would say of a pod that it refuses."""
    try:
        kubernetes_validate.validate(body, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    wrong = {key: value for key, value in body["metadata"].get("labels", {}).items() if not is_label(value)}
    return f"metadata.labels: {wrong}" if wrong else None


def is_label(value: str) -> bool:
    inner = value.replace("-", "").replace("_", "").replace(".", "")
    return not value or (len(value) <= 63 and inner.isalnum() and value[0].isalnum() and value[-1].isalnum())


def first_line(pod: Pod, query: Any) -> int:
    if "tailLines" in query:
        return max(len(pod.lines) - int(query["tailLines"]), 0)
    if "sinceSeconds" in query:
        since = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
        return sum(moment < since for moment, _ in pod.lines)
    return 0


def is_true(word: str | None) -> bool:
    return word in ("True", "true", "1")


def failure(status: int, reason: str, message: str = "", headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": status}
    return web.json_response({**body, "message": message or reason}, status=status, headers=headers)


def matches(labels: dict[str, str], selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        if "!=" in term:
            key, value = term.split("!=")
            fits = labels.get(key) != value
        elif term.startswith("!"):
            fits = term[1:] not in labels
        elif "=" in term:
            key, value = term.replace("==", "=").split("=")
            fits = labels.get(key) == value
        else:
            fits = term in labels
        if not fits:
            return False
    return True


def merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


async def serve(cluster: Cluster, port: int) -> web.AppRunner:
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
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    return runner


async def main() -> None:
    folder, python, brought = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    cluster = Cluster(folder, python, brought)
    runner = await serve(cluster, 0)
    port = runner.addresses[0][1]
    (folder / "url").write_text(f"http://127.0.0.1:{port}")
    try:
        while True:
            seconds = await cluster.refused_s.get()
            await runner.cleanup()
            await asyncio.sleep(seconds)
            runner = await serve(cluster, port)
    finally:
        for pod in cluster.pods.values():
            send(pod, signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main())
