"""Whether each channel has a speaker of its own, told by how loud both are."""

import numpy as np
import pytest

from tympan.audio.stereo import LevelMeter, Stereo
from tympan.domain import SAMPLE_RATE_HZ


def talk(*, bleed: float = 0.0, share: float = 0.5, both: float = 0.0, noise: float = 30.0) -> Stereo:
    """Return a minute in which the first speaks for a ``share`` of the time and both for another one.

    So much of a voice is on the other channel too, as ``bleed`` says, and ``noise`` is on either.
    """
    n = 60 * SAMPLE_RATE_HZ
    drawn = np.random.default_rng(3)
    place = (np.arange(n) // (SAMPLE_RATE_HZ // 2)) % 20 / 20
    voices = drawn.normal(0, 2_000, (n, 2)) * np.abs(np.sin(np.arange(n) / 900))[:, None]
    voices[:, 0] *= place < share + both
    voices[:, 1] *= place >= share
    mixed = voices + bleed * voices[:, ::-1] + drawn.normal(0, noise, (n, 2))
    return np.clip(mixed, -32_768, 32_767).astype(np.int16)


def tells(sound: Stereo) -> bool:
    """Return what is judged of the sound, which comes in blocks of any size."""
    meter = LevelMeter()
    for at in range(0, len(sound), 12_345):
        meter.push(sound[at : at + 12_345])
    meter.finish()
    return meter.judge.tells_speakers


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        (talk(), True),
        (talk(bleed=0.25), True),
        (talk(share=0.85), True),
        (talk(both=0.15), True),
        (talk(bleed=0.7), False),
        (talk(bleed=1.0), False),
        (talk(both=0.5), False),
        (talk(share=1.0), False),
        (talk() * 0, False),
        (talk()[:0], False),
    ],
)
def test_channels_tell_speakers_where_mostly_one_of_them_is_heard_at_a_time(sound: Stereo, *, expected: bool) -> None:
    """Not where both hear the same, more or less loud, nor where one is silent or both speak all the time."""
    assert tells(sound) is expected
    assert tells(sound[:, ::-1]) is expected
