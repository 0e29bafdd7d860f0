"""A server that is asked to stop: what runs is finished or given back, what comes is sent elsewhere, and it ends."""

import threading
import time
from itertools import dropwhile
from pathlib import Path

import httpx
import pytest

from tests.operations.support import (
    Prober,
    Server,
    hand_in,
    looking_in,
    rows,
    sections_done,
    serving,
    state,
    wait_for,
    words_of,
)
from tests.servers.process import wait_until
from tympan.domain import JobState

MARGIN_S = 4.0
"""What a stop may take beyond the time to drain: twice what is promised, because tests share their machine."""

LONG_S = 900.0
"""Audio of three sections."""


def test_O1_an_idle_server_ends_soon(tmp_path: Path) -> None:
    """Nothing runs, so nothing is waited for; a probe is told 503 or nothing, never another error."""
    with serving(tmp_path / "data", DRAIN_S="10") as server:
        with Prober(lambda: httpx.get(f"{server.url}/readyz")) as prober:
            wait_until(lambda: len(prober.answers) > 3, 10)
            server.ask_to_stop()
            code, took_s = server.exit_s()
        assert (code, prober.statuses[0]) == (0, 200)
        assert took_s < MARGIN_S
        assert set(prober.statuses) <= {200, 503, None}


def test_O1_twenty_requests_are_answered_and_new_ones_are_sent_elsewhere(tmp_path: Path) -> None:
    """All that were in the house get their text; probes see 503 at once; who comes later gets 503 and Retry-After."""
    with serving(tmp_path / "data", DRAIN_S="20", ENGINE_OPTIONS='{"ms_per_window": "250"}') as server:
        answers: list[httpx.Response] = []
        callers = [threading.Thread(target=lambda: answers.append(server.transcribe())) for _ in range(20)]
        for caller in callers:
            caller.start()
        wait_until(lambda: httpx.get(f"{server.url}/health").json()["queued_requests"] >= 20 - len(answers) > 10, 10)
        with Prober(lambda: httpx.get(f"{server.url}/readyz")) as ready:
            wait_until(lambda: len(ready.answers) > 2, 10)
            server.ask_to_stop()
            asked = time.monotonic()
            wait_until(lambda: 503 in ready.statuses, 10)
            # Who came before would have been let in, and would wait with the others.
            with Prober(lambda: server.transcribe(0.2)) as late:
                code, took_s = server.exit_s()
        for caller in callers:
            caller.join(10)
        assert [answer.status_code for answer in answers] == [200] * 20
        assert (code, took_s < 20 + MARGIN_S) == (0, True)
        told_s = next(at for at, status, _ in ready.answers if status == 503) - asked
        assert told_s < 0.5
        after = list(dropwhile(lambda status: status == 200, ready.statuses))
        assert set(after) <= {503, None}
        assert set(late.statuses) <= {503, None}
        refused = [headers for _, status, headers in late.answers if status == 503 and headers is not None]
        assert refused
        assert all(int(headers["retry-after"]) >= 1 and headers["connection"] == "close" for headers in refused)


def test_O1_running_sections_are_finished_and_the_rest_waits_for_the_next_start(tmp_path: Path) -> None:
    """Within its time the server hands in what it has begun; after a start the job goes on where it was."""
    folder = tmp_path / "data"
    once = {"DRAIN_S": "20", "ENGINE_OPTIONS": '{"ms_per_window": "150"}', "JOB_SLOTS": "1"}
    with serving(folder, **once) as server, looking_in(folder) as shop:
        job = hand_in(shop, LONG_S)
        wait_until(lambda: sections_done(shop, job) >= 1, 40, server.said)
        server.ask_to_stop()
        code, took_s = server.exit_s()
        assert (code, took_s < 20 + MARGIN_S) == (0, True)
        left = rows(shop, "select kind, state, crashes, retries from steps where state != 'done'")
        assert left
        assert {row[1:] for row in left} == {("ready", 0, 0)}
        before = sections_done(shop, job)
        assert before >= 1
        server.start()
        wait_for(shop, job)
        assert rows(shop, "select count(*) from results") == [(1,)]


