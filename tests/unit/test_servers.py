"""The servers that other tests stand on: they start, answer, survive bad treatment, and never outlive the tests."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.servers import provision
from tests.servers.faketime import ShiftedClock
from tests.servers.keeper import family
from tests.servers.nginx import NginxServer
from tests.servers.postgres import Database
from tests.servers.process import port_open, wait_until
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import VirtualHost
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Bucket

REPOSITORY = Path(__file__).parents[2]


def test_postgres_keeps_what_it_confirmed(postgres: Database) -> None:
    """A row survives SIGKILL of the whole server; a frozen server answers nobody."""
    postgres.execute("CREATE TABLE t (x int)")
    postgres.execute("INSERT INTO t VALUES (7)")
    postgres.server.stop()
    assert postgres.server.frozen
    with pytest.raises(psycopg.Error):
        postgres.server.execute("SELECT 1", connect_timeout_s=2)
    postgres.server.cont()
    postgres.server.kill()
    assert not postgres.server.running
    with pytest.raises(psycopg.Error):
        postgres.execute("SELECT 1")
    postgres.server.start()
    assert postgres.execute("SELECT x FROM t") == [(7,)]
    assert postgres.server.execute("SHOW synchronous_commit") == [("on",)]


def test_postgres_connections_can_be_broken(postgres: Database, proxy_to: Callable[[int], Proxy]) -> None:
    """A fail-over is one call; an address through a proxy leads to the same database."""
    proxy = proxy_to(postgres.server.port)
    with psycopg.connect(postgres.url_at(proxy.port), autocommit=True) as connection:
        connection.execute("CREATE TABLE through (x int)")
        assert postgres.disconnect_all() == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert postgres.execute("SELECT count(*) FROM through") == [(0,)]


def test_every_test_has_its_own_database(postgres: Database) -> None:
    """Nothing is there that another test made, and wiping leaves no test's database."""
    assert postgres.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    postgres.server.wipe()
    assert postgres.server.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'") == [(0,)]


def test_redis_forgets(redis: RedisServer) -> None:
    """Keys are gone after SIGKILL; a frozen server accepts connections and says nothing."""
    redis.ask("SET", "a", "b")
    assert redis.ask("GET", "a") == "$1"
    redis.stop()
    assert redis.frozen
    with pytest.raises(TimeoutError):
        redis.ask("PING")
    redis.cont()
    wait_until(lambda: not redis.frozen, 5)
    redis.kill()
    assert not port_open(redis.port)
    redis.start()
    assert redis.ask("GET", "a") == "$-1"
    redis.ask("SET", "a", "b")
    redis.wipe()
    assert redis.ask("DBSIZE") == ":0"


def test_s3_forgets(s3_bucket: S3Bucket) -> None:
    """Objects are gone after a restart."""
    s3_bucket.put("x", b"x")
    assert s3_bucket.names() == ["x"]
    s3_bucket.server.restart()
    assert s3_bucket.server.client.list_buckets()["Buckets"] == []


