"""Queues that have a formula: what the simulation is checked against. Pure; all mean waits in seconds."""

import math
from collections.abc import Sequence


def erlang_c(servers: int, load: float) -> float:
    """Return the share of customers who wait where ``load`` servers on average would be busy (Erlang, 1917)."""
    if load >= servers:
        return 1.0
    blocked = 1.0  # Erlang's loss formula by its recursion, which has no large powers.
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return servers * blocked / (servers - load * (1.0 - blocked))


def mmc_wait_s(rate_per_s: float, service_s: float, servers: int) -> float:
    """Return the mean wait in M/M/c: Poisson arrivals, exponential services; infinite where it never settles."""
    load = rate_per_s * service_s
    if load >= servers:
        return math.inf
    return erlang_c(servers, load) * service_s / (servers - load)


def mgc_wait_s(rate_per_s: float, service_s: float, squared_variation: float, servers: int) -> float:
    """Return the mean wait in M/G/c: exact for one server (Pollaczek and Khinchine), else Allen and Cunneen's estimate.

    ``squared_variation`` is the variance of a service over its mean squared: 1 for exponential ones, 0 for equal ones.
    """
    return mmc_wait_s(rate_per_s, service_s, servers) * (1.0 + squared_variation) / 2.0


def moments(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """Return mean and squared coefficient of variation of values by weight."""
    total = sum(weights)
    mean = sum(value * weight for value, weight in zip(values, weights, strict=True)) / total
    second = sum(value * value * weight for value, weight in zip(values, weights, strict=True)) / total
    return mean, second / (mean * mean) - 1.0 if mean > 0.0 else 0.0
