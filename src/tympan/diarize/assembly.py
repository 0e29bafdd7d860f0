"""From tracks and whose they are to turns: what the two windows of a moment say of it is put together. Pure.

A window knows its middle best: at its ends it has heard little of who speaks there. So what it says counts the more,
the further a frame is from its ends. As many people speak in a frame as its windows say on average, rounded up, and
those do who are heard best.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tympan.diarize.base import FIRST_SAMPLE, FRAME_S, STEP_FRAMES, Heard, Track
from tympan.diarize.turns import smoothed
from tympan.domain import SAMPLE_RATE_HZ, Turn

_FIRST_S = FIRST_SAMPLE / SAMPLE_RATE_HZ
_RISING = np.arange(1, STEP_FRAMES + 1) / (STEP_FRAMES + 1)
_FALLING = _RISING[::-1]
_HAIR = 1e-9

_Windows = Mapping[int, Sequence[tuple[Track, int]]]


def turns(heard: Heard, groups: Sequence[int], names: Mapping[int, str] = MappingProxyType({})) -> list[Turn]:
    """Return who speaks when; ``groups`` tells for each track who it is, ``names`` what groups are called.

    No turn ends behind the recording.
    """
    if not groups:
        return []
    windows: dict[int, list[tuple[Track, int]]] = defaultdict(list)
    for track, group in zip(heard.tracks, groups, strict=True):
        windows[track.window].append((track, group))
    n_speakers = 1 + max(groups)
    # The last window is as long as two steps.
    speaks = np.concatenate([_step(windows, step, heard.n_windows, n_speakers) for step in range(heard.n_windows + 1)])
    found = (
        Turn(_FIRST_S + first * FRAME_S, min(_FIRST_S + last * FRAME_S, heard.audio_s), speaker, names.get(speaker))
        for speaker in range(n_speakers)
        for first, last in _runs(speaks[:, speaker])
    )
    return smoothed(turn for turn in found if turn.end_s > turn.start_s)


def _step(windows: _Windows, step: int, n_windows: int, n_speakers: int) -> NDArray[np.bool_]:
    """Return who speaks in the frames of one step, which the window that begins there and the one before it heard."""
    heard = np.zeros((STEP_FRAMES, n_speakers))
    weights = np.zeros(STEP_FRAMES)
    for window, first, weight in ((step, 0, _RISING), (step - 1, STEP_FRAMES, _FALLING)):
        if not 0 <= window < n_windows:
            continue
        speaks = np.zeros((STEP_FRAMES, n_speakers), np.bool_)
        for track, group in windows.get(window, ()):
            speaks[:, group] |= track.active[first : first + STEP_FRAMES]
        heard += speaks * weight[:, None]
        weights += weight
    how_many = np.ceil(heard.sum(axis=1) / weights - _HAIR)
    ranks = np.argsort(np.argsort(-heard, axis=1, kind="stable"), axis=1)
    found: NDArray[np.bool_] = (ranks < how_many[:, None]) & (heard > 0)
    return found


def _runs(speaks: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the first frame of each stretch, and the first behind it."""
    edges = np.flatnonzero(np.diff(speaks.astype(np.int8), prepend=0, append=0))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
