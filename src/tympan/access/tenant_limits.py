"""What one tenant may do, as values: the installation's, with the tenant's own over them. Zero is no limit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType

from tympan.access.gcra import Charge, Rate

MINUTE_S, DAY_S = 60.0, 86_400.0
MB = 1_000_000
REQUESTS, AUDIO_MINUTE, AUDIO_DAY = "requests", "audio-minute", "audio-day"

RESERVED_BYTES_PER_S = 32_000
"""What a second of audio takes, for what is held back until its length is known: bare 16-kHz samples.

What is compressed is longer than that; the rest is charged when it has been decoded.
"""

MOST = 1_000_000_000
"""Largest limit that can be set."""

MIN_WEIGHT, MAX_WEIGHT = 0.01, 100.0

_LEAST_S = 1.0


class Work(StrEnum):
    """What a caller may have several of at a time."""

    SYNC = "sync"
    JOB = "job"
    LIVE = "live"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may do; zero is no limit. ``weight`` is its share beside others who want something too.

    ``text_days`` is for how many days its text may be kept; ``None``: as the settings say.
    """

    requests_per_min: int = 0
    audio_minutes_per_min: float = 0.0
    audio_minutes_per_day: float = 0.0
    requests_at_once: int = 0
    jobs_at_once: int = 0
    live_at_once: int = 0
    storage_mb: int = 0
    upload_mb: int = 0
    audio_minutes: float = 0.0
    weight: float = 1.0
    text_days: float | None = None

    def charges(self, requests: float, audio_s: float) -> list[Charge]:
        """Return what so many requests and seconds of audio cost, for the rates that there are."""
        wanted = (
            (REQUESTS, self.requests_per_min, MINUTE_S, requests),
            (AUDIO_MINUTE, MINUTE_S * self.audio_minutes_per_min, MINUTE_S, audio_s),
            (AUDIO_DAY, MINUTE_S * self.audio_minutes_per_day, DAY_S, audio_s),
        )
        return [Charge(name, Rate(units, period_s), n) for name, units, period_s, n in wanted if units]

    def at_once(self, kind: Work) -> int:
        """Return how many of a kind there may be at a time."""
        return {Work.SYNC: self.requests_at_once, Work.LIVE: self.live_at_once}.get(kind, 0)

    def smaller_upload(self, max_bytes: int) -> int:
        """Return the smaller of ``max_bytes`` and what an upload of this tenant may have."""
        return min(max_bytes, self.upload_mb * MB) if self.upload_mb else max_bytes

    def shorter_audio(self, max_s: float) -> float:
        """Return the smaller of ``max_s`` and what one recording of this tenant may last, in seconds."""
        return min(max_s, self.audio_minutes * MINUTE_S) if self.audio_minutes else max_s


_NO_LIMITS = ("weight", "text_days")
LIMITS = MappingProxyType({each.name: each.type for each in fields(TenantLimits) if each.name not in _NO_LIMITS})
"""The names of the limits."""

UNLIMITED = TenantLimits()


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """What somebody has set for one tenant; what is not in ``limits`` is as for everybody."""

    limits: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    text_days: float | None = None

    def over(self, defaults: TenantLimits) -> TenantLimits:
        """Return the tenant's limits; a name from a newer version is left out."""
        known = {name: value for name, value in self.limits.items() if name in LIMITS}
        return replace(defaults, **known, weight=self.weight, text_days=self.text_days)  # type: ignore[arg-type]


def reserved_s(n_bytes: int | None) -> float:
    """Return for how many seconds of audio a file counts until it has been decoded; ``None``: its size is unknown."""
    return max(_LEAST_S, (n_bytes or 0) / RESERVED_BYTES_PER_S)
