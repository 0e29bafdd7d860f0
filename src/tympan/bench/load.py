"""The load benchmark: requests start when they should whether or not earlier ones are done, and none is forgotten.

In the open loop, arrivals are drawn beforehand and a request's latency counts from the moment it should have started
(Tene's "coordinated omission": a client that waits for a slow answer before it asks again hides all the time that
others would have waited). In the closed loop a fixed number of users ask again as soon as they are answered.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from tympan.bench.arrivals import MAX_REQUESTS, Arrival, End, drawn_items, poisson
from tympan.bench.client import Answer, Client, Item, Target, is_refusal
from tympan.errors import Cancelled, FetchFailed, InvalidRequest

MAX_ITEM_BYTES = 1 << 30
"""Most bytes of recordings held in memory by the client."""

MAX_IN_FLIGHT = 4_096
NOT_SENT = "not_sent"
"""The kind of error of a request that the client's own bound kept from starting; it was never delayed."""

_STOP_POLL_S = 0.1


class Loop(StrEnum):
    """Whether requests come at their own time, or from users who wait for their answers."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a server. ``rate_per_s`` makes an open loop, ``users`` a closed one."""

    end: End
    rate_per_s: float | None = None
    users: int | None = None
    max_in_flight: int = 256
    warm_up: int = 3
    seed: int = 1

    @property
    def loop(self) -> Loop:
        """Which loop it is."""
        return Loop.OPEN if self.rate_per_s is not None else Loop.CLOSED

    def check(self) -> None:
        """Raise ``InvalidRequest`` when this load cannot be meant so."""
        if (self.rate_per_s is None) == (self.users is None):
            raise InvalidRequest("A load needs --rate or --concurrency, and not both.")
        if self.end.requests >= MAX_REQUESTS and math.isinf(self.end.duration_s):
            raise InvalidRequest("The load would never end.", remedy="Give --duration or --requests.")
        if not 1 <= max(self.max_in_flight, self.users or 1) <= MAX_IN_FLIGHT:
            raise InvalidRequest(f"At most {MAX_IN_FLIGHT} requests can be under way.")


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: its place in the load, what it sent, when it should have started, when it did, how it was answered.

    Times are seconds after the beginning; ``latency_s`` counts from ``due_s`` and is ``None`` when it was not sent.
    """

    number: int
    item: int
    due_s: float
    start_s: float | None
    latency_s: float | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load. ``wall_s`` is from the beginning to the last answer."""

    samples: tuple[Sample, ...]
    wall_s: float
    cut_short: bool


