"""When requests of a load should start and what each of them sends: drawn beforehand from a seed. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

MAX_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it should start, in seconds after the beginning, and which item it sends."""

    at_s: float
    item: int


def poisson(rate_per_s: float, end: "End", weights: Sequence[float], seed: int) -> list[Arrival]:
    """Return arrivals at random moments, on average ``rate_per_s`` of them a second, whoever is served or not.

    Gaps are exponential, so that the number in any stretch of time is Poisson's; items are drawn by weight.
    """
    rng, found, at_s = Random(seed), list[Arrival](), 0.0  # noqa: S311 (repeatable, not secret)
    items = range(len(weights))
    while len(found) < end.requests:
        at_s += -math.log(1.0 - rng.random()) / rate_per_s
        if at_s >= end.duration_s:
            break
        found.append(Arrival(at_s, rng.choices(items, weights)[0]))
    return found


def drawn_items(weights: Sequence[float], seed: int) -> Iterator[int]:
    """Yield the items of one request after the other, drawn by weight, without end."""
    rng, items = Random(seed), range(len(weights))  # noqa: S311 (repeatable, not secret)
    while True:
        yield rng.choices(items, weights)[0]


@dataclass(frozen=True, slots=True)
class End:
    """When a load is over: after so many requests or so many seconds, whichever comes first."""

    requests: int = MAX_REQUESTS
    duration_s: float = math.inf
