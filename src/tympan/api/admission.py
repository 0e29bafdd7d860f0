"""Who may come in: a bounded number of requests in the house, decided before a body is read."""

import random
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tympan import telemetry
from tympan.errors import InsufficientStorage, Overloaded, Unavailable
from tympan.pipeline import RequestContext

DISK_RESERVE_BYTES = 64 << 20
"""Room on the staging disk that uploads never take, those included that were let in when there was more."""

_RESERVED_SHARE = 0.05
_MOST_RESERVED_BYTES = 5_000_000_000

_SMOOTHING = 0.2
_JITTER = 0.2
_MIN_RETRY_S, _MAX_RETRY_S = 1.0, 60.0


@dataclass(slots=True)
class Place:
    """One request's place in the house; ``leave`` gives it back, once, from any thread."""

    house: "House"
    context: RequestContext
    evicted: bool = False

    def leave(self) -> None:
        """Give the place back; a second call does nothing."""
        self.house.remove(self)


@dataclass(slots=True)
class House:
    """The requests that were let in and are not finished.

    Nobody is let in who would leave less than ``reserve_bytes`` free on the staging disk: what is in the house, the
    jobs and the database need room to end well. ``None`` is a twentieth of the disk, at most 5 GB.
    """

    capacity: int
    staging: Path
    reserve_bytes: int | None = None
    draining: bool = False
    _places: dict[int, Place] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _mean_stay_s: float = 1.0
    _answered: int = 0

    def admit(self, context: RequestContext, body_bytes: int) -> Place:
        """Return a place for a request that announces ``body_bytes``.

        Raises ``Unavailable`` when the server is stopping, ``Overloaded`` when the house is full, and
        ``InsufficientStorage`` when the disk could not hold the body.
        """
        self._check_open()
        self._check_disk(body_bytes)
        with self._lock:
            if len(self._places) >= self.capacity:
                raise Overloaded(
                    f"All {self.capacity} places are taken.",
                    remedy="Try again after the time in Retry-After.",
                    retry_after_s=self._drain_s(),
                )
            place = Place(self, context)
            self._places[id(place)] = place
            telemetry.IN_PROGRESS.set(len(self._places))
        return place

    def remove(self, place: Place) -> None:
        """Take a request off the list; unknown ones are ignored."""
        with self._lock:
            self._places.pop(id(place), None)
            telemetry.IN_PROGRESS.set(len(self._places))

    def record_stay(self, stay_s: float) -> None:
        """Learn from one request that was answered after ``stay_s``."""
        with self._lock:
            weight = _SMOOTHING if self._answered else 1.0
            self._mean_stay_s += weight * (stay_s - self._mean_stay_s)
            self._answered += 1

    def evict(self) -> None:
        """Cancel every request in the house; they answer that the server is stopping."""
        with self._lock:
            places = list(self._places.values())
        for place in places:
            place.evicted = True
            place.context.cancel.set()

    @property
    def count(self) -> int:
        """Requests in the house: uploading, waiting or running."""
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return self.count >= self.capacity

    @property
    def mean_stay_s(self) -> float:
        """Moving average of how long an answered request stayed; 0 before the first."""
        return self._mean_stay_s if self._answered else 0.0

    @property
    def disk_low(self) -> bool:
        """Whether even the smallest body would be refused for want of room."""
        return not self._has_room(0)

    @property
    def disk_free_bytes(self) -> int:
        """Room left on the staging disk; none when the folder has gone or cannot be read."""
        return self._disk()[1]

    def _check_open(self) -> None:
        if self.draining:
            raise Unavailable("The server is stopping.", remedy="Try again in a few seconds.", retry_after_s=5.0)

    def _check_disk(self, body_bytes: int) -> None:
        if not self._has_room(body_bytes):
            raise InsufficientStorage(
                remedy="Try again later; the operator has to free disk space. DISK_RESERVE_MB sets how much stays free."
            )

    def _has_room(self, body_bytes: int) -> bool:
        total_bytes, free_bytes = self._disk()
        reserve_bytes = self.reserve_bytes
        if reserve_bytes is None:
            reserve_bytes = min(_MOST_RESERVED_BYTES, round(_RESERVED_SHARE * total_bytes))
        return free_bytes >= body_bytes + max(DISK_RESERVE_BYTES, reserve_bytes)

    def _disk(self) -> tuple[int, int]:
        try:
            usage = shutil.disk_usage(self.staging)
        except OSError:
            return 0, 0
        return usage.total, usage.free

    def _drain_s(self) -> float:
        """Predict when those now in the house have gone: by Little's law, after one mean stay.

        Some randomness keeps the callers from coming back together.
        """
        spread = 1.0 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 (no secret)
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, self._mean_stay_s * spread))
