"""What to do when a batch fails. Pure: it counts and decides, the batcher acts.

- An error of the engine on several windows: halve and run again, so that only the window at fault fails.
- Out of memory: halve and run again in place; several times in a row: a new process, and smaller batches from then on.
- A lost device, a crash or a hang: a new process. The windows that were running are suspects and run again one by
  one; the ones that only waited in the process go again as they were. A suspect that was there ``max_crashes`` times
  is answered with an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tympan.batching.queue import Item
from tympan.errors import AudioQuarantined, EngineOutOfMemory, ModelError, TympanError, UnsupportedOption

Batch: TypeAlias = tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """How patient the batcher is.

    ``backoff_s`` doubles with every restart that no good batch follows, up to ``max_backoff_s``. A load that fails
    closes the door to new windows; after ``loads_before_refusal`` in a row the waiting ones are refused too, and
    after ``max_load_failures`` the engine is given up. A process larger than ``max_memory_bytes`` is replaced between
    batches.
    """

    ooms_before_recycle: int = 3
    max_crashes: int = 3
    successes_before_growth: int = 64
    backoff_s: float = 1.0
    max_backoff_s: float = 30.0
    loads_before_refusal: int = 3
    max_load_failures: int = 10
    max_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a failure: batches to run again, in order, windows to answer with an error, and a new process."""

    retry: tuple[Batch, ...] = ()
    answer: tuple[tuple[Item, TympanError], ...] = ()
    recycle: bool = False


class Recovery:
    """Counts failures and says what follows."""

    def __init__(self, policy: RecoveryPolicy, max_batch: int) -> None:
        """Start without a history; ``max_batch`` is the size in good times."""
        self._policy = policy
        self._ceiling = max_batch
        self._max_batch = max_batch
        self._ooms = 0
        self._successes = 0
        self._restarts = 0

    @property
    def max_batch(self) -> int:
        """How many windows a batch may have now; lower after memory ran out, and slowly growing back."""
        return self._max_batch

    def succeeded(self) -> None:
        """Take note of a batch that ran well."""
        self._ooms = 0
        self._restarts = 0
        self._successes += 1
        if self._successes >= self._policy.successes_before_growth:
            self._successes = 0
            self._max_batch = min(self._ceiling, self._max_batch + 1)

    def failed(self, batch: Batch, error: TympanError) -> Verdict:
        """Decide about a batch that was answered with ``error`` by a process that lives on."""
        if isinstance(error, EngineOutOfMemory):
            return self._out_of_memory(batch, error)
        self._ooms = 0
        if len(batch) > 1 and not isinstance(error, ModelError | UnsupportedOption):
            return Verdict(retry=_halves(batch))
        return Verdict(answer=tuple((item, error) for item in batch))

    def lost(self, running: Batch, error: TympanError) -> Verdict:
        """Decide about the windows that were running when the process was lost or gave up its device."""
        for item in running:
            item.crashes += 1
        guilty = [item for item in running if item.crashes >= self._policy.max_crashes]
        suspects = [item for item in running if item.crashes < self._policy.max_crashes]
        verdict = AudioQuarantined(
            f"The engine failed {self._policy.max_crashes} times on this audio; the last time: {error.message}",
            remedy="Check the audio; if it plays well elsewhere, report it.",
        )
        return Verdict(
            retry=tuple((item,) for item in suspects),
            answer=tuple((item, verdict) for item in guilty),
            recycle=True,
        )

    def restart_delay_s(self) -> float:
        """Return how long to wait before the next start; nothing for the first after a good batch."""
        delay_s = 0.0
        if self._restarts:
            delay_s = min(self._policy.max_backoff_s, self._policy.backoff_s * 2.0 ** min(self._restarts - 1, 30))
        self._restarts += 1
        return delay_s

    def _out_of_memory(self, batch: Batch, error: TympanError) -> Verdict:
        self._ooms += 1
        recycle = self._ooms >= self._policy.ooms_before_recycle
        if recycle:
            self._ooms = 0
            self._successes = 0
            self._max_batch = max(1, self._max_batch // 2)
        if len(batch) > 1:
            return Verdict(retry=_halves(batch), recycle=recycle)
        item = batch[0]
        item.ooms += 1
        # One more try than it takes to get a fresh process: memory may be free again there.
        if item.ooms > self._policy.ooms_before_recycle:
            return Verdict(answer=((item, error),), recycle=recycle)
        return Verdict(retry=(batch,), recycle=recycle)


def _halves(batch: Sequence[Item]) -> tuple[Batch, ...]:
    middle = (len(batch) + 1) // 2
    return (tuple(batch[:middle]), tuple(batch[middle:]))
