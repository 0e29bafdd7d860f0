"""Amounts by key that are counted in memory and handed on now and then, so that counting takes no time."""

import threading
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Amount = TypeVar("Amount")


class Tally(Generic[Key, Amount]):
    """What one process has counted and not handed on; safe to share between threads.

    A process that is killed takes what it has with it.
    """

    def __init__(self, plus: Callable[[Amount, Amount], Amount], max_keys: int) -> None:
        """Add amounts by ``plus``; with more than ``max_keys`` nothing new is counted."""
        self._plus, self._max_keys = plus, max_keys
        self._amounts: dict[Key, Amount] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many keys have an amount."""
        return len(self._amounts)

    def add(self, amounts: Mapping[Key, Amount]) -> bool:
        """Count all of ``amounts``, or none; return whether there was room."""
        with self._lock:
            n_new = sum(key not in self._amounts for key in amounts)
            if n_new and len(self._amounts) + n_new > self._max_keys:
                return False
            self._put(amounts)
            return True

    def hand_on(self, take: Callable[[Mapping[Key, Amount]], object]) -> None:
        """Give everything to ``take``, if there is anything; all is kept for the next time when it raises."""
        with self._lock:
            amounts, self._amounts = self._amounts, {}
        if not amounts:
            return
        try:
            take(amounts)
        except BaseException:
            with self._lock:
                self._put(amounts)
            raise

    def _put(self, amounts: Mapping[Key, Amount]) -> None:
        for key, amount in amounts.items():
            self._amounts[key] = self._plus(self._amounts[key], amount) if key in self._amounts else amount
