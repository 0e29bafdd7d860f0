"""Whose pipeline gets the next thread: tenants take turns, so that one with a hundred files holds up nobody else."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tympan.pipeline import RequestContext


@dataclass(frozen=True, slots=True)
class Turn:
    """Work that waits for a thread: for whom, how it is done, how it is dropped; ``do`` tells if there was any left."""

    context: RequestContext
    do: Callable[[], bool]
    drop: Callable[[], object]


class Turns:
    """The work that waits. Thread-safe; its bound is that on requests in the house.

    The tenant with the fewest threads for its weight goes first, then whoever came first. Work that nobody waits for at
    present is passed over.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Turn]] = {}
        self._busy: dict[str, int] = {}

    def add(self, turn: Turn) -> None:
        """Let work wait."""
        with self._lock:
            self._waiting.setdefault(turn.context.tenant, deque()).append(turn)

    def take_one(self) -> None:
        """Do the work whose turn it is; return at once when there is none."""
        while (turn := self._begin_next()) is not None:
            tenant = turn.context.tenant
            try:
                if turn.do():
                    return
            finally:
                self._end(tenant)

    def clear(self) -> None:
        """Drop everything that waits."""
        with self._lock:
            left = [turn for waiting in self._waiting.values() for turn in waiting]
            self._waiting.clear()
        for turn in left:
            turn.drop()

    def _begin_next(self) -> Turn | None:
        with self._lock:
            turn = self._next()
            if turn is not None:
                tenant = turn.context.tenant
                self._busy[tenant] = self._busy.get(tenant, 0) + 1
            return turn

    def _end(self, tenant: str) -> None:
        with self._lock:
            self._busy[tenant] -= 1
            if not self._busy[tenant]:
                del self._busy[tenant]

    def _next(self) -> Turn | None:
        now_s = time.monotonic()
        found = [turn for waiting in self._waiting.values() if (turn := _first(waiting, now_s)) is not None]
        if not found:
            return None
        turn = min(found, key=self._share)  # Of equals the one whose tenant has waited longest: dicts keep their order.
        waiting = self._waiting.pop(turn.context.tenant)
        waiting.remove(turn)
        if waiting:
            self._waiting[turn.context.tenant] = waiting  # Behind the others.
        return turn

    def _share(self, turn: Turn) -> float:
        return (self._busy.get(turn.context.tenant, 0) + 1) / max(turn.context.weight, 0.01)


def _first(waiting: deque[Turn], now_s: float) -> Turn | None:
    """Return the first work to be done, which includes what was cancelled: it is over at once."""
    return next((turn for turn in waiting if _is_due(turn.context, now_s)), None)


def _is_due(context: RequestContext, now_s: float) -> bool:
    return context.audience is None or context.cancel.is_set() or context.audience.is_there(now_s)
