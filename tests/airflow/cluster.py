"""The services around the tests of pods: an emulated cluster, and an S3."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
import yaml
from moto.server import ThreadedMotoServer

from demo.services import service
from tests.airflow.project import REPO, Project


@contextmanager
def moto_s3() -> Iterator[str]:
    """Serve an S3 with the bucket that the projects use; it takes any credentials."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    key = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=url, **key).create_bucket(Bucket="bucket")
    try:
        yield url
    finally:
        server.stop()


@contextmanager
def cluster_with_stand_in(project: Project, s3: str) -> Iterator[dict[str, str]]:
    """Run a cluster whose image holds the project's stand-in; give the environment in which Airflow reaches both."""
    with emulated_cluster(project.root / "cluster", str(project.python), {"FAKE_S3": s3}) as environment:
        yield environment | {
            "EMBFT_INCLUDE": str(project.include),
            "FAKE_S3": s3,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }


@contextmanager
def emulated_cluster(folder: Path, python: str, brought: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run a cluster whose pods have an interpreter and what image and Secret bring; give Airflow's way to it."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.airflow.kube_emulator", str(folder), python, json.dumps(brought)]
    url = folder / "url"
    with service(
        command,
        folder / "emulator.log",
        lambda: url.exists() and bool(url.read_text()),
        env={**os.environ, "PYTHONPATH": str(REPO)},
    ):
        kubeconfig = _kubeconfig(folder / "kubeconfig.yaml", url.read_text())
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}}
        yield {"AIRFLOW_CONN_CLUSTER": json.dumps(connection)}


def _kubeconfig(path: Path, server: str) -> Path:
    named = {"name": "emulated", "cluster": {"server": server}}
    context = {"name": "emulated", "context": {"cluster": "emulated", "user": "nobody"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [named],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [context],
        "current-context": "emulated",
    }
    path.write_text(yaml.safe_dump(config))
    return path
