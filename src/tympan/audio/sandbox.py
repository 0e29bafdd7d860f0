"""What a decoder child is forbidden to do, as far as this machine's kernel can enforce it.

Two steps. ``guard_template`` runs once in the warm template and is inherited: an empty network namespace, an
unprivileged user, no new privileges. ``guard_child`` runs in every child just before it touches a media byte: resource
limits, death with its parent, no file-system access (Landlock), and an allowlist of system calls (seccomp). Each step
is tried, never required; what took effect comes back as measures that an operator can read. Off Linux only the
resource limits apply.
"""

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tympan.audio import seccomp

_LINUX = sys.platform.startswith("linux")
_NOBODY = 65_534
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class Measure:
    """One protection: what it does, whether it is in force, and why not when it is not."""

    name: str
    enforced: bool
    detail: str

    def __str__(self) -> str:
        """Return one readable line."""
        return f"{self.name}: {self.detail}" if self.enforced else f"{self.name}: not enforced ({self.detail})"


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What keeps a hostile file inside its decoder on this machine."""

    measures: tuple[Measure, ...]
    media_libraries: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """The measures, one readable line each."""
        return tuple(str(measure) for measure in self.measures)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the measures this machine cannot enforce."""
        return tuple(measure.name for measure in self.measures if not measure.enforced)


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Most address space a child may add to its template's (bytes), and most processor time it may use (seconds)."""

    memory_bytes: int
    cpu_s: int


def guard_template() -> list[Measure]:
    """Give up, for this process and all its children, the network, the user's rights and any way back to them."""
    steps = (("network", _leave_network), ("user", _drop_user), ("privileges", _refuse_privileges))
    return [_attempt(name, step) for name, step in steps]


def guard_child(limits: ChildLimits) -> list[Measure]:
    """Close the calling process in for the rest of its life; it can then only compute, and use its open descriptors."""
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("orphans", _die_with_parent),
        ("memory", lambda: _limit_memory(limits.memory_bytes)),
        ("processor", lambda: _limit_cpu(limits.cpu_s)),
        ("processes", lambda: _limit(resource.RLIMIT_NPROC, 0, "none can be started")),
        ("files", lambda: _limit(resource.RLIMIT_FSIZE, 0, "none can be written")),
        ("core dumps", lambda: _limit(resource.RLIMIT_CORE, 0, "none")),
        ("file system", _leave_file_system),
        ("descriptors", lambda: _limit(resource.RLIMIT_NOFILE, 0, "no file or socket can be opened")),
        ("system calls", seccomp.restrict),
    )
    return [_attempt(name, step) for name, step in steps]


def _attempt(name: str, step: Callable[[], str]) -> Measure:
    try:
        return Measure(name, True, step())
    except (OSError, ValueError) as error:
        return Measure(name, False, error.strerror or str(error) if isinstance(error, OSError) else str(error))


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*(ctypes.c_ulong(argument) for argument in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _need_linux() -> None:
    if not _LINUX:
        raise OSError(f"not available on {platform.system()}")


def _leave_network() -> str:
    _need_linux()
    try:
        _call("unshare", _CLONE_NEWNET)
    except PermissionError:
        # Without privileges a user namespace is what makes a network namespace possible.
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
        _drop_capabilities()
    return "own empty namespace"


def _drop_user() -> str:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        return "runs as nobody"
    if _LINUX:
        _drop_capabilities()
    return "runs as the server's own unprivileged user"


def _drop_capabilities() -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def _refuse_privileges() -> str:
    _need_linux()
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return "none can be gained"


def _die_with_parent() -> str:
    _need_linux()
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    return "killed with the template"


def _limit(kind: int, value: int, detail: str) -> str:
    resource.setrlimit(kind, (value, value))
    return detail


def _limit_cpu(cpu_s: int) -> str:
    # The soft limit ends the process with SIGXCPU, which says why; the hard one is for a process that ignores it.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    return "limited by length of audio"


def _limit_memory(memory_bytes: int) -> str:
    limit_bytes = _address_space_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    return f"{memory_bytes >> 20} MiB beyond the warm template"


def _address_space_bytes() -> int:
    _need_linux()  # elsewhere the size to start from is not to be had cheaply, and the limit is not honoured
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _leave_file_system() -> str:
    _need_linux()
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        raise OSError("this kernel has no Landlock")
    ruleset = _landlock_rights(version)
    descriptor = libc.syscall(_LANDLOCK_CREATE, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "Landlock refused the rule set")
    try:
        if libc.syscall(_LANDLOCK_RESTRICT, descriptor, 0) != 0:
            raise OSError(ctypes.get_errno(), "Landlock refused the rule set")
    finally:
        os.close(descriptor)
    return f"out of reach (Landlock {version})"


def _landlock_rights(version: int) -> bytes:
    """Return the rule set that denies every right this Landlock version knows."""
    files = 0x1FFF | (0x2000 if version >= 2 else 0) | (0x4000 if version >= 3 else 0) | (0x8000 if version >= 5 else 0)
    if version < 4:
        return struct.pack("=Q", files)
    return struct.pack("=QQ", files, 0x3) if version < 6 else struct.pack("=QQQ", files, 0x3, 0x3)
