"""S3, as moto answers it: in memory, so that ``kill`` and ``restart`` lose everything."""

import functools
import sys
from collections.abc import Iterable
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from tests.servers.process import Command, Server

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}


class S3Server(Server):
    """An S3 service at ``endpoint``; every pair of keys is taken."""

    name = "s3"

    @property
    def endpoint(self) -> str:
        """The address for clients of S3."""
        return f"http://127.0.0.1:{self.port}"

    def commands(self) -> Iterable[Command]:
        """Start moto's server."""
        yield Command((sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)))

    @functools.cached_property
    def client(self) -> Any:
        """A boto3 client that looks behind the scenes."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )


class S3Bucket:
    """One bucket of one test."""

    def __init__(self, server: S3Server, name: str) -> None:
        """Create the bucket ``name``."""
        self.server, self.name = server, name
        self.ensure()

    def ensure(self) -> None:
        """Create the bucket anew if the server has forgotten it."""
        self.server.client.create_bucket(Bucket=self.name)

    def url(self, prefix: str = "", endpoint: str | None = None) -> str:
        """Return the setting for object storage; ``endpoint`` leads through a proxy."""
        return f"s3://{self.name}/{prefix}?endpoint={endpoint or self.server.endpoint}&region=us-east-1"

    def names(self) -> list[str]:
        """Return the names of all objects."""
        return [item["Key"] for item in self.server.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def put(self, name: str, data: bytes) -> None:
        """Write an object behind everybody's back."""
        self.server.client.put_object(Bucket=self.name, Key=name, Body=data)

    def multiparts(self) -> int:
        """Return how many multipart uploads were begun and not finished."""
        return len(self.server.client.list_multipart_uploads(Bucket=self.name).get("Uploads", []))
