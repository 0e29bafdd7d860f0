"""The engine's process, seen from the parent: start it, feed it, watch it, end it.

The child is started afresh (never forked from this process, so no runtime state is shared) with its own environment.
The parent does not import any model runtime.
"""

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import tympan
from tympan.batching.overhearing import overhear
from tympan.batching.protocol import Done, Event, Exited, Failed, LoadFailed, Ready, Run, Stop, encode
from tympan.domain import WindowTask
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.errors import EngineDeviceLost, EngineError, EngineHang

_log = logging.getLogger(__name__)

_Wire: TypeAlias = "Connection[Any, Any]"

_POLL_S = 0.25
_REAP_S = 5.0


@dataclass(frozen=True, slots=True)
class HostOptions:
    """How a host treats its process.

    A batch may take ``max(hang_floor_s, hang_factor * predicted)`` before the process is killed. ``environment`` is
    laid over this process's own, before anything is loaded in the child (``OMP_NUM_THREADS`` and the like).
    """

    load_timeout_s: float = 120.0
    hang_floor_s: float = 60.0
    hang_factor: float = 10.0
    close_grace_s: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict)


class Host(Protocol):
    """What the batcher needs of an engine's host; see ``EngineHost`` for the meaning of each."""

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of the engine, if known."""
        ...

    def start(self) -> EngineInfo:
        """Load; raise the typed error when that fails."""
        ...

    def send(self, batch_id: int, tasks: Sequence[WindowTask], predicted_s: float) -> None:
        """Hand over a batch without waiting."""
        ...

    def events(self) -> list[Event]:
        """Return what happened since the last call."""
        ...

    def remaining_s(self) -> float | None:
        """Return how long the running batch may still take."""
        ...

    def enforce(self) -> None:
        """Kill what hangs."""
        ...

    def abort(self) -> None:
        """Make a start that is under way fail soon."""
        ...

    def close(self, grace_s: float | None = None) -> None:
        """End it."""
        ...


MakeHost: TypeAlias = Callable[[EngineSpec, HostOptions, Callable[[], None]], Host]


@dataclass(slots=True)
class _Sent:
    batch_id: int
    limit_s: float
    began_s: float


def _ignore() -> None:
    """Nobody wants to be woken."""


class EngineHost:
    """One engine in one supervised process; used once: after it ended, make a new one.

    The thread that calls ``start`` has to outlive the process: where the kernel supports it, the process dies with it.
    ``wake`` is called, on another thread, whenever ``events`` has something new.
    """

    def __init__(self, spec: EngineSpec, options: HostOptions, wake: Callable[[], None] = _ignore) -> None:
        """Prepare a host for ``spec``; nothing runs before ``start``."""
        self._spec = spec
        self._options = options
        self._wake = wake
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: _Wire | None = None
        self._threads: list[threading.Thread] = []
        self._outbox: queue.SimpleQueue[Run | Stop | None] = queue.SimpleQueue()
        self._events: deque[Event] = deque()
        self._sent: deque[_Sent] = deque()
        self._lock = threading.Lock()
        self._killed_for: EngineError | None = None
        self._aborted = False

    @property
    def pid(self) -> int | None:
        """The process's id, or ``None`` when there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of the process, or ``None`` where the system does not tell."""
        pid = self.pid
        if pid is None:
            return None
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return None

    @property
    def batches_inside(self) -> int:
        """How many batches were sent and not answered yet."""
        with self._lock:
            return len(self._sent)

    def start(self) -> EngineInfo:
        """Start the process and return what it loaded.

        Raises the typed error the load failed with, ``EngineHang`` after ``load_timeout_s``, or ``EngineError`` when
        the process ended or could not be started.
        """
        process, wire = self._spawn()
        self._process, self._wire = process, wire
        try:
            info = self._await_ready(wire)
        except BaseException:
            self.kill()
            self._release()
            raise
        self._threads = [
            threading.Thread(target=self._receive, args=(process, wire), name="engine-receive", daemon=True),
            threading.Thread(target=self._deliver, args=(wire,), name="engine-deliver", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return info

    def send(self, batch_id: int, tasks: Sequence[WindowTask], predicted_s: float) -> None:
        """Hand over a batch without waiting; its answer, or the end of the process, comes through ``events``."""
        limit_s = max(self._options.hang_floor_s, self._options.hang_factor * predicted_s)
        with self._lock:
            self._sent.append(_Sent(batch_id, limit_s, time.monotonic()))
        self._outbox.put(Run(batch_id, tuple(tasks)))

    def events(self) -> list[Event]:
        """Return what happened since the last call; ``Exited`` is always the last event of a host."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    def remaining_s(self) -> float | None:
        """Return how long the running batch may still take before it counts as hung; ``None`` when none runs."""
        with self._lock:
            if not self._sent:
                return None
            head = self._sent[0]
        return head.began_s + head.limit_s - time.monotonic()

    def enforce(self) -> None:
        """Kill the process when the running batch has made no progress for too long."""
        remaining_s = self.remaining_s()
        if remaining_s is None or remaining_s > 0:
            return
        with self._lock:
            limit_s = self._sent[0].limit_s if self._sent else 0.0
            self._killed_for = EngineHang(f"The engine made no progress for {limit_s:.1f} s and was killed.")
        _log.error("engine process %s hangs; killing it", self.pid)
        self.kill()

    def abort(self) -> None:
        """Make a ``start`` that is under way fail soon. Safe from any thread."""
        self._aborted = True

    def close(self, grace_s: float | None = None) -> None:
        """End the process: politely for ``grace_s`` seconds, then by force. Safe to call twice."""
        if self._process is None:
            return
        if self._process.poll() is None and self._threads:
            self._outbox.put(Stop())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._options.close_grace_s if grace_s is None else grace_s)
        self.kill()
        self._release()

    def kill(self) -> None:
        """End the process at once and reap it."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        try:
            process.wait(_REAP_S)
        except subprocess.TimeoutExpired:
            # Stuck in the kernel, for example in a device driver: it ends when the kernel lets go of it.
            _log.critical("engine process %s does not die; leaving it to the system", process.pid)

    def _spawn(self) -> tuple[subprocess.Popen[bytes], _Wire]:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tympan.batching.child", str(theirs.fileno()), str(os.getpid())]
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=self._environment(),
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                ours.close()
                raise EngineError(f"The engine process could not be started: {error}") from error
        overhear(process)
        return process, Connection(ours.detach())

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, **self._options.environment}
        # The child has to find this very package, however this process found it.
        source = str(Path(tympan.__file__).resolve().parents[1])
        paths = [source, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
        return environment

    def _await_ready(self, wire: _Wire) -> EngineInfo:
        deadline_s = time.monotonic() + self._options.load_timeout_s
        try:
            wire.send(self._spec)
            while not wire.poll(_POLL_S):
                if self._aborted:
                    raise EngineError("The start of the engine was cancelled.")
                if time.monotonic() > deadline_s:
                    raise EngineHang(f"The engine did not load within {self._options.load_timeout_s:.0f} s.")
            message = wire.recv()
        except (EOFError, OSError) as error:
            self.kill()
            raise EngineError(f"The engine process {self._ending()} while it loaded.") from error
        if isinstance(message, LoadFailed):
            raise message.error
        if not isinstance(message, Ready):
            raise EngineError(f"The engine process began with a {type(message).__name__} message.")
        _log.info("engine process %s loaded %s in %.2f s", self.pid, message.info.model, message.load_s)
        return message.info

    def _receive(self, process: subprocess.Popen[bytes], wire: _Wire) -> None:
        try:
            while True:
                # The end of the stream says that the process is gone, unless a stranger inherited the socket.
                if wire.poll(_POLL_S):
                    self._answered(wire.recv())
                elif process.poll() is not None:
                    break
        except (EOFError, OSError):
            _log.debug("engine process closed its socket")
        finally:
            self._gone()

    def _gone(self) -> None:
        """Report the end of the process, once it can no longer do anything."""
        self.kill()
        with self._lock:
            error = self._killed_for or EngineDeviceLost(f"The engine process {self._ending()}.")
            self._events.append(Exited(error))
        self._outbox.put(None)
        self._wake()

    def _answered(self, message: Done | Failed) -> None:
        with self._lock:
            if self._sent and self._sent[0].batch_id == message.batch_id:
                self._sent.popleft()
            if self._sent:
                self._sent[0].began_s = time.monotonic()
            self._events.append(message)
        self._wake()

    def _deliver(self, wire: _Wire) -> None:
        """Write on a thread of its own: a process that hangs stops reading, and the watchdog must not wait for it."""
        while (message := self._outbox.get()) is not None:
            try:
                wire.send_bytes(encode(message))
            except OSError:
                return

    def _ending(self) -> str:
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return "vanished"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def _release(self) -> None:
        self._outbox.put(None)
        for thread in self._threads:
            thread.join(_REAP_S)
        if self._wire is not None:
            self._wire.close()
