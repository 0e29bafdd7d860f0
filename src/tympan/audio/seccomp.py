"""The system calls a decoder child may make: enough to compute, read and write what is open, and end. All else fails.

The filter is a short program for the kernel's classic packet-filter machine, assembled here because no binding is
worth a dependency. Denied calls return "operation not permitted", so that a library which only tries keeps working.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER_AT, _ARCHITECTURE_AT, _THIRD_ARGUMENT_AT = 0, 4, 32
_PROT_EXEC = 0x4

# read write close fstat poll lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 readv writev
# sched_yield mremap madvise nanosleep getpid getppid exit gettimeofday getrusage gettid futex sched_getaffinity
# restart_syscall clock_gettime clock_getres clock_nanosleep exit_group sigaltstack getrandom rseq
_X86_64 = (
    *(0, 1, 3, 5, 7, 8, 11, 12, 13, 14, 15, 17, 19, 20),
    *(24, 25, 28, 35, 39, 110, 60, 96, 98, 186, 202, 204),
    *(219, 228, 229, 230, 231, 131, 318, 334),
)
_AARCH64 = (
    *(63, 64, 57, 80, 73, 62, 215, 214, 134, 135, 139, 67, 65, 66),
    *(124, 216, 233, 101, 172, 173, 93, 169, 165, 178, 98, 123),
    *(128, 113, 114, 115, 94, 132, 278, 293),
)

# Machine -> (audit architecture, calls allowed, calls allowed unless they make memory executable: mmap and mprotect).
_MACHINES = {
    "x86_64": (0xC000003E, _X86_64, (9, 10)),
    "aarch64": (0xC00000B7, _AARCH64, (222, 226)),
}


def restrict() -> str:
    """Allow the calling process, from now on, nothing but the listed system calls; return what is in force.

    Raises ``OSError`` where the kernel or the machine offers no such filter.
    """
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in _MACHINES:
        raise OSError(f"no filter for {platform.system()} on {machine}")
    architecture, calls, memory_calls = _MACHINES[machine]
    _install(_program(architecture, calls, memory_calls))
    return f"{len(calls) + len(memory_calls)} allowed, all others refused (seccomp)"


def _program(architecture: int, calls: tuple[int, ...], memory_calls: tuple[int, ...]) -> bytes:
    """Assemble the filter; every jump counts instructions to skip."""
    # Layout: head (3), one test per call, one per memory call, deny, check of the protection argument (2), deny, allow.
    tests = len(calls) + len(memory_calls)
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 0, tests + 1, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    lines += [(_JUMP_EQUAL, tests - index + 3, 0, call) for index, call in enumerate(calls)]
    lines += [(_JUMP_EQUAL, len(memory_calls) - index, 0, call) for index, call in enumerate(memory_calls)]
    lines += [
        (_RETURN, 0, 0, _DENY),
        (_LOAD, 0, 0, _THIRD_ARGUMENT_AT),
        (_JUMP_SET, 0, 1, _PROT_EXEC),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _install(program: bytes) -> None:
    """Hand the filter to the kernel; needs ``no_new_privs`` or privileges."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), header, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
