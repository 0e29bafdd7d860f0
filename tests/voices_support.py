"""Networks of a test, and recordings that they hear: who speaks is written in the samples."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np

from tests.pipeline_support import ArraySource, never
from tympan.audio.stereo import Stereo
from tympan.diarize.base import FIRST_SAMPLE, FRAME_SAMPLES, Activity, Embedding
from tympan.diarize.embedding_graph import SIZE
from tympan.diarize.features import Features
from tympan.diarize.tracks import _stretches
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import NotStereo
from tympan.observation import MediaFacts

A, B, C, NOBODY = 1, 2, 4, 0
"""Speakers: at once they are added."""

FRAMES = 589
RATE = SAMPLE_RATE_HZ
_MIDDLES = np.arange(FRAMES) * FRAME_SAMPLES + FIRST_SAMPLE + FRAME_SAMPLES // 2


class Tells:
    """Networks of a test: a sample is 1000 times the sum of 1, 2 and 4 for the speakers A, B and C, over ``scale``."""

    def __init__(self) -> None:
        """Have heard nothing."""
        self.windows: list[Samples] = []
        self._asked: list[int] = []
        self.scale = 1.0

    def activity(self, window: Samples) -> Activity:
        """Local speakers are in the order in which the window has them."""
        self.windows.append(window.copy())
        if np.isnan(self.scale):
            raise ValueError("There is no scale.")
        masks = np.rint(window[_MIDDLES] * (self.scale / 1000)).astype(int)
        speaks = np.stack([(masks & bit) > 0 for bit in (1, 2, 4)], axis=1)
        order = sorted(range(3), key=lambda speaker: (not speaks[:, speaker].any(), int(speaks[:, speaker].argmax())))
        found = speaks[:, order]
        alone = found.sum(axis=1) == 1
        self._asked = [order[local] for local in range(3) for _ in _stretches(found[:, local], alone)]
        return found

    def embedding(self, features: Features) -> Embedding:
        """Voices are asked for stretch by stretch, in the order of the local speakers."""
        assert len(features)
        voice = np.zeros(SIZE, np.float32)
        voice[self._asked.pop(0)] = 1.0
        return voice


def spoken(parts: Sequence[tuple[float, int]]) -> Samples:
    """Return a recording: for so many seconds these speakers."""
    return np.concatenate([np.full(round(s * RATE), 1000 * who, np.int16) for s, who in parts])


class Sound(ArraySource):
    """A file with one channel, or with two where ``both`` are given."""

    def __init__(self, mono: Samples, both: Stereo | None = None) -> None:
        """Cut it into blocks of a second."""
        cut = range(0, len(mono), SAMPLE_RATE_HZ)
        super().__init__([mono[at : at + SAMPLE_RATE_HZ] for at in cut])
        self.both = None if both is None else [both[at : at + SAMPLE_RATE_HZ] for at in cut]

    def stream_stereo(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Stereo, None, MediaFacts | None]:
        """Yield both channels, if there are two."""
        if self.both is None:
            raise NotStereo("One channel.")
        yield from self.both
        return None
