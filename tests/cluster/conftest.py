"""Clusters on real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.support import Cluster, open_cluster
from tests.servers.postgres import Database
from tests.servers.rabbitmq import VirtualHost
from tests.servers.s3 import S3Bucket


@pytest.fixture
def cluster(tmp_path: Path, postgres: Database, rabbitmq: VirtualHost, s3_bucket: S3Bucket) -> Iterator[Cluster]:
    """Return a cluster without processes, on servers of its own."""
    settings = {"DATABASE_URL": postgres.url, "BROKER_URL": rabbitmq.url, "STORAGE_URL": s3_bucket.url()}
    with open_cluster(tmp_path, settings) as running:
        yield running
