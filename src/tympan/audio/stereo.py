"""Two channels: mixed to one without cancelling, and compared by loudness. Pure.

The mean of two channels is what a listener in the middle hears. Where one of them is upside down, as behind a wrongly
soldered plug, it is silence. So where the mean has lost nearly all of the sound, the louder channel is heard alone.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tympan.audio.spans import FRAME_SAMPLES
from tympan.domain import SAMPLE_RATE_HZ, Levels, Samples, Span

LEVEL_SAMPLES = FRAME_SAMPLES // 2
"""Samples over which the loudness of channels is taken: 16 ms, so that spans of speech are made of whole ones."""

Stereo: TypeAlias = NDArray[np.int16]
"""16 kHz signed 16-bit PCM, shape ``[n_samples, 2]``: left and right."""

_FRAME = SAMPLE_RATE_HZ // 10
"""Samples between decisions; the way from one mixture to another takes as long, so that nothing clicks."""

_MEMORY = 0.5
"""How much of the energy before a frame still counts: what is decided rests on about two tenths of a second."""

_CANCELLED = 0.1
"""Share of the louder channel's energy under which the mean has lost the sound. A channel beside silence keeps 0.25."""

_LOUDER = 4.0
"""How many times its energy the other channel needs before it is heard instead."""

_Gains: TypeAlias = NDArray[np.float32]

_MIDDLE: Final[_Gains] = np.array([0.5, 0.5], np.float32)
_LEFT: Final[_Gains] = np.array([1.0, 0.0], np.float32)
_RIGHT: Final[_Gains] = np.array([0.0, 1.0], np.float32)


class StereoMixer:
    """Two channels to one, block by block; the result does not depend on how the blocks are cut."""

    def __init__(self) -> None:
        """Start with the mean of both."""
        self._rest: Stereo = np.zeros((0, 2), np.int16)
        self._energy = np.zeros(3)
        self._gains = _MIDDLE

    def push(self, block: Stereo) -> Samples:
        """Take the next samples; return those that are decided, which lag by less than a tenth of a second."""
        held = np.concatenate([self._rest, block])
        end = len(held) // _FRAME * _FRAME
        self._rest = held[end:]
        return self._mixed(held[:end])

    def finish(self) -> Samples:
        """Return what is left, and begin anew."""
        rest, self._rest = self._rest, self._rest[:0]
        return self._mixed(rest)

    def _mixed(self, held: Stereo) -> Samples:
        sound = held.astype(np.float32)
        before = self._gains
        chosen = [self._decide(energy) for energy in _energies(sound)]
        if all(gains is before for gains in chosen):
            mixed = sound @ before
        else:
            frames = range(0, len(sound), _FRAME)
            ways = zip(frames, [before, *chosen], chosen, strict=False)
            mixed = np.concatenate([_faded(sound[at : at + _FRAME], old, new) for at, old, new in ways])
        whole: Samples = np.rint(mixed).astype(np.int16)
        return whole

    def _decide(self, energy: NDArray[np.float32]) -> _Gains:
        self._energy = _MEMORY * self._energy + energy
        self._gains = self._chosen()
        return self._gains

    def _chosen(self) -> _Gains:
        middle, left, right = self._energy
        if middle >= _CANCELLED * max(left, right):
            return _MIDDLE
        if self._gains is _MIDDLE:
            return _LEFT if left >= right else _RIGHT
        if self._gains is _LEFT:
            return _RIGHT if right > _LOUDER * left else _LEFT
        return _LEFT if left > _LOUDER * right else _RIGHT


ALONE = 2.0
"""So many times as loud as the other channel is one that somebody speaks on who has it for himself: 6 dB."""

_ALONE_SHARE = 0.75
_LEAST_SHARE = 0.05


class ChannelJudge:
    """Whether each of two channels has a speaker of its own: told by how loud they are, steps counted by loudness."""

    def __init__(self) -> None:
        """Have heard nothing yet."""
        self._alone = np.zeros(2)
        self._all = 0.0

    def add(self, steps: NDArray[np.float32]) -> None:
        """Take the levels of the next steps."""
        left, right = steps.T
        self._all += float(steps.max(axis=1, initial=0.0).sum())
        self._alone += [left[left >= ALONE * right].sum(), right[right >= ALONE * left].sum()]

    @property
    def tells_speakers(self) -> bool:
        """Whether mostly one channel is heard at a time, and either of them is."""
        return bool(
            self._alone.sum() >= _ALONE_SHARE * self._all > 0.0 and self._alone.min() >= _LEAST_SHARE * self._all
        )


class LevelMeter:
    """How loud both channels are, in steps of 16 ms; keeps only what can still be asked for, and judges all of it."""

    def __init__(self) -> None:
        """Start at sample 0."""
        self._rest: Stereo = np.zeros((0, 2), np.int16)
        self._levels: Levels = np.zeros((0, 2), np.float16)
        self._first = 0
        self.judge = ChannelJudge()

    @property
    def kept_steps(self) -> int:
        """How many steps can still be asked for."""
        return len(self._levels)

    def push(self, block: Stereo) -> None:
        """Take the next samples."""
        held = np.concatenate([self._rest, block])
        end = len(held) // LEVEL_SAMPLES * LEVEL_SAMPLES
        self._rest = held[end:]
        self._add(held[:end])

    def finish(self) -> None:
        """Take note that nothing follows: what is left counts as one more step."""
        if len(self._rest):
            full = np.zeros((LEVEL_SAMPLES, 2), np.int16)
            full[: len(self._rest)] = self._rest
            self._rest = self._rest[:0]
            self._add(full)

    def cut(self, span: Span) -> Levels:
        """Return the levels of ``span``, whose ends lie between steps, as far as they are known."""
        first, last = span.start_sample // LEVEL_SAMPLES, -(-span.end_sample // LEVEL_SAMPLES)
        return self._levels[max(0, first - self._first) : max(0, last - self._first)].copy()

    def forget(self, before_sample: int) -> None:
        """Drop the levels before ``before_sample``; nobody will ask for them."""
        drop = min(len(self._levels), max(0, before_sample // LEVEL_SAMPLES - self._first))
        self._levels = self._levels[drop:]
        self._first += drop

    def _add(self, held: Stereo) -> None:
        steps = np.abs(held.astype(np.float32)).reshape(-1, LEVEL_SAMPLES, 2).mean(axis=1)
        self.judge.add(steps)
        self._levels = np.concatenate([self._levels, steps.astype(np.float16)])


def _energies(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the energy of the mean, of the left and of the right channel in each frame; the last may be shorter."""
    padded = np.zeros((2, -(-len(sound) // _FRAME) * _FRAME), np.float32)
    padded[:, : len(sound)] = sound.T
    left, right = padded.reshape(2, -1, _FRAME)
    pairs = ((left, left), (right, right), (left, right))
    of_left, of_right, common = (np.einsum("ij,ij->i", one, other) for one, other in pairs)
    found: NDArray[np.float32] = np.column_stack([(of_left + of_right + 2 * common) / 4, of_left, of_right])
    return found


def _faded(frame: NDArray[np.float32], old: _Gains, new: _Gains) -> NDArray[np.float32]:
    way = np.linspace(0.0, 1.0, len(frame), dtype=np.float32)[:, None]
    mixed: NDArray[np.float32] = (frame * (old + way * (new - old))).sum(axis=1)
    return mixed
