"""Who may come in: a bounded number of requests with a bounded amount of work, decided before a body is read."""

import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tympan import telemetry
from tympan.api.doors.forecast import LONG_AUDIO_S, Errands, LengthGuess, Load, Pace, Wish, is_shed
from tympan.disk import kept_free_bytes
from tympan.domain import Progress
from tympan.errors import InsufficientStorage, Overloaded, Unavailable
from tympan.pipeline import RequestContext

_SMOOTHING = 0.2
_JITTER = 0.2
_MIN_RETRY_S, _MAX_STAY_RETRY_S, _MAX_RETRY_S = 1.0, 60.0, 3600.0
_SPARE_SHARE = 8
_MORE = 1.5

_NAMES = {Wish.SHORT: "files", Wish.LONG: "long files", Wish.LIVE: "live sessions", Wish.JOB: "jobs"}


@dataclass(frozen=True, slots=True)
class Errand:
    """What a request comes for: ``wish`` is ``None`` for a file to be transcribed at once, long or short.

    ``patience_s`` is how long the caller says that it waits; ``None`` when it does not say.
    """

    wish: Wish | None = None
    patience_s: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a request stood when it came: its place among its tenant's, seconds until its turn and until its end."""

    position: int = 1
    wait_s: float = 0.0
    eta_s: float = 0.0


@dataclass(slots=True)
class Place:
    """One request's place in the house; ``leave`` gives it back, once, from any thread.

    ``audio_s`` is how much audio it is taken to have, or has, once that is ``measured``; so much of it is done as
    ``done_s`` says. One that is ``idle`` is not worked for at present.
    """

    house: "House"
    context: RequestContext
    body_bytes: int = 0
    audio_s: float = 0.0
    done_s: float = 0.0
    measured: bool = False
    begun: bool = False
    idle: bool = False
    evicted: bool = False
    standing: Standing = Standing()

    @property
    def left_s(self) -> float:
        """Seconds of audio that are still to be done, about."""
        return 0.0 if self.idle else max(0.0, self.audio_s - self.done_s)

    def begin(self) -> None:
        """Work on it starts, or waits for nothing but other work."""
        self.house.note(self, begun=True)

    def advance(self, progress: Progress) -> None:
        """Some of its audio is done; from any thread."""
        self.house.note(self, done_s=progress.done_s, audio_s=progress.total_s)

    def rest(self, *, idle: bool) -> None:
        """Work on it stands still, or goes on."""
        self.house.note(self, idle=idle)

    def leave(self) -> None:
        """Give the place back; a second call does nothing."""
        self.house.remove(self)


