"""Code run in place of the media decoder inside its sandbox: attacks, crashes and slow work, chosen by the file."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import time
from pathlib import Path

from tympan.audio import template
from tympan.audio.child_io import Output, send_frame
from tympan.audio.template import Job
from tympan.errors import UnsupportedMedia


def prepare() -> str:
    """Load nothing more."""
    return "probes"


def run(job: Job) -> None:
    """Do what the file says; report what came of it as a refusal whose text starts with ``denied`` or ``allowed``."""
    name, _, argument = os.read(template.MEDIA_FD, 4096).decode().partition(" ")
    try:
        outcome = f"allowed: {PROBES[name](argument)}"
    except (OSError, ValueError, MemoryError) as error:
        outcome = f"denied: {type(error).__name__} {error}"
    Output(send_frame, job.sample_rate_hz, job.max_samples).refuse(UnsupportedMedia(outcome))


def _connect(port: str) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.connect(("127.0.0.1", int(port)))
        return connection.getpeername()


def _read_file(path: str) -> object:
    with Path(path).open("rb") as file:
        return file.read(10)


def _write_file(path: str) -> object:
    with Path(path).open("wb") as file:
        return file.write(b"x")


def _fork_bomb(_: str) -> object:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def _allocate(size: str) -> object:
    block = bytearray(int(size))
    block[::4096] = b"x" * len(block[::4096])
    return len(block)


def _loop(_: str) -> object:
    while True:
        pass


def _stall(_: str) -> object:
    time.sleep(3600)
    return "woke"


def _segfault(_: str) -> object:
    return ctypes.string_at(0)


def _segfault_late(samples: str) -> object:
    send_frame(template.PCM_FRAME, bytes(2 * int(samples)))
    return ctypes.string_at(0)


def _kill_template(_: str) -> object:
    os.kill(os.getppid(), signal.SIGKILL)
    return "killed"


def _raise_limits(_: str) -> object:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    return "raised"


def _run_code(_: str) -> object:
    return mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).size()


def _nonsense(frame: str) -> object:
    frames = {"kind": b"?\1\0\0\0x", "length": b"P\xff\xff\xff\xff", "odd": b"P\3\0\0\0abc", "json": b"X\1\0\0\0{"}
    os.write(template.OUTPUT_FD, frames[frame])
    os._exit(0)


def _exit(status: str) -> object:
    os._exit(int(status))


def _descriptors(_: str) -> object:
    found = []
    for descriptor in range(1024):
        try:
            os.lseek(descriptor, 0, os.SEEK_CUR)
        except OSError as error:
            if error.errno != 9:  # EBADF: not open
                found.append(descriptor)
        else:
            found.append(descriptor)
    return found


def _environment(_: str) -> object:
    return sorted(os.environ)


def _endless(_: str) -> object:
    while True:
        send_frame(template.PCM_FRAME, bytes(template.MAX_PCM_BYTES))


PROBES = {
    "connect": _connect,
    "read": _read_file,
    "write": _write_file,
    "fork": _fork_bomb,
    "allocate": _allocate,
    "loop": _loop,
    "stall": _stall,
    "segfault": _segfault,
    "segfault-late": _segfault_late,
    "kill-template": _kill_template,
    "raise-limits": _raise_limits,
    "run-code": _run_code,
    "nonsense": _nonsense,
    "exit": _exit,
    "descriptors": _descriptors,
    "environment": _environment,
    "endless": _endless,
}
