"""Word that something about a job has changed, so that whoever waits for it looks at once instead of soon.

A signal carries nothing and may be lost; the database is looked at now and then all the same.
"""

import threading
from typing import Protocol


class Signals(Protocol):
    """What tells of changes, and what waits for them; safe to share between threads."""

    def announce(self, job_id: str) -> None:
        """Say that a job has changed; takes 50 ms at most and never fails."""

    def wait(self, job_id: str, timeout_s: float) -> bool:
        """Return whether the job was announced within ``timeout_s``."""


class LocalSignals:
    """Signals within one process."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._lock = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}

    def announce(self, job_id: str) -> None:
        """Wake whoever waits for the job."""
        with self._lock:
            for waiting in self._waiting.get(job_id, ()):
                waiting.set()

    def wait(self, job_id: str, timeout_s: float) -> bool:
        """Return whether the job was announced within ``timeout_s``."""
        heard = threading.Event()
        with self._lock:
            self._waiting.setdefault(job_id, []).append(heard)
        try:
            return heard.wait(timeout_s)
        finally:
            with self._lock:
                self._waiting[job_id].remove(heard)
                if not self._waiting[job_id]:
                    del self._waiting[job_id]
