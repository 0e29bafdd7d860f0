"""What follows when a step fails: pure. Give up, try again later, wait without counting it, or cut the audio again.

Waiting times grow exponentially with full jitter. A budget keeps a general failure from becoming a storm: when more
than a tenth of what is started are retries, further ones wait the longest time.
"""

from dataclasses import dataclass
from enum import Enum

from tympan.errors import (
    DecoderUnavailable,
    InsufficientStorage,
    Overloaded,
    StorageUnavailable,
    TympanError,
    Unavailable,
)
from tympan.jobs.sections import SectionLost

MAX_RETRIES = 4
"""How often a step is tried again after errors that may pass."""

BASE_S = 1.0
MAX_DELAY_S = 60.0

MAX_ASKED_S = 600.0
"""How long a step waits at most because somebody else, the host of its audio, asked for patience."""

BUDGET_SHARE = 0.1
_BUDGET_FLOOR = 10.0
_MEMORY = 0.999

_NOT_THE_JOBS_FAULT = (StorageUnavailable, InsufficientStorage, Unavailable, Overloaded, DecoderUnavailable)


class Follow(Enum):
    """What to do with a step that failed."""

    FAIL = "fail"
    RETRY = "retry"
    WAIT = "wait"
    CUT_AGAIN = "cut_again"


def follow(error: TympanError, retries: int) -> Follow:
    """Return what follows an error of a step that has been tried again ``retries`` times."""
    if isinstance(error, _NOT_THE_JOBS_FAULT):
        return Follow.WAIT
    if isinstance(error, SectionLost) and retries < MAX_RETRIES:
        return Follow.CUT_AGAIN
    # A fault of the program's own may be a passing one; it gets the same few tries.
    may_pass = error.retryable or type(error) is TympanError
    return Follow.RETRY if may_pass and retries < MAX_RETRIES else Follow.FAIL


def delay_s(retries: int, chance: float) -> float:
    """Return how long to wait before the next try; ``chance`` is a random number from 0 to 1."""
    return chance * min(MAX_DELAY_S, BASE_S * 2.0**retries)


@dataclass(slots=True)
class RetryBudget:
    """The share of retries among what this process starts; old starts are slowly forgotten. Not for several threads."""

    starts: float = 0.0
    retries: float = 0.0

    def started(self) -> None:
        """Count one start."""
        self.starts = self.starts * _MEMORY + 1.0
        self.retries *= _MEMORY

    def allows_retry(self) -> bool:
        """Return whether a retry fits into the budget, and count it if so."""
        if self.retries + 1.0 > BUDGET_SHARE * self.starts + _BUDGET_FLOOR:
            return False
        self.retries += 1.0
        return True
