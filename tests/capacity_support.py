"""Machines and demands for the tests of capacity planning."""

from tympan.batching.queue import BatchLimits, QueueLimits
from tympan.capacity.demand import Demand, Lengths
from tympan.capacity.profile import BatchCost, Door, Profile
from tympan.capacity.replica import House

ONE_BY_ONE = House(
    batch=BatchLimits(max_windows=1, take_turns=False),
    queue=QueueLimits(max_windows=1_000_000, max_audio_s=1e9),
    max_concurrent=1_000_000,
    max_requests=1_000_000,
    max_wait_s=1e9,
    job_slots=1,
)
"""A server that neither batches nor refuses: what the formulas are about."""

FAST = Profile("fast", BatchCost(batch_ms=10.0, audio_ms=20.0), Door(request_ms=20.0, audio_ms=1.0, hands=2))
"""About fifty seconds of audio a second."""

SLOW = Profile("slow", BatchCost(batch_ms=20.0, audio_ms=80.0), Door(request_ms=20.0, audio_ms=1.0, hands=2))
"""About a dozen."""


def calls(per_hour: float, length_s: float = 10.0, job_share: float = 0.0) -> Demand:
    """Return requests at random moments."""
    return Demand(Lengths((length_s,)), per_hour=per_hour, job_share=job_share)


def crowd(callers: int, length_s: float = 10.0) -> Demand:
    """Return callers who ask again as soon as they are answered."""
    return Demand(Lengths((length_s,)), callers=callers)
