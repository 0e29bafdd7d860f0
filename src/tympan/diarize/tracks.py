"""A recording heard in windows of ten seconds: who of its local speakers talks when, and what each one's voice is like.

A local speaker is one of up to three in a window, and what they say at a stretch is a track; that two tracks are of the
same person is for clustering to find. Windows overlap by half, on the grid of the network's frames. Memory is flat but
for what was found.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tympan.diarize.base import (
    FIRST_SAMPLE,
    FRAME_S,
    FRAME_SAMPLES,
    STEP_SAMPLES,
    WINDOW_SAMPLES,
    Heard,
    Track,
    Voices,
)
from tympan.diarize.features import HOP_SAMPLES, Features, filter_banks
from tympan.domain import SAMPLE_RATE_HZ, Samples

CLEAR_S = 0.6
"""So much speech without anybody else is enough to know a voice by; of less, what is said together counts too."""

SHORTEST_S = 0.2
"""Who speaks for less in a window is left out."""

STRETCH_S = 1.0
"""A stretch of speech this long has a voice of its own; a shorter one belongs to the nearest that is long enough."""

GAP_S = 0.25
"""A gap beyond this ends a stretch."""

_Stretch = list[tuple[int, int]]


class Tracker:
    """Takes a recording piece by piece."""

    def __init__(self, voices: Voices) -> None:
        """Hear with ``voices``."""
        self._voices = voices
        self._rest = np.zeros(0, np.int16)
        self._n_windows = self._n_samples = 0
        self._tracks: list[Track] = []

    @property
    def audio_s(self) -> float:
        """How much has been pushed."""
        return self._n_samples / SAMPLE_RATE_HZ

    def push(self, samples: Samples) -> None:
        """Take the next samples."""
        self._n_samples += len(samples)
        self._rest = np.concatenate([self._rest, samples])
        while len(self._rest) >= WINDOW_SAMPLES:
            self._hear(self._rest[:WINDOW_SAMPLES])
            self._rest = self._rest[STEP_SAMPLES:]

    def finish(self) -> Heard:
        """Return what was found in all that was pushed; only silence follows it."""
        heard_before = WINDOW_SAMPLES - STEP_SAMPLES if self._n_windows else 0
        if len(self._rest) > heard_before:
            self._hear(np.pad(self._rest, (0, WINDOW_SAMPLES - len(self._rest))))
        self._rest = self._rest[:0]
        return Heard(tuple(self._tracks), self._n_windows, self.audio_s)

    def _hear(self, window: Samples) -> None:
        activity = self._voices.activity(window)
        features = filter_banks(window)
        alone = activity.sum(axis=1) == 1
        for speaker in range(activity.shape[1]):
            for active in _stretches(activity[:, speaker], alone):
                clear = active & alone
                alone_s = float(clear.sum()) * FRAME_S
                voice = self._voices.embedding(_rows(features, clear if alone_s >= CLEAR_S else active))
                self._tracks.append(Track(self._n_windows, speaker, active, alone_s, voice))
        self._n_windows += 1


def _stretches(active: NDArray[np.bool_], alone: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield the stretches of a local speaker: the network may take two people who never meet in a window for one."""
    if active.sum() * FRAME_S < SHORTEST_S:
        return
    found: _Stretch = []
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0)).tolist()
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if found and (first - found[-1][1]) * FRAME_S <= GAP_S:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    clear_s = [float((active & alone)[first:last].sum()) * FRAME_S for first, last in found]
    heads = [n for n, seconds in enumerate(clear_s) if seconds >= STRETCH_S] or [int(np.argmax(clear_s))]
    groups: dict[int, _Stretch] = {head: [] for head in heads}
    for stretch in found:
        groups[min(heads, key=lambda head: _apart(found[head], stretch))].append(stretch)
    for group in groups.values():
        mask = np.zeros_like(active)
        for first, last in group:
            mask[first:last] = active[first:last]
        yield mask


def _apart(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Return how many frames lie between two stretches; less than none where they are the same."""
    return max(one[0] - other[1], other[0] - one[1])


def _rows(features: Features, frames: NDArray[np.bool_]) -> Features:
    """Return the features whose middle lies in one of ``frames``."""
    middles = np.arange(len(features)) * HOP_SAMPLES + HOP_SAMPLES
    places = np.clip((middles - FIRST_SAMPLE) // FRAME_SAMPLES, 0, len(frames) - 1)
    return features[frames[places]]
