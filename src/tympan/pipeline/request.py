"""Who asks for a transcript, how urgently, who still waits for it, and how to stop."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tympan.domain import Lane, Segment
from tympan.errors import Cancelled, RequestTimeout

_LOOK_S = 0.05


class Audience:
    """Whether anybody waits for an answer, and until when. Changed by who answers callers, read by who works for them.

    Work without an audience stands still: a caller who comes back finds it where it was. Whoever lets everybody leave
    cancels the work in the end.
    """

    def __init__(self, until: float | None = None) -> None:
        """Start with somebody who waits ``until`` then, by ``time.monotonic()``; ``None`` is for ever."""
        self._until = until
        self._is_empty = False

    @property
    def until(self) -> float | None:
        """Until when the most patient one waits."""
        return self._until

    def is_there(self, now_s: float) -> bool:
        """Return whether somebody waits at ``now_s``."""
        return not self._is_empty and (self._until is None or now_s <= self._until)

    def leave(self) -> None:
        """Nobody waits from now on."""
        self._is_empty = True

    def enter(self, until: float | None) -> None:
        """Somebody waits, ``until`` then or as long as those who were there before."""
        self._until = None if self._until is None or until is None else max(self._until, until)
        self._is_empty = False

    def wait(self, cancel: threading.Event) -> None:
        """Return when somebody waits, or ``cancel`` is set."""
        while not self.is_there(time.monotonic()) and not cancel.wait(_LOOK_S):
            pass


@dataclass(frozen=True, slots=True)
class Call:
    """What makes a call known when it comes again, also to another process.

    ``likeness`` is a digest of all that was asked, ``door`` its route; ``key`` is the caller's Idempotency-Key.
    ``resumed`` is called, from any thread, when the call goes on with what an earlier one has begun.
    """

    door: str
    likeness: str
    key: str | None = None
    is_retry: bool = False
    resumed: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asks, with what ``weight`` among others, how urgently, and how to stop.

    ``deadline`` is a ``time.monotonic()`` value. With an ``audience``, that one's patience counts instead.
    ``on_segments`` is told of segments as soon as they are final, in order, in the thread that does the work, which
    waits for it; of work that is done elsewhere in the thread that waits for that, a few windows at a time. A ``call``
    is known again where work is done elsewhere. ``trace`` is what the work is recorded below, where that is not what
    is under way in the thread that begins it.
    """

    request_id: str
    tenant: str = "default"
    lane: Lane = Lane.INTERACTIVE
    max_audio_s: float = 14_400.0
    cancel: threading.Event = field(default_factory=threading.Event)
    deadline: float | None = None
    weight: float = 1.0
    audience: Audience | None = None
    on_segments: Callable[[Sequence[Segment]], None] | None = None
    call: Call | None = None
    trace: str = ""

    def is_wanted(self, now_s: float) -> bool:
        """Return whether somebody waits for the answer at ``now_s``; never waits."""
        if self.cancel.is_set():
            return False
        if self.audience is not None:
            return self.audience.is_there(now_s)
        return self.deadline is None or now_s <= self.deadline

    def check(self) -> None:
        """Wait while nobody waits. Raise ``Cancelled`` or ``RequestTimeout`` when the request should not go on.

        Who has an ``audience`` tells its callers that their time is over, and is cancelled if none comes back.
        """
        if self.audience is not None:
            self.audience.wait(self.cancel)
        if self.cancel.is_set():
            raise Cancelled
        if self.audience is None and self.deadline is not None and time.monotonic() > self.deadline:
            raise RequestTimeout(remedy="Send shorter audio, or raise TYMPAN_REQUEST_TIMEOUT_S.")