@pytest.mark.long
def test_rabbitmq_keeps_durable_messages(rabbitmq: VirtualHost) -> None:
    """A confirmed message survives SIGKILL of broker and port mapper; names and ports stay the same."""
    path = f"/api/queues/{rabbitmq.name}/q"
    rabbitmq.server.api("PUT", path, {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    message = {"properties": {"delivery_mode": 2}, "routing_key": "q", "payload": "7", "payload_encoding": "string"}
    sent = rabbitmq.server.api("POST", f"/api/exchanges/{rabbitmq.name}/amq.default/publish", message)
    assert sent == {"routed": True}
    wait_until(lambda: rabbitmq.queues() == {"q": 1}, 15)
    rabbitmq.server.kill()
    assert not port_open(rabbitmq.server.port)
    rabbitmq.server.start()
    wait_until(lambda: rabbitmq.queues() == {"q": 1}, 30)


@pytest.mark.long
def test_rabbitmq_freezes_and_raises_alarms(rabbitmq: VirtualHost) -> None:
    """A frozen broker does not answer; the alarm that blocks publishers can be raised and taken back."""
    rabbitmq.server.stop()
    assert rabbitmq.server.frozen
    with pytest.raises(OSError, match="timed out"):
        rabbitmq.server.api("GET", "/api/overview", limit_s=1)
    rabbitmq.server.cont()
    rabbitmq.server.wait_ready()
    rabbitmq.server.block_publishers()
    wait_until(lambda: rabbitmq.server.api("GET", "/api/nodes")[0]["mem_alarm"] is True, 10)
    rabbitmq.server.unblock_publishers()
    wait_until(lambda: rabbitmq.server.api("GET", "/api/nodes")[0]["mem_alarm"] is False, 10)


def test_nginx_serves_what_it_is_told(nginx: Callable[[str], NginxServer]) -> None:
    """The test's configuration counts, also after a reload; wrong configurations are an error with words."""
    server = nginx('server { listen 127.0.0.1:@PORT@; location / { return 200 "one"; } }')
    assert urllib.request.urlopen(server.url("/x"), timeout=5).read() == b"one"
    server.configure('server { listen 127.0.0.1:@PORT@; location / { return 200 "two"; } }')
    server.reload()
    wait_until(lambda: urllib.request.urlopen(server.url(), timeout=5).read() == b"two", 10)
    server.kill()
    assert not port_open(server.port)
    server.start()
    assert urllib.request.urlopen(server.url(), timeout=5).read() == b"two"
    server.configure("nonsense;")
    with pytest.raises(AssertionError, match="nonsense"):
        server.reload()


def test_the_clock_of_a_server_can_be_set(postgres: Database, shifted_clock: ShiftedClock) -> None:
    """A database lives an hour ahead, then an hour back, without a restart; its pauses keep their length."""
    server = postgres.server
    server.env = shifted_clock.env
    try:
        server.restart()
        for shift_s in (3600, -3600):
            shifted_clock.shift(shift_s)
            wait_until(lambda shift_s=shift_s: abs(_clock_s(postgres) - time.time() - shift_s) < 5, 10)  # type: ignore[misc]
    finally:
        server.env = {}
        server.restart()
    assert abs(_clock_s(postgres) - time.time()) < 5


def _clock_s(postgres: Database) -> float:
    (row,) = postgres.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
    return float(str(row[0]))


_RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # Runs in the background inherit that it is ignored.
from tests.servers.nginx import NginxServer
from tests.servers.process import Keeper, wait_until
from tests.servers.provision import find
keeper = Keeper()
server = NginxServer(keeper, find("nginx"), "server { listen 127.0.0.1:@PORT@; }")
server.start()
wait_until(lambda: len(server.pids) >= 2, 10)
print(keeper.folder, *server.pids, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_do_not_outlive_a_killed_test_run(number: signal.Signals) -> None:
    """When the process that runs the tests is killed, its servers and their children end and their files go."""
    if provision.find("nginx") is None:
        pytest.skip("nginx is not installed here")
    with subprocess.Popen(
        [sys.executable, "-c", _RUN], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout
        folder, *pids = run.stdout.readline().split() or [""]
        run.send_signal(number)
        try:
            run.wait(timeout=10)
        finally:
            run.kill()
    assert len(pids) >= 2
    wait_until(lambda: not any(int(pid) in family(int(pid)) for pid in pids), 10)
    wait_until(lambda: not Path(folder).exists(), 10)


_SUITE = """
import pytest
from tests.servers import provision
provision.find = lambda name: None
pytest_plugins = ["tests.servers.fixtures"]
"""


@pytest.mark.parametrize(("required", "outcome"), [("", "3 skipped"), ("required", "3 errors")])
def test_the_end_of_the_run_says_what_did_not_run(tmp_path: Path, required: str, outcome: str) -> None:
    """Tests without their server are skipped, loudly; where servers are required they fail."""
    (tmp_path / "conftest.py").write_text(_SUITE)
    (tmp_path / "test_x.py").write_text("def test_a(redis): pass\ndef test_b(redis): pass\ndef test_c(postgres): pass")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:audioeval",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            tmp_path,
            tmp_path,
        ],
        env={**os.environ, "TEST_SERVERS": required, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout
    loud = "3 tests DID NOT RUN, because these servers are missing: postgres, redis. " in done.stdout
    assert loud is not bool(required)


def test_ready_servers_are_waited_for_with_a_limit(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends while it is waited for, or never answers, is an error with its log."""
    monkeypatch.setattr(redis, "ready", lambda: False)
    started = time.monotonic()
    with pytest.raises(AssertionError, match="is not ready"):
        redis.wait_ready(0.2)
    assert time.monotonic() - started < 30
    os.kill(redis.pids[0], signal.SIGKILL)
    with pytest.raises(AssertionError, match="ended with"):
        redis.wait_ready(10)
