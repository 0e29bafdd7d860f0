"""Which windows go next: lanes, fairness, batch keys and bounds.

Pure policy: no clock, no thread, no I/O; the time is an argument. The order is

1. the lane, where a window that has waited ``aging_s`` counts as one lane higher (and so on), so nothing starves; ahead
   of everything goes only a request of which nothing has been taken for so long: one with a long backlog of its own,
   which is served all the time, does not starve;
2. the tenant that has had the least audio for its weight, then that tenant's request that has had the least audio;
3. arrival.

The first window in that order is always in the batch; windows that can share its pass fill the rest.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TypeAlias

from tympan.batching.cost import CostModel
from tympan.batching.fairness import FairShares
from tympan.batching.key import BatchKey, batch_key
from tympan.batching.newcomers import Expected, Newcomers
from tympan.domain import Lane, WindowResult, WindowTask
from tympan.errors import Overloaded

BUCKET_S = 2.0
"""Windows whose lengths fall in the same bucket of this width waste little padding on one another."""

_MUCH_LONGER = 2.0
"""A window of more than so many times the length of the most deserving one, or of those who are expected, would hold
them up: it waits its turn."""

_SCAN_WINDOWS = 64
"""How deep into one request's windows the search for a fitting one goes."""

_FlowKey: TypeAlias = tuple[Lane, str, str]
_Rank: TypeAlias = tuple[int, float, float, int]


def _always(_now_s: float) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose window it is: the units of fairness; ``weight`` is the tenant's, ``trace`` where it is recorded.

    ``is_wanted`` tells at a time whether anybody waits for the answer then: nothing begins of what nobody waits for.
    """

    request_id: str
    tenant: str
    lane: Lane
    weight: float = field(default=1.0, compare=False)
    is_wanted: Callable[[float], bool] = field(default=_always, compare=False)
    trace: str = field(default="", compare=False)


@dataclass(slots=True, eq=False)
class Item:
    """An accepted window on its way to an answer. ``crashes`` and ``ooms`` count what it was part of."""

    task: WindowTask
    origin: Origin
    reply: Future[WindowResult]
    enqueued_s: float
    key: BatchKey = field(init=False)
    audio_s: float = field(init=False)
    started: bool = False
    crashes: int = 0
    ooms: int = 0

    def __post_init__(self) -> None:
        """Work out once what every comparison needs."""
        self.key = batch_key(self.task.params)
        self.audio_s = self.task.window.duration_s

    @property
    def gone(self) -> bool:
        """Whether the caller no longer wants the answer."""
        return self.reply.cancelled()


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait, and after how many seconds of waiting a window counts as one lane higher."""

    max_windows: int = 2048
    max_audio_s: float = 3600.0
    aging_s: float = 20.0


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may be.

    Whoever comes next waits for at most one batch, so none is predicted to take over ``idle_ms``. While others wait, a
    request adds no second window and none much longer than the first, and no lower lane adds any, once the batch is
    predicted to take ``max_ms``; while others are expected, what they allow between the two. Whoever speaks live
    allows no other lane more, whosever the windows are.
    ``max_windows`` is what a busy engine gains from; the ONNX Runtime engine bounds its memory itself.
    ``take_turns``: while several requests wait, a batch takes half of the windows present, since whoever is answered
    sends its next one only then. With everybody in one batch the engine would wait for all; so one half is decoded
    while the other prepares.
    """

    max_windows: int = 16
    max_ms: float = 300.0
    idle_ms: float = 2000.0
    take_turns: bool = True


@dataclass(slots=True, eq=False)
class _Flow:
    """The waiting windows of one request in one lane.

    ``level`` is the lane they count in at present, ``served_s`` when one was taken last.
    """

    key: _FlowKey
    arrival: int
    level: int
    weight: float = 1.0
    served_s: float = float("-inf")
    items: deque[Item] = field(default_factory=deque)

    def grown(self, now_s: float, aging_s: float) -> int:
        """Return the lane that its first window has grown into by waiting."""
        came_s = self.items[0].enqueued_s
        lane = self.key[0] - int(max(0.0, now_s - came_s) // aging_s)
        starves = now_s - max(came_s, self.served_s) >= aging_s
        return max(lane, int(Lane.LIVE) if starves else min(int(Lane.INTERACTIVE), self.key[0]))

    @property
    def member(self) -> tuple[int, str, _FlowKey]:
        return (self.level, self.key[1], self.key)

    def pop_first(self, wanted: Callable[[Item], bool]) -> Item | None:
        """Take out the first fitting window near the front, if any."""
        for index, item in enumerate(islice(self.items, _SCAN_WINDOWS)):
            if wanted(item):
                del self.items[index]
                return item
        return None


class _Draft:
    """A batch in the making; knows what still fits."""

    def __init__(self, head: Item, lane: int, limits: BatchLimits, cost: CostModel) -> None:
        self.items = [head]
        self.durations_s = [head.audio_s]
        self._head = head
        self._lane = lane
        self._limits = limits
        self._cost = cost
        self._alone_ms = limits.idle_ms
        self._usual_s = head.audio_s

    def expect(self, expected: Expected) -> None:
        """Somebody at least as urgent is likely to come: no request may stretch the batch beyond what that one allows.

        Who waits already allows ``max_ms``.
        """
        if expected.ms < self._limits.idle_ms:
            self._alone_ms = min(self._alone_ms, max(self._limits.max_ms, expected.ms))
            self._usual_s = min(self._usual_s, expected.audio_s)

    @property
    def full(self) -> bool:
        """Whether nothing at all would fit."""
        at_cap = self._cost.predict_ms(self._head.task.params, self.durations_s) > self._limits.idle_ms
        return at_cap or len(self.items) >= self._limits.max_windows

    def add(self, item: Item) -> None:
        self.items.append(item)
        self.durations_s.append(item.audio_s)

    def fits(self, item: Item, *, lane: int, similar: bool) -> bool:
        """Whether ``item`` may join; ``similar`` restricts to the head's length bucket."""
        if item.key != self._head.key or (similar and _bucket(item) != _bucket(self._head)):
            return False
        if lane > self._lane and self._lane == Lane.LIVE:
            return False
        predicted_ms = self._cost.predict_ms(self._head.task.params, [*self.durations_s, item.audio_s])
        return predicted_ms <= self._allowed_ms(item, lane)

    def _allowed_ms(self, item: Item, lane: int) -> float:
        if lane > self._lane:
            return self._limits.max_ms
        again = any(other.origin == item.origin for other in self.items)
        much_longer = item.audio_s > _MUCH_LONGER * self._usual_s
        return self._alone_ms if again or much_longer else self._limits.idle_ms


