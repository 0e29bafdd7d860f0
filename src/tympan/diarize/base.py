"""The values of diarization, and what it asks of networks. Pure."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tympan.diarize.features import Features
from tympan.domain import SAMPLE_RATE_HZ, Samples

Activity = NDArray[np.bool_]
"""Frames by local speakers: who of up to three people speaks."""

Embedding = NDArray[np.float32]
"""A voice: a vector of length 1. The product of two says how alike they are, 1 at most."""

FRAME_SAMPLES = 270
"""From one frame of the segmentation network to the next."""

FIRST_SAMPLE = 360
"""Where the first frame begins: its middle is that of the 991 samples it sees."""

STEP_FRAMES = 294
"""From one window to the next, 4.96 s; two steps are no longer than the 589 frames of a window."""

WINDOW_SAMPLES = 10 * SAMPLE_RATE_HZ
STEP_SAMPLES = STEP_FRAMES * FRAME_SAMPLES
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ


class Voices(Protocol):
    """What diarization asks of networks."""

    def activity(self, window: Samples) -> Activity:
        """Return who speaks when in a window, frame by frame."""
        ...

    def embedding(self, features: Features) -> Embedding:
        """Return whose voice it is that these features are of."""
        ...


@dataclass(frozen=True, slots=True)
class Track:
    """What somebody says at a stretch: number of the window, local speaker, frames, how long alone, and the voice."""

    window: int
    local: int
    active: NDArray[np.bool_]
    alone_s: float
    voice: Embedding


@dataclass(frozen=True, slots=True)
class Heard:
    """What a recording came to: its tracks in order of windows, how many windows there were, and its length."""

    tracks: tuple[Track, ...]
    n_windows: int
    audio_s: float
