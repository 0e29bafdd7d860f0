"""The warm template: a process that holds nothing but a loaded media library, and forks one child per file.

Forking a process that has already imported its libraries costs about a millisecond; starting one costs as much as
transcribing a short clip. The template never reads media. It takes fixed-size jobs with their descriptors over a Unix
socket, forks, reports each child's end over the job's own socket, and kills a child whose job socket is closed at the
other end. It ends, with all its children, when the server's end of the control socket closes, however the server died.

This module also defines what passes between the three processes; it imports no media library itself.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, cast

from tympan.audio.sandbox import ChildLimits, Measure, guard_child, guard_template

FRAME_HEADER = struct.Struct("<cI")
"""What precedes each frame of a child's output: its kind and the length of its body in bytes."""

PCM_FRAME, END_FRAME, ERROR_FRAME = b"P", b"E", b"X"
"""Kinds of frame: samples (s16), a good end (JSON), a refusal (JSON)."""

MAX_PCM_BYTES = 160_000
"""Longest body of a PCM frame: 5 seconds at 16 kHz of one channel."""

MAX_TEXT_BYTES = 4_000
"""Longest body of the frames that carry JSON."""

MEDIA_FD, OUTPUT_FD = 0, 1
"""The only descriptors a child holds: the media file, and the pipe its frames go to."""

FAILED_STATUS, UNGUARDED_STATUS = 70, 71
"""Exit statuses of a child whose code failed, and of one that refused to work without its protections."""

NO_CHILD = -1
"""Wait status reported for a child that could not be forked."""

_MAX_FD = 65_536


@dataclass(frozen=True, slots=True)
class Job:
    """One file's decoding: output limit in samples, output rate in Hz, and the child's memory and processor limits.

    With 2 ``channels`` they come out side by side, with 1 mixed.
    """

    max_samples: int
    sample_rate_hz: int
    memory_bytes: int
    cpu_s: int
    channels: int = 1

    FORMAT: ClassVar[struct.Struct] = struct.Struct("<QIQIB")

    def pack(self) -> bytes:
        """Return the job as it goes over the control socket."""
        return self.FORMAT.pack(self.max_samples, self.sample_rate_hz, self.memory_bytes, self.cpu_s, self.channels)

    @classmethod
    def unpack(cls, data: bytes) -> "Job":
        """Return the job that ``pack`` wrote."""
        return cls(*cls.FORMAT.unpack(data))


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a child ended: wait status, peak resident memory in bytes, processor time in milliseconds."""

    wait_status: int
    peak_memory_bytes: int
    cpu_ms: int

    FORMAT: ClassVar[struct.Struct] = struct.Struct("<iQQ")

    def pack(self) -> bytes:
        """Return the report as it goes over the job socket."""
        return self.FORMAT.pack(self.wait_status, self.peak_memory_bytes, self.cpu_ms)

    @classmethod
    def unpack(cls, data: bytes) -> "ChildExit":
        """Return the report that ``pack`` wrote."""
        return cls(*cls.FORMAT.unpack(data))

    @property
    def signal(self) -> int:
        """The signal that ended the child, or 0."""
        return os.WTERMSIG(self.wait_status) if os.WIFSIGNALED(self.wait_status) else 0


class ChildModule(Protocol):
    """What the template needs of the module whose code runs in the children."""

    def prepare(self) -> str:
        """Load everything a child will need; return the names and versions of the libraries loaded."""
        ...

    def run(self, job: Job) -> None:
        """Do one job, between ``MEDIA_FD`` and ``OUTPUT_FD``."""
        ...


def main(control_fd: int, module: str) -> None:
    """Run a template on ``control_fd`` until its other end closes; ``module`` is where the children's code lives."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads cannot be forked safely
    control = socket.socket(fileno=control_fd)
    try:
        child = cast("ChildModule", importlib.import_module(module))
        libraries = child.prepare()
        measures = guard_template() + _probe_child_guard()
    except Exception as error:  # the server turns it into a typed error
        _tell(control, {"error": f"{type(error).__name__}: {error}"})
        raise
    gc.disable()
    gc.freeze()
    template = Template(control, child, expected={measure.name for measure in measures if measure.enforced})
    _tell(control, {"libraries": libraries, "measures": [[m.name, m.enforced, m.detail] for m in measures]})
    template.serve()


