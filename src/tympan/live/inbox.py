"""A session's waiting room for audio: bounded, and in the order in which the caller sent it. Thread-safe."""

import copy
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import Conflict, Overloaded, TooLarge, TooLong, TympanError

MAX_MARKS = 64
"""Commits that may wait to be acted on."""


class Mark(Enum):
    """What the caller said between two pieces of audio."""

    COMMIT = auto()
    FINISH = auto()


class Inbox:
    """Audio between its caller and the thread that listens.

    It counts all audio that the session holds, also what has been heard but still waits for its final text.
    """

    def __init__(self, max_held_s: float, max_audio_s: float, clock: Callable[[], float]) -> None:
        """Start empty."""
        self._condition = threading.Condition()
        self._max_held = round(max_held_s * SAMPLE_RATE_HZ)
        self._max_audio = round(max_audio_s * SAMPLE_RATE_HZ)
        self._clock = clock
        self._items: deque[Samples | Mark] = deque()
        self._fed = 0
        self._waiting = 0
        self._marks = 0
        self._released = 0
        self._finished = False
        self._closed: TympanError | None = None
        self._news = False
        self._active_s = clock()

    @property
    def held_samples(self) -> int:
        """Samples that were fed and are still needed."""
        with self._condition:
            return self._fed - self._released

    @property
    def fed_samples(self) -> int:
        """Samples that were fed."""
        with self._condition:
            return self._fed

    @property
    def waiting_samples(self) -> int:
        """Samples that were fed and not heard yet."""
        with self._condition:
            return self._waiting

    @property
    def idle_s(self) -> float:
        """Seconds since the last audio came or the session last had work."""
        with self._condition:
            return self._clock() - self._active_s

    @property
    def finished(self) -> bool:
        """Whether the caller has said that no more audio follows."""
        with self._condition:
            return self._finished

    def put(self, samples: Samples, timeout_s: float) -> None:
        """Accept all of ``samples`` or nothing; wait up to ``timeout_s`` for room.

        Raises ``Overloaded`` when there is no room, ``TooLarge`` when there never is, ``TooLong`` when the session has
        had all the audio it may have, ``Conflict`` after the end, and what the session failed with.
        """
        with self._condition:
            self._refuse(len(samples))
            if not self._condition.wait_for(lambda: self._closed or self._has_room(len(samples)), timeout_s):
                raise Overloaded(
                    f"The session holds {self._max_held / SAMPLE_RATE_HZ:g} s of audio that is not transcribed yet.",
                    remedy="Send audio no faster than it is spoken, or wait.",
                    retry_after_s=1.0,
                )
            self._refuse(len(samples))
            self._items.append(samples)
            self._fed += len(samples)
            self._waiting += len(samples)
            self._active_s = self._clock()
            self._condition.notify_all()

    def mark(self, mark: Mark) -> None:
        """Say something about the audio so far.

        Raises ``Overloaded`` when too much was said that was not acted on yet, ``Conflict`` after the end, and what the
        session failed with.
        """
        with self._condition:
            self._refuse(0)
            if mark is not Mark.FINISH and self._marks >= MAX_MARKS:
                raise Overloaded(
                    f"{MAX_MARKS} commits are waiting, the most at a time.",
                    remedy="Wait for their answers.",
                    retry_after_s=1.0,
                )
            self._marks += 1
            self._items.append(mark)
            self._finished = mark is Mark.FINISH
            self._condition.notify_all()

    def take(self, max_samples: int, timeout_s: float) -> Samples | Mark | None:
        """Return what comes next, at most ``max_samples``; ``None`` after ``timeout_s`` or when woken."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._news, timeout_s)
            self._news = False
            if not self._items:
                return None
            item = self._items.popleft()
            if isinstance(item, Mark):
                self._marks -= 1
                return item
            if len(item) > max_samples:
                self._items.appendleft(item[max_samples:])
                item = item[:max_samples]
            self._waiting -= len(item)
            return item

    def wake(self) -> None:
        """Let ``take`` return although nothing was sent."""
        with self._condition:
            self._news = True
            self._condition.notify_all()

    def touch(self) -> None:
        """Note that the session has work: whoever waits for room until it is done is not idle."""
        with self._condition:
            self._active_s = self._clock()

    def release(self, before_sample: int) -> None:
        """Note that the audio before this sample of the session is no longer needed."""
        with self._condition:
            self._released = max(self._released, before_sample)
            self._condition.notify_all()

    def close(self, reason: TympanError) -> None:
        """Refuse whatever comes from now on with ``reason``, and drop what waits."""
        with self._condition:
            self._closed = self._closed or reason
            self._items.clear()
            self._marks = 0
            self._waiting, self._released = 0, self._fed
            self._news = True
            self._condition.notify_all()

    def _has_room(self, n_samples: int) -> bool:
        return self._fed - self._released + n_samples <= self._max_held

    def _refuse(self, n_samples: int) -> None:
        if self._closed is not None:
            raise copy.copy(self._closed)
        if self._finished:
            raise finished()
        if n_samples > self._max_held:
            limit_s = self._max_held / SAMPLE_RATE_HZ
            raise TooLarge(f"A session takes at most {limit_s:g} s of audio at a time.", remedy="Send less at a time.")
        if self._fed + n_samples > self._max_audio:
            limit_s = self._max_audio / SAMPLE_RATE_HZ
            raise TooLong(f"A session takes at most {limit_s:g} s of audio.", remedy="Finish it and open another.")


def finished() -> Conflict:
    """Return what is told to whoever sends more after the end."""
    return Conflict("The session takes no more audio: it was already finished.")
