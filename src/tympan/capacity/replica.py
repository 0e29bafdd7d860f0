"""One machine in simulated time. Its scheduler is the server's own: backlog, queue, fairness and learned costs."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import numpy as np

from tympan.batching.backlog import Backlog, Running
from tympan.batching.queue import BatchLimits, Item, Origin, QueueLimits
from tympan.capacity.agenda import Action, Agenda
from tympan.capacity.profile import Profile
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Lane, Window, WindowResult, WindowTask
from tympan.errors import Overloaded

Began: TypeAlias = Callable[[], object]

PARAMS = DecodeParams()
_SAMPLES = np.zeros(30 * SAMPLE_RATE_HZ, np.int16)
_RETRY_S = 0.05
_LEARNED = 6
_LEAST_S = 0.001
"""The shortest pause of whoever feeds the engine, as in the batcher."""


@dataclass(frozen=True, slots=True)
class House:
    """How a server is set, as far as it bears on waiting; the defaults are the server's.

    ``recovery_s`` is how long a job's section of a lost machine waits until another takes it.
    """

    batch: BatchLimits = field(default_factory=BatchLimits)
    queue: QueueLimits = field(default_factory=QueueLimits)
    lead_s: float = 0.1
    max_concurrent: int = 64
    max_requests: int = 128
    max_wait_s: float = 120.0
    job_slots: int = 4
    section_s: float = 300.0
    recovery_s: float = 37.0


class Engine:
    """An engine that takes as long as a profile says, fed as the batcher feeds it."""

    def __init__(self, agenda: Agenda, profile: Profile, house: House, rng: Random) -> None:
        """Start idle, with costs learned as after a while of work."""
        self._agenda, self._profile, self._house, self._rng = agenda, profile, house, rng
        self._backlog = Backlog(house.queue, house.batch, agenda.clock)
        self._began: dict[int, Began] = {}
        self._ends_s: float | None = None
        self._compute_s = 0.0
        self._look_at_s: float | None = None
        self.busy_s = 0.0
        self.batches = 0
        self.windows = 0
        self._learn()

    @property
    def is_busy(self) -> bool:
        """Whether a batch runs."""
        return self._ends_s is not None

    def put(self, origin: Origin, index: int, length_s: float, began: Began, done: Action) -> bool:
        """Accept a window, and return whether there was room; ``began`` and ``done`` are called at their times."""
        samples = _SAMPLES[: max(1, round(length_s * SAMPLE_RATE_HZ))]
        reply: Future[WindowResult] = Future()
        item = Item(WindowTask(Window(index, samples, ()), PARAMS), origin, reply, self._agenda.now_s)
        try:
            self._backlog.put(item)
        except Overloaded:
            return False
        self._began[id(item)] = began
        reply.add_done_callback(lambda _: done())
        self._look(self._agenda.now_s)  # Once all that comes at this moment is there, as windows handed over together.
        return True

    def lose(self, seconds: float) -> None:
        """Something else has computed for so long: what runs ends later."""
        if self._ends_s is not None:
            self._ends_s += seconds
            self._compute_s += seconds

    def _learn(self) -> None:
        """Know the costs of a few batches of every kind that occurs; the sizes that it will never see matter little."""
        for _ in range(_LEARNED):
            for lengths_s in ([5.0], [20.0], [5.0] * 4, [20.0] * 4):
                batch = tuple(self._item(length_s) for length_s in lengths_s)
                self._backlog.learn(Running(0, batch, 0.0, 0.0), self._profile.cost.ms(lengths_s) / 1000.0)

    @staticmethod
    def _item(length_s: float) -> Item:
        window = Window(0, _SAMPLES[: round(length_s * SAMPLE_RATE_HZ)], ())
        return Item(WindowTask(window, PARAMS), Origin("", "", Lane.BATCH), Future(), 0.0)

    def _feed(self) -> None:
        while (room_in_s := self._backlog.room_in_s(self._house.lead_s)) <= 0.0:
            running = self._backlog.send_next(self._house.batch.max_windows)
            if running is None:
                return
            if self._ends_s is None:
                self._begin(running)
        if room_in_s < float("inf") and self._backlog.waiting:
            self._look(self._agenda.now_s + max(_LEAST_S, room_in_s))

    def _look(self, when_s: float) -> None:
        """Feed again at that time, unless that is going to happen already."""
        if self._look_at_s is None or when_s < self._look_at_s - 1e-9 or self._look_at_s <= self._agenda.now_s:
            self._look_at_s = when_s
            self._agenda.at(when_s, self._feed)

    def _begin(self, running: Running) -> None:
        lengths_s = [item.audio_s for item in running.items]
        ratios = self._profile.ratios
        ratio = ratios[0] if len(ratios) == 1 else self._rng.choice(ratios)
        self._compute_s = self._profile.cost.ms(lengths_s) * ratio / 1000.0
        self._ends_s = self._agenda.now_s + self._compute_s
        for item in running.items:
            self._began.pop(id(item))()
        self._agenda.at(self._ends_s, self._end)

    def _end(self) -> None:
        if self._ends_s is None:
            return
        if self._ends_s > self._agenda.now_s + 1e-9:
            self._agenda.at(self._ends_s, self._end)
            return
        self._ends_s = None
        running = self._backlog.answered(self._backlog.inside[0].batch_id)
        self._backlog.learn(running, self._compute_s)
        self.busy_s += self._compute_s
        self.batches += 1
        self.windows += len(running.items)
        if inside := self._backlog.inside:
            self._begin(inside[0])
        for item in running.items:
            item.reply.set_result(None)  # type: ignore[arg-type]  # nobody reads what was said
        self._feed()


class Hands:
    """Those who do what a request costs beside the engine; whoever finds all of them busy waits in line."""

    def __init__(self, agenda: Agenda, engine: Engine, profile: Profile) -> None:
        """Start with all hands free."""
        self._agenda, self._engine, self._door = agenda, engine, profile.door
        self._free = profile.door.hands
        self._line: deque[tuple[float, Action]] = deque()

    def do(self, seconds: float, then: Action) -> None:
        """Do work of so many seconds when a hand is free, then go on."""
        if not self._free:
            self._line.append((seconds, then))
            return
        self._free -= 1
        took_s = seconds
        if self._engine.is_busy and self._door.contention:
            took_s *= 1.0 + self._door.contention
            self._engine.lose(seconds * self._door.contention)
        self._agenda.after(took_s, lambda: self._done(then))

    def _done(self, then: Action) -> None:
        self._free += 1
        then()
        if self._line and self._free:
            self.do(*self._line.popleft())


class Visit:
    """One request's, or section's, way through a machine, as ``pipeline.decoding`` goes it: windows in order.

    ``GATHERED`` windows are handed over together when none is in the engine, and ``IN_FLIGHT`` are under way at most.
    """

    GATHERED, IN_FLIGHT = 4, 16

    def __init__(self, engine: Engine, agenda: Agenda, origin: Origin, began: Began, done: Action) -> None:
        """``began`` is called when the engine begins with its first window, ``done`` after the last."""
        self._engine, self._agenda, self._origin = engine, agenda, origin
        self._began, self._done = began, done
        self._gathered: deque[tuple[int, float]] = deque()
        self._under_way = 0
        self._has_begun = self._is_whole = False
        self._on_room: Action | None = None

    def take(self, index: int, length_s: float, *, last: bool, then: Action) -> None:
        """Accept the next window, and go on with ``then`` when there is room for another."""
        self._gathered.append((index, length_s))
        self._is_whole = last
        self._hand_over()
        if last:
            return
        if len(self._gathered) + self._under_way >= self.IN_FLIGHT:
            self._on_room = then
        else:
            then()

    def _hand_over(self) -> None:
        if self._under_way or self._is_whole or len(self._gathered) >= self.GATHERED:
            while self._gathered and self._put(*self._gathered[0]):
                self._gathered.popleft()

    def _put(self, index: int, length_s: float) -> bool:
        self._under_way += 1
        if self._engine.put(self._origin, index, length_s, self._begin, self._answered):
            return True
        self._under_way -= 1
        self._agenda.after(_RETRY_S, self._hand_over)
        return False

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._began()

    def _answered(self) -> None:
        self._under_way -= 1
        if self._gathered:
            self._hand_over()
        if self._on_room is not None:
            go_on, self._on_room = self._on_room, None
            go_on()
        elif self._is_whole and not self._under_way and not self._gathered:
            self._done()


def feed(visit: Visit, hands: Hands, work_s: Sequence[float], lengths_s: Sequence[float]) -> None:
    """Have each window prepared, one after the other, and handed to the engine."""

    def prepare(index: int) -> None:
        hands.do(work_s[index], lambda: ready(index))

    def ready(index: int) -> None:
        visit.take(index, lengths_s[index], last=index + 1 == len(lengths_s), then=lambda: prepare(index + 1))

    prepare(0)