def _tell(control: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the server has gone; the serving loop notices the same
        control.sendall(json.dumps(message).encode() + b"\n")


def _probe_child_guard() -> list[Measure]:
    """Return what ``guard_child`` can enforce, tried out in a child of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            measures = guard_child(ChildLimits(memory_bytes=256 << 20, cpu_s=10))
            os.write(writer, json.dumps([[m.name, m.enforced, m.detail] for m in measures]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as report:
        text = report.read()
    os.waitpid(pid, 0)
    return [Measure(*fields) for fields in json.loads(text)]


class Template:
    """The serving loop: takes jobs, forks children, reports their ends, kills the abandoned."""

    def __init__(self, control: socket.socket, child: ChildModule, expected: set[str]) -> None:
        """Serve ``control``; a child in which a measure named in ``expected`` fails does not run."""
        self._control = control
        self._child = child
        self._expected = expected
        self._job_sockets: dict[int, socket.socket] = {}
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Serve until the server's end of the control socket closes, then end all children."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        self._selector.register(self._control, selectors.EVENT_READ, self._take_job)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._reap)
        while not self._closed():
            for key, _ in self._selector.select():
                key.data()
        for pid in self._job_sockets:
            os.kill(pid, signal.SIGKILL)

    def _closed(self) -> bool:
        return self._control.fileno() < 0

    def _take_job(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, Job.FORMAT.size, 3)
        except ConnectionError:
            data, descriptors = b"", []
        if len(data) != Job.FORMAT.size or len(descriptors) != 3:
            self._selector.unregister(self._control)
            self._control.close()
            return
        media, output, job_fd = descriptors
        job_socket = socket.socket(fileno=job_fd)
        self._start_child(Job.unpack(data), media, output, job_socket)
        os.close(media)
        os.close(output)

    def _start_child(self, job: Job, media: int, output: int, job_socket: socket.socket) -> None:
        template_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            with contextlib.suppress(OSError), job_socket:
                job_socket.sendall(ChildExit(NO_CHILD, 0, 0).pack())
            return
        if pid == 0:
            self._be_child(template_pid, job, media, output)
        self._job_sockets[pid] = job_socket
        self._selector.register(job_socket, selectors.EVENT_READ, lambda: self._abandon(pid, job_socket))

    def _be_child(self, template_pid: int, job: Job, media: int, output: int) -> None:
        """Become the child: keep two descriptors, close in, work, end. Never returns."""
        status = FAILED_STATUS
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.dup2(media, MEDIA_FD)
            os.dup2(output, OUTPUT_FD)
            os.closerange(3, _MAX_FD)
            measures = guard_child(ChildLimits(job.memory_bytes, job.cpu_s))
            lost = [m.name for m in measures if not m.enforced and m.name in self._expected]
            if lost:
                status = UNGUARDED_STATUS
            elif os.getppid() == template_pid:  # it may have died before its death could be noticed
                self._child.run(job)
                status = 0
        finally:
            os._exit(status)

    def _abandon(self, pid: int, job_socket: socket.socket) -> None:
        """The server closed or shut its end of the job: the child is of no more use."""
        if self._job_sockets.get(pid) is job_socket:  # not yet reaped, so the number is still this child's
            self._selector.unregister(job_socket)
            os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._report(pid, status, usage)

    def _report(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        job_socket = self._job_sockets.pop(pid)
        with contextlib.suppress(KeyError):  # abandoned jobs are not registered any more
            self._selector.unregister(job_socket)
        unit = 1 if sys.platform == "darwin" else 1024
        cpu_ms = int((usage.ru_utime + usage.ru_stime) * 1000)
        with contextlib.suppress(OSError), job_socket:
            job_socket.sendall(ChildExit(status, usage.ru_maxrss * unit, cpu_ms).pack())


def command(python: str, control_fd: int, module: str, search_path: Sequence[str]) -> list[str]:
    """Return the command line that starts a template in a bare interpreter with this module search path."""
    boot = "import json, sys; fd, name, sys.path[:] = json.loads(sys.argv[1]); "
    boot += "from tympan.audio.template import main; main(fd, name)"
    paths = [str(Path(path).absolute()) for path in search_path]
    return [python, "-I", "-c", boot, json.dumps([control_fd, module, paths])]
