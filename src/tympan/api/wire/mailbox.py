"""A way for things from a thread to the event loop, with a bound: whoever does not take them stops who makes them."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

_LOOK_S = 0.1


class Mailbox(Generic[Item]):
    """What was put in and not taken out, oldest first. Make it, take from it and wait for it in the event loop."""

    def __init__(self, limit: int, check: Callable[[], None]) -> None:
        """Hold ``limit`` things at most; ``check`` raises when whoever waits for room should not go on."""
        self._limit, self._check = limit, check
        self._items: deque[Item] = deque()
        self._room = threading.Condition()
        self._loop, self._rung = asyncio.get_running_loop(), asyncio.Event()

    def put(self, item: Item) -> None:
        """Put something in, from any thread; wait for room. Raises what ``check`` raises."""
        with self._room:
            while len(self._items) >= self._limit:
                self._room.wait(_LOOK_S)
                self._check()
            self._items.append(item)
        self._loop.call_soon_threadsafe(self._rung.set)

    def take(self) -> list[Item]:
        """Return all that is there, without waiting."""
        self._rung.clear()
        with self._room:
            items = list(self._items)
            self._items.clear()
            self._room.notify_all()
        return items

    def ring(self) -> None:
        """Let whoever waits look, although nothing may have come."""
        self._rung.set()

    async def wait(self, timeout_s: float) -> bool:
        """Return whether something came, or it rang, within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._rung.wait()
        except TimeoutError:
            return False