@dataclass(slots=True)
class House:
    """The requests that were let in and are not finished, and the work that they mean.

    One tenant may have ``capacity`` requests here and work for ``max_wait_s``; an eighth more places, and as much work
    again, are for others. ``engine_pace`` tells the engine's own seconds per second of audio, 0 where it is not known.

    Nobody is let in who would leave less than ``reserve_bytes`` free on the staging disk: what is in the house, the
    jobs and the database need room to end well. ``None`` is a twentieth of the disk, at most 5 GB.
    """

    capacity: int
    staging: Path
    reserve_bytes: int | None = None
    max_wait_s: float = 120.0
    engine_pace: Callable[[], float] = lambda: 0.0
    guess: LengthGuess = field(default_factory=LengthGuess)
    draining: bool = False
    evicting: bool = False
    _pace: Pace = field(default_factory=Pace)
    _places: dict[int, Place] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _mean_stay_s: float = 1.0
    _answered: int = 0

    def admit(self, context: RequestContext, body_bytes: int, errand: Errand | None = None) -> Place:
        """Return a place for a request that announces ``body_bytes``; without an ``errand`` it means no work here.

        Raises ``Unavailable`` when the server is stopping, ``Overloaded`` when the house is full, too much work is
        ahead, or more than the caller has patience for, and ``InsufficientStorage`` when the disk could not hold the
        body.
        """
        self._check_open()
        self._check_disk(body_bytes)
        with self._lock:
            self._check_places(context.tenant)
            place = Place(self, context, body_bytes)
            if errand is not None:
                self._take_stock(place, errand)
            self._places[id(place)] = place
            telemetry.IN_PROGRESS.set(len(self._places))
        return place

    def check(self, context: RequestContext, wish: Wish) -> None:
        """Raise ``Overloaded`` or ``Unavailable`` as for one who wants in with ``wish``; nothing is taken."""
        self._check_open()
        with self._lock:
            self._take_stock(Place(self, context), Errand(wish))

    def note(
        self,
        place: Place,
        *,
        begun: bool | None = None,
        done_s: float | None = None,
        audio_s: float | None = None,
        idle: bool | None = None,
    ) -> None:
        """Take note of how far a request has come, and learn how fast work is done."""
        with self._lock:
            if id(place) not in self._places:
                return
            more_s = max(0.0, (done_s or 0.0) - place.done_s)
            self._pace.note(time.monotonic(), more_s, was_busy=self._is_busy())
            place.begun = place.begun if begun is None else begun
            place.idle = place.idle if idle is None else idle
            place.done_s += more_s
            if audio_s is not None and not place.measured:
                place.audio_s, place.measured = audio_s, True
                self.guess.learn(place.body_bytes, audio_s)
            elif not place.measured and place.done_s >= place.audio_s:
                place.audio_s = _MORE * place.done_s  # It is longer than it seemed.

    def remove(self, place: Place) -> None:
        """Take a request off the list; unknown ones are ignored."""
        with self._lock:
            self._pace.note(time.monotonic(), was_busy=self._is_busy())
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
            self.evicting = True
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
        """Whether requests are refused, of some tenants at least."""
        with self._lock:
            full = is_shed(Wish.SHORT, self._load().highest_pressure(self.max_wait_s))
            return full or self.count >= self.capacity

    @property
    def predicted_wait_s(self) -> float:
        """Seconds until everything in the house is done, about."""
        with self._lock:
            return self._load().total_s

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
        return free_bytes >= body_bytes + kept_free_bytes(total_bytes, self.reserve_bytes)

    def _disk(self) -> tuple[int, int]:
        try:
            usage = shutil.disk_usage(self.staging)
        except OSError:
            return 0, 0
        return usage.total, usage.free

    def _check_places(self, tenant: str) -> None:
        count, spare = len(self._places), self.capacity // _SPARE_SHARE
        if count < self.capacity:
            return
        mine = sum(place.context.tenant == tenant for place in self._places.values())
        if mine < spare and count < self.capacity + spare:
            return
        telemetry.REFUSALS.labels("places").inc()
        raise Overloaded(
            f"The server already has {self.capacity} requests, the most it takes at a time.",
            remedy="Try again after the time in Retry-After.",
            retry_after_s=max(self._stay_drain_s(), _spread(self._load().total_s)),
        )

    def _take_stock(self, place: Place, errand: Errand) -> None:
        """Predict how long the request waits and takes; refuse it if that is too long."""
        context, load, pace = place.context, self._load(), self._s_per_audio_s()
        place.audio_s = self.guess.guess_s(place.body_bytes) if errand.wish is None else 0.0
        wish = errand.wish or (Wish.LONG if place.audio_s > LONG_AUDIO_S else Wish.SHORT)
        own_s = place.audio_s * pace
        ahead_s = load.ahead_s(context.tenant, own_s, context.weight)
        position = 1 + sum(each.context.tenant == context.tenant and each.audio_s > 0 for each in self._places.values())
        place.standing = Standing(position, ahead_s, ahead_s + own_s)
        pressure = load.pressure(self.max_wait_s, context.tenant, own_s, context.weight)
        if is_shed(wish, pressure):
            telemetry.REFUSALS.labels(wish.value).inc()
            raise _too_much(place.standing, pressure * self.max_wait_s, f"No more {_NAMES[wish]} are accepted for now.")
        if errand.patience_s is not None and ahead_s > 0 and place.standing.eta_s > errand.patience_s:
            telemetry.REFUSALS.labels("deadline").inc()
            raise _too_much(
                place.standing, ahead_s, f"It would not be finished within your deadline of {errand.patience_s:g} s."
            )

    def _load(self) -> Load:
        pace = self._s_per_audio_s()
        found: dict[str, list[Place]] = {}
        for place in self._places.values():
            found.setdefault(place.context.tenant, []).append(place)
        errands = {
            tenant: Errands(places[-1].context.weight, tuple(place.left_s * pace for place in places))
            for tenant, places in found.items()
        }
        return Load(errands, LONG_AUDIO_S * pace)

    def _is_busy(self) -> bool:
        return any(place.begun and not place.idle for place in self._places.values())

    def _s_per_audio_s(self) -> float:
        return self._pace.s_per_audio_s(self.engine_pace())

    def _stay_drain_s(self) -> float:
        """Predict when those now in the house have gone: by Little's law, after one mean stay."""
        return min(_MAX_STAY_RETRY_S, _spread(self._mean_stay_s))


def _too_much(standing: Standing, drain_s: float, what: str) -> Overloaded:
    error = Overloaded(
        f"About {drain_s:.0f} s of work are waiting ahead of this. {what}",
        remedy="Try again after the time in Retry-After.",
        retry_after_s=_spread(drain_s),
    )
    error.position, error.eta_s = standing.position, standing.eta_s
    return error


def _spread(drain_s: float) -> float:
    """Return about ``drain_s``: some randomness keeps the callers from coming back together."""
    spread = 1.0 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 (no secret)
    return min(_MAX_RETRY_S, max(_MIN_RETRY_S, drain_s * spread))
