"""Clips without speech, made by arithmetic: silence, noises and simple music. The right transcript is none.

They are the same on every machine: seeded noise, rounded to 16 bits.
"""

import io
import wave
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
LENGTH_S = 6.0

Signal = NDArray[np.float64]
_SEED = 20_260_101


def _time() -> Signal:
    return np.arange(round(LENGTH_S * RATE_HZ)) / RATE_HZ


def _tilted(seed: int, exponent: float) -> Signal:
    """Return noise whose power falls with frequency to the power of ``exponent``; 0 is white, 1 pink, 2 brown."""
    drawn = np.random.default_rng(_SEED + seed).standard_normal(len(_time()))
    spectrum = np.fft.rfft(drawn)
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (exponent / 2)
    spectrum[0] = 0
    shaped = np.fft.irfft(spectrum, len(drawn))
    return np.asarray(shaped / np.abs(shaped).max(), dtype=np.float64)


def _hum(base_hz: float) -> Signal:
    time = _time()
    return np.asarray(sum(np.sin(2 * np.pi * base_hz * k * time) / k for k in (1, 2, 3, 5)) / 2.0, dtype=np.float64)


def _clicks(per_s: float, seed: int) -> Signal:
    drawn = np.random.default_rng(_SEED + seed)
    signal = np.zeros(len(_time()))
    for at in drawn.integers(0, len(signal) - 200, round(per_s * LENGTH_S)):
        signal[at : at + 200] += drawn.standard_normal(200) * np.exp(-np.arange(200) / 40)
    return np.asarray(signal / np.abs(signal).max(), dtype=np.float64)


def _tune(notes_hz: tuple[float, ...], beat_s: float, harmonics: int) -> Signal:
    """Return notes one after the other, over and over, each struck and fading."""
    time = _time()
    phase = time % beat_s
    pitch = np.array(notes_hz)[(time // beat_s).astype(int) % len(notes_hz)]
    tone = sum(np.sin(2 * np.pi * pitch * k * phase) / k**1.5 for k in range(1, harmonics + 1))
    return np.asarray(tone * np.exp(-3 * phase / beat_s) * np.minimum(1, phase * 200), dtype=np.float64) / 2


def _chord(notes_hz: tuple[float, ...]) -> Signal:
    time = _time()
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 0.5 * time)
    whole = sum(np.sin(2 * np.pi * hz * time) + 0.4 * np.sin(4 * np.pi * hz * time) for hz in notes_hz)
    return np.asarray(whole * swell / (1.4 * len(notes_hz)), dtype=np.float64)


_MAKERS: Mapping[str, tuple[str, float, Callable[[], Signal]]] = {
    "silence-digital": ("silence", 0.0, lambda: np.zeros(len(_time()))),
    "silence-faint-white": ("silence", 0.0005, lambda: _tilted(1, 0)),
    "silence-faint-pink": ("silence", 0.001, lambda: _tilted(2, 1)),
    "silence-room": ("silence", 0.003, lambda: _tilted(3, 2)),
    "noise-white": ("noise", 0.1, lambda: _tilted(4, 0)),
    "noise-pink": ("noise", 0.2, lambda: _tilted(5, 1)),
    "noise-brown": ("noise", 0.4, lambda: _tilted(6, 2)),
    "noise-hum-50": ("noise", 0.2, lambda: _hum(50)),
    "noise-hum-60": ("noise", 0.2, lambda: _hum(60) + 0.05 * _tilted(7, 0)),
    "noise-clicks": ("noise", 0.5, lambda: _clicks(4, 8)),
    "music-scale": ("music", 0.3, lambda: _tune((262, 294, 330, 349, 392, 440, 494, 523), 0.4, 5)),
    "music-arpeggio": ("music", 0.3, lambda: _tune((220, 277, 330, 440), 0.25, 8)),
    "music-chord": ("music", 0.3, lambda: _chord((196, 247, 294))),
    "music-bass": ("music", 0.3, lambda: _tune((65, 82, 98), 0.6, 6)),
}


def canaries() -> dict[str, tuple[str, bytes]]:
    """Return the kind and the bytes of each clip, a WAV file, by name."""
    return {name: (kind, _wav(level * make())) for name, (kind, level, make) in _MAKERS.items()}


def _wav(signal: Signal) -> bytes:
    whole = np.round(np.clip(signal, -1, 1) * 32_767).astype("<i2")
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(whole.tobytes())
    return target.getvalue()
