"""Sounds that hold no speech, drawn from a seed: noise, tones, chords, hum, clicks, sweeps, DTMF, music-like, silence.

Every clip is 16 kHz mono 16-bit; its kind, level and length follow from the seed and its number alone.
"""

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.scoring import Clip

RATE_HZ = 16_000
SHORTEST_S, LONGEST_S = 1.0, 20.0
LEVELS_DBFS = (-50.0, -40.0, -30.0, -20.0, -10.0, -3.0)

Signal: TypeAlias = NDArray[np.float64]
Rng: TypeAlias = np.random.Generator

_DTMF_ROWS_HZ = (697, 770, 852, 941)
_DTMF_COLUMNS_HZ = (1209, 1336, 1477, 1633)
_SCALE = (0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24)


def _time(n: int) -> Signal:
    return np.arange(n) / RATE_HZ


def _sine(pitch_hz: float, time: Signal, phase: float = 0.0) -> Signal:
    wave: Signal = np.sin(2 * np.pi * pitch_hz * time + phase)
    return wave


def _coloured(rng: Rng, n: int, slope: float) -> Signal:
    """Return noise whose amplitude spectrum falls with frequency to the power ``slope``."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
    spectrum[0] = 0.0
    noise: Signal = np.fft.irfft(spectrum, n)
    return noise


def _white(rng: Rng, n: int) -> Signal:
    return _coloured(rng, n, 0.0)


def _pink(rng: Rng, n: int) -> Signal:
    return _coloured(rng, n, 0.5)


def _brown(rng: Rng, n: int) -> Signal:
    return _coloured(rng, n, 1.0)


def _gusts(rng: Rng, n: int) -> Signal:
    """Return pink noise that swells and fades, like wind or traffic."""
    return _pink(rng, n) * (1.0 + 0.9 * _sine(rng.uniform(0.1, 0.8), _time(n)))


def _tone(rng: Rng, n: int) -> Signal:
    pitch_hz = float(np.exp(rng.uniform(np.log(60), np.log(6000))))
    return _sine(pitch_hz, _time(n))


def _chord(rng: Rng, n: int) -> Signal:
    root, time = rng.uniform(80, 500), _time(n)
    return sum((_sine(root * ratio, time) for ratio in (1, 1.25, 1.5, 2)), np.zeros(n))


def _hum(rng: Rng, n: int) -> Signal:
    """Return mains hum of 50 or 60 Hz with falling harmonics."""
    base, time = rng.choice([50, 60]), _time(n)
    return sum((_sine(base * k, time, rng.uniform(0, 6)) / k for k in range(1, 9)), np.zeros(n))


def _clicks(rng: Rng, n: int) -> Signal:
    out = np.zeros(n)
    at = rng.integers(0, max(1, n - 160), size=max(1, int(n / RATE_HZ * rng.uniform(1, 12))))
    for start in at:
        length = min(160, n - start)
        out[start : start + length] += rng.standard_normal(length) * np.exp(-np.arange(length) / 20)
    return out


def _sweep(rng: Rng, n: int) -> Signal:
    low, high = sorted(rng.uniform(50, 7000, size=2))
    sweep: Signal = np.sin(2 * np.pi * np.cumsum(np.geomspace(low, high, n)) / RATE_HZ)
    return sweep


def _dtmf(rng: Rng, n: int) -> Signal:
    """Return telephone keys of 120 ms with pauses of 80 ms."""
    out, step, length = np.zeros(n), int(0.2 * RATE_HZ), int(0.12 * RATE_HZ)
    for start in range(0, n, step):
        time = _time(min(length, n - start))
        row, column = rng.choice(_DTMF_ROWS_HZ), rng.choice(_DTMF_COLUMNS_HZ)
        out[start : start + len(time)] = _sine(row, time) + _sine(column, time)
    return out


def _ringing(rng: Rng, n: int) -> Signal:
    """Return a telephone's ring or busy tone: two close tones, switched on and off."""
    time, period = _time(n), rng.choice([0.5, 1.0, 6.0])
    is_on: Signal = ((time % period) < period / 2).astype(np.float64)
    return (_sine(440, time) + _sine(480, time)) * is_on


