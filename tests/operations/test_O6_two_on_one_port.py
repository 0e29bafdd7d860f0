"""Two servers on one port and one folder, restarted in turns: a caller who tries twice never notices."""

import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from tests.operations.support import FAST, Server, hand_in, looking_in, recording, rows, wait_for
from tests.servers.process import free_port, wait_until

_CALLERS = 4


class Callers:
    """Threads that call without pause, each call on a new connection, and try once more when it fails."""

    def __init__(self, url: str) -> None:
        """Call ``url``."""
        self._url = url
        self.over = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(_CALLERS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the calls that are under way."""
        self.over.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=20) as client:
            while not self.over.is_set():
                first = self._call(client)
                if first == "200":
                    self.outcomes["at once"] += 1
                elif (second := self._call(client)) == "200":
                    self.outcomes["tried again"] += 1
                else:
                    self.failed.append(f"{first}, then {second}")

    def _call(self, client: httpx.Client) -> str:
        try:
            answer = client.post(self._url, files={"file": ("a.wav", recording(0.5))}, data={"vad": "false"})
        except httpx.TransportError as error:
            return type(error).__name__
        return str(answer.status_code)


def _restart_in_turns(folder: Path, n_restarts: int, pause_s: float) -> Callers:
    port = free_port()
    settings = {**FAST, "ENGINE_OPTIONS": '{"ms_per_window": "20"}'}
    shared = {**settings, "REUSE_PORT": "true"}
    servers = [Server(folder, shared, port=port, name=f"server{number}") for number in range(2)]
    try:
        for server in servers:
            server.start()
            # The first one answers the port's probes as well: what counts is the second's own line.
            wait_until(lambda server=server: _starts(server) == 1, 30, server.said)  # type: ignore[misc]
        callers = Callers(f"http://127.0.0.1:{port}/v1/audio/transcriptions")
        with looking_in(folder) as shop:
            callers.start()
            jobs = [hand_in(shop, 400.0, 300.0 + 10 * number) for number in range(3)]
            for server in [server for server, _ in zip(cycle(servers), range(n_restarts), strict=False)]:
                time.sleep(pause_s)
                before = _starts(server)
                server.ask_to_stop()
                assert server.child.wait(20) == 0, server.said()
                server.start(wait=False)
                wait_until(lambda: _starts(server) > before, 30, server.said)  # noqa: B023
            callers.stop()
            for job in jobs:
                wait_for(shop, job)
            assert rows(shop, "select count(*) from results") == [(3,)]
            assert rows(shop, "pragma integrity_check") == [("ok",)]
    finally:
        for server in servers:
            server.kill()
    return callers


def _starts(server: Server) -> int:
    """Return how often it has said that it is ready."""
    return server.log.read_text(errors="replace").count("serves fake")


@pytest.mark.long
def test_O6_a_caller_who_tries_twice_does_not_notice_restarts(tmp_path: Path) -> None:
    """Two restarts under load: every call is answered at the first or the second try."""
    folder = tmp_path / "data"
    folder.mkdir()
    callers = _restart_in_turns(folder, 2, 1.0)
    assert callers.failed == []
    assert callers.outcomes["at once"] > 50


@pytest.mark.long
@pytest.mark.timeout(300)
def test_O6_a_minute_of_restarts_every_five_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for a minute."""
    folder = tmp_path / "data"
    folder.mkdir()
    callers = _restart_in_turns(folder, 12, 5.0)
    with capsys.disabled():
        print(f"\n  {dict(callers.outcomes)}, failed {callers.failed}")  # noqa: T201
    assert callers.failed == []
    assert callers.outcomes["at once"] > 500
