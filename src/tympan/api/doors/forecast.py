"""How much work is ahead, how long it will take, and what may still come in. Pure: values in, values out.

Work is counted in seconds of audio until it is done, and turned into seconds of waiting by the pace that was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LONG_AUDIO_S = 120.0
"""A file that seems longer counts as long: it is refused earlier than a short one, and could be a job."""

TOGETHER = 2.0
"""All tenants together may have this many times the work that one alone may have: one who floods leaves room."""

UNKNOWN_S = 30.0
"""The length of a file that nobody has announced, before any has been seen."""

DEFAULT_PACE = 0.03
"""First guess of the seconds of work that a second of audio takes."""

_FIRST_BYTES_PER_S = 16_000.0
_BYTES_PER_S = (1_000.0, 192_000.0)
_MEMORY = 0.9
_CLASS_BITS = 3
_LEAST_AUDIO_S = 1.0

_HALF_LIFE_S = 10.0
_PRIOR_S = 1.0
_MOST_OFF = 4.0


class Wish(StrEnum):
    """What somebody wants to bring in: a file to be transcribed at once, a live session, or a job for later."""

    SHORT = "short"
    LONG = "long"
    LIVE = "live"
    JOB = "job"


SHED_AT: Mapping[Wish, float] = {Wish.LIVE: 0.80, Wish.LONG: 0.80, Wish.JOB: 0.90, Wish.SHORT: 0.95}
"""How full the house may be, as a part of its bound, for each wish to be granted. Beyond the last only questions are
answered: health, the state of jobs, administration. (In stages, as Envoy's overload manager does it.)"""


def is_shed(wish: Wish, pressure: float) -> bool:
    """Return whether ``wish`` is refused at this ``pressure``, which is 1 where the bound is reached."""
    return pressure >= SHED_AT[wish]


@dataclass(frozen=True, slots=True)
class Errands:
    """One tenant's share of what is in the house: its weight, and seconds of work left of each of its requests."""

    weight: float = 1.0
    left_s: tuple[float, ...] = ()

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(self.left_s)

    def before_s(self, own_s: float) -> float:
        """Return how much of it is done before a request of ``own_s`` that comes now: equals take turns."""
        return sum(min(left_s, own_s) for left_s in self.left_s)


@dataclass(frozen=True, slots=True)
class Load:
    """What is in the house, by tenant; ``long_s`` is the work of a long file."""

    errands: Mapping[str, Errands] = field(default_factory=dict)
    long_s: float = LONG_AUDIO_S * DEFAULT_PACE

    @property
    def total_s(self) -> float:
        """All of it: how long until the house is empty, if nobody comes."""
        return sum(each.total_s for each in self.errands.values())

    def ahead_s(self, tenant: str, own_s: float, weight: float = 1.0) -> float:
        """Return how much work is done before ``own_s`` of a tenant that come now, beside themselves.

        As in the engine's queue: the tenant's requests take turns, a short one among long ones is done early, and
        meanwhile each other tenant gets its share by weight, or all that it has if that is less.
        """
        mine_s = self.errands.get(tenant, Errands()).before_s(own_s)
        due_s = (mine_s + own_s) / weight
        others = (each for name, each in self.errands.items() if name != tenant)
        return mine_s + sum(min(each.total_s, due_s * each.weight) for each in others)

    def pressure(self, max_wait_s: float, tenant: str, own_s: float = 0.0, weight: float = 1.0) -> float:
        """Return how near the bound the house is for ``own_s`` of a tenant: 1 at ``max_wait_s``.

        What is waited for, and beyond that what all of the tenant's requests, and everybody's, come to: of a very long
        file no more than of a long one, since it holds up the others no more than that.
        """
        most_s = max(own_s, self.long_s)
        mine_s = self.errands.get(tenant, Errands()).before_s(most_s)
        all_s = sum(each.before_s(most_s) for each in self.errands.values())
        return max(self.ahead_s(tenant, own_s, weight), mine_s, all_s / TOGETHER) / max_wait_s

    def highest_pressure(self, max_wait_s: float) -> float:
        """Return the pressure on those who have most ahead of them; 0 where nobody has anything."""
        each = (self.pressure(max_wait_s, name, weight=found.weight) for name, found in self.errands.items())
        return max(each, default=0.0)


@dataclass(slots=True)
class LengthGuess:
    """How long the audio in so many bytes is, by the mean bytes per second of recent files of about that size."""

    max_audio_s: float = 14_400.0
    _bytes: dict[int, float] = field(default_factory=dict)
    _audio_s: dict[int, float] = field(default_factory=dict)
    _recent_s: float = UNKNOWN_S

    def guess_s(self, n_bytes: int) -> float:
        """Return a guess in seconds, at least one and at most the longest audio allowed; 0 bytes are unknown."""
        if n_bytes <= 0:
            return min(self.max_audio_s, self._recent_s)
        kind = _size_class(n_bytes)
        # One second of an ordinary file beside what was seen, so that the first one alone does not decide.
        mean = (self._bytes.get(kind, 0.0) + _FIRST_BYTES_PER_S) / (self._audio_s.get(kind, 0.0) + 1.0)
        low, high = _BYTES_PER_S
        return min(self.max_audio_s, max(_LEAST_AUDIO_S, n_bytes / min(high, max(low, mean))))

    def learn(self, n_bytes: int, audio_s: float) -> None:
        """Take note of a file that turned out to be ``audio_s`` long."""
        if audio_s <= 0.0:
            return
        self._recent_s = _MEMORY * self._recent_s + (1.0 - _MEMORY) * audio_s
        if n_bytes > 0:
            kind = _size_class(n_bytes)
            self._bytes[kind] = _MEMORY * self._bytes.get(kind, 0.0) + n_bytes
            self._audio_s[kind] = _MEMORY * self._audio_s.get(kind, 0.0) + audio_s


@dataclass(slots=True)
class Pace:
    """Seconds that a second of audio takes, everything included, as measured while there was work.

    Both sums fade with a half-life of ten seconds of work, so a change of the machine's speed shows within some.
    """

    _busy_s: float = 0.0
    _done_s: float = 0.0
    _at_s: float | None = None

    def note(self, now_s: float, done_s: float = 0.0, *, was_busy: bool) -> None:
        """Something happened at ``now_s``: so much audio was done, and since the last time there was work or none."""
        if was_busy and self._at_s is not None:
            passed_s = max(0.0, now_s - self._at_s)
            fade = 0.5 ** (passed_s / _HALF_LIFE_S)
            self._busy_s = self._busy_s * fade + passed_s
            self._done_s = self._done_s * fade + done_s
        self._at_s = now_s

    def s_per_audio_s(self, engine: float) -> float:
        """Return the pace; ``engine`` is what the engine alone takes, 0 where that is not known.

        What was measured during a moment counts little beside it, and it is never believed to be four times off:
        a request may have waited for something else, such as its model.
        """
        prior = engine or DEFAULT_PACE
        measured = (self._busy_s + _PRIOR_S) / (self._done_s + _PRIOR_S / prior)
        return min(prior * _MOST_OFF, max(prior / _MOST_OFF, measured)) if engine else measured


def _size_class(n_bytes: int) -> int:
    return n_bytes.bit_length() // _CLASS_BITS
