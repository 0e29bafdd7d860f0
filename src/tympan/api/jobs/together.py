"""One look for many who ask the same at the same time: a herd that polls a job costs the database one query at a time.

Whoever asks gets an answer that was read after the question came: it may be shared with those who ask while an earlier
look is under way, never with that earlier look. So a caller sees what it has written itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from starlette.requests import Request

from tympan.api.jobs.appointments import Appointments

Result = TypeVar("Result")


class Together:
    """Looks by what is asked. Used from the event loop alone; bounded by the requests that wait for them."""

    def __init__(self) -> None:
        """Start with none."""
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}
        self._next: dict[Hashable, asyncio.Future[Any]] = {}

    async def ask(self, key: Hashable, look: Callable[[], Awaitable[Result]]) -> Result:
        """Return what ``look`` returns, to this caller or another who asks for ``key`` now. Raises what it raises."""
        waiting: asyncio.Future[Result] | None = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = asyncio.ensure_future(self._look(key, look))
            waiting.add_done_callback(_retrieve)
        return await asyncio.shield(waiting)

    async def _look(self, key: Hashable, look: Callable[[], Awaitable[Result]]) -> Result:
        while (earlier := self._under_way.get(key)) is not None:
            await asyncio.wait({earlier})
        mine = self._under_way[key] = self._next.pop(key)  # Who asks from now on waits for the next one.
        try:
            return await look()
        finally:
            if self._under_way.get(key) is mine:
                del self._under_way[key]


def together_of(request: Request) -> Together:
    """Return the looks of the application that a request came to."""
    found: Together = request.app.state.together
    return found


def appointments_of(request: Request) -> Appointments:
    """Return when the callers of the application that a request came to are expected."""
    found: Appointments = request.app.state.appointments
    return found


def _retrieve(looked: "asyncio.Future[Any]") -> None:
    """Take the error of a look whose callers have all gone, so that the loop does not report it as lost."""
    if not looked.cancelled():
        looked.exception()
