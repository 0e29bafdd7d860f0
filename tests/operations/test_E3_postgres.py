"""PostgreSQL's disk is full: reading goes on as long as it does, handing in is refused in words, and it comes back."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.operations.support import FAST, Server, full, job_form
from tests.servers import provision
from tests.servers.postgres import Database, PostgresServer
from tests.servers.process import Keeper, own, wait_until

SmallDisk = Callable[[Path, int], Path]

_REFUSALS = {503: {"storage_unavailable", "unavailable"}, 507: {"insufficient_storage"}}
_RECOVERY_S = 10.0


@pytest.fixture
def small_postgres(
    postgres_server: PostgresServer, server_keeper: Keeper, small_disk: SmallDisk
) -> Iterator[PostgresServer]:
    """Return a database server with everything it has, its log of changes included, on a disk of 120 MB."""
    installation = provision.find("postgres")
    assert installation is not None
    server = PostgresServer(server_keeper, installation)
    small_disk(server.folder, 120)
    own(server.folder, postgres_server._user)
    server.start()
    yield server
    server.kill()


@contextmanager
def _on_small_tables(server: PostgresServer, folder: Path) -> Iterator[Database]:
    """Yield a database whose tables lie in ``folder``; everything else of the server is elsewhere."""
    own(folder, server._user)
    server.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
    database = Database(server, "small")
    try:
        server.execute("ALTER DATABASE small SET TABLESPACE small")
        yield database
    finally:
        database.drop()
        server.execute("DROP TABLESPACE small")


@contextmanager
def _serving(folder: Path, url: str) -> Iterator[tuple[Server, httpx.Client]]:
    folder.mkdir()
    server = Server(folder, {**FAST, "DATABASE_URL": url})
    try:
        server.start()
        with httpx.Client(base_url=server.url, timeout=20) as client:
            yield server, client
    finally:
        server.kill()


def test_E3_postgresql_without_room_for_rows_is_read_and_takes_no_jobs(
    tmp_path: Path, postgres_server: PostgresServer, small_disk: SmallDisk
) -> None:
    """Handing in is refused with the disk as the reason; what is there can be read; with room again all is done."""
    postgres_server.ensure()
    disk = small_disk(postgres_server.folder / "small", 40)
    tables = disk / "tables"
    tables.mkdir()
    with (
        _on_small_tables(postgres_server, tables) as database,
        _serving(tmp_path / "data", database.url) as (server, client),
    ):
        first = _submit(client, 0)
        _wait_succeeded(client, [first], server)
        with full(disk):
            accepted, refused = _until_refused(client)
            # While the disk fills, a busy database may be too slow for one; once it is full, that is the reason.
            assert refused[-3:] == [507] * 3, refused
            for path in (f"/v1/jobs/{first}", f"/v1/jobs/{first}/result", "/v1/jobs", "/livez", "/readyz"):
                assert client.get(path).status_code == 200, path
        _recovers(client, server)
        _wait_succeeded(client, accepted, server)
        _all_done_once(database)


def test_E3_postgresql_without_room_for_its_log_ends_and_costs_no_job(
    tmp_path: Path, small_postgres: PostgresServer
) -> None:
    """It ends itself; meanwhile each request is refused in words, and all goes on once it has been started again."""
    database = Database(small_postgres, "small")
    with _serving(tmp_path / "data", database.url) as (server, client):
        _wait_succeeded(client, [_submit(client, 0)], server)
        with full(small_postgres.folder):
            accepted, _ = _until_refused(client)
            _use_up_the_log(small_postgres)
            wait_until(lambda: not small_postgres.running, 30)
            for number in range(10):
                _refusal(client.post("/v1/jobs", **job_form(1000 + number)))
                assert _refusal(client.get("/v1/jobs")) == 503
                assert client.get("/livez").status_code == 200
        small_postgres.kill()
        small_postgres.start()
        _recovers(client, server)
        _wait_succeeded(client, accepted, server)
        _all_done_once(database)


def _submit(client: httpx.Client, number: int) -> str:
    made = client.post("/v1/jobs", **job_form(number))
    assert made.status_code == 202, made.text
    return str(made.json()["id"])


def _refusal(answer: httpx.Response) -> int:
    """Return the status of an answer, which has to be a refusal that says why."""
    assert answer.json()["error"]["code"] in _REFUSALS.get(answer.status_code, ()), answer.text
    return answer.status_code


def _until_refused(client: httpx.Client) -> tuple[list[str], list[int]]:
    """Hand jobs in until three in a row are refused; return the ids of those that were taken, and the refusals."""
    accepted: list[str] = []
    refused: list[int] = []
    in_a_row = 0
    for number in range(1, 500):
        answer = client.post("/v1/jobs", **job_form(number))
        if answer.status_code == 202:
            accepted.append(answer.json()["id"])
            in_a_row = 0
            continue
        refused.append(_refusal(answer))
        in_a_row += 1
        if in_a_row == 3:
            return accepted, refused
    raise AssertionError(f"{len(accepted)} jobs were taken")


def _use_up_the_log(server: PostgresServer) -> None:
    """Begin new files of the log of changes until there is no room for one, which ends the server."""
    with pytest.raises(psycopg.Error):
        _begin_files(server, 100)


def _begin_files(server: PostgresServer, count: int) -> None:
    for _ in range(count):
        server.execute("SELECT pg_logical_emit_message(false, 'test', 'a file without a change is not ended')")
        server.execute("SELECT pg_switch_wal()")


def _recovers(client: httpx.Client, server: Server) -> None:
    """Wait until a job is taken, which must not take long."""
    began = time.monotonic()
    wait_until(lambda: client.post("/v1/jobs", **job_form(999)).status_code == 202, 4 * _RECOVERY_S, server.said)
    assert time.monotonic() - began < _RECOVERY_S


def _wait_succeeded(client: httpx.Client, ids: list[str], server: Server) -> None:
    for job_id in ids:
        wait_until(partial(_succeeded, client, job_id), 60, server.said)


def _succeeded(client: httpx.Client, job_id: str) -> bool:
    answer = client.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] in ("queued", "running", "succeeded"), answer.text
    return bool(answer.json()["state"] == "succeeded")


def _all_done_once(database: Database) -> None:
    """Check that every job in the database has succeeded and has a result."""
    left = "SELECT id, state, error_code FROM jobs WHERE state <> 'succeeded'"
    wait_until(lambda: database.execute(left) == [], 60, lambda: str(database.execute(left)))
    assert database.execute("SELECT count(*) FROM results") == database.execute("SELECT count(*) FROM jobs")
