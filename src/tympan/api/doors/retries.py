"""Calls that come again: a retry takes up the work that its first try began, instead of beginning anew.

A caller that gives up looks like one that has gone. So what nobody waits for any more stands still, no further window
of it begins, and for a short time its caller may come back to it; then it is dropped. Used from the event loop alone.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from tympan.api.doors.admission import Place
from tympan.domain import Transcript
from tympan.errors import IdempotencyMismatch
from tympan.pipeline import RequestContext

RETRY_HEADER = "x-stainless-retry-count"
"""What OpenAI's libraries send: how often this call has been tried before."""

MAX_KEPT = 64
"""Most results that are kept for a moment because nobody has had them, or because they have a key."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What two calls have in common when one is the other again: all of it."""

    tenant: str
    route: str
    model: str
    asked: str
    sha256: str


@dataclass(slots=True, eq=False)
class Running:
    """Work for a call, and whoever waits for it; ``key`` is the call's Idempotency-Key. It is paid for once."""

    likeness: Likeness
    key: str | None
    context: RequestContext
    place: Place
    future: "Future[Transcript]" = field(default_factory=Future)
    waiting: int = 0
    timer: asyncio.TimerHandle | None = None
    is_paid: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether there will be no result."""
        return self.future.cancelled() or (self.future.done() and self.future.exception() is not None)


class Retries:
    """The calls that may come again."""

    def __init__(self, grace_s: float, max_idle: int, resume: Callable[[], None]) -> None:
        """Keep work without a caller for ``grace_s``, of at most ``max_idle`` calls; 0 seconds turn it all off.

        ``resume`` is called when somebody waits again for work that may not have begun, or nobody ever will.
        """
        self.grace_s, self._max_idle, self._resume = grace_s, max_idle, resume
        self._all: dict[Running, None] = {}

    def __len__(self) -> int:
        """Return how many calls are known."""
        return len(self._all)

    def find(self, likeness: Likeness, key: str | None, *, is_retry: bool) -> Running | None:
        """Return the work that this call is about once more.

        By its key; else if the call says that it is a retry, or nobody waits for work that is like it. Calls that are
        alike and came at the same time are not one: each caller may have meant its own.
        Raises ``IdempotencyMismatch`` for a key that belongs to another call of this tenant.
        """
        for running in self._all:
            same = running.likeness == likeness
            if running.key == key and key is not None and _is_same_door(running.likeness, likeness):
                if not same:
                    raise IdempotencyMismatch(remedy="Use a new key for a new request.")
                return None if running.has_failed else running
            if same and running.key == key and not running.has_failed and (is_retry or not running.waiting):
                return running
        return None

    def begin(self, running: Running) -> None:
        """Remember work that has begun."""
        self._all[running] = None
        loop = asyncio.get_running_loop()

        def ended(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # The server has stopped meanwhile: nobody will come.
                loop.call_soon_threadsafe(self._ended, running)

        running.future.add_done_callback(ended)

    def enter(self, running: Running, until: float | None) -> None:
        """Somebody waits for the work, ``until`` then (monotonic)."""
        running.waiting += 1
        self._stop_timer(running)
        if running.context.audience is not None:
            running.context.audience.enter(until)
        running.place.rest(idle=False)
        if running.waiting == 1 and not running.future.done():
            self._resume()

    def leave(self, running: Running, *, keep: bool = True) -> None:
        """Somebody does not wait any more; without ``keep`` work that nobody waits for is dropped at once."""
        running.waiting -= 1
        if running.waiting or running not in self._all:
            return
        if running.future.done():
            self._keep_result(running)
        elif not (keep and self.grace_s and running.context.audience):
            self._drop(running)
        else:
            self._let_stand(running, running.context.audience.leave)

    def drop_idle(self) -> None:
        """Drop the work that nobody waits for: the server is stopping."""
        for running in [each for each in self._all if not each.waiting and not each.future.done()]:
            self._drop(running)

    def _let_stand(self, running: Running, leave: Callable[[], None]) -> None:
        leave()
        running.place.rest(idle=True)
        self._start_timer(running)
        idle = [each for each in self._all if not each.waiting and not each.future.done()]
        for each in idle[: max(0, len(idle) - self._max_idle)]:
            self._drop(each)

    def _keep_result(self, running: Running) -> None:
        """The work is done and told; with a key it may be asked for again, in case the answer was lost."""
        if running.key is None or running.has_failed:
            self._forget(running)
            return
        self._start_timer(running)
        kept = [each for each in self._all if not each.waiting and each.future.done()]
        for each in kept[: max(0, len(kept) - MAX_KEPT)]:
            self._forget(each)

    def _ended(self, running: Running) -> None:
        if not running.waiting and running.has_failed:
            self._forget(running)

    def _drop(self, running: Running) -> None:
        running.context.cancel.set()
        if running.future.cancel():
            self._resume()
        self._forget(running)

    def _forget(self, running: Running) -> None:
        self._stop_timer(running)
        self._all.pop(running, None)

    def _start_timer(self, running: Running) -> None:
        self._stop_timer(running)
        running.timer = asyncio.get_running_loop().call_later(self.grace_s, self._drop, running)

    def _stop_timer(self, running: Running) -> None:
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None


def _is_same_door(one: Likeness, other: Likeness) -> bool:
    return (one.tenant, one.route) == (other.tenant, other.route)
