"""The few calls of Airflow's REST API that the demo makes: what the web page's backfill form calls, too."""

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import tenacity


class AirflowApi:
    """One Airflow that asks for no login."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._token = self._call("GET", "/auth/token")["access_token"]

    def wait_for_dag(self, dag_id: str, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._call("GET", f"/api/v2/dags/{dag_id}")
                return
            except HTTPError as error:
                if error.code != 404 or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def backfill(self, dag_id: str, first: str, last: str, *, max_active_runs: int = 1, **conf: Any) -> int:
        body = {
            "dag_id": dag_id,
            "from_date": first,
            "to_date": last,
            "max_active_runs": max_active_runs,
            "reprocess_behavior": "completed",
            "dag_run_conf": conf,
        }
        return int(self._call("POST", "/api/v2/backfills", body)["id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        runs = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?order_by=logical_date")["dag_runs"]
        return list(runs)

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=100"
        return list(self._call("GET", path)["task_instances"])

    # Airflow on SQLite answers 503 where its own parts hold the database at that moment; nothing was done then.
    @tenacity.retry(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, HTTPError) and error.code == 503),
        wait=tenacity.wait_fixed(2),
        stop=tenacity.stop_after_delay(120),
        reraise=True,
    )
    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if path.startswith("/api"):
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self._base + path, data, headers, method=method), timeout=60) as answer:
            parsed: dict[str, Any] = json.load(answer)
            return parsed