def _note(pitch_hz: float, n: int, decay_s: float) -> Signal:
    time = _time(n)
    partials = sum((_sine(pitch_hz * k, time) / k**1.5 for k in range(1, 6)), np.zeros(n))
    return partials * np.exp(-time / decay_s) * np.minimum(1.0, time / 0.01)


def _music(rng: Rng, n: int) -> Signal:
    """Return arpeggios of decaying notes with a bass and percussion."""
    out, beat, root = np.zeros(n), int(RATE_HZ * rng.uniform(0.12, 0.4)), rng.uniform(110, 330)
    for number, start in enumerate(range(0, n, beat)):
        pitch = root * 2 ** (rng.choice(_SCALE) / 12)
        note = _note(pitch, min(4 * beat, n - start), rng.uniform(0.1, 0.6))
        out[start : start + len(note)] += note
        if number % 4 == 0:
            bass = _note(root / 2, min(4 * beat, n - start), 0.5)
            out[start : start + len(bass)] += bass
        if number % 2 == 0:
            hit = rng.standard_normal(min(beat, n - start)) * np.exp(-np.arange(min(beat, n - start)) / 400)
            out[start : start + len(hit)] += 0.6 * hit
    return out


def _silence(_rng: Rng, n: int) -> Signal:
    return np.zeros(n)


def _dither(rng: Rng, n: int) -> Signal:
    """Return the noise of one quantisation step, whatever the level asked for."""
    return (rng.random(n) - rng.random(n)) / 32768


KINDS: dict[str, Callable[[Rng, int], Signal]] = {
    "white noise": _white,
    "pink noise": _pink,
    "brown noise": _brown,
    "gusts": _gusts,
    "tone": _tone,
    "chord": _chord,
    "hum": _hum,
    "clicks": _clicks,
    "sweep": _sweep,
    "dtmf": _dtmf,
    "ringing": _ringing,
    "music": _music,
    "digital silence": _silence,
    "dithered silence": _dither,
}
"""What can be drawn, by name."""

_QUIET = ("digital silence", "dithered silence")


@dataclass(frozen=True, slots=True)
class Sound:
    """One drawn clip: what it is, how loud (peak, dBFS; ``None`` for silence) and its samples."""

    kind: str
    level_dbfs: float | None
    samples: NDArray[np.int16]


def draw(number: int, seed: int = 1) -> Sound:
    """Return clip ``number``: kinds take turns, levels and lengths are drawn."""
    rng, kind = np.random.default_rng([seed, number]), list(KINDS)[number % len(KINDS)]
    n, level = int(RATE_HZ * rng.uniform(SHORTEST_S, LONGEST_S)), float(rng.choice(LEVELS_DBFS))
    signal = KINDS[kind](rng, n)
    if kind in _QUIET:
        return Sound(kind, None, np.rint(signal * 32767).astype(np.int16))
    signal *= 10 ** (level / 20) / max(float(np.abs(signal).max()), 1e-9)
    return Sound(kind, level, np.rint(signal * 32767).astype(np.int16))


def write_clips(folder: Path, n: int, seed: int = 1) -> list[Clip]:
    """Write ``n`` clips as WAV files and return them; the id tells kind and level, the reference is no text."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number in range(n):
        sound = draw(number, seed)
        level = "" if sound.level_dbfs is None else f" {sound.level_dbfs:g} dBFS"
        path = folder / f"{seed}-{number:04d}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(sound.samples.tobytes())
        clips.append(Clip(f"{sound.kind}{level} {number:04d}", path, len(sound.samples) / RATE_HZ, None, ""))
    return clips
