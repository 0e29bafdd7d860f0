"""Many files through one function, several at a time: order, failures and interruption, and nothing else."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import Generic, TypeVar

from tympan.errors import TympanError

MAX_LEAD = 1000
"""How many files may finish before an earlier one that is still running: bounds what waits to be printed."""

_POLL_S = 0.1

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[ItemT, ResultT]):
    """One item's end: ``result`` or ``error``, after ``processing_s`` seconds; ``index`` is its place in the input."""

    index: int
    item: ItemT
    result: ResultT | None
    error: TympanError | None
    processing_s: float


def run_many(
    items: Sequence[ItemT],
    work: Callable[[ItemT], ResultT],
    *,
    workers: int,
    stop: Event,
    fail_fast: bool = False,
) -> Iterator[Outcome[ItemT, ResultT]]:
    """Yield the outcome of ``work`` on every item, as they finish, with at most ``workers`` running.

    An error of one item never touches another, unless ``fail_fast`` turns the first into ``stop``. Once ``stop`` is
    set nothing new starts; ``work`` is expected to notice it and raise ``Cancelled``. Items never begun yield nothing.
    """
    backlog = deque(enumerate(items))
    running: dict[Future[Outcome[ItemT, ResultT]], int] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="transcribe") as pool:
        try:
            while running or (backlog and not stop.is_set()):
                while backlog and not stop.is_set() and _may_start(backlog[0][0], running.values(), workers):
                    index, item = backlog.popleft()
                    running[pool.submit(_attempt, index, item, work)] = index
                done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=running.__getitem__):
                    del running[future]
                    outcome = future.result()
                    if fail_fast and outcome.error:
                        stop.set()
                    yield outcome
        except BaseException:
            # The consumer has failed or gone: the files still running must not hold it up.
            stop.set()
            raise


def in_order(outcomes: Iterable[Outcome[ItemT, ResultT]]) -> Iterator[Outcome[ItemT, ResultT]]:
    """Yield outcomes by index as soon as every earlier one is there; those behind a gap come at the end."""
    held: dict[int, Outcome[ItemT, ResultT]] = {}
    expected = 0
    for outcome in outcomes:
        held[outcome.index] = outcome
        while expected in held:
            yield held.pop(expected)
            expected += 1
    yield from (held[index] for index in sorted(held))


def _may_start(index: int, running: Collection[int], workers: int) -> bool:
    return len(running) < workers and index - min(running, default=index) < MAX_LEAD


def _attempt(index: int, item: ItemT, work: Callable[[ItemT], ResultT]) -> Outcome[ItemT, ResultT]:
    started = time.monotonic()
    try:
        result, error = work(item), None
    except TympanError as failure:
        result, error = None, failure
    except Exception as failure:  # noqa: BLE001  (one file's bug must not cost the others; it is reported as such)
        error = TympanError(f"Unexpected {type(failure).__name__}: {failure}")
        error.__cause__ = failure
        result = None
    return Outcome(index, item, result, error, time.monotonic() - started)
