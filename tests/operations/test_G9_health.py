"""G9: something else takes every processor, and jobs are worked on. Whoever asks how the server is gets an answer."""

import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs_support import Shop
from tests.operations.support import Server, hand_in, looking_in, rows, serving
from tests.servers.process import wait_until

PROBES = 500
P99_S = 0.2
JOBS, JOB_S = 8, 900.0
_LOOP = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextlib.contextmanager
def _busy_processors() -> Iterator[None]:
    """Let a process turn in circles on each processor, two at least."""
    processors = sorted(os.sched_getaffinity(0))
    loops = [
        subprocess.Popen([sys.executable, "-c", _LOOP, str(processors[number % len(processors)])])
        for number in range(max(2, len(processors)))
    ]
    try:
        yield
        assert all(loop.poll() is None for loop in loops)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait(10)


def _done(shop: Shop) -> int:
    """Return how many steps of jobs are done."""
    return int(str(rows(shop, "select coalesce(sum(sections_done), 0) from jobs")[0][0]))


def _took_s(server: Server) -> list[float]:
    """Return how long each probe took, from a new connection to the last byte, in order of length."""
    took = []
    for number in range(PROBES):
        started = time.perf_counter()
        probe = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        probe.request("GET", ("/livez", "/readyz")[number % 2])
        answer = probe.getresponse()
        told = answer.read()
        took.append(time.perf_counter() - started)
        probe.close()
        assert answer.status == 200, told
        time.sleep(0.02)
    return sorted(took)


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(300)
def test_G9_probes_are_answered_while_every_processor_is_taken(tmp_path: Path) -> None:
    """Of 500 probes of liveness and readiness, 99 in 100 take 200 ms at most; none fails."""
    with (
        serving(tmp_path / "data", ENGINE_OPTIONS='{"ms_per_audio_s": "15"}') as server,
        looking_in(server.folder) as shop,
    ):
        for number in range(JOBS):
            hand_in(shop, JOB_S, 300.0 + number)
        wait_until(lambda: _done(shop) > 0, 60, server.said)
        before = _done(shop)
        with _busy_processors():
            took = _took_s(server)
        assert _done(shop) > before
        assert rows(shop, "select count(*) from jobs where finished_at is null") != [(0,)]
    assert took[int(0.99 * PROBES)] <= P99_S
