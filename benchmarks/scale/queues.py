"""A small discrete-event simulation: a clock, and stations where work waits in line for a server."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Clock:
    """Simulated time and what is to happen when; the same seed gives the same run."""

    def __init__(self, seed: int) -> None:
        """Start at time 0 with an empty calendar."""
        self.now_s = 0.0
        self.random = random.Random(seed)
        self._calendar: list[tuple[float, int, Action]] = []
        self._order = count()

    def after(self, delay_s: float, action: Action) -> None:
        """Do ``action`` in ``delay_s`` seconds; equal times keep the order they were asked in."""
        heapq.heappush(self._calendar, (self.now_s + delay_s, next(self._order), action))

    def run_until(self, end_s: float) -> None:
        """Do everything that is due up to ``end_s``."""
        while self._calendar and self._calendar[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._calendar)
            action()
        self.now_s = end_s

    def poisson(self, per_s: float, action: Action) -> None:
        """Do ``action`` at random moments, ``per_s`` of them a second on average, for ever."""

        def arrive() -> None:
            self.after(self.random.expovariate(per_s), arrive)
            action()

        self.after(self.random.expovariate(per_s), arrive)


class Station:
    """``servers`` servers with one line, first come first served; counts from the last ``reset`` on."""

    def __init__(self, clock: Clock, servers: int) -> None:
        """Open with idle servers."""
        self._clock = clock
        self._servers = servers
        self._busy = 0
        self._line: deque[tuple[float, float, Action]] = deque()
        self.reset()

    def reset(self) -> None:
        """Forget what was counted; who is served or waits stays."""
        self._since_s = self._clock.now_s
        self._busy_s = 0.0
        self._changed_s = self._clock.now_s
        self._waited_s = 0.0
        self._started = 0
        self._line_at_reset = len(self._line)

    def visit(self, service_s: float, then: Action) -> None:
        """Wait for a server, keep it for ``service_s`` seconds, then do ``then``."""
        if self._busy < self._servers:
            self._start(self._clock.now_s, service_s, then)
        else:
            self._line.append((self._clock.now_s, service_s, then))

    def _start(self, came_s: float, service_s: float, then: Action) -> None:
        self._account()
        self._busy += 1
        self._started += 1
        self._waited_s += self._clock.now_s - max(came_s, self._since_s)
        self._clock.after(service_s, lambda: self._end(then))

    def _end(self, then: Action) -> None:
        self._account()
        self._busy -= 1
        if self._line:
            self._start(*self._line.popleft())
        then()

    def _account(self) -> None:
        self._busy_s += self._busy * (self._clock.now_s - self._changed_s)
        self._changed_s = self._clock.now_s

    @property
    def utilisation(self) -> float:
        """The share of the servers' time that was used."""
        self._account()
        return self._busy_s / (self._servers * (self._clock.now_s - self._since_s))

    @property
    def mean_wait_s(self) -> float:
        """How long work waited before it started, on average."""
        return self._waited_s / self._started if self._started else 0.0

    @property
    def growth_per_s(self) -> float:
        """How fast the line got longer; a station that keeps up has a value near 0."""
        return (len(self._line) - self._line_at_reset) / (self._clock.now_s - self._since_s)
