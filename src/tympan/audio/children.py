"""The server's side of the decoder processes: start the template, launch children, read their frames, end them."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tympan.audio import template
from tympan.audio.sandbox import Measure, SandboxReport
from tympan.audio.template import ChildExit, Job
from tympan.errors import DecoderUnavailable

POLL_S = 0.05
"""How often a waiting reader looks up to see whether it should still wait."""

_SEND_TIMEOUT_S = 5.0
_END_TIMEOUT_S = 2.0
_MAX_READY_BYTES = 65_536
# Without these some interpreters cannot find their own shared libraries; nothing else is handed on.
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

Tick = Callable[[float], None]
"""Called while waiting, with the seconds waited since the last call; raises to end the wait."""


class TemplateLost(Exception):
    """The template died or hangs; another one may do better."""


class ChildBroke(Exception):
    """A child wrote something that is no frame."""


class TemplateProcess:
    """A running template. Starting it returns at once; ``ready`` waits until it can take jobs."""

    def __init__(self, module: str) -> None:
        """Start a template whose children run ``module``. Raises ``DecoderUnavailable`` if no process can start."""
        self._ready: SandboxReport | None = None
        self._ready_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            command = template.command(sys.executable, theirs.fileno(), module, sys.path)
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(theirs.fileno(),),
                    env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise DecoderUnavailable(f"The media decoder could not be started: {error.strerror}.") from error

    @property
    def pid(self) -> int:
        """Process id of the template."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the template is running and not given up."""
        return self._control.fileno() >= 0 and self._process.poll() is None

    def ready(self, timeout_s: float) -> SandboxReport:
        """Wait until the template takes jobs; return what guards its children.

        Raises ``DecoderUnavailable`` when it fails to start or takes longer than ``timeout_s``.
        """
        with self._ready_lock:
            if self._ready is None:
                self._ready = _sandbox_report(self._read_ready(timeout_s))
            return self._ready

    def _read_ready(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        line = b""
        try:
            while not line.endswith(b"\n"):
                self._control.settimeout(max(0.001, deadline - time.monotonic()))
                block = self._control.recv(4096)
                line += block
                if not block or len(line) > _MAX_READY_BYTES:
                    raise DecoderUnavailable("The media decoder ended while it was starting.")
            message: dict[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:
            self.close()
            raise DecoderUnavailable(f"The media decoder did not start within {timeout_s:g} s.") from error
        if "error" in message:
            self.close()
            raise DecoderUnavailable(f"The media decoder could not start: {message['error']}.")
        return message

    def launch(self, job: Job, media_fd: int) -> "Child":
        """Start a child on the open file ``media_fd``. Raises ``TemplateLost``."""
        pcm_reader, pcm_writer = os.pipe()
        mine, theirs = socket.socketpair()
        try:
            with theirs, self._send_lock:
                self._control.settimeout(_SEND_TIMEOUT_S)
                socket.send_fds(self._control, [job.pack()], [media_fd, pcm_writer, theirs.fileno()])
        except (OSError, ValueError) as error:
            os.close(pcm_reader)
            mine.close()
            raise TemplateLost from error
        finally:
            os.close(pcm_writer)
        return Child(pcm_reader, mine, on_lost=self.close)

    def close(self) -> None:
        """End the template and all its children."""
        self._control.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Child:
    """One file's decoder, seen through its output pipe and its job socket."""

    def __init__(self, pcm_fd: int, job_socket: socket.socket, on_lost: Callable[[], None]) -> None:
        """Own both descriptors; call ``on_lost`` when the template turns out to be dead or deaf."""
        self._on_lost = on_lost
        self._exit: ChildExit | None = None
        self._pcm_fd = pcm_fd
        self._socket = job_socket
        self._poll = select.poll()
        self._poll.register(pcm_fd, select.POLLIN)

    def read_frame(self, tick: Tick) -> tuple[bytes, bytearray] | None:
        """Return the next frame's kind and body, or ``None`` at the end of the pipe.

        Raises ``ChildBroke`` on anything that is not a frame, and whatever ``tick`` raises.
        """
        header = self._read(template.FRAME_HEADER.size, tick)
        if header is None:
            return None
        kind, size = template.FRAME_HEADER.unpack(header)
        limit = template.MAX_PCM_BYTES if kind == template.PCM_FRAME else template.MAX_TEXT_BYTES
        if kind not in (template.PCM_FRAME, template.END_FRAME, template.ERROR_FRAME) or not 0 < size <= limit:
            raise ChildBroke
        body = self._read(size, tick)
        return None if body is None else (kind, body)

    def _read(self, size: int, tick: Tick) -> bytearray | None:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            started = time.monotonic()
            is_ready = self._poll.poll(POLL_S * 1000)
            tick(time.monotonic() - started)
            if is_ready:
                count = os.readv(self._pcm_fd, [rest])
                if count == 0:
                    return None
                rest = rest[count:]
        return data

    def wait(self) -> ChildExit:
        """Return how the child ended. Raises ``TemplateLost`` if there is no telling."""
        if self._exit is not None:
            return self._exit
        self._socket.settimeout(_END_TIMEOUT_S)
        report = b""
        with contextlib.suppress(OSError):
            report = self._socket.recv(ChildExit.FORMAT.size)
        if len(report) != ChildExit.FORMAT.size:
            self._on_lost()
            raise TemplateLost
        self._exit = ChildExit.unpack(report)
        return self._exit

    def kill(self) -> None:
        """End the child now, and return when it has ended (or its template has)."""
        with contextlib.suppress(OSError, TemplateLost):
            self._socket.shutdown(socket.SHUT_WR)
            self.wait()
        self.close()

    def close(self) -> None:
        """Let go of the child; one that still runs is killed by the template."""
        if self._pcm_fd >= 0:
            os.close(self._pcm_fd)
            self._pcm_fd = -1
        self._socket.close()


def _sandbox_report(message: dict[str, Any]) -> SandboxReport:
    measures = (Measure(str(name), bool(enforced), str(detail)) for name, enforced, detail in message["measures"])
    return SandboxReport(tuple(measures), media_libraries=str(message["libraries"]))
