"""Waiting for a database that is away or full for a moment, so that finished work is not thrown away."""

import time
from collections.abc import Callable

from tympan.errors import InsufficientStorage, StorageUnavailable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


def patiently(write: Callable[[], None], for_s: float) -> None:
    """Write to the database; while it cannot, try again for ``for_s``. Raises what the last try raised."""
    deadline = time.monotonic() + for_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            write()
        except (StorageUnavailable, InsufficientStorage):
            if time.monotonic() + pause_s > deadline:
                raise
        else:
            return
        time.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
