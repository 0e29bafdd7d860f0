"""Real faults, a real Prometheus: what a real server shows makes the alert fire that is for it, and no others in peace.

The rules are the shipped ones with shorter ranges and no waiting; bounds and comparisons are as they are.
"""

import io
import json
import signal
import sqlite3
import threading
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.acceptance.test_serve import Process, clip, serving, wait_ready
from tests.conftest import SpokenClip
from tests.deploy.alert_rules import hurried, rules
from tests.golden_support import write_voices
from tests.servers.process import free_port, wait_until
from tests.servers.prometheus import PrometheusServer
from tympan.bootstrap.quality import Quality, SetPlan, open_quality
from tympan.config import load

pytestmark = [pytest.mark.long, pytest.mark.alone]

ELSEWHERE = {
    "TympanPartNotWell": "tests/cluster/test_S6_alerts.py",
    "TympanBrokerBlocked": "tests/cluster/test_S6_alerts.py",
    "TympanOutboxLate": "tests/cluster/test_S6_alerts.py",
    "TympanWorkersFallSilent": "tests/cluster/test_S6_alerts.py",
}
"""Alerts whose fault takes a cluster."""

_FIRES_S = 120.0
_LATE_S = 280.0
"""Where the alert is about two minutes, or a run of a golden set goes before it."""

_TAKES_ITS_TIME_S = 12.0
_N_EVENTS = 80


@dataclass(slots=True)
class Trouble:
    """A server with something wrong, and what makes it show."""

    process: Process
    url: str
    folder: Path
    alerts: PrometheusServer
    receiver: int
    voices: Sequence[SpokenClip]
    has_begun: bool = False
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def post(self, path: str = "/v1/audio/transcriptions", **more: Any) -> None:
        """Send something; whatever comes of it."""
        options = {"files": {"file": ("a.wav", clip())}, "data": {"vad": "false"}, "timeout": 10, **more}
        with suppress(httpx.HTTPError):
            httpx.post(self.url + path, **options)

    def crowd(self) -> None:
        """Have a long file worked off, and send eight requests at once."""
        if not self.has_begun:
            self.has_begun = True
            self.post("/v1/jobs", files={"file": ("a.wav", clip(600.0))})
        self.many_calls()

    def many_calls(self) -> None:
        """Send eight requests at once."""
        list(self.pool.map(lambda _: self.post(), range(8)))

    def bad_jobs(self) -> None:
        """Hand in jobs whose files are none, and have somebody told who does not want to know."""
        told = {"webhook_url": f"http://127.0.0.1:{self.receiver}/"}
        for _ in range(3):
            self.post("/v1/jobs", files={"file": ("a.wav", bytes(range(256)) * 40)}, data=told)

    def pile_up(self) -> None:
        """Hand in more than ten hours of audio, and then more and more."""
        if not self.has_begun:
            self.has_begun = True
            self.post("/v1/jobs", files={"file": ("a.wav", _hush(600.0))}, timeout=60)
            hours = _hush(5_000.0)
            for _ in range(8):
                self.post("/v1/jobs", files={"file": ("a.wav", hours)}, timeout=60)
        self.post("/v1/jobs", files={"file": ("a.wav", _hush(60.0))})

    def many_events(self) -> None:
        """Hand in jobs for somebody who takes every event, and his time."""
        if not self.has_begun:
            self.has_begun = True
            told = {"vad": "false", "webhook_url": f"http://127.0.0.1:{self.receiver}/slow"}
            list(self.pool.map(lambda _: self.post("/v1/jobs", data=told, timeout=60), range(_N_EVENTS)))

    def speak(self) -> None:
        """Say something, and wait for what is heard; whatever comes of it."""
        address = self.url.replace("http", "ws", 1) + "/v1/stream?language=en"
        with suppress(WebSocketException, OSError), connect(address) as socket:
            socket.send(_samples(self.voices[0]) + bytes(2 * 16_000))
            socket.send('{"type": "finish"}')
            for message in socket:
                if json.loads(message)["type"] in {"ended", "error"}:
                    break

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
    before: Callable[[Path, Sequence[SpokenClip]], object] = lambda _folder, _voices: None
    within_s: float = _FIRES_S


