"""An engine and its callers in simulated time: the queue's policy decides, and everything takes as long as is said."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from tests.batching_support import origin
from tympan.batching.cost import CostModel
from tympan.batching.queue import BatchLimits, Item, WindowQueue
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Lane, Window, WindowResult, WindowTask

LONG_S, CLIP_S = 26.5, 5.0
LEAD_S = 0.1
_ENCODE_S_PER_S = 0.007
_TOKENS_PER_S = 3.6
_SAMPLES = np.zeros(round(30.0 * SAMPLE_RATE_HZ), np.int16)


def engine_s(lengths_s: Sequence[float]) -> float:
    """Return what a batch takes, about as on two cores: the encoder goes by windows, the decoder gains from company."""
    encoded_s = sum(_ENCODE_S_PER_S * length_s for length_s in lengths_s)
    steps = _TOKENS_PER_S * max(lengths_s)
    return encoded_s + steps * (2.4 + 1.0 * len(lengths_s)) / 1000.0


@dataclass
class Simulation:
    """One engine, fed as the batcher feeds it. ``waits_s`` has for each caller how long its requests took."""

    limits: BatchLimits = field(default_factory=BatchLimits)
    now_s: float = 1000.0
    queue: WindowQueue = field(default_factory=WindowQueue)
    cost: CostModel = field(default_factory=CostModel)
    waits_s: dict[str, list[float]] = field(default_factory=dict)
    batches: list[list[Item]] = field(default_factory=list)
    _inside: deque[tuple[list[Item], float]] = field(default_factory=deque)
    _began_s: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Know the engine's speed, as after a while of work."""
        for lengths_s in [[CLIP_S], [LONG_S], [LONG_S] * 2, [LONG_S] * 4] * 10:
            self.cost.observe(DecodeParams(), lengths_s, 1000.0 * engine_s(lengths_s))

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        """Do ``what`` at that time."""
        heapq.heappush(self._events, (max(when_s, self.now_s), next(self._order), what))

    def run(self, for_s: float) -> None:
        """Let so much time pass."""
        end_s = self.now_s + for_s
        while self._events and self._events[0][0] <= end_s:
            self.now_s, _, what = heapq.heappop(self._events)
            what()
            self._feed()
        self.now_s = end_s

    def put(self, request: str, lane: Lane, length_s: float, done: Callable[[], None], index: int = 0) -> None:
        """Send a window; ``done`` is called with its answer."""
        samples = _SAMPLES[: round(length_s * SAMPLE_RATE_HZ)]
        reply: Future[WindowResult] = Future()
        who = origin(request, "tenant", lane)
        item = Item(WindowTask(Window(index, samples, ()), DecodeParams()), who, reply, self.now_s)
        reply.add_done_callback(lambda _: done())
        self.queue.put(item, others_run=any(other.origin != who for items, _ in self._inside for other in items))

    def long_file(self, request: str = "long", lane: Lane = Lane.INTERACTIVE) -> None:
        """Have a file of hours under way, as many of its windows in flight as a request may have."""
        numbers = itertools.count()

        def another() -> None:
            self.put(request, lane, LONG_S, another, next(numbers))

        for _ in range(16):
            self.at(self.now_s, another)

    def clips(
        self, count: int, think_s: Callable[[], float], request: str = "clip", lane: Lane = Lane.INTERACTIVE
    ) -> None:
        """Have short clips come one after another, each so long after the last one's answer."""
        left = iter(range(count))

        def another() -> None:
            number = next(left, None)
            if number is None:
                return
            came_s = self.now_s

            def done() -> None:
                self.waits_s.setdefault(request, []).append(self.now_s - came_s)
                self.at(self.now_s + think_s(), another)

            self.put(f"{request}{number}", lane, CLIP_S, done)

        self.at(self.now_s + think_s(), another)

    def windows_of(self, request: str) -> int:
        """How many windows of this request were taken."""
        return sum(item.origin.request_id == request for batch in self.batches for item in batch)

    def _feed(self) -> None:
        if len(self._inside) > 1:
            return
        if self._inside:
            ends_s = self._began_s + self._inside[0][1]
            if self.queue.better_waits(self.now_s, self.limits):
                return
            if self.now_s < ends_s - LEAD_S - 1e-9:
                self.at(ends_s - LEAD_S, lambda: None)
                return
        if items := self.queue.take(self.now_s, self.limits, self.cost):
            self.batches.append(items)
            self._inside.append((items, self.cost.predict_ms(DecodeParams(), [i.audio_s for i in items]) / 1000.0))
            if len(self._inside) == 1:
                self._begin()
            self._feed()

    def _begin(self) -> None:
        self._began_s = self.now_s
        self.at(self.now_s + engine_s([item.audio_s for item in self._inside[0][0]]), self._end)

    def _end(self) -> None:
        items, _ = self._inside.popleft()
        if self._inside:
            self._begin()
        for item in items:
            item.reply.set_result(None)  # type: ignore[arg-type]  # nobody reads what was said