class WindowQueue:
    """The bounded, fair waiting room. Not thread-safe: its owner holds a lock."""

    def __init__(self, limits: QueueLimits | None = None) -> None:
        """Start empty, bounded by ``limits``."""
        self._limits = limits or QueueLimits()
        self._flows: dict[_FlowKey, _Flow] = {}
        self._shares = FairShares()
        self._arrivals = 0
        self._newcomers = Newcomers()
        self._now_s = float("-inf")
        self._windows = dict.fromkeys(Lane, 0)
        self._audio_s = dict.fromkeys(Lane, 0.0)

    def __len__(self) -> int:
        """Return how many windows wait."""
        return sum(self._windows.values())

    @property
    def requests(self) -> int:
        """How many requests have a window waiting."""
        return len(self._flows)

    @property
    def windows_by_lane(self) -> dict[Lane, int]:
        """Waiting windows in each lane, by the lane they were sent to."""
        return dict(self._windows)

    @property
    def audio_s_by_lane(self) -> dict[Lane, float]:
        """Waiting audio-seconds in each lane."""
        return dict(self._audio_s)

    def put(self, item: Item, *, others_run: bool = False) -> None:
        """Admit a window, or raise ``Overloaded`` when the queue is full; ``others_run``: inside the engine."""
        if self._full(item):
            self.purge(item.enqueued_s)
        if self._full(item):
            raise Overloaded("The queue is full.", remedy="Try again later, or with less audio at a time.")
        origin = item.origin
        key = (origin.lane, origin.tenant, origin.request_id)
        flow = self._flows.get(key)
        others = others_run or len(self._flows) > (flow is not None)
        if origin.lane is Lane.LIVE or (others and item.task.window.index == 0):
            self._newcomers.came(origin.lane, origin.request_id, item.audio_s, item.enqueued_s)
        if flow is None:
            self._arrivals += 1
            flow = self._flows[key] = _Flow(key, self._arrivals, int(origin.lane), origin.weight)
            self._shares.join(*flow.member, flow.weight)
        flow.items.append(item)
        self._count(item, +1)

    def take(self, now_s: float, limits: BatchLimits, cost: CostModel) -> list[Item]:
        """Return the next batch, most deserving window first; empty when nothing waits."""
        self.purge(now_s)
        heap = self._by_turn(now_s)
        if not heap:
            return []
        _, flow = heap[0]
        lane, level = flow.key[0], flow.level
        live_ms = self._newcomers.live(now_s).ms if level > Lane.LIVE else float("inf")
        limits = replace(limits, idle_ms=min(limits.idle_ms, max(limits.max_ms, live_ms)))
        self._now_s = now_s
        head = self._hand_over(flow, flow.items.popleft())
        draft = _Draft(head, level, limits, cost)
        if any(other.level <= level for _, other in heap if other is not flow):
            draft.expect(Expected(0.0, head.audio_s))
        draft.expect(self._newcomers.beside(lane, now_s))
        for similar in (True, False):
            self._fill(draft, similar=similar)
        return draft.items

    def better_waits(self, now_s: float, limits: BatchLimits) -> bool:
        """Tell whether what goes next had better not wait inside the engine, where nobody can go before it.

        So it is when somebody is expected whom it would hold up.
        """
        heap = self._by_turn(now_s)
        if not heap:
            return False
        flow = heap[0][1]
        if flow.level > Lane.LIVE and self._newcomers.live(now_s).ms < limits.idle_ms:
            return True
        expected = self._newcomers.beside(flow.key[0], now_s)
        return expected.ms < limits.idle_ms and flow.items[0].audio_s > _MUCH_LONGER * expected.audio_s

    def purge(self, now_s: float) -> None:
        """Drop the windows whose callers have gone, or do not wait any more at ``now_s``; tell their futures so."""
        for flow in list(self._flows.values()):
            if not flow.items[0].origin.is_wanted(now_s):
                for item in flow.items:
                    item.reply.cancel()
            if any(item.gone for item in flow.items):
                self._drop_gone(flow)

    def drain(self) -> list[Item]:
        """Take out everything, in no particular order."""
        items = [item for flow in self._flows.values() for item in flow.items]
        for flow in list(self._flows.values()):
            self._forget(flow)
        for item in items:
            self._count(item, -1)
        return items

    def _full(self, item: Item) -> bool:
        audio_s = sum(self._audio_s.values()) + item.audio_s
        return len(self) >= self._limits.max_windows or audio_s > self._limits.max_audio_s

    def _count(self, item: Item, sign: int) -> None:
        lane = item.origin.lane
        self._windows[lane] += sign
        # Back to exactly zero with the last window, so that float dust never looks like a backlog.
        self._audio_s[lane] = self._audio_s[lane] + sign * item.audio_s if self._windows[lane] else 0.0

    def _drop_gone(self, flow: _Flow) -> None:
        kept: deque[Item] = deque()
        for item in flow.items:
            if item.gone:
                item.reply.set_running_or_notify_cancel()
                self._count(item, -1)
            else:
                kept.append(item)
        flow.items = kept
        if not kept:
            self._forget(flow)

    def _by_turn(self, now_s: float) -> list[tuple[_Rank, _Flow]]:
        """Return a heap of the requests, each in the lane that it has grown into, the most deserving first."""
        for flow in self._flows.values():
            level = flow.grown(now_s, self._limits.aging_s)
            if level != flow.level:
                self._shares.leave(*flow.member)
                flow.level = level
                self._shares.join(*flow.member, flow.weight)
        return self._heap()

    def _heap(self) -> list[tuple[_Rank, _Flow]]:
        # The arrival number makes every rank unique, so flows are never compared.
        heap = [(self._rank(flow), flow) for flow in self._flows.values()]
        heapq.heapify(heap)
        return heap

    def _rank(self, flow: _Flow) -> _Rank:
        return (flow.level, *self._shares.share(*flow.member), flow.arrival)

    def _fill(self, draft: _Draft, *, similar: bool) -> None:
        heap = self._heap()
        while heap and not draft.full:
            rank, flow = heapq.heappop(heap)
            fresh = self._rank(flow)
            if fresh != rank:
                # Its tenant was served through another request meanwhile: put it back where it belongs.
                heapq.heappush(heap, (fresh, flow))
                continue
            item = flow.pop_first(partial(draft.fits, lane=flow.level, similar=similar))
            if item is None:
                continue
            draft.add(self._hand_over(flow, item))
            if flow.items:
                heapq.heappush(heap, (self._rank(flow), flow))

    def _hand_over(self, flow: _Flow, item: Item) -> Item:
        """Book a window that was taken out of its flow."""
        flow.served_s = self._now_s
        self._shares.charge(*flow.member, item.audio_s)
        self._count(item, -1)
        if not flow.items:
            self._forget(flow)
        return item

    def _forget(self, flow: _Flow) -> None:
        del self._flows[flow.key]
        self._shares.leave(*flow.member)


def _bucket(item: Item) -> int:
    return int(item.audio_s // BUCKET_S)


def total_audio_s(items: Iterable[Item]) -> float:
    """Return the audio-seconds of these windows together."""
    return sum(item.audio_s for item in items)
