"""How loud a recording is from moment to moment, for a picture of it: the same memory whatever its length. Pure."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ, Samples

MOST = 40_000
"""So many peaks are kept at most; beyond that there are half as many, of twice the length."""

_FIRST_STEP = 160
_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"TWF1"
_FULL, _TOP = 32_768, 255


@dataclass(frozen=True, slots=True)
class Waveform:
    """Peaks from 0 to 255, each of ``step_samples`` of ``n_samples`` in all."""

    step_samples: int
    n_samples: int
    peaks: bytes

    @property
    def duration_s(self) -> float:
        """Length of the audio."""
        return self.n_samples / SAMPLE_RATE_HZ

    @property
    def step_s(self) -> float:
        """Seconds between two peaks."""
        return self.step_samples / SAMPLE_RATE_HZ

    def reduced(self, points: int) -> "Waveform":
        """Return it with ``points`` peaks at most."""
        together = max(1, -(-len(self.peaks) // points))
        padded = np.frombuffer(self.peaks + bytes(-len(self.peaks) % together), np.uint8)
        highest = padded.reshape(-1, together).max(axis=1) if len(padded) else padded
        return Waveform(self.step_samples * together, self.n_samples, highest.tobytes())

    def pack(self) -> bytes:
        """Return it as it is stored."""
        return _HEAD.pack(_MAGIC, self.step_samples, self.n_samples) + self.peaks

    @classmethod
    def unpack(cls, data: bytes) -> "Waveform | None":
        """Return what ``pack`` wrote, ``None`` for anything else."""
        if len(data) < _HEAD.size:
            return None
        magic, step, n_samples = _HEAD.unpack_from(data)
        return cls(step, n_samples, data[_HEAD.size :]) if magic == _MAGIC and step else None


class PeakMeter:
    """Finds peaks as the samples come."""

    def __init__(self) -> None:
        """Begin before the first sample."""
        self._step, self._n_samples = _FIRST_STEP, 0
        self._peaks: NDArray[np.uint8] = np.zeros(MOST, np.uint8)
        self._count = 0
        self._rest: NDArray[np.int32] = np.zeros(0, np.int32)

    def add(self, samples: Samples) -> None:
        """Take the next samples."""
        self._n_samples += len(samples)
        self._rest = np.concatenate([self._rest, np.abs(samples.astype(np.int32))])
        while (whole := min(len(self._rest) // self._step, MOST - self._count)) > 0:
            groups, self._rest = np.split(self._rest, [whole * self._step])
            self._append(groups.reshape(whole, self._step).max(axis=1))
            if self._count == MOST:
                self._halve()

    def finish(self) -> Waveform:
        """Return the whole."""
        if len(self._rest):
            self._append(self._rest.max(keepdims=True))
            self._rest = self._rest[:0]
        return Waveform(self._step, self._n_samples, self._peaks[: self._count].tobytes())

    def _append(self, highest: NDArray[np.int32]) -> None:
        end = self._count + len(highest)
        self._peaks[self._count : end] = np.minimum(_TOP, (highest * _TOP + _FULL // 2) // _FULL)
        self._count = end

    def _halve(self) -> None:
        self._count //= 2
        self._peaks[: self._count] = self._peaks.reshape(-1, 2).max(axis=1)
        self._step *= 2
