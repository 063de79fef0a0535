"""Buckets of the test's S3 server. Everything goes through S3: the server does not see what is put on its disk."""

import itertools
from dataclasses import dataclass
from typing import Any

import boto3

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Bucket:
    """A bucket of a test's own."""

    name: str
    client: Any

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


def new_bucket(endpoint: str) -> Bucket:
    """Make a bucket; credentials come from the environment."""
    client = boto3.session.Session().client("s3", endpoint_url=endpoint)
    name = f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    return Bucket(name, client)
