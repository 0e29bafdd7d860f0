"""Real faults, a real Prometheus: what a real server shows makes the alert fire that is for it, and no others in peace.

The rules are the shipped ones with shorter ranges and no waiting; bounds and comparisons are as they are.
"""

import json
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_serve import Process, clip, serving
from tests.deploy.alert_rules import hurried, rules
from tests.servers.process import free_port, wait_until
from tests.servers.prometheus import PrometheusServer

pytestmark = [pytest.mark.long, pytest.mark.alone]

ELSEWHERE = {
    "TympanPartNotWell": "tests/cluster/test_S6_alerts.py",
    "TympanBrokerBlocked": "tests/cluster/test_S6_alerts.py",
    "TympanWorkersFallSilent": "tests/cluster/test_S6_alerts.py",
}
"""Alerts whose fault takes a cluster."""

FIGURES_ONLY = {
    "TympanBacklog",
    "TympanFirstTextLate",
    "TympanOutboxLate",
    "TympanWebhooksLate",
    "TympanTranscriptsWorse",
    "TympanQualityUnknown",
    "TympanShadowFails",
}
"""Alerts whose fault takes ten hours of audio, live speech that is late, minutes, hours, or runs of golden sets: their
figures are tested, in ``test_alerts.py`` and where they are made."""

_FIRES_S = 120.0


@dataclass(slots=True)
class Trouble:
    """A server with something wrong, and what makes it show."""

    process: Process
    url: str
    folder: Path
    alerts: PrometheusServer
    receiver: int
    has_begun: bool = False
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def post(self, path: str = "/v1/audio/transcriptions", **more: Any) -> None:
        """Send something; whatever comes of it."""
        options = {"files": {"file": ("a.wav", clip())}, "data": {"vad": "false"}, **more}
        with suppress(httpx.HTTPError):
            httpx.post(self.url + path, timeout=10, **options)

    def crowd(self) -> None:
        """Have a long file worked off, and send eight requests at once."""
        if not self.has_begun:
            self.has_begun = True
            self.post("/v1/jobs", files={"file": ("a.wav", clip(600.0))})
        list(self.pool.map(lambda _: self.post(), range(8)))

    def bad_jobs(self) -> None:
        """Hand in jobs whose files are none, and have somebody told who does not want to know."""
        told = {"webhook_url": f"http://127.0.0.1:{self.receiver}/"}
        for _ in range(3):
            self.post("/v1/jobs", files={"file": ("a.wav", bytes(range(256)) * 40)}, data=told)

    def stumble(self) -> None:
        """Get no processor time for a second, again and again."""
        self.process.child.send_signal(signal.SIGSTOP)
        threading.Event().wait(1.2)
        self.process.child.send_signal(signal.SIGCONT)
        threading.Event().wait(0.5)

    def lose_tables(self) -> None:
        """Work on a database without some of its tables."""
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(self.folder / "tympan.db")) as base, base:
            base.execute("PRAGMA legacy_alter_table=ON")
            for table in ("deliveries", "usage", "jobs"):
                base.execute(f"alter table {table} rename to {table}_gone")
        self.post()


@dataclass(frozen=True, slots=True)
class Fault:
    """Settings and deeds that go wrong, and the alerts that tell of it."""

    alerts: frozenset[str]
    act: Callable[[Trouble], object] = Trouble.post
    settings: Mapping[str, str] = field(default_factory=dict)
    window_s: int = 60


def _engine(**knobs: str) -> dict[str, str]:
    return {"ENGINE_OPTIONS": json.dumps(knobs)}


_UNLOADABLE = {"name": "second", "engine": "fake", "preload": True, "options": {"load_error": "broken"}}

