"""Samples to log-mel spectrograms, the input of every Whisper encoder.

The transform is the one the models were trained with (Radford et al. 2022, "Robust Speech Recognition via Large-Scale
Weak Supervision", section 2.2): 25-ms Hann frames every 10 ms, a Slaney mel bank, log10 with 8 decades of range.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ, Samples

N_FFT = 400
HOP = 160
FRAMES_PER_S = SAMPLE_RATE_HZ // HOP
"""Mel frames per second of audio; the encoder halves this."""

MAX_FRAMES = 30 * FRAMES_PER_S
"""Mel frames in the 30 s that an encoder sees at most."""

_DYNAMIC_RANGE = 8.0
_LOG_FLOOR = 1e-10
_BREAK_HZ = 1000.0
_BREAK_MEL = 15.0
_LOG_STEP = np.log(6.4) / 27.0

_BLOCK_FRAMES = 256
"""Frames worked on at once: they stay in the processor's cache, and 30 s would take 30 MB otherwise."""

Mel = NDArray[np.float32]
"""Log-mel spectrogram, shape ``[n_mels, n_frames]``."""


def _hz_to_mel(hz: float) -> float:
    return hz * _BREAK_MEL / _BREAK_HZ if hz < _BREAK_HZ else _BREAK_MEL + float(np.log(hz / _BREAK_HZ)) / _LOG_STEP


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = mel * _BREAK_HZ / _BREAK_MEL
    return np.where(mel < _BREAK_MEL, linear, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


@cache
def mel_bank(n_mels: int) -> NDArray[np.float32]:
    """Return the Slaney-normalised triangular filters, shape ``[n_mels, N_FFT // 2 + 1]``."""
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE_HZ / 2), n_mels + 2))
    bins = np.fft.rfftfreq(N_FFT, 1.0 / SAMPLE_RATE_HZ)
    rising = (bins[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    bank: NDArray[np.float32] = weights.astype(np.float32)
    return bank


@cache
def _hann() -> NDArray[np.float32]:
    window: NDArray[np.float32] = np.hanning(N_FFT + 1)[:-1].astype(np.float32)
    return window


def log_mel(samples: Samples, n_mels: int, n_frames: int) -> Mel:
    """Return the log-mel spectrogram of ``samples``, silence-padded or cut to ``n_frames`` frames of 10 ms."""
    audio = np.zeros(n_frames * HOP, dtype=np.float32)
    used = min(len(samples), len(audio))
    np.multiply(samples[:used], 1.0 / 32768.0, out=audio[:used], dtype=np.float32)
    padded = np.pad(audio, N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][:n_frames]
    mel: Mel = np.empty((n_mels, n_frames), dtype=np.float32)
    for start in range(0, n_frames, _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        spectrum = np.fft.rfft(frames[block] * _hann(), axis=1)
        mel[:, block] = mel_bank(n_mels) @ (spectrum.real**2 + spectrum.imag**2).T
    log_spec = np.log10(np.maximum(mel, _LOG_FLOOR, out=mel), out=mel)
    np.maximum(log_spec, log_spec.max() - _DYNAMIC_RANGE, out=mel)
    return (mel + np.float32(4.0)) / np.float32(4.0)
