"""What one transaction costs a PostgreSQL server: processor time, log bytes, and how claims bear depth and company."""

import random
import statistics
import string
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import create_engine

from benchmarks.scale.postgres import Server, private_server
from benchmarks.scale.transactions import (
    OTHERS,
    WALK,
    Client,
    Transaction,
    backlog,
    claim,
    connected,
    relay,
    submit,
)
from tympan.bench.facts import machine
from tympan.storage.tables import metadata

FILL = (
    "insert into tenants (id) select 'tenant-' || n from generate_series(0, 15) as n",
    """insert into webhook_endpoints (id, tenant, url, description, state, secret, implicit, created_at)
    values ('endpoint-1', 'tenant-1', '', '', 'active', '', false, 0)""",
    """insert into workers (id, started_at, seen_at, rate, slots, busy)
    select 'other-' || n, 0, extract(epoch from now()) + 3600, 57, 1, 1 from generate_series(1, 1000) as n""",
    """insert into jobs
    (id, tenant, state, lane, priority, created_at, source_kind, source_location, options, output, metadata)
    select 'job-' || lpad(n::text, 22, '0'), 'tenant-' || n %% 16, 'queued', 2, 0, 0, 'stored', '', '{}', '{}', '{}'
    from generate_series(1, %(depth)s) as n""",
    """insert into steps (job_id, kind, idx, state, lane, rank, tag_s, run_at)
    select 'job-' || lpad(n::text, 22, '0'), 'prepare', 0, 'ready', 2, 0, n, 0
    from generate_series(1, %(depth)s) as n""",
    """insert into steps (job_id, kind, idx, state, lane, rank, tag_s, run_at, lease_owner, lease_until)
    select 'job-' || lpad(n::text, 22, '0'), 'section', 0, 'running', 2, 0, n, 0, 'other-' || n,
           extract(epoch from now()) + 3600
    from generate_series(1, 800) as n""",
    "vacuum analyze",
)
"""A store as the cluster's would be: tenants, a thousand workers, most of them at work, and steps that wait."""

JsonObject = dict[str, Any]

_DEPTHS = (1_000, 100_000)
_CLIENTS = (1, 2, 4, 8, 16)
_SLICE_S = 2.5
_BATCH = 1_000
_FEW = 100
_SOME = 400
_SNAPSHOT_CLAIMS = (0, 5_000, 10_000, 15_000)
_IDLE_CONNECTIONS = 40


def measure() -> JsonObject:
    """Return every measured constant, as JSON; takes about two minutes. Raises what ``private_server`` raises."""
    with private_server() as server:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            version = connection.info.server_version
        return {
            "machine": machine(),
            "postgres_version": version,
            "transactions": _costs(server),
            "claims": [_claims(server, depth, n) for depth in _DEPTHS for n in _CLIENTS],
            "submits": {"one_tenant": _submits(server, 1), "sixteen_tenants": _submits(server, 16)},
            "old_snapshot": _old_snapshot(server),
            "connection_bytes": _connection_bytes(server),
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``values`` do not exceed; raises ``IndexError`` on none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def synthetic_words(n_words: int, seed: int) -> tuple[str, ...]:
    """Return invented words, some of them frequent, so that text of them compresses about as prose does."""
    rng = random.Random(seed)
    known = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(2_000)]
    return tuple(rng.choices(known, [1 / rank for rank in range(1, 2_001)], k=n_words))


@contextmanager
def _fresh(server: Server, depth: int, n_clients: int, n_tenants: int = 16) -> Iterator[list[Client]]:
    """Yield clients of a store where ``depth`` steps are ready and a thousand workers are known."""
    engine = create_engine(server.url)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    engine.dispose()
    words = synthetic_words(5_000, 1)
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(server.conninfo, autocommit=True))
        for statement in FILL:
            connection.execute(statement, {"depth": depth})
        yield [
            stack.enter_context(connected(server.url, number, f"tenant-{number % n_tenants}", words))
            for number in range(n_clients)
        ]


def _costs(server: Server) -> dict[str, JsonObject]:
    """Return the cost of every kind of transaction, by two clients among 100,000 ready steps."""
    found: dict[str, JsonObject] = {}
    with _fresh(server, _DEPTHS[-1], 2) as clients:
        for run in WALK:
            found.setdefault(run.__name__, _timed(server, clients, run, _BATCH))
        for client in clients:
            claim(client)  # A worker holds a step or two.
        for run in OTHERS:
            if run is relay:
                _ring(server, _BATCH * 100)
            found.setdefault(run.__name__, _timed(server, clients, run, _BATCH))
        found["backlog"] = _timed(server, clients, backlog, _FEW)
    return found


