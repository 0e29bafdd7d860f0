"""What follows when a step fails: pure. Give up, try again later, wait without counting it, or cut the audio again.

Waiting times grow exponentially with full jitter. What goes beyond the budget of retries waits the longest time.
"""

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

TROUBLE_S, MAX_TROUBLE_S = 0.1, 5.0
"""How long a thread rests after a step that the storage kept from its end; for longer each time, up to the second."""

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


def rest_s(troubles: int) -> float:
    """Return how long to take no step after so many in a row that failed because the storage was away.

    The next one would most likely fail as well: thousands that wait for the storage must not all ask it for ever.
    """
    return min(MAX_TROUBLE_S, TROUBLE_S * 2.0 ** min(troubles - 1, 30)) if troubles else 0.0
