"""The fixtures through which tests ask for servers, and the loud word about tests that had to do without."""

from collections.abc import Iterator
from itertools import count

import pytest

from tests.servers.process import Keeper
from tests.servers.s3 import KEYS, S3Bucket, S3Server

_numbers = count(1)


@pytest.fixture(scope="session")
def server_keeper() -> Iterator[Keeper]:
    """Return what ends all servers, even when the test run is killed."""
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture(scope="session")
def s3_server(server_keeper: Keeper) -> Iterator[S3Server]:
    """Return a running S3 service, shared by all tests."""
    server = S3Server(server_keeper)
    server.start()
    yield server
    server.close()


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """Return an empty bucket of the test's own; its keys are in the environment."""
    s3_server.ensure()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return S3Bucket(s3_server, f"test-{next(_numbers)}")
