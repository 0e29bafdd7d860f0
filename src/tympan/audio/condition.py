"""How speech came in: its distance to the noise, what was cut off at the top, how high it reaches.

Figures are estimated from frames of 32 ms, spread evenly over each window and bounded in number, so they cost a
thousandth of what transcribing does. They are made for comparing many recordings, not for judging one.
"""

import numpy as np
from numpy.typing import NDArray

from tympan.domain import Samples
from tympan.observation import Condition, MediaFacts

FRAME_SAMPLES = 512
FRAMES_A_WINDOW, MAX_FRAMES = 48, 960
"""Frames that are looked at: of one window, and of one request."""

MIN_FRAMES = 10
"""With fewer nothing is said."""

BAND_HZ, BANDS = 250, 32
"""Frequencies are told apart by bands of this width, up to 8,000 Hz."""

FAMILIES = (
    "aac", "ac3", "adpcm", "alac", "amr", "ape", "flac", "g711", "g722", "g726", "gsm", "live", "mp3", "musepack",
    "opus", "other", "pcm", "speex", "tta", "vorbis", "wavpack", "wma",
)  # fmt: skip
"""What a codec is counted as."""

_BEGINNINGS = {
    "pcm_alaw": "g711", "pcm_mulaw": "g711", "libopencore_amr": "amr", "libopus": "opus", "libspeex": "speex",
    "eac3": "ac3", "mp1": "mp3", "mp2": "mp3", "mpc": "musepack",
}  # fmt: skip
_MAX_RATE_HZ, _MAX_CHANNELS = 192_000, 8

_QUIET_SHARE = 0.1
_SPEECH_DB = 20.0
_MIN_SNR_DB, _MAX_SNR_DB = -10.0, 80.0
_BAND_FLOOR = 1e-5
"""A band holds sound when its louder frames come within 50 dB of the whole."""
_LOUD = 0.95
_WINDOW = np.hanning(FRAME_SAMPLES).astype(np.float32)
_ROUNDING = float(np.sum(_WINDOW**2)) / 12.0
"""Power in one bin that comes from rounding samples to whole numbers."""
_BINS_A_BAND = FRAME_SAMPLES // 2 // BANDS
_SILENT = 2.0 * _ROUNDING * _BINS_A_BAND * BANDS
_NEAR_PEAK, _MIN_PEAK = 0.99, 1_000


def family(codec: str) -> str:
    """Return what the codec of that name is counted as: one of ``FAMILIES``."""
    for start, name in _BEGINNINGS.items():
        if codec.startswith(start):
            return name
    return next((name for name in FAMILIES if codec.startswith(name)), "other")


def media_facts(codec: object, sample_rate_hz: object, channels: object) -> MediaFacts:
    """Return what a decoder says of a file, as far as it can be believed."""
    return MediaFacts(
        family(codec) if isinstance(codec, str) and codec else None,
        _within(sample_rate_hz, _MAX_RATE_HZ),
        _within(channels, _MAX_CHANNELS),
    )


class ConditionMeter:
    """Listens to one request's windows. Memory and time are bounded whatever the length."""

    def __init__(self) -> None:
        """Start with nothing heard."""
        self._bands: list[NDArray[np.float32]] = []
        self._frames = 0
        self._samples = self._clipped = 0

    def hear(self, samples: Samples) -> None:
        """Take the samples of a window: speech, and some of what is around it."""
        room = min(FRAMES_A_WINDOW, MAX_FRAMES - self._frames, len(samples) // FRAME_SAMPLES)
        if room <= 0:
            return
        starts = np.linspace(0, len(samples) - FRAME_SAMPLES, room).astype(np.intp)
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[starts].astype(np.float32)
        self._count_clipped(np.abs(frames))
        frames -= frames.mean(axis=1, keepdims=True)
        spectrum = np.fft.rfft(frames * _WINDOW, axis=1)[:, 1:]
        power = spectrum.real**2 + spectrum.imag**2
        self._bands.append(power.reshape(room, BANDS, _BINS_A_BAND).sum(axis=2).astype(np.float32))
        self._frames += room

    def condition(self, media: MediaFacts | None = None) -> Condition:
        """Return how it came in."""
        media = media or MediaFacts()
        bands = np.concatenate(self._bands) if self._bands else np.zeros((0, BANDS), np.float32)
        # Digital silence is where nothing was recorded: it says nothing about what was.
        bands = bands[bands.sum(axis=1) > _SILENT]
        if len(bands) < MIN_FRAMES:
            return Condition(media=media)
        power = np.sort(bands.sum(axis=1))
        return Condition(
            snr_db=_snr_db(power),
            clipped=self._clipped / self._samples if self._samples else 0.0,
            bandwidth_hz=_bandwidth_hz(bands),
            media=media,
        )

    def _count_clipped(self, sizes: NDArray[np.float32]) -> None:
        """Count samples as loud as the loudest: sound reaches its peak once in a while, clipped sound all the time."""
        self._samples += sizes.size
        peak = float(sizes.max())
        if peak >= _MIN_PEAK:
            self._clipped += int(np.count_nonzero(sizes >= _NEAR_PEAK * peak))


def _snr_db(power: NDArray[np.float32]) -> float:
    """Return the ratio of loud frames without noise to quiet ones; ``power`` is sorted."""
    noise = float(np.mean(power[: max(1, int(len(power) * _QUIET_SHARE))]))
    loud = power[power >= power[int(len(power) * _LOUD)] * 10 ** (-_SPEECH_DB / 10)]
    speech = max(float(np.mean(loud)) - noise, 1e-9)
    return float(np.clip(10 * np.log10(speech / max(noise, 1e-9)), _MIN_SNR_DB, _MAX_SNR_DB))


def _bandwidth_hz(bands: NDArray[np.float32]) -> float:
    """Return the upper end of the highest band that holds sound in some frames: an s or f is enough."""
    at = int(len(bands) * _LOUD)
    loudest = np.partition(bands, at, axis=0)[at]
    floor = max(float(np.partition(bands.sum(axis=1), at)[at]) * _BAND_FLOOR, 8 * _ROUNDING * _BINS_A_BAND)
    holding = np.flatnonzero(loudest > floor)
    return float((holding[-1] + 1) * BAND_HZ) if len(holding) else float(BAND_HZ)


def _within(value: object, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most else None
