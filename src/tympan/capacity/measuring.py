"""What batches cost on this machine: windows of speech through the engine, in batches of every usual kind."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from tympan.batching.host import EngineHost, HostOptions
from tympan.batching.protocol import Done, Event
from tympan.bench.stats import quantile
from tympan.capacity.fitting import Timed
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Samples, Window, WindowTask
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.errors import Cancelled, EngineError

LENGTHS_S = (5.0, 12.0, 26.0, 2.0)
SIZES = (1, 2, 4, 8, 16)
LONGEST_BATCH_MS = 2_600.0
"""Batches that should take longer are not measured: the queue makes none but of a single window."""

LOAD_LIMIT_S = 600.0
_BATCH_LIMIT_S = 600.0
_GAIN = 0.75
"""About what is left of a window's time in a batch of twice as many."""
_POLL_S = 0.0005


@dataclass(frozen=True, slots=True)
class Grid:
    """Which batches are measured, and for how long: every kind once, then again while there is time."""

    lengths_s: tuple[float, ...] = LENGTHS_S
    sizes: tuple[int, ...] = SIZES
    limit_s: float = 25.0
    rounds: int = 5
    params: DecodeParams = field(default_factory=lambda: DecodeParams(language="en"))


def measure_batches(
    spec: EngineSpec,
    options: HostOptions,
    speech: Samples,
    grid: Grid,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[EngineInfo, list[Timed]]:
    """Load an engine in a process of its own and return what it is, and how long its batches took.

    Windows are cut from ``speech`` at random places, the same ones each time. Raises what loading raises,
    ``EngineError`` when a batch fails, and ``Cancelled``.
    """
    host = EngineHost(spec, options)
    try:
        info = host.start()
        return info, _batches(host, _Cutter(speech, grid.params), grid, stop)
    finally:
        host.close(options.close_grace_s)


class _Cutter:
    """Cuts windows out of speech."""

    def __init__(self, speech: Samples, params: DecodeParams) -> None:
        shortest = round(30.0 * SAMPLE_RATE_HZ)
        self._speech = np.tile(speech, max(1, -(-shortest // max(1, len(speech)))))
        self._params, self._rng = params, Random(1)  # noqa: S311 (repeatable, not secret)

    def tasks(self, lengths_s: Sequence[float]) -> list[WindowTask]:
        return [WindowTask(self._window(index, length_s), self._params) for index, length_s in enumerate(lengths_s)]

    def _window(self, index: int, length_s: float) -> Window:
        n = round(length_s * SAMPLE_RATE_HZ)
        at = self._rng.randrange(max(1, len(self._speech) - n))
        return Window(index, self._speech[at : at + n].copy(), ())


def _batches(host: EngineHost, cutter: _Cutter, grid: Grid, stop: Callable[[], bool]) -> list[Timed]:
    found: list[Timed] = []
    number = 0

    def run(lengths_s: tuple[float, ...]) -> Timed:
        nonlocal number
        if stop():
            raise Cancelled
        number += 1
        return Timed(lengths_s, _timed(host, number, cutter.tasks(lengths_s)))

    for length_s in (min(grid.lengths_s), max(grid.lengths_s)):  # Warm up: the first batches pay for memory.
        run((length_s,))
    until_s = time.monotonic() + grid.limit_s
    for turn in range(grid.rounds):
        for size in grid.sizes:
            for length_s in grid.lengths_s:
                lengths_s = (length_s,) * size
                if _is_too_long(lengths_s, found) or (turn and time.monotonic() > until_s):
                    continue
                found.append(run(lengths_s))
    return found


def _is_too_long(lengths_s: Sequence[float], found: Sequence[Timed]) -> bool:
    """Whether the queue would not make such a batch, by what is known so far."""
    if len(lengths_s) == 1:
        return False
    same = [batch for batch in found if batch.lengths_s[0] == lengths_s[0] and len(batch.lengths_s) < len(lengths_s)]
    if not same:
        return False
    largest = max(same, key=lambda batch: len(batch.lengths_s))
    return _GAIN * largest.ms * len(lengths_s) / len(largest.lengths_s) > LONGEST_BATCH_MS


def _timed(host: EngineHost, number: int, tasks: Sequence[WindowTask]) -> float:
    """Return the milliseconds of one batch. Raises ``EngineError`` when there is no answer."""
    host.send(number, tasks, _BATCH_LIMIT_S)
    until_s = time.monotonic() + _BATCH_LIMIT_S
    while time.monotonic() < until_s:
        events: Sequence[Event] = host.events()
        for event in events:
            if isinstance(event, Done):
                return 1000.0 * event.compute_s
            raise event.error
        time.sleep(_POLL_S)
    raise EngineError(f"A batch was not done within {_BATCH_LIMIT_S:g} s; there is nothing to plan with.")


def middle_ms(batches: Sequence[Timed]) -> list[dict[str, float]]:
    """Return the median of each kind of batch, for people: windows, their length in seconds, milliseconds."""
    kinds = sorted({(len(batch.lengths_s), batch.lengths_s[0]) for batch in batches})
    return [
        {
            "windows": size,
            "length_s": length_s,
            "ms": round(
                quantile([b.ms for b in batches if (len(b.lengths_s), b.lengths_s[0]) == (size, length_s)], 0.5), 2
            ),
        }
        for size, length_s in kinds
    ]
