"""The fixtures through which tests ask for servers, and the loud word about tests that had to do without."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import count

import pytest

from tests.servers import provision
from tests.servers.faketime import ShiftedClock
from tests.servers.nginx import NginxServer
from tests.servers.postgres import Database, PostgresServer
from tests.servers.process import Keeper
from tests.servers.prometheus import PrometheusServer
from tests.servers.provision import Installation
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer, VirtualHost
from tests.servers.redis import RedisServer
from tests.servers.s3 import KEYS, S3Bucket, S3Server

REQUIRED = "TEST_SERVERS"
"""With the value ``required`` in this environment variable a missing server fails its tests, which else are skipped."""

_WORDS = "is not installed here"
_numbers = count(1)


@pytest.fixture(scope="session")
def server_keeper() -> Iterator[Keeper]:
    """Return what ends all servers, even when the test run is killed."""
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture(scope="session")
def postgres_server(server_keeper: Keeper) -> Iterator[PostgresServer]:
    """Return a running PostgreSQL, shared by all tests."""
    # Tests kill processes, not the machine, which keeps what they wrote.
    server = PostgresServer(server_keeper, _installed("postgres"), fsync=False)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[Database]:
    """Return an empty database of the test's own in a server that works."""
    postgres_server.ensure()
    database = Database(postgres_server, f"test{next(_numbers)}")
    yield database
    postgres_server.ensure()
    database.drop()


@pytest.fixture(scope="session")
def rabbitmq_server(server_keeper: Keeper) -> Iterator[RabbitServer]:
    """Return a running RabbitMQ, shared by all tests."""
    server = RabbitServer(server_keeper, _installed("rabbitmq"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def rabbitmq(rabbitmq_server: RabbitServer) -> Iterator[VirtualHost]:
    """Return an empty virtual host of the test's own in a broker that works."""
    rabbitmq_server.ensure()
    vhost = VirtualHost(rabbitmq_server, f"test{next(_numbers)}")
    yield vhost
    rabbitmq_server.ensure()
    vhost.drop()


@pytest.fixture
def impatient_rabbitmq(server_keeper: Keeper) -> Iterator[Callable[[float], VirtualHost]]:
    """Return a function that starts a broker which waits so many seconds for a message to be acknowledged."""
    installation = _installed("rabbitmq")
    with ExitStack() as stack:

        def start(consumer_timeout_s: float) -> VirtualHost:
            server = RabbitServer(server_keeper, installation, consumer_timeout_ms=round(consumer_timeout_s * 1000))
            stack.callback(server.kill)
            server.start()
            return VirtualHost(server, "impatient")

        yield start


@pytest.fixture(scope="session")
def redis_server(server_keeper: Keeper) -> Iterator[RedisServer]:
    """Return a running Redis, shared by all tests."""
    server = RedisServer(server_keeper, _installed("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """Return a Redis that works and is empty."""
    redis_server.ensure()
    redis_server.wipe()
    return redis_server


@pytest.fixture(scope="session")
def s3_server(server_keeper: Keeper) -> Iterator[S3Server]:
    """Return a running S3 service, shared by all tests."""
    server = S3Server(server_keeper)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """Return an empty bucket of the test's own; its keys are in the environment."""
    s3_server.ensure()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return S3Bucket(s3_server, f"test-{next(_numbers)}")


@pytest.fixture
def nginx(server_keeper: Keeper) -> Iterator[Callable[[str], NginxServer]]:
    """Return a function that starts an nginx: its argument is the inside of the ``http`` block."""
    installation = _installed("nginx")
    with ExitStack() as stack:

        def start(http: str) -> NginxServer:
            server = NginxServer(server_keeper, installation, http)
            stack.callback(server.close)
            server.start()
            return server

        yield start


@pytest.fixture
def prometheus(server_keeper: Keeper) -> Iterator[Callable[[Mapping[str, int], str], PrometheusServer]]:
    """Return a function that starts a Prometheus: which jobs it asks, by port, and its rules."""
    installation = _installed("prometheus")
    with ExitStack() as stack:

        def start(jobs: Mapping[str, int], rules: str) -> PrometheusServer:
            server = PrometheusServer(server_keeper, installation, jobs, rules)
            stack.callback(server.kill)
            server.start()
            return server

        yield start


@pytest.fixture
def promtool() -> Callable[..., str]:
    """Return a function that runs promtool; AssertionError with its words when it finds something wrong."""
    program = _installed("prometheus").program.with_name("promtool")

    def run(*words: str) -> str:
        done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def proxy_to() -> Iterator[Callable[[int], Proxy]]:
    """Return a function that starts a misbehaving TCP proxy to a port of this machine."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(Proxy(port))


@pytest.fixture
def shifted_clock(server_keeper: Keeper) -> ShiftedClock:
    """Return a clock that can be set while processes look at it."""
    return ShiftedClock(server_keeper.folder / f"clock-{next(_numbers)}", _installed("faketime"))


def _installed(name: str) -> Installation:
    found = provision.find(name)
    if found is None:
        words = f"{name} {_WORDS}"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(words)
        pytest.skip(words)
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which tests did not run for want of a server."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if _WORDS in str(report.longrepr)]
    if skipped:
        terminalreporter.section("NOT RUN", red=True, bold=True)
        names = sorted({str(report.longrepr).split(_WORDS)[0].split()[-1].strip("('\"") for report in skipped})
        terminalreporter.line(
            f"{len(skipped)} tests DID NOT RUN, because these servers are missing: {', '.join(names)}. "
            "Install them, or try: python -m tests.servers.provision",
            red=True,
            bold=True,
        )
