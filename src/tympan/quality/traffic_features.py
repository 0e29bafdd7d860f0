"""What is counted of traffic: features of a transcription, and the bins that their values fall into. Pure.

Bins are named by their lower edge, or by the thing itself (``en``, ``opus``), and are few whatever comes in. A bin
keeps its name in the database, so edges may be added later; one that is not known any more is left out.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tympan.audio.condition import FAMILIES
from tympan.languages import LANGUAGES
from tympan.observation import Observation

KINDS = ("call", "live", "job")
"""Ways of asking: each has its own traffic."""

DISAGREEMENT = "disagreement"
"""What is counted of windows, not of transcriptions: how far the shadow model's text lies from the model's own."""

OTHER = "other"
NONE = "none"

_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
_TENTHS = tuple(round(step / 10, 1) for step in range(10))


def untold(_seen: Observation) -> None:
    """Return nothing: a transcription by itself does not tell."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature. It has ``edges``, where values have an order, or ``names``.

    ``value`` says what it is for a transcription; ``untold`` where something else is counted. ``alarm`` is the kind of
    alarm about it; empty for what only shows how much is asked for. ``worse`` is the direction that matters, where only
    one does. ``least_psi`` is the smallest change worth an alarm.
    """

    name: str
    title: str
    value: Callable[[Observation], float | str | None]
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    alarm: str = ""
    worse: Literal["up", "down", "both"] = "both"
    least_psi: float = 0.1

    @property
    def bins(self) -> tuple[str, ...]:
        """The names of all bins, in order."""
        return self.names or tuple(f"{edge:g}" for edge in self.edges)

    @property
    def counted(self) -> str:
        """What has the feature."""
        return "windows" if self.value is untold else "transcripts"

    def is_worse(self, shift: float) -> bool:
        """Return whether a change in this direction matters; positive: to later bins."""
        return self.worse == "both" or (shift > 0 if self.worse == "up" else shift < 0)

    def bin_of(self, seen: Observation) -> str | None:
        """Return the bin that an observation falls into; ``None`` when the feature is missing or no number."""
        return self.place(self.value(seen))

    def place(self, value: float | str | None) -> str | None:
        """Return the bin of a value; ``None`` for what is missing or no number."""
        if value is None:
            return None
        if isinstance(value, str):
            return value if value in self.names else OTHER
        if math.isnan(value):
            return None
        below = sum(edge <= value for edge in self.edges)
        return f"{self.edges[max(0, below - 1)]:g}"


def _rate(seen: Observation) -> str | None:
    rate = seen.condition.media.sample_rate_hz
    return None if rate is None else str(rate)


def _channels(seen: Observation) -> str | None:
    channels = seen.condition.media.channels
    return None if channels is None else str(channels)


FEATURES = (
    Feature(
        "language", "language", lambda o: o.language or NONE,
        names=(*LANGUAGES, NONE, OTHER), alarm="language_drift",
    ),
    Feature(
        "language_probability", "certainty of the language", lambda o: o.language_probability,
        edges=(*_TENTHS, 0.95, 0.99, 1), alarm="language_certainty_drift",
    ),
    Feature(
        "hallucination", "hallucination score", lambda o: o.hallucination,
        edges=(0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75), alarm="hallucination_drift", worse="up", least_psi=0.05,
    ),
    Feature(
        "empty", "empty transcripts", lambda o: float(o.is_empty),
        edges=(0, 1), alarm="empty_share_drift", least_psi=0.02,
    ),
    Feature(
        "confidence", "mean log-probability", lambda o: o.logprob,
        edges=(-9, -1.5, -1, -0.8, -0.65, -0.5, -0.4, -0.3, -0.22, -0.15, -0.1, -0.05),
        alarm="confidence_drift", worse="down",
    ),
    Feature("coverage", "share of speech", lambda o: o.coverage, edges=(*_TENTHS, 1), alarm="coverage_drift"),
    Feature("dropped", "share that VAD left out", lambda o: o.dropped, edges=(*_TENTHS, 1), alarm="dropped_drift"),
    Feature(
        "pace", "letters per second of speech", lambda o: o.pace, edges=(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 25, 30),
    ),
    Feature(
        "length", "seconds of audio", lambda o: o.audio_s,
        edges=(0, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600),
    ),
    Feature(
        "snr", "signal to noise, dB", lambda o: o.condition.snr_db,
        edges=(-10, 0, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60), alarm="audio_snr_drift",
    ),
    Feature(
        "clipping", "share of samples cut off", lambda o: o.condition.clipped,
        edges=(0, 0.0002, 0.001, 0.005, 0.02, 0.1), alarm="audio_clipping_drift", worse="up", least_psi=0.05,
    ),
    Feature(
        "bandwidth", "highest frequency, Hz", lambda o: o.condition.bandwidth_hz,
        edges=(0, *range(1_000, 8_001, 500)), alarm="audio_bandwidth_drift",
    ),
    Feature(
        "sample_rate", "sample rate, Hz", _rate,
        names=(*map(str, _RATES_HZ), OTHER), alarm="sample_rate_drift",
    ),
    Feature("channels", "channels", _channels, names=("1", "2", OTHER), alarm="channels_drift"),
    Feature("codec", "codec", lambda o: o.condition.media.codec, names=FAMILIES, alarm="codec_drift"),
    Feature(
        DISAGREEMENT, "disagreement with the shadow model, WER", untold,
        edges=(0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1), alarm="disagreement_drift", worse="up", least_psi=0.05,
    ),
)  # fmt: skip
"""Every feature, in the order in which they are shown."""

BY_NAME: Mapping[str, Feature] = MappingProxyType({feature.name: feature for feature in FEATURES})


def bins_of(seen: Observation) -> dict[str, str]:
    """Return the bin of each feature that an observation has."""
    found = ((feature.name, feature.bin_of(seen)) for feature in FEATURES)
    return {name: place for name, place in found if place is not None}
