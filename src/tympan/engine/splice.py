"""Silence-tail splice: encode only the speech, let the decoder still see its usual 30 s.

A Whisper encoder always gets 30 s, so short windows pay for silence, and attention makes that cost grow faster than
the length. Encoding a shorter input is cheap but leaves the decoder without the silence it learned to stop in, and it
loops. So the speech and a margin are encoded; the frames that would follow are taken from a 30-s encoding of silence,
made once per model. Figures: ``docs/benchmarks/``; choice of margin: ``docs/decisions/``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tympan.domain import Samples
from tympan.engine.features import FRAMES_PER_S, HOP, MAX_FRAMES
from tympan.engine.knobs import Knobs

FRAMES_PER_POSITION = 2
"""The encoder's second convolution halves the frame rate."""

MAX_POSITIONS = MAX_FRAMES // FRAMES_PER_POSITION
POSITIONS_PER_S = FRAMES_PER_S // FRAMES_PER_POSITION

WINDOW_S = MAX_FRAMES / FRAMES_PER_S

MARGIN_S = 3.0
"""Silence encoded after the speech; below it the error rate rises, see ``docs/decisions/``."""

Encoded = NDArray[np.float32]
"""Encoder output of one window, shape ``[positions, d_model]``; float16 on a GPU."""


@dataclass(frozen=True, slots=True)
class Splice:
    """How much of a window's 30 s is really encoded."""

    margin_s: float = MARGIN_S
    bucket_s: float = 0.5
    enabled: bool = True

    @classmethod
    def of(cls, knobs: Knobs) -> "Splice":
        """Read ``margin_s`` and ``splice`` (``on`` or ``off``). Raises ``ConfigError``."""
        return cls(knobs.seconds("margin_s", MARGIN_S, WINDOW_S), enabled=knobs.is_on("splice", default=True))

    def frames(self, samples: Samples, *, full_context: bool) -> int:
        """Return how many mel frames to encode: speech and margin, rounded up to a bucket; all 30 s if asked."""
        if full_context or not self.enabled:
            return MAX_FRAMES
        speech = -(-len(samples) // HOP)
        bucket = max(FRAMES_PER_POSITION, round(self.bucket_s * FRAMES_PER_S) // 2 * 2)
        wanted = speech + round(self.margin_s * FRAMES_PER_S)
        return min(MAX_FRAMES, -(-wanted // bucket) * bucket)


def speech_positions(duration_s: float) -> int:
    """Return how many encoder positions ``duration_s`` of speech takes, at least one."""
    return max(1, min(MAX_POSITIONS, round(duration_s * POSITIONS_PER_S)))


def with_tail(encoded: Encoded, silence: Encoded) -> Encoded:
    """Return ``encoded`` continued to the full context with the positions of ``silence`` that follow it."""
    if len(encoded) >= len(silence):
        return encoded
    return np.concatenate([encoded, silence[len(encoded) :]])
