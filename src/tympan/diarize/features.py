"""Log-mel filter banks as Kaldi computes them, which is what speaker networks are trained on. Pure.

80 bands from 20 Hz to 8 kHz over frames of 25 ms every 10 ms: offset removed, pre-emphasis of 0.97, the Povey window,
power spectrum of 512 points. Without dither, so that the same audio gives the same numbers.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ, Samples

Features = NDArray[np.float32]
"""Frames by bands."""

HOP_SAMPLES = 160
"""From one frame to the next."""

N_BANDS = 80

_FRAME_SAMPLES = 400
_POINTS = 512
_LOWEST_HZ, _HIGHEST_HZ = 20.0, SAMPLE_RATE_HZ / 2
_EMPHASIS = np.float32(0.97)
_FLOOR = np.float32(np.finfo(np.float32).eps)


def filter_banks(samples: Samples) -> Features:
    """Return the features of whole frames; nothing of what is shorter than one."""
    if len(samples) < _FRAME_SAMPLES:
        return np.zeros((0, N_BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), _FRAME_SAMPLES)[::HOP_SAMPLES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    sharp = np.empty_like(frames)
    sharp[:, 1:] = frames[:, 1:] - _EMPHASIS * frames[:, :-1]
    sharp[:, 0] = frames[:, 0] * (1 - _EMPHASIS)
    power = np.abs(np.fft.rfft(sharp * _window(), _POINTS)).astype(np.float32) ** 2
    found: Features = np.log(np.maximum(power @ _bands(), _FLOOR))
    return found


@cache
def _window() -> NDArray[np.float32]:
    """Return Povey's window: Hann's, to the power of 0.85."""
    return (np.hanning(_FRAME_SAMPLES) ** 0.85).astype(np.float32)


@cache
def _bands() -> NDArray[np.float32]:
    """Return each band's triangle over the frequencies of the spectrum, even in mel (1127 ln(1 + f / 700))."""
    low, high = _mel(np.array([_LOWEST_HZ, _HIGHEST_HZ]))
    edges = np.linspace(low, high, N_BANDS + 2)[:, None]
    places = _mel(np.arange(_POINTS // 2) * (SAMPLE_RATE_HZ / _POINTS))
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.pad(triangles, ((0, 0), (0, 1))).T.astype(np.float32)  # The highest frequency is in no band.


def _mel(hz: "NDArray[np.floating[Any]]") -> "NDArray[np.floating[Any]]":
    found: NDArray[np.floating[Any]] = 1127.0 * np.log1p(hz / 700.0)
    return found
