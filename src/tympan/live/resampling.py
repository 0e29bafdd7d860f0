"""Any common sample rate to 16 kHz, little by little: the same samples come out however the input was divided."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import InvalidRequest

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 48_000
_STEP_HZ = 25
_ATTENUATION_DB = 80.0
_PASSBAND_SHARE = 0.875
_INT16 = np.iinfo(np.int16)

_Floats = NDArray[np.float32]


def check_rate(rate_hz: int, param: str = "sample_rate") -> int:
    """Return ``rate_hz`` if it can be resampled. Raises ``InvalidRequest`` that blames ``param``."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ or rate_hz % _STEP_HZ:
        raise InvalidRequest(
            f"Audio at {rate_hz} Hz cannot be taken.",
            param=param,
            remedy=f"Send a multiple of {_STEP_HZ} Hz from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz.",
        )
    return rate_hz


class Resampler:
    """A stream of samples at one rate, turned into one at 16 kHz.

    A filter with a table of its phases: between two neighbouring samples of the input there are only so many places at
    which one of the output can lie. It is a windowed sinc (Kaiser) that lets pass what is below seven eighths of the
    lower of the two rates' bands, and takes 80 dB off what lies beyond that band and would be heard folded.
    """

    def __init__(self, rate_hz: int) -> None:
        """Start a stream at ``rate_hz``. Raises ``InvalidRequest`` for a rate that ``check_rate`` refuses."""
        check_rate(rate_hz)
        common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
        self._up, self._down = SAMPLE_RATE_HZ // common, rate_hz // common
        self._phases = _phases(rate_hz, self._up)
        self._width = self._phases.shape[1]
        # Half a filter of silence before the first sample, so that nothing is delayed.
        self._held: _Floats = np.zeros(self._width // 2 - 1, np.float32)
        self._position = 0
        self._fed = self._made = 0

    def push(self, samples: Samples) -> Samples:
        """Take the next samples; return those at 16 kHz that are certain."""
        self._fed += len(samples)
        return self._push(samples.astype(np.float32)) if self._up != self._down else samples

    def finish(self) -> Samples:
        """Return what was held back, as if silence followed."""
        if self._up == self._down:
            return np.zeros(0, np.int16)
        missing = math.ceil(self._fed * self._up / self._down) - self._made
        return self._push(np.zeros(self._width, np.float32))[:missing]

    def _push(self, samples: _Floats) -> Samples:
        held = np.concatenate([self._held, samples])
        if len(held) < self._width:
            self._held = held
            return np.zeros(0, np.int16)
        windows = sliding_window_view(held, self._width)
        # Where each output lies, in steps of which `up` make one input sample.
        places = np.arange(self._position, len(windows) * self._up, self._down)
        first, phase = np.divmod(places, self._up)
        made = np.einsum("ij,ij->i", windows[first], self._phases[phase], dtype=np.float32)
        following = self._position + len(places) * self._down
        dropped = min(following // self._up, len(windows))
        self._held, self._position = held[dropped:], following - dropped * self._up
        self._made += len(made)
        rounded: Samples = np.clip(np.rint(made), _INT16.min, _INT16.max).astype(np.int16)
        return rounded


def _phases(rate_hz: int, up: int) -> _Floats:
    """Return a row of weights for each place between two samples, for as many input samples as the filter is wide."""
    band_hz = min(rate_hz, SAMPLE_RATE_HZ) / 2
    transition_hz = band_hz * (1 - _PASSBAND_SHARE)
    # Kaiser's formulas for the width and the shape of the window.
    half = math.ceil((_ATTENUATION_DB - 7.95) / (14.36 * transition_hz / rate_hz) / 2)
    beta = 0.1102 * (_ATTENUATION_DB - 8.7)
    cutoff = (band_hz - transition_hz / 2) * 2 / rate_hz
    # Row p, column j: the distance of input sample j from the output, which lies p / up behind sample half - 1.
    distance = np.arange(2 * half) - (half - 1) - np.arange(up)[:, None] / up
    window = np.i0(beta * np.sqrt(np.maximum(0.0, 1 - (distance / half) ** 2))) / np.i0(beta)
    weights = cutoff * np.sinc(cutoff * distance) * window
    # Every phase lets a constant pass unchanged.
    normal: _Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normal
