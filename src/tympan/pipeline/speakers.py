"""Who said which word, where two people have a channel each: the one whose channel is louder meanwhile. Pure.

The rule for a stretch of speech is whisper.cpp's ``diarize``: mean sizes of samples, and one has to exceed the other by
a tenth. Its stretches are segments; here they are words, so that a segment has one speaker.
"""

from dataclasses import replace

import numpy as np

from tympan.audio.stereo import LEVEL_SAMPLES
from tympan.domain import SAMPLE_RATE_HZ, Levels, Window, WindowResult, Word

LEFT, RIGHT = "A", "B"
"""Names of the speakers, by channel."""

LOUDER = 1.1
"""How many times as loud the other channel's speaker has to be."""

_STEPS_PER_S = SAMPLE_RATE_HZ / LEVEL_SAMPLES


def told_apart(window: Window, result: WindowResult) -> WindowResult:
    """Return ``result`` with a speaker for each of its words, or one for all where words have no times.

    A word that both channels are about as loud in is given to whoever spoke before it, or else after it. Without
    ``window.levels`` nobody is told apart.
    """
    if window.levels is None or not result.text.strip():
        return result
    if not result.words:
        return replace(result, speakers=(_louder(window.levels),))
    return replace(result, speakers=_continued([_louder(_during(window.levels, word)) for word in result.words]))


def _during(levels: Levels, word: Word) -> Levels:
    first = min(int(word.start_s * _STEPS_PER_S), len(levels) - 1)
    return levels[first : max(first + 1, round(word.end_s * _STEPS_PER_S))]


def _louder(levels: Levels) -> str | None:
    left, right = levels.sum(axis=0, dtype=np.float64)
    if left > LOUDER * right:
        return LEFT
    return RIGHT if right > LOUDER * left else None


def _continued(speakers: list[str | None]) -> tuple[str | None, ...]:
    known = next((name for name in speakers if name), None)
    found = []
    for name in speakers:
        known = name or known
        found.append(known)
    return tuple(found)
