"""The server's own processes die: its parent, or every engine it starts."""

import json
import os
import signal
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.faults.checker import check
from tests.faults.client import SETTLE_S, Client
from tests.faults.evidence import Remains
from tests.faults.serving import Server, server_in, wav
from tests.servers.keeper import family
from tests.servers.process import wait_until

_DIES_AT_START = """
import os, sys
if os.path.exists(os.environ["NO_ENGINE"]) and "tympan.batching.child" in sys.orig_argv:
    os._exit(1)
"""
"""Put before everything else a Python process imports; an engine's process ends at once while a file is there."""


def test_A8_with_its_parent_killed_no_process_is_left_and_the_next_starts_at_once(tmp_path: Path) -> None:
    """Engine and decoder end within two seconds; port, database and leases are free without waiting."""
    with server_in(tmp_path, ENGINE_OPTIONS='{"ms_per_window": "300"}', LEASE_S="60") as server:
        server.start()
        server.wait_ready()
        client = Client(server)
        promise = client.submit("long", wav(150.0, 1))
        client.wait(promise, lambda state, _: state == "running")
        wait_until(lambda: _claimed_section(server), SETTLE_S)
        members = family(server.child.pid)
        assert len(members) >= 3  # The server, its engine, its decoder.
        server.child.kill()
        killed = time.monotonic()
        wait_until(lambda: not _alive(members), SETTLE_S)
        assert time.monotonic() - killed < 2.0
        client.settle()
        assert server.crashes == 1
        assert time.monotonic() - killed < 30  # Half of the lease that the dead process held.
        found = server.evidence()
        assert check(client.history, found) == []
        assert [entry.fence for entry in found.entries("claim", "section")] == [1, 2]
        assert not found.entries("lapse")
        # One that was decoding then may have ended since.
        more = max(0, len(family(server.child.pid)) - len(members))
        left = Remains(children=more, zombies=_zombies(server.child.pid))
        assert (left.children, left.zombies) == (0, 0)


def test_A9_with_engines_that_die_at_start_jobs_are_taken_and_kept(tmp_path: Path) -> None:
    """The server says that it is not ready, tries again more and more seldom, and works everything off afterwards."""
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "sitecustomize.py").write_text(_DIES_AT_START)
    switch = tmp_path / "no-engine"
    with server_in(tmp_path) as server:
        server.environment = {"PYTHONPATH": str(tmp_path / "before"), "NO_ENGINE": str(switch)}
        server.start()
        server.wait_ready()
        client = Client(server)
        switch.touch()
        os.kill(_engine(server), signal.SIGKILL)
        wait_until(lambda: _status(server, "/readyz") == 503, SETTLE_S)
        promises = [client.submit(f"job {number}", wav(4.0, number)) for number in range(3)]
        wait_until(lambda: _failed_starts(server) >= 3, SETTLE_S)
        waits = _between_starts(server)
        assert waits == sorted(waits)
        assert waits[-1] > 1.5
        assert _status(server, "/livez") == 200
        assert _status(server, "/readyz") == 503
        assert {client.look(promise)[0] for promise in promises} <= {"queued", "running"}
        switch.unlink()
        wait_until(lambda: _status(server, "/readyz") == 200, SETTLE_S)
        client.settle()
        found = server.evidence()
        assert check(client.history, found) == []
        assert server.crashes == 0


@pytest.mark.long
def test_A9_a_server_whose_first_engine_dies_ends_and_keeps_its_jobs(tmp_path: Path) -> None:
    """Whoever supervises it hears of it; what was handed in meanwhile is done by the next server."""
    with server_in(tmp_path, ENGINE_OPTIONS='{"load_delay_s": "2", "load_exit": "1"}') as server:
        server.start()
        client = Client(server)
        client.submit("early", wav(4.0, 1))
        assert server.child.wait(60) not in {0, None}
        server.settings = {}
        server.start()
        client.settle()
        assert check(client.history, server.evidence()) == []


def _claimed_section(server: Server) -> bool:
    return bool(server.evidence().entries("claim", "section"))


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if pid in family(pid)]


def _zombies(pid: int) -> int:
    states = [line.rpartition(b")")[2].split()[:2] for line in map(_stat, Path("/proc").iterdir()) if line]
    return sum(state == b"Z" and int(parent) == pid for state, parent in states)


def _stat(process: Path) -> bytes:
    return _read(process / "stat") if process.name.isdigit() else b""


def _engine(server: Server) -> int:
    return next(
        pid
        for pid in family(server.child.pid)
        if b"tympan.batching.child" in _read(Path(f"/proc/{pid}/cmdline")).split(b"\0")
    )


def _read(path: Path) -> bytes:
    """Return what a file of the system says about a process, nothing once that has ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _status(server: Server, path: str) -> int:
    return httpx.get(f"{server.url}{path}", timeout=10).status_code


def _failed_starts(server: Server) -> int:
    return sum("could not be loaded" in line for line in server.log)


def _between_starts(server: Server) -> list[float]:
    lines = [json.loads(line) for line in server.log if "could not be loaded" in line]
    at = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
    return [two - one for one, two in pairwise(at)]