@pytest.mark.long
def test_O1_a_section_that_takes_too_long_is_given_back_and_another_process_has_it_at_once(tmp_path: Path) -> None:
    """The lease is freed when the drain ends, not when it would have run out; nobody is charged for it."""
    folder = tmp_path / "data"
    slow = {"DRAIN_S": "1", "LEASE_S": "120", "HEARTBEAT_S": "1", "ENGINE_OPTIONS": '{"ms_per_window": "60000"}'}
    with serving(folder, **slow) as first, looking_in(folder) as shop:
        job = hand_in(shop, 60.0)
        running = "select count(*) from steps where state = 'running' and kind = 'section'"
        wait_until(lambda: rows(shop, running) == [(1,)], 20, first.said)
        with serving(folder, LEASE_S="120") as second:
            assert rows(shop, running) == [(1,)]
            first.ask_to_stop()
            code, took_s = first.exit_s()
            ended = time.monotonic()
            assert (code, took_s < 1 + MARGIN_S) == (0, True), f"{code} after {took_s:.1f} s"
            wait_for(shop, job, 10)
            assert time.monotonic() - ended < 3
            assert second.child.poll() is None
        assert shop.get(job).attempts == 1


def test_O2_a_second_signal_ends_it_at_once_and_the_job_is_done_by_the_next(tmp_path: Path) -> None:
    """Whoever insists waits no more than 2 s; nothing is lost, and the next start need not wait for leases."""
    folder = tmp_path / "data"
    slow = {"DRAIN_S": "60", "LEASE_S": "120", "ENGINE_OPTIONS": '{"ms_per_window": "300"}'}
    with serving(folder, **slow) as server, looking_in(folder) as shop:
        job = hand_in(shop, LONG_S)
        wait_until(lambda: sections_done(shop, job) >= 1, 40, server.said)
        server.ask_to_stop()
        # A second signal that comes before the first was heard is the same one to the system.
        wait_until(lambda: _is_stopping(server), 10)
        assert server.child.poll() is None
        server.ask_to_stop()
        _, took_s = server.exit_s()
        assert took_s < 2
        assert rows(shop, "pragma integrity_check") == [("ok",)]
        assert state(shop, job) is JobState.RUNNING
        server.settings = {**server.settings, "ENGINE_OPTIONS": "{}"}
        server.start()
        wait_for(shop, job, 20)
        assert rows(shop, "select max(crashes) from steps") in ([(0,)], [(None,)])


@pytest.mark.parametrize("stuck", ['{"stuck_close": "1"}', '{"hang_at": "1", "stuck_close": "1"}'])
def test_O3_an_engine_that_does_not_let_go_is_killed(stuck: str, tmp_path: Path) -> None:
    """Its process ignores signals and never returns; the server ends within its time all the same, and so does it."""
    folder = tmp_path / "data"
    with serving(folder, DRAIN_S="1", ENGINE_OPTIONS=stuck) as server, looking_in(folder) as shop:
        job = hand_in(shop, 5.0)
        wait_until(lambda: state(shop, job) is not JobState.QUEUED, 20, server.said)
        time.sleep(0.5)
        children = _children(server.child.pid)
        assert children
        server.ask_to_stop()
        code, took_s = server.exit_s()
        assert (code, took_s < 1 + MARGIN_S) == (0, True), f"{code} after {took_s:.1f} s"
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 3)
        assert rows(shop, "select count(*) from steps where state = 'running'") == [(0,)]
        server.settings = {**server.settings, "ENGINE_OPTIONS": "{}"}
        server.start()
        assert words_of(shop, wait_for(shop, job))


def _is_stopping(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/readyz", timeout=5).status_code == 503
    except httpx.TransportError:
        return True


def _children(pid: int) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