FAULTS = {
    "a full disk": Fault(frozenset({"TympanDiskFull", "TympanErrors"}), settings={"DISK_RESERVE_MB": "10000000"}),
    "an engine that dies": Fault(
        frozenset({"TympanEngineRestarts", "TympanEngineErrors"}), settings=_engine(abort_at="2-999", counter="n")
    ),
    "a model that takes for ever": Fault(frozenset({"TympanNotReady"}), settings=_engine(load_delay_s="600")),
    "a second model that cannot be loaded": Fault(
        frozenset({"TympanModelFailed"}), settings={"MODELS": json.dumps([_UNLOADABLE])}
    ),
    "too much work": Fault(
        frozenset({"TympanRefusals", "TympanEnginesBusy"}),
        Trouble.crowd,
        {"MAX_REQUESTS": "2", "MAX_CONCURRENT": "2", **_engine(ms_per_window="1000")},
        window_s=20,
    ),
    "hard audio": Fault(frozenset({"TympanManyFallbacks"}), settings=_engine(never_ends="1")),
    "bad files and a bad receiver": Fault(frozenset({"TympanJobsFail", "TympanWebhooksFail"}), Trouble.bad_jobs),
    "a process that is killed": Fault(
        frozenset({"TympanProcessDown", "TympanNobodyTidiesUp"}), lambda trouble: trouble.process.child.kill()
    ),
    "a machine without time": Fault(frozenset({"TympanLoopLate"}), Trouble.stumble),
    "a database that is not as it was": Fault(
        frozenset({"TympanDatabaseDown", "TympanNobodyTidiesUp", "TympanUsageNotSaved"}), Trouble.lose_tables
    ),
}


@contextmanager
def _refusing() -> Iterator[int]:
    """Yield the port of a receiver that answers everything with 500."""

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(500)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def in_trouble(
    prometheus: Callable[[Mapping[str, int], str], PrometheusServer], tmp_path: Path
) -> Iterator[Callable[[Fault], Trouble]]:
    """Return a function that starts a server with a fault, and a Prometheus that looks at it."""
    with ExitStack() as stack:

        def start(fault: Fault) -> Trouble:
            port, receiver = free_port(), stack.enter_context(_refusing())
            own = {"PORT": str(port), "SWEEP_S": "1", "EGRESS_ALLOW": json.dumps([f"127.0.0.1:{receiver}"])}
            process = stack.enter_context(serving(tmp_path, **{**own, **fault.settings}))
            alerts = prometheus({"tympan": port}, hurried(fault.window_s))
            trouble = Trouble(process, f"http://127.0.0.1:{port}", tmp_path, alerts, receiver)
            stack.callback(trouble.pool.shutdown, cancel_futures=True)
            wait_until(lambda: alerts.ask("up == 1 and tympan_loop_lag_seconds_count > 10") != [], 60, alerts.log_tail)
            return trouble

        yield start


def test_S6_every_alert_is_fired_somewhere() -> None:
    """By the fault that it is for; those that only have figures are named."""
    fired = {name for fault in FAULTS.values() for name in fault.alerts}
    assert fired | set(ELSEWHERE) | FIGURES_ONLY == set(rules())
    assert not fired & FIGURES_ONLY


@pytest.mark.parametrize("name", FAULTS)
def test_S6_a_fault_fires_the_alerts_that_are_for_it(name: str, in_trouble: Callable[[Fault], Trouble]) -> None:
    """None of them had fired before it."""
    fault = FAULTS[name]
    trouble = in_trouble(fault)

    def shown() -> bool:
        fault.act(trouble)
        return fault.alerts <= trouble.alerts.firing()

    wait_until(shown, _FIRES_S, lambda: f"{trouble.alerts.firing()}\n{''.join(trouble.process.output[-40:])}")


def test_S6_in_peace_no_alert_fires(in_trouble: Callable[[Fault], Trouble]) -> None:
    """A server that works, with calls and jobs, for a quarter of a minute and more."""
    trouble = in_trouble(Fault(frozenset()))
    asked = "count_over_time(up[5m]) > 15"

    def worked() -> bool:
        trouble.post()
        trouble.post("/v1/jobs", data={"vad": "false", "webhook_url": ""})
        return trouble.alerts.ask(asked) != [] and trouble.alerts.ask("tympan_job_backlog_seconds") != []

    wait_until(worked, 60, trouble.alerts.log_tail)
    wait_until(lambda: trouble.alerts.firing() == set(), 15, lambda: str(trouble.alerts.firing()))
