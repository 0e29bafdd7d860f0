"""How the C library hands memory back: left to itself it keeps what windows of audio took, for good."""

import ctypes

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE_BYTES = 128 << 10
_HEAPS = 2


def return_large_blocks() -> bool:
    """Let blocks of 128 KiB and more go back to the system as soon as they are free; return whether that could be set.

    glibc starts like that, but takes each large block that was freed as a reason to keep larger ones from then on, in a
    heap for each thread. A job of hours would leave some 50 MB in gaps that nothing fits in. Elsewhere nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)) and bool(mallopt(_M_ARENA_MAX, _HEAPS))
