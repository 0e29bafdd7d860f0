"""From the outbox to the broker: a thread that publishes doorbells as soon as it is rung, and looks by itself too."""

import threading
from collections.abc import Callable, Sequence

from tympan import telemetry
from tympan.background import Background, attempt
from tympan.domain import Lane
from tympan.errors import TympanError
from tympan.storage.outbox import Outbox

_JOIN_S = 10.0
_LONGEST_PAUSE_S = 3.0
_BATCH = 100


class Relay:
    """Publishes doorbells. While the broker is away they wait in the outbox, and tries are ever further apart."""

    def __init__(self, outbox: Outbox, send: Callable[[Sequence[Lane]], None], *, poll_s: float = 1.0) -> None:
        """Read from ``outbox``; ``send`` publishes, within a bounded time, or raises."""
        self._outbox, self._send, self._poll_s = outbox, send, poll_s
        self._bell = threading.Event()
        self._background = Background("relay", self._run, _JOIN_S)

    def start(self) -> None:
        """Begin."""
        self._background.start()

    def ring(self) -> None:
        """Say that the outbox has something; never blocks."""
        self._bell.set()

    def stop(self) -> None:
        """Stop; waits for the publication in progress."""
        self._background.over.set()
        self._bell.set()
        self._background.stop()

    def _run(self) -> None:
        pause_s = self._poll_s
        while not self._background.over.is_set():
            self._bell.wait(pause_s)
            self._bell.clear()
            works = attempt("relay", self._publish_all)
            pause_s = self._poll_s if works else min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _publish_all(self) -> bool:
        """Publish what waits; return True. Raises ``StorageUnavailable``."""
        try:
            while not self._background.over.is_set() and self._outbox.publish(self._tell, _BATCH) == _BATCH:
                pass
        finally:
            self._measure()  # A broker that takes nothing is when what waits has to be seen.
        return True

    def _tell(self, lanes: Sequence[Lane]) -> None:
        """Publish, and say for operators whether that worked."""
        try:
            self._send(lanes)
        except TympanError:
            telemetry.BROKER_BLOCKED.set(1)
            raise
        telemetry.BROKER_BLOCKED.set(0)

    def _measure(self) -> None:
        """Count what waits. It is what another process tries to publish just now; nothing means that all is well."""
        backlog = self._outbox.backlog()
        telemetry.BELLS_WAITING.set(backlog.count)
        telemetry.BELL_LAG.set(backlog.lag_s)
        if not backlog.count:
            telemetry.BROKER_BLOCKED.set(0)
