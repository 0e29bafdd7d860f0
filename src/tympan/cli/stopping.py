"""Ctrl-C and SIGTERM during a long command: the first asks for an orderly end, the second ends at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def stopping_on_signals(stop: Event, seen: list[int]) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into ``stop`` and note its number in ``seen``; the second ends the process."""

    def handle(number: int, _frame: FrameType | None) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        stop.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