def _ring(server: Server, n_bells: int) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute("insert into bells (lane, created_at) select 2, 0 from generate_series(1, %s)", (n_bells,))


def _timed(server: Server, clients: Sequence[Client], run: Transaction, n_times: int) -> JsonObject:
    each = n_times // len(clients)
    cpu_s, log_at = server.cpu_s(), server.log_bytes()
    start = time.perf_counter()
    took_s = _together(clients, lambda client: [_time_s(run, client) for _ in range(each)])
    elapsed_s = time.perf_counter() - start
    return {
        "cpu_ms": round((server.cpu_s() - cpu_s) / n_times * 1000, 3),
        "log_bytes": round((server.log_bytes() - log_at) / n_times),
        "median_ms": round(statistics.median(took_s) * 1000, 2),
        "p99_ms": round(percentile(took_s, 0.99) * 1000, 2),
        "per_s": round(n_times / elapsed_s),
    }


def _claims(server: Server, depth: int, n_clients: int) -> JsonObject:
    """Return how fast steps are claimed and given back, so that the number of ready steps stays as it is."""

    def run(client: Client) -> list[float]:
        took_s, deadline = [], time.perf_counter() + _SLICE_S
        while time.perf_counter() < deadline:
            took_s.append(_time_s(claim, client))
            client.work.release(client.held.pop())
        return took_s

    with _fresh(server, depth, n_clients) as clients:
        cpu_s, start = server.cpu_s(), time.perf_counter()
        took_s = _together(clients, run)
        elapsed_s, cpu_s = time.perf_counter() - start, server.cpu_s() - cpu_s
        return {
            "ready": depth,
            "clients": n_clients,
            "per_s": round(len(took_s) / elapsed_s),
            "cpu_ms": round(cpu_s / len(took_s) * 1000, 3),
            "claim_median_ms": round(statistics.median(took_s) * 1000, 2),
            "claim_p99_ms": round(percentile(took_s, 0.99) * 1000, 2),
        }


def _submits(server: Server, n_tenants: int) -> JsonObject:
    """Return how fast sixteen clients submit for ``n_tenants`` tenants, each with one row that all its jobs update."""
    with _fresh(server, _DEPTHS[0], 16, n_tenants) as clients:
        return _timed(server, clients, submit, _BATCH)


def _old_snapshot(server: Server) -> JsonObject:
    """Return the cost of a claim while an open snapshot keeps what was claimed since from vacuum, and afterwards."""
    with _fresh(server, _DEPTHS[-1], 2) as clients, psycopg.connect(server.conninfo) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from jobs")
        points: list[JsonObject] = []
        for total in _SNAPSHOT_CLAIMS:
            _together(clients, partial(_claim_up_to, n_steps=total // 2))
            points.append(
                {"claims": sum(len(client.held) for client in clients), **_timed(server, clients, claim, _SOME)}
            )
        reader.rollback()
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute("vacuum steps")
        return {"held": points, "vacuumed": _timed(server, clients, claim, _SOME)}


def _claim_up_to(client: Client, n_steps: int) -> list[float]:
    return [_time_s(claim, client) for _ in range(n_steps - len(client.held))]


def _connection_bytes(server: Server) -> int:
    """Return the memory of one idle connection that has done a claim, shared pages counted in proportion."""
    before = server.pss_bytes()
    with _fresh(server, _DEPTHS[0], _IDLE_CONNECTIONS) as clients:
        for client in clients:
            claim(client)
        return round((server.pss_bytes() - before) / _IDLE_CONNECTIONS)


def _together(clients: Sequence[Client], run: Callable[[Client], list[float]]) -> list[float]:
    """Return what all clients measured, each in a thread of its own; raises the first failure."""
    found: list[list[float]] = []
    failures: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            found.append(run(client))
        except BaseException as failure:  # noqa: BLE001 - raised again below, in the caller's thread.
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [value for values in found for value in values]


def _time_s(run: Transaction, client: Client) -> float:
    start = time.perf_counter()
    run(client)
    return time.perf_counter() - start
