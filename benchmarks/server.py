"""Tympan as a user starts it: a subprocess, ready when ``/readyz`` says so."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.contenders import REPOSITORY, BenchmarkError, Job, Outcome, child_environment
from benchmarks.load import run_job

READY_TIMEOUT_S = 180.0
POLL_S = 0.01

SERVE = (sys.executable, "-m", "tympan", "serve")


class Server:
    """A running server, ended with the ``with`` block; a contender through HTTP."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        command: Sequence[str] = SERVE,
        name: str = "tympan",
        ready: str = "/readyz",
    ) -> None:
        """Describe the server: ``TYMPAN_*`` settings beyond host and port, and where its output goes.

        For a server that is not ours, ``{port}`` in ``command`` becomes the port, and ``ready`` is the route that
        answers with 200 once it is.
        """
        self.name = name
        self.ready_s = 0.0
        self._log = log
        self._ready = ready
        self._port = _free_port()
        self._command = [part.replace("{port}", str(self._port)) for part in command]
        own = {"TYMPAN_HOST": "127.0.0.1", "TYMPAN_PORT": str(self._port), "TYMPAN_RESULT_CACHE_MB": "0"}
        self._environment = child_environment({"TYMPAN_LOG_LEVEL": "warning", **own, **environment})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """Where the server listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of what was started: the root of the server's process tree."""
        if self._process is None:
            raise BenchmarkError("The server is not running; use it in a with block.")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start the server and wait for ``/readyz``; ``ready_s`` is how long that took from the spawn."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self._wait_ready(start)
        except BaseException:
            self._stop()
            raise
        self.ready_s = time.perf_counter() - start
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server and all it started."""
        self._stop()

    def run(self, job: Job) -> Outcome:
        """Send the job's items through HTTP."""
        try:
            return run_job(self.base_url, job)
        except BenchmarkError as error:
            raise BenchmarkError(f"{self.name}: {error}\n{self.log_tail()}") from error

    def health(self) -> dict[str, Any]:
        """Return what the server says about itself."""
        body: dict[str, Any] = httpx.get(f"{self.base_url}/health", timeout=10, trust_env=False).json()
        return body

    def log_tail(self, n: int = 15) -> str:
        """Return the last lines of the server's output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-n:])

    def _wait_ready(self, start: float) -> None:
        with httpx.Client(base_url=self.base_url, timeout=5, trust_env=False) as client:
            while time.perf_counter() - start < READY_TIMEOUT_S:
                if self._process is not None and self._process.poll() is not None:
                    raise BenchmarkError(f"{' '.join(self._command)} ended before it was ready:\n{self.log_tail()}")
                try:
                    if client.get(self._ready).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass  # nobody listens yet
                time.sleep(POLL_S)
        raise BenchmarkError(f"Not ready after {READY_TIMEOUT_S:.0f} s:\n{self.log_tail()}")

    def _stop(self) -> None:
        if self._process is not None:
            # make and other wrappers do not pass signals on, so the whole group of our own session is asked.
            _signal_group(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                _signal_group(self._process.pid, signal.SIGKILL)
                self._process.wait(timeout=30)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it may have gone
        os.killpg(group, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
