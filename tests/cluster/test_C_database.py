"""A database that is killed, frozen, cut off or full of other people's connections: nothing is lost, nobody hangs."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count

import httpx
import psycopg
import pytest

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip, during, thread_count
from tests.servers.process import wait_until

_A = clip(2.0, 440.0)
_B = clip(4.0, 550.0)
_PATIENCE_S = 6.5
"""A request that needs a frozen database ends within the 5 s of one answer, and what two slow cores add."""


def _livez_s(site: Site, n_times: int) -> list[float]:
    """Return how long each of several answers to `/livez` took."""
    took = []
    with httpx.Client(base_url=site.api.url, timeout=5) as client:
        for _ in range(n_times):
            began = time.monotonic()
            assert client.get("/livez").status_code == 200
            took.append(time.monotonic() - began)
    return took


def _take_all(site: Site, held: ExitStack) -> None:
    """Hold every connection that the server has, until ``held`` is closed; the cluster loses its own."""
    mine: list[psycopg.Connection[tuple[object, ...]]] = []

    def take_more() -> bool:
        """Return whether nobody else has one, and there is none to be had."""
        site.to_postgres.cut()
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            mine.extend(held.enter_context(psycopg.connect(site.postgres.url, autocommit=True)) for _ in count())
        found = mine[0].execute("select pid from pg_stat_activity where backend_type = 'client backend'").fetchall()
        return {pid for (pid,) in found} == {connection.info.backend_pid for connection in mine}

    site.store.close()  # Its idle connections would be somebody else's; it opens others when it is asked again.
    wait_until(take_more, 30)


def _answers(load: Load) -> None:
    """Ask for things that need the database, and look at what a refusal says."""
    for method, path in (("GET", "/v1/jobs"), ("GET", "/v1/jobs/job_0")):
        answer = load.ask(method, path)
        assert answer is not None
        assert answer.status_code in (200, 404, 503), answer.text
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] in ("storage_unavailable", "unavailable")


def test_C1_a_database_that_is_killed_costs_a_503_and_no_job(site: Site, load: Load) -> None:
    """While it is away requests are refused for the moment; 5 s after it is back all goes on, what ran included."""
    load.text_of(_B)
    for number in range(8):
        load.submit(f"before {number}", _B)
    wait_until(lambda: "succeeded" in load.states().values(), 20)
    load.statuses.clear()
    site.postgres.server.kill()
    during(3.0, lambda: _answers(load))
    refused = load.post_job("while away", _A)
    assert refused is not None
    assert refused.status_code == 503
    site.postgres.server.start()
    wait_until(lambda: (answer := load.ask("GET", "/v1/jobs")) is not None and answer.status_code == 200, 5)
    assert set(load.statuses) <= {200, 404, 503}
    load.submit("while away", _A)
    load.prove()


def test_C2_a_frozen_database_holds_no_request_for_long(site: Site, load: Load) -> None:
    """Each ends within the time of one answer, health checks at once, and threads do not pile up."""
    for number in range(4):
        load.submit(f"before {number}", _B)
    before = thread_count(site.api)
    site.postgres.server.stop()
    load.took_s.clear()
    audio = {"files": {"file": _A}, "data": {"vad": "false"}}
    with ThreadPoolExecutor(3) as callers:
        asked = [
            callers.submit(load.post_job, "while frozen", _A),
            callers.submit(load.ask, "POST", "/v1/audio/transcriptions", **audio),
            callers.submit(load.ask, "GET", "/v1/jobs"),
        ]
        livez = _leave_impatiently(site)
        answers = [each.result() for each in asked]
    assert [answer and answer.status_code for answer in answers] == [503] * 3
    assert max(load.took_s) < _PATIENCE_S, load.took_s
    assert statistics.median(livez) < 0.05
    assert max(livez) < 1.0
    assert thread_count(site.api) <= before + 20  # Pools fill up to their size, whoever asks.
    site.postgres.server.cont()
    load.submit("while frozen", _A)
    load.prove()


def _leave_impatiently(site: Site) -> list[float]:
    """Ask for what a frozen database has, and leave; return how long health checks take meanwhile, in seconds."""
    livez: list[float] = []
    with httpx.Client(timeout=0.1) as impatient:
        for _ in range(30):
            with suppress(httpx.TimeoutException):
                impatient.get(f"{site.api.url}/v1/jobs")
            livez += _livez_s(site, 2)
    return livez


def test_C2_connections_that_died_without_a_word_are_given_up(site: Site, load: Load) -> None:
    """The network swallows what is sent; when it works again, so does the cluster, on new connections."""
    load.submit("before", _B)
    site.to_postgres.set("both", swallow=True)
    load.took_s.clear()
    answer = load.post_job("while cut off", _A)
    assert answer is not None
    assert answer.status_code == 503
    assert max(load.took_s) < _PATIENCE_S
    site.to_postgres.heal()
    load.submit("while cut off", _A)
    load.prove()


def test_C4_sessions_that_the_database_ends_again_and_again_do_not_show(site: Site, load: Load) -> None:
    """What was in a broken transaction is done once more; no job fails of it, no client sees it."""
    load.text_of(_B)
    numbers = iter(range(100))

    def disturb() -> None:
        load.submit(f"job {next(numbers)}", _B)
        site.postgres.disconnect_all()

    during(5.0, disturb, 0.4)
    load.prove()
    errors = [status for status in load.statuses if status not in (202, 200)]
    assert len(errors) <= len(load.statuses) // 4, load.statuses


def test_C5_a_database_without_a_free_connection_refuses_and_health_checks_answer(site: Site, load: Load) -> None:
    """Others hold all connections: 503, `/livez` at once, and all is well when they have gone."""
    load.text_of(_A)
    with ExitStack() as held:
        _take_all(site, held)
        answer = load.post_job("crowded out", _A)
        assert answer is not None
        assert answer.status_code == 503
        assert statistics.median(_livez_s(site, 20)) < 0.05
    load.submit("crowded out", _A)
    load.prove()
