"""A session's events on their way to its reader: bounded. Thread-safe.

Whoever reads slowly misses partials first, since a newer one says more. Other events are never dropped: the session
waits for its reader, and ends when the reader does not come back.
"""

import copy
import threading
from collections import deque
from collections.abc import Callable

from tympan.errors import Cancelled, RequestTimeout, TympanError
from tympan.live.events import Event, Partial

_POLL_S = 0.25


class Outbox:
    """Events between the thread that makes them and the one that reads them."""

    def __init__(self, max_events: int, patience_s: float, clock: Callable[[], float]) -> None:
        """Start empty; a full list is waited for ``patience_s`` seconds of ``clock``."""
        self._condition = threading.Condition()
        self._max_events = max_events
        self._patience_s = patience_s
        self._clock = clock
        self._events: deque[Event] = deque()
        self._over = False
        self._failure: TympanError | None = None
        self._tell: Callable[[], None] | None = None
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many events wait."""
        with self._condition:
            return len(self._events)

    def put(self, event: Event) -> None:
        """Add an event; wait for room unless it is a partial.

        Raises ``RequestTimeout`` when nobody reads, ``Cancelled`` when nobody will.
        """
        with self._condition:
            if self._events and isinstance(event, Partial) and _is_older(self._events[-1], event):
                self._events.pop()
                self.dropped += 1
            elif len(self._events) >= self._max_events and isinstance(event, Partial):
                self.dropped += 1
                return
            self._wait_for_room()
            self._events.append(event)
            self._condition.notify_all()
            tell = self._tell
        if tell is not None:
            tell()

    def take(self, timeout_s: float | None) -> Event | None:
        """Return the next event; ``None`` after ``timeout_s`` seconds, or when no more follow.

        Raises what the session failed with, once all events before it are read.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._events or self._over, timeout_s)
            if self._events:
                event = self._events.popleft()
                self._condition.notify_all()
                return event
            if self._failure is not None:
                raise copy.copy(self._failure)
            return None

    @property
    def over(self) -> bool:
        """Whether all has been read and nothing follows."""
        with self._condition:
            return self._over and not self._events

    def subscribe(self, tell: Callable[[], None]) -> None:
        """Call ``tell``, on the session's thread, whenever there is something to read, and once now."""
        with self._condition:
            self._tell = tell
        tell()

    def close(self, failure: TympanError | None) -> None:
        """Let the reader know that no more follow, and why."""
        with self._condition:
            if not self._over:
                self._over, self._failure = True, failure
            self._condition.notify_all()
            tell = self._tell
        if tell is not None:
            tell()

    def _wait_for_room(self) -> None:
        until_s = self._clock() + self._patience_s
        while len(self._events) >= self._max_events and not self._over:
            if self._clock() >= until_s:
                raise RequestTimeout(f"Nobody has read the session's events for {self._patience_s:g} s.")
            self._condition.wait(_POLL_S)
        if self._over:
            raise Cancelled("The session was closed.")


def _is_older(waiting: Event, event: Partial) -> bool:
    return isinstance(waiting, Partial) and waiting.utterance == event.utterance
