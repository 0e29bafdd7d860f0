"""``tympan serve`` as a process on a folder, and the jobs in that folder as another process sees them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx
from sqlalchemy import text

from tests.jobs_support import TENANT, Shop, open_shop
from tests.media import tone, wav
from tests.servers.process import free_port, wait_until
from tympan.domain import Job, JobState, NewJob, Options, Source, SourceKind
from tympan.jobs.service import new_id
from tympan.storage.database import sqlite_url

START_S = 40.0
SERVE = "from tympan.bootstrap import serve; from tympan.config import load; serve(load())"
FAST = {"HEARTBEAT_S": "0.5", "LEASE_S": "3", "SWEEP_S": "0.5", "POLL_S": "0.2", "DRAIN_S": "5"}
"""Times a tenth of the defaults."""

PLAIN = Options(language="en", vad=None)


@cache
def recording(seconds: float, pitch_hz: float = 440.0) -> bytes:
    """Return a WAV file with a tone, 8 kB for each second."""
    return wav(tone(seconds, 8_000, 1, pitch_hz), 8_000, "u8")


@dataclass(slots=True)
class Server:
    """One server process; what it says goes to a file."""

    folder: Path
    settings: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)
    program: str = SERVE
    port: int = field(default_factory=free_port)
    name: str = "server"
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Where its lines go; they are kept when it is started again."""
        return self.folder.with_name(f"{self.folder.name}-{self.name}.log")

    def start(self, *, wait: bool = True) -> "Server":
        """Start it, and wait until it is ready."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("TYMPAN_")}
        ours = {"PORT": str(self.port), "ENGINE": "fake", "DATA_DIR": str(self.folder), "LOG_FORMAT": "json"}
        ours |= self.settings
        settings = {f"TYMPAN_{name}": value for name, value in ours.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.program], env={**plain, **settings, **self.env}, stdout=log, stderr=log
            )
        if wait:
            wait_until(self.is_ready, START_S, lambda: f"not ready:\n{self.said()}")
        return self

    def is_ready(self) -> bool:
        """Return whether it says that it is ready."""
        assert self.child.poll() is None, self.said()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False

    @property
    def child(self) -> "subprocess.Popen[bytes]":
        """The process."""
        assert self.process is not None
        return self.process

    def said(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-6000:]

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self.child.send_signal(signal.SIGTERM)

    def exit_s(self, limit_s: float = 60.0) -> tuple[int, float]:
        """Return the exit code, and after how many seconds it came."""
        started = time.monotonic()
        return self.child.wait(limit_s), time.monotonic() - started

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def transcribe(self, seconds: float = 2.0, **fields: str) -> httpx.Response:
        """Send a tone and return the answer."""
        return httpx.post(
            f"{self.url}/v1/audio/transcriptions",
            files={"file": ("clip.wav", recording(seconds))},
            data={"vad": "false", **fields},
            timeout=60,
        )


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    """Yield a server on ``folder`` that is ready; it is killed at the end if it still runs."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, {**FAST, **settings})
    try:
        yield server.start()
    finally:
        server.kill()


@contextmanager
def full(folder: Path, leave_bytes: int = 0) -> Iterator[None]:
    """Let only ``leave_bytes`` be free on a disk."""
    ballast = folder / "ballast"
    disk = os.statvfs(folder)
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - leave_bytes))
        file.seek(0, os.SEEK_END)
        for block_bytes in () if leave_bytes else (1 << 20, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(block_bytes))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def looking_in(folder: Path) -> Iterator[Shop]:
    """Yield the jobs of a server's folder, for handing in and looking; this process does not work on them."""
    with open_shop(folder, sqlite_url(folder / "tympan.db")) as shop:
        yield shop


def hand_in(shop: Shop, seconds: float, pitch_hz: float = 440.0, **fields: object) -> Job:
    """Hand in a job with a tone of its own."""
    path = shop.folder / new_id("in")
    path.write_bytes(recording(seconds, pitch_hz))
    options = fields.pop("options", PLAIN)
    source = Source(SourceKind.STORED, "", path.stat().st_size)
    new = NewJob(new_id("job"), source, options, **fields)  # type: ignore[arg-type]
    return shop.service.submit(new, path)[0]


def job_form(number: int) -> dict[str, Any]:
    """Return the parts of a request for a short job with some metadata."""
    metadata = json.dumps({"number": str(number), "fill": "x" * 400})
    return {
        "files": {"file": ("a.wav", recording(1.0, 300.0 + number))},
        "data": {"vad": "false", "language": "en", "metadata": metadata},
    }


def state(shop: Shop, job: Job) -> JobState:
    """Return a job's state as it is now."""
    return shop.get(job).state


def sections_done(shop: Shop, job: Job) -> int:
    """Return how many sections of a job are finished."""
    return shop.get(job).progress.sections_done


def wait_for(shop: Shop, job: Job, limit_s: float = 40.0) -> Job:
    """Wait until a job has succeeded, and return it."""
    wait_until(lambda: state(shop, job).is_terminal, limit_s, lambda: f"{shop.get(job)}")
    found = shop.get(job)
    assert found.state is JobState.SUCCEEDED, found
    return found


def rows(shop: Shop, query: str) -> list[tuple[object, ...]]:
    """Return what the database says to ``query``."""
    return [tuple(row) for row in shop.database.read(lambda tx: tx.execute(text(query)).all())]


def words_of(shop: Shop, job: Job) -> str:
    """Return the text of a job that has succeeded."""
    return shop.service.transcript(TENANT, job.id)[1].text


@dataclass(slots=True)
class Prober:
    """Asks one address again and again, on new connections, and keeps what it was told and when."""

    ask: Callable[[], httpx.Response]
    pause_s: float = 0.02
    answers: list[tuple[float, int | None, httpx.Headers | None]] = field(default_factory=list)
    """Time, status (``None``: no answer), headers."""
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        """Begin."""
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._over.set()

    @property
    def statuses(self) -> list[int | None]:
        """What it was told, in order."""
        return [status for _, status, _ in self.answers]

    def _run(self) -> None:
        while not self._over.wait(self.pause_s):
            try:
                answer = self.ask()
            except httpx.HTTPError:
                self.answers.append((time.monotonic(), None, None))
            else:
                self.answers.append((time.monotonic(), answer.status_code, answer.headers))
