"""All accepted windows that are not answered yet: waiting, to be run again, or inside the engine. Thread-safe."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain

from tympan.batching.cost import CostModel
from tympan.batching.queue import BatchLimits, Item, QueueLimits, WindowQueue, total_audio_s
from tympan.batching.recovery import Batch
from tympan.batching.stats import BatcherStats
from tympan.errors import Overloaded

_LEAST_SHARE = 2
"""Windows that a batch may always have where requests take turns."""


@dataclass(slots=True)
class Running:
    """A batch inside the engine; ``began_s`` is when it became the one that runs (monotonic seconds)."""

    batch_id: int
    items: Batch
    predicted_s: float
    began_s: float

    @property
    def ends_s(self) -> float:
        """When it should be done, on the clock of ``began_s``."""
        return self.began_s + self.predicted_s


class Backlog:
    """The accepted work and the prediction of what it costs."""

    def __init__(self, queue: QueueLimits, batch: BatchLimits, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty; ``clock`` tells the time in seconds, simulated time where this is simulated."""
        self._lock = threading.Lock()
        self._clock = clock
        self._batch = batch
        self._queue = WindowQueue(queue)
        self._cost = CostModel()
        self._retries: deque[Batch] = deque()
        self._inside: deque[Running] = deque()
        self._batch_ids = 0

    @property
    def inside(self) -> tuple[Running, ...]:
        """The batches the engine holds, the running one first."""
        with self._lock:
            return tuple(self._inside)

    @property
    def waiting(self) -> bool:
        """Whether anything waits for the engine."""
        with self._lock:
            return bool(self._retries) or len(self._queue) > 0

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing runs."""
        with self._lock:
            return not (self._retries or self._inside or len(self._queue))

    def room_in_s(self, lead_s: float) -> float:
        """Return how long until the engine may have another batch, infinite where an answer has to come first.

        It may have one when it is idle, and a second ``lead_s`` before the running one should end, unless that could
        hold up somebody who is expected.
        """
        with self._lock:
            if len(self._inside) != 1:
                return math.inf if self._inside else 0.0
            now_s = self._clock()
            if not self._retries and self._queue.better_waits(now_s, self._batch):
                return math.inf
            return self._inside[0].ends_s - now_s - lead_s

    def put(self, item: Item) -> None:
        """Admit a window; raise ``Overloaded``, with the time the queue should take, when there is no room."""
        with self._lock:
            others_run = any(other.origin != item.origin for running in self._inside for other in running.items)
            try:
                self._queue.put(item, others_run=others_run)
            except Overloaded as error:
                error.retry_after_s = max(1.0, self._drain_s())
                raise

    def send_next(self, max_windows: int) -> Running | None:
        """Form the next batch and count it as inside the engine; ``None`` when nothing waits."""
        with self._lock:
            items = self._next(max_windows)
            if not items:
                return None
            self._batch_ids += 1
            predicted_ms = self._cost.predict_ms(items[0].task.params, [item.audio_s for item in items])
            running = Running(self._batch_ids, items, predicted_ms / 1000.0, self._clock())
            self._inside.append(running)
            return running

    def answered(self, batch_id: int) -> Running:
        """Take out the running batch, which has to be this one; the next one runs from now on."""
        with self._lock:
            if not self._inside or self._inside[0].batch_id != batch_id:
                raise RuntimeError(f"The engine answered batch {batch_id}, which is not the running one.")
            running = self._inside.popleft()
            if self._inside:
                self._inside[0].began_s = self._clock()
            return running

    def learn(self, running: Running, compute_s: float) -> None:
        """Learn what this batch cost."""
        with self._lock:
            durations_s = [item.audio_s for item in running.items]
            self._cost.observe(running.items[0].task.params, durations_s, compute_s * 1000.0)

    def retry(self, batches: Iterable[Batch]) -> None:
        """Put these batches before everything else, in this order."""
        with self._lock:
            self._retries.extendleft(reversed(tuple(batches)))

    def take_back(self) -> None:
        """The engine is gone: what it still held goes first when there is a new one, in the same batches."""
        with self._lock:
            self._retries.extendleft(running.items for running in reversed(self._inside))
            self._inside.clear()

    def drain(self) -> list[Item]:
        """Take out every window, wherever it is."""
        with self._lock:
            items = [*chain.from_iterable(self._retries), *self._queue.drain()]
            items.extend(chain.from_iterable(running.items for running in self._inside))
            self._retries.clear()
            self._inside.clear()
            return items

    def snapshot(self, totals: BatcherStats) -> BatcherStats:
        """Return ``totals`` with the figures of this moment."""
        with self._lock:
            again = sum(map(len, self._retries))
            return replace(
                totals,
                queued_windows=self._queue.windows_by_lane,
                queued_audio_s=self._queue.audio_s_by_lane,
                running_windows=again + sum(len(running.items) for running in self._inside),
                compute_s_per_audio_s=self._cost.ms_per_audio_s / 1000.0,
                predicted_drain_s=self._drain_s(),
            )

    def _next(self, max_windows: int) -> Batch:
        while self._retries:
            batch = self._retries.popleft()
            if len(batch) > max_windows:
                self._retries.appendleft(batch[max_windows:])
            if wanted := tuple(filter(begin, batch[:max_windows])):
                return wanted
        limits = replace(self._batch, max_windows=min(max_windows, self._batch.max_windows, self._share()))
        while taken := self._queue.take(self._clock(), limits, self._cost):
            if wanted := tuple(filter(begin, taken)):
                return wanted
        return ()

    def _share(self) -> int:
        """Return how many windows the next batch may have where requests take turns."""
        if not self._batch.take_turns or self._queue.requests < 2:
            return self._batch.max_windows
        present = len(self._queue) + sum(len(running.items) for running in self._inside)
        return max(_LEAST_SHARE, -(-present // 2))

    def _drain_s(self) -> float:
        audio_s = sum(self._queue.audio_s_by_lane.values()) + sum(map(total_audio_s, self._retries))
        audio_s += sum(total_audio_s(running.items) for running in self._inside)
        return audio_s * self._cost.ms_per_audio_s / 1000.0


def begin(item: Item) -> bool:
    """Claim a window, so that its caller can no longer withdraw it; false when the caller has already gone."""
    if not item.started:
        item.started = item.reply.set_running_or_notify_cancel()
    return item.started
