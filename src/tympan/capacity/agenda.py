"""Simulated time: what happens when, in order. Pure."""

import heapq
import itertools
from collections.abc import Callable
from typing import TypeAlias

Action: TypeAlias = Callable[[], object]


class Agenda:
    """Things to do, each at its time; time stands still while one is done."""

    def __init__(self) -> None:
        """Start at 0 seconds with nothing to do."""
        self.now_s = 0.0
        self._todo: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        """Return what time it is, in seconds."""
        return self.now_s

    def at(self, when_s: float, action: Action) -> None:
        """Do ``action`` at that time, or now if it is past; what is due at the same time is done in order."""
        heapq.heappush(self._todo, (max(when_s, self.now_s), next(self._order), action))

    def after(self, pause_s: float, action: Action) -> None:
        """Do ``action`` so many seconds from now."""
        self.at(self.now_s + pause_s, action)

    def run_until(self, end_s: float, enough: Callable[[], bool] | None = None) -> None:
        """Let time pass until ``end_s``, or until nothing is left to do, or until ``enough`` says so."""
        while self._todo and self._todo[0][0] <= end_s:
            if enough is not None and enough():
                return
            self.now_s, _, action = heapq.heappop(self._todo)
            action()
        self.now_s = max(self.now_s, end_s) if enough is None else self.now_s