@dataclass(slots=True)
class _Run:
    """What the requests under way share."""

    client: Client
    items: Sequence[Item]
    seen: Callable[[Sample], None]
    began: float = field(default_factory=time.perf_counter)
    samples: list[Sample] = field(default_factory=list)
    answers: dict[Answer, Answer] = field(default_factory=dict)
    in_flight: int = 0

    def now_s(self) -> float:
        return time.perf_counter() - self.began

    def note(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.seen(sample)

    async def request(self, number: int, item: int, due_s: float) -> None:
        start_s = self.now_s()
        self.in_flight += 1
        try:
            answer = await self.client.send(self.items[item])
        finally:
            self.in_flight -= 1
        latency_s = self.now_s() - due_s
        # Equal answers are kept once: a million requests of a few recordings have few texts.
        self.note(Sample(number, item, due_s, start_s, latency_s, self.answers.setdefault(answer, answer)))


@dataclass(frozen=True, slots=True)
class Weighted:
    """What requests send, and how often each item is drawn."""

    items: tuple[Item, ...]
    weights: tuple[float, ...]

    def check(self) -> None:
        """Raise ``InvalidRequest`` when there is nothing to send."""
        if not self.items:
            raise InvalidRequest("There is nothing to send.")


def check_size(paths: Iterable[Path]) -> None:
    """Raise ``InvalidRequest`` when the files at ``paths`` are more than the client keeps in memory, or not there."""
    try:
        total = sum(path.stat().st_size for path in paths)
    except OSError as error:
        raise InvalidRequest(f"A recording cannot be read: {error.strerror}.") from error
    if total > MAX_ITEM_BYTES:
        raise InvalidRequest(f"The recordings have {total} bytes.", remedy=f"Name at most {MAX_ITEM_BYTES} bytes.")


def run(
    target: Target, load: Load, sent: Weighted, stop: Callable[[], bool], seen: Callable[[Sample], None]
) -> Outcome:
    """Put the load on the server and return what came of it; ``stop`` ends it early, ``seen`` hears of each request.

    First ``warm_up`` requests are sent one after the other, which do not count. Raises ``FetchFailed`` when none of
    them is answered, in a way that says that no other will be, and ``InvalidRequest`` for a load that makes no sense.
    """
    load.check()
    sent.check()
    return asyncio.run(_run(target, load, sent, stop, seen))


async def _run(
    target: Target, load: Load, sent: Weighted, stop: Callable[[], bool], seen: Callable[[Sample], None]
) -> Outcome:
    async with Client(target, load.users or load.max_in_flight) as client:
        await _stoppable(_warm_up(client, target, load, sent), stop)
        here = _Run(client, sent.items, seen)
        if load.rate_per_s is not None:
            arrivals = poisson(load.rate_per_s, load.end, sent.weights, load.seed)
            work = _open_loop(here, arrivals, load.max_in_flight)
        else:
            work = _closed_loop(here, load, sent.weights)
        try:
            await _stoppable(work, stop)
        except Cancelled:
            return Outcome(tuple(here.samples), here.now_s(), cut_short=True)
        return Outcome(tuple(here.samples), here.now_s(), cut_short=False)


async def _stoppable(work: Coroutine[Any, Any, None], stop: Callable[[], bool]) -> None:
    """Await ``work``; raises ``Cancelled`` once ``stop`` says so. What is under way then is given up."""
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.wait({task}, timeout=_STOP_POLL_S)
        if stop() and task.cancel():
            await asyncio.wait({task})
            raise Cancelled
    await task


async def _warm_up(client: Client, target: Target, load: Load, sent: Weighted) -> None:
    """Send requests that do not count. Raises ``FetchFailed`` when all fail as every other one would."""
    failures = []
    for number in range(load.warm_up):
        answer = await client.send(sent.items[number % len(sent.items)])
        if answer.error is not None:
            failures.append(answer)
    if failures and len(failures) == load.warm_up and all(is_refusal(str(answer.error)) for answer in failures):
        last = failures[-1]
        raise FetchFailed(
            f"{target.shown} does not transcribe ({last.error}: {last.detail}).",
            remedy=f"Check the address and --api {target.api}; --warm-up 0 measures all the same.",
        )


async def _open_loop(here: _Run, arrivals: Iterable[Arrival], max_in_flight: int) -> None:
    """Start every request at its time, or count it as not sent when the client's own bound is reached."""
    async with asyncio.TaskGroup() as tasks:
        for number, arrival in enumerate(arrivals):
            if (wait_s := arrival.at_s - here.now_s()) > 0:
                await asyncio.sleep(wait_s)
            if here.in_flight >= max_in_flight:
                refused = Answer(error=NOT_SENT, detail=f"{max_in_flight} requests were under way")
                here.note(Sample(number, arrival.item, arrival.at_s, None, None, refused))
            else:
                tasks.create_task(here.request(number, arrival.item, arrival.at_s))
                await asyncio.sleep(0)  # The task begins, so that it is counted before the next arrival.


async def _closed_loop(here: _Run, load: Load, weights: Sequence[float]) -> None:
    """Let every user ask as soon as the last answer is there."""
    chosen = enumerate(islice(drawn_items(weights, load.seed), load.end.requests))

    async def user() -> None:
        while (due_s := here.now_s()) < load.end.duration_s:
            following = next(chosen, None)
            if following is None:
                return
            await here.request(*following, due_s)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.users or 1):
            tasks.create_task(user())


def facts(target: Target, load: Load) -> dict[str, Any]:
    """Return what was asked for, as a JSON object without secrets."""
    end = {"requests": load.end.requests if load.end.requests < MAX_REQUESTS else None,
           "duration_s": None if math.isinf(load.end.duration_s) else load.end.duration_s}  # fmt: skip
    asked = {name: value for name, value in asdict(load).items() if name != "end"}
    return {
        "url": target.shown,
        "api": target.api.value,
        "model": target.model if target.api == "openai" else None,
        "fields": dict(target.fields),
        "timeout_s": target.timeout_s,
        "loop": load.loop.value,
        **asked,
        **end,
    }