def _hush(seconds: float) -> bytes:
    """Return a WAV file of silence, 8 kB for each second."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(1)
        writer.setframerate(8_000)
        writer.writeframes(b"\x80" * round(8_000 * seconds))
    return file.getvalue()


def _samples(voice: SpokenClip) -> bytes:
    """Return what is in the file as a stream of 16 bits; there are floating point numbers at 16 kHz in it."""
    data = voice.path.read_bytes()
    samples = np.frombuffer(data[data.index(b"data") + 8 :], "<f4")
    return (samples * 32_767).astype("<i2").tobytes()


def _quality(folder: Path) -> AbstractContextManager[Quality]:
    return open_quality(load({"data_dir": folder, "engine": "fake"}))


def _measure(folder: Path, voices: Sequence[SpokenClip], texts: Sequence[str] | None = None) -> str:
    """Begin a run of a golden set of all voices, in which ``texts`` are said; of the one that is there, if there is."""
    with _quality(folder) as quality:
        if not (folder / "calls").exists():
            quality.add(write_voices(folder / "calls", voices, texts), None, None, SetPlan())
        return quality.run("calls").id


def _measured_in_good_days(folder: Path, voices: Sequence[SpokenClip]) -> None:
    """Have a baseline made by a server whose model is as it was, and begin another run for the next one."""
    with serving(folder) as process:
        wait_ready(process, _FIRES_S)

        def said(voice: SpokenClip) -> str:
            sent = {"file": ("a.wav", voice.path.read_bytes())}
            answer = httpx.post(
                f"{process.url}/v1/audio/transcriptions", files=sent, data={"language": "en"}, timeout=60
            )
            return str(answer.json()["text"])

        begun = _measure(folder, voices, [said(voice) for voice in voices])
        with _quality(folder) as quality:
            runs = quality.desk.runs
            wait_until(lambda: runs.get(begun).state != "running", _FIRES_S, lambda: "".join(process.output[-40:]))
            assert runs.get(begun).state == "succeeded"
    _measure(folder, voices)


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
    "more work than is done": Fault(
        frozenset({"TympanBacklog"}),
        Trouble.pile_up,
        {"JOB_SLOTS": "1", **_engine(ms_per_audio_s="1000")},
        within_s=_LATE_S,
    ),
    "a receiver that takes its time": Fault(frozenset({"TympanWebhooksLate"}), Trouble.many_events, within_s=_LATE_S),
    "live speech on a slow engine": Fault(
        frozenset({"TympanFirstTextLate"}), Trouble.speak, _engine(ms_per_window="4000")
    ),
    "a model in whose place is a worse one": Fault(
        frozenset({"TympanTranscriptsWorse"}),
        settings=_engine(never_ends="1"),
        before=_measured_in_good_days,
        within_s=_LATE_S,
    ),
    "a golden set that cannot be measured": Fault(
        frozenset({"TympanQualityUnknown"}),
        settings={**_engine(fail_at="1-999999"), "QUALITY_RUN_LIMIT_S": "60"},
        before=_measure,
        within_s=_LATE_S,
    ),
    "a shadow model that fails": Fault(
        frozenset({"TympanShadowFails"}),
        Trouble.many_calls,
        {
            "MODELS": '[{"name": "second", "engine": "fake", "options": {"fail_at": "1-999999"}}]',
            "SHADOW_MODEL": "second",
            "SHADOW_SHARE": "1",
        },
    ),
    "a database that is not as it was": Fault(
        frozenset({"TympanDatabaseDown", "TympanNobodyTidiesUp", "TympanUsageNotSaved"}), Trouble.lose_tables
    ),
}


@contextmanager
def _receiving() -> Iterator[int]:
    """Yield the port of a receiver that answers with 500, and at ``/slow`` with 204 after a while."""
    over = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.path != "/slow":
                self.send_error(500)
                return
            self.rfile.read(int(self.headers["content-length"]))
            over.wait(_TAKES_ITS_TIME_S)
            with suppress(OSError):
                self.send_response(204)
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        over.set()
        server.shutdown()


@pytest.fixture
def in_trouble(
    prometheus: Callable[[Mapping[str, int], str], PrometheusServer],
    tmp_path: Path,
    spoken_clips: tuple[SpokenClip, ...],
) -> Iterator[Callable[[Fault], Trouble]]:
    """Return a function that starts a server with a fault, and a Prometheus that looks at it."""
    voices = [voice for voice in spoken_clips if voice.language == "en"][:8]
    with ExitStack() as stack:

        def start(fault: Fault) -> Trouble:
            fault.before(tmp_path, voices)
            port, receiver = free_port(), stack.enter_context(_receiving())
            own = {"PORT": str(port), "SWEEP_S": "1", "EGRESS_ALLOW": json.dumps([f"127.0.0.1:{receiver}"])}
            process = stack.enter_context(serving(tmp_path, **{**own, **fault.settings}))
            alerts = prometheus({"tympan": port}, hurried(fault.window_s))
            trouble = Trouble(process, f"http://127.0.0.1:{port}", tmp_path, alerts, receiver, voices)
            stack.callback(trouble.pool.shutdown, cancel_futures=True)
            wait_until(lambda: alerts.ask("up == 1 and tympan_loop_lag_seconds_count > 10") != [], 60, alerts.log_tail)
            return trouble

        yield start


def test_S6_every_alert_is_fired_somewhere() -> None:
    """By the fault that it is for."""
    fired = {name for fault in FAULTS.values() for name in fault.alerts}
    assert fired | set(ELSEWHERE) == set(rules())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAULTS)
def test_S6_a_fault_fires_the_alerts_that_are_for_it(name: str, in_trouble: Callable[[Fault], Trouble]) -> None:
    """None of them had fired before it."""
    fault = FAULTS[name]
    trouble = in_trouble(fault)

    def shown() -> bool:
        fault.act(trouble)
        return fault.alerts <= trouble.alerts.firing()

    wait_until(shown, fault.within_s, lambda: f"{trouble.alerts.firing()}\n{''.join(trouble.process.output[-40:])}")


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
