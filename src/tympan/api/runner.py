"""Blocking work away from the event loop: threads of our own, a bound, a deadline, and an eye on the caller."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from starlette.types import Receive

from tympan.api.turns import Turn, Turns
from tympan.errors import Cancelled, RequestTimeout, StorageUnavailable
from tympan.pipeline import RequestContext

Result = TypeVar("Result")

QUERY_S = 5.0
"""Longest wait for one piece of work on the database."""

_DISK_THREADS = 4
_DATABASE_THREADS = 8
_CHORE_THREADS = 8
_MAX_WAITING = 256
_SILENCE = ("The database does not answer.", "Try again.")
_TOO_LONG = (
    "The request was not finished within its time limit.",
    "It may still finish: check before you try again. An Idempotency-Key keeps it from being done twice.",
)


class Runner:
    """Four pools, for pipelines, disk writes, queries and chores, so that none keeps the others waiting."""

    def __init__(self, max_concurrent: int) -> None:
        """Allow ``max_concurrent`` pipelines at the same time; the bound on those that wait is the house's."""
        self._pipelines = ThreadPoolExecutor(max_concurrent, thread_name_prefix="pipeline")
        self._turns = Turns()
        self._disk = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="disk")
        self._queries = _Pool(_DATABASE_THREADS, "database", _SILENCE)
        self._chores = _Pool(_CHORE_THREADS, "chores", _TOO_LONG)

    async def run(
        self,
        work: Callable[[], Result],
        context: RequestContext,
        receive: Receive,
        cleanup: Callable[[], None],
    ) -> Result:
        """Return what ``work`` returns, and call ``cleanup`` when it has really ended, which may be later.

        Raises what ``work`` raises, ``RequestTimeout`` at the context's deadline, and ``Cancelled`` when the caller
        hangs up; in both cases the context is cancelled and the thread ends soon after.
        """
        future = self.start(work, context, cleanup)
        try:
            return await self.wait(future, context.deadline, receive)
        finally:
            if not future.done():
                context.cancel.set()
                future.cancel()

    def start(
        self, work: Callable[[], Result], context: RequestContext, cleanup: Callable[[], None]
    ) -> "Future[Result]":
        """Do ``work`` when it is its tenant's turn; ``cleanup`` is called when it has ended, or will never begin."""
        future: Future[Result] = Future()
        run = contextvars.copy_context().run

        def do() -> bool:
            if not future.set_running_or_notify_cancel():
                return False
            try:
                result = run(work)
            except BaseException as error:  # noqa: BLE001 (whoever waits for the future is told)
                cleanup()
                future.set_exception(error)
            else:
                cleanup()
                future.set_result(result)
            return True

        future.add_done_callback(lambda done: cleanup() if done.cancelled() else None)
        self._turns.add(Turn(context, do, future.cancel))
        try:
            self._pipelines.submit(self._turns.take_one)
        except BaseException:
            future.cancel()
            raise
        return future

    def look_again(self) -> None:
        """Begin work that was passed over, if somebody waits for it again; forget what was dropped."""
        with suppress(RuntimeError):  # The server has stopped: nothing begins any more.
            self._pipelines.submit(self._turns.take_one)

    async def wait(self, future: "Future[Result]", until: float | None, receive: Receive) -> Result:
        """Return the result of ``future``, which goes on whatever this raises.

        Raises what the work raises, ``RequestTimeout`` at ``until`` (monotonic), ``Cancelled`` when the caller has hung
        up.
        """
        answer = asyncio.wrap_future(future)
        answer.add_done_callback(_retrieve)
        departure = asyncio.create_task(_departure(receive))
        try:
            either: set[asyncio.Future[Any]] = {answer, departure}
            await asyncio.wait(either, timeout=_left_s(until), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise Cancelled if departure.done() else RequestTimeout(remedy="Send shorter audio, or try again later.")
        finally:
            departure.cancel()

    async def query(self, work: Callable[[], Result]) -> Result:
        """Return what a short piece of work on the database or the blobs returns, within ``QUERY_S``.

        Raises what it raises, and ``StorageUnavailable`` when it takes longer or too many wait already: a frozen
        database must not collect requests.
        """
        return await self._queries.run(work, QUERY_S)

    async def chore(self, work: Callable[[], Result], limit_s: float) -> Result:
        """Return what work on the database and the blobs returns that may take longer: moving, joining, rendering.

        Raises as ``query``. Work that is given up ends by itself; what it does until then is done.
        """
        return await self._chores.run(work, limit_s)

    async def to_disk(self, write: Callable[[], None]) -> None:
        """Do one short disk operation in a thread. Raises what it raises."""
        await asyncio.get_running_loop().run_in_executor(self._disk, write)

    def close(self) -> None:
        """Take no more work and drop what has not started; running work is left to end by itself."""
        self._pipelines.shutdown(wait=False, cancel_futures=True)
        self._turns.clear()
        self._disk.shutdown(wait=False, cancel_futures=True)
        self._queries.close()
        self._chores.close()


class _Pool:
    """Threads for work that is waited for only so long, with a bound on how much of it there is."""

    def __init__(self, n_threads: int, name: str, late: tuple[str, str]) -> None:
        """Run ``n_threads``; ``late`` is what to say, cause and remedy, about work that takes too long."""
        self._late = late
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._count = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], Result], limit_s: float) -> Result:
        if self._count >= _MAX_WAITING:
            raise StorageUnavailable("Too many requests wait for the database.", retry_after_s=2.0)
        with self._lock:
            self._count += 1
        future = self._threads.submit(contextvars.copy_context().run, work)
        future.add_done_callback(lambda _: self._ended())
        answer = asyncio.wrap_future(future)
        answer.add_done_callback(_retrieve)
        try:
            return await asyncio.wait_for(asyncio.shield(answer), limit_s)
        except TimeoutError:
            future.cancel()
            cause, remedy = self._late
            raise StorageUnavailable(cause, remedy=remedy, retry_after_s=2.0) from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self) -> None:
        with self._lock:
            self._count -= 1


async def _departure(receive: Receive) -> None:
    """Return when the caller has hung up; the body has been read by now."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _left_s(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _retrieve(answer: "asyncio.Future[Result]") -> None:
    """Take the error of an abandoned answer, so that the loop does not report it as lost."""
    if not answer.cancelled():
        answer.exception()
