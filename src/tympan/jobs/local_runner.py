"""The embedded worker: threads that take steps as they become ready, in this process."""

import threading
from collections.abc import Callable, Sequence

from tympan.background import attempt
from tympan.domain import Lane
from tympan.jobs.workbench import Workbench

_JOIN_S = 10.0


class LocalRunner:
    """``slots`` threads over one workbench. A ring wakes one; without rings each looks every ``poll_s``."""

    def __init__(
        self,
        bench: Workbench,
        *,
        slots: int,
        poll_s: float = 2.0,
        lanes: Sequence[Lane] = tuple(Lane),
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Work on ``bench`` while ``is_ready``: a worker without an engine leaves the steps to others."""
        self._bench, self._poll_s, self._lanes, self._is_ready = bench, poll_s, lanes, is_ready
        self._slots = slots
        self._bell = threading.Condition()
        self._rings = 0
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"jobs-{number}", daemon=True) for number in range(slots)
        ]

    def start(self) -> None:
        """Begin to work."""
        self._bench.start()
        for thread in self._threads:
            thread.start()

    def ring(self) -> None:
        """Say that there is something to do; more rings than threads are one and the same."""
        with self._bell:
            self._rings = min(self._rings + 1, self._slots)
            self._bell.notify()

    def stop_taking(self) -> None:
        """Take no more steps; those that run go on."""
        self._stopping.set()
        self._bench.stop_taking()
        with self._bell:
            self._bell.notify_all()

    def stop(self, grace_s: float) -> None:
        """Take nothing more, give running steps ``grace_s`` to end, and hand back the rest."""
        self.stop_taking()
        self._bench.drain(grace_s)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_JOIN_S)
        self._bench.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            if not self._next():
                self._wait()

    def _wait(self) -> None:
        with self._bell:
            self._bell.wait_for(lambda: self._rings or self._stopping.is_set(), self._poll_s)
            self._rings = max(0, self._rings - 1)

    def _next(self) -> bool:
        """Do one step; return whether there may be more."""
        if not self._is_ready() or not attempt("step", lambda: self._bench.work_once(self._lanes)):
            return False
        self.ring()  # What a step leaves behind may be for another thread.
        return True
