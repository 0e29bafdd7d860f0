"""The encodings in which live audio arrives, turned into samples at 16 kHz little by little."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tympan.domain import Samples
from tympan.live.resampling import Resampler

_BIAS = 0x84


class Encoding(StrEnum):
    """How samples are written: 16 bits each, little-endian and signed; or 8 bits by either law of G.711."""

    PCM_S16LE = "pcm_s16le"
    MULAW = "mulaw"
    ALAW = "alaw"

    @property
    def width_bytes(self) -> int:
        """Bytes of one sample."""
        return 2 if self is Encoding.PCM_S16LE else 1


class AudioStream:
    """Bytes in one encoding and at one rate, turned into samples at 16 kHz. Pieces may end amid a sample."""

    def __init__(self, encoding: Encoding, rate_hz: int) -> None:
        """Start a stream. Raises ``InvalidRequest`` for a rate that cannot be resampled."""
        self._encoding = encoding
        self._rate_hz = rate_hz
        self._resampler = Resampler(rate_hz)
        self._half = b""

    def bytes_of(self, seconds: float) -> int:
        """Return how many bytes so many seconds take, whole samples."""
        return max(1, round(seconds * self._rate_hz)) * self._encoding.width_bytes

    def push(self, data: bytes) -> Samples:
        """Take the next bytes; return the samples at 16 kHz that are certain."""
        return self._resampler.push(self._decoded(data))

    def finish(self) -> Samples:
        """Return what was held back; half a sample at the end is left out."""
        return self._resampler.finish()

    def _decoded(self, data: bytes) -> Samples:
        if self._encoding is not Encoding.PCM_S16LE:
            law = _ALAW if self._encoding is Encoding.ALAW else _MULAW
            expanded: Samples = law[np.frombuffer(data, np.uint8)]
            return expanded
        data = self._half + data
        whole = len(data) // 2 * 2
        self._half = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.int16)


def _mulaw() -> NDArray[np.int16]:
    """Return the sample that each byte stands for by ITU-T G.711's mu-law, scaled to 16 bits."""
    code = ~np.arange(256) & 0xFF
    exponent, mantissa = (code >> 4) & 7, code & 0xF
    magnitude = (((mantissa << 3) + _BIAS) << exponent) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw() -> NDArray[np.int16]:
    """Return the sample that each byte stands for by ITU-T G.711's A-law, scaled to 16 bits."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 0xF
    # Half a step is added, so that a code stands for the middle of what it covers.
    steep = ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0)
    magnitude = np.where(exponent > 0, steep, (mantissa << 4) + 8)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_MULAW, _ALAW = _mulaw(), _alaw()
