"""Live audio as it arrives: other sample rates and encodings, in pieces of any length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import InvalidRequest
from tympan.live import AudioStream, Encoding, check_rate
from tympan.live.resampling import Resampler

RATES = [8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000]
_EDGE = 800
_LOUD = 16_000.0


def tone(rate_hz: int, frequency_hz: float, seconds: float = 1.0) -> Samples:
    """Return a sine."""
    at = np.arange(round(rate_hz * seconds)) / rate_hz
    return (np.sin(2 * np.pi * frequency_hz * at) * _LOUD).round().astype(np.int16)


def resampled(rate_hz: int, samples: Samples) -> Samples:
    """Return the whole at 16 kHz."""
    resampler = Resampler(rate_hz)
    return np.concatenate([resampler.push(samples), resampler.finish()])


def level_db(samples: NDArray[np.floating] | Samples) -> float:
    """Return how loud the middle of ``samples`` is beside the tones of this file."""
    return float(20 * np.log10(max(1e-9, samples[_EDGE:-_EDGE].std() * 2**0.5 / _LOUD)))


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_tone_comes_through_in_its_place_and_unchanged(rate_hz: int) -> None:
    """No delay, no loss: what differs is 80 dB down, and the rounding to 16 bits."""
    made = resampled(rate_hz, tone(rate_hz, 1000.0)).astype(float)
    assert len(made) == SAMPLE_RATE_HZ
    expected = np.sin(2 * np.pi * 1000.0 * np.arange(len(made)) / SAMPLE_RATE_HZ) * _LOUD
    assert level_db(made - expected) < -80


@pytest.mark.parametrize("rate_hz", RATES)
def test_what_is_in_the_band_keeps_its_level(rate_hz: int) -> None:
    """Within a tenth of a decibel, up to seven eighths of the narrower band."""
    top_hz = min(rate_hz, SAMPLE_RATE_HZ) / 2 * 0.875
    levels = [level_db(resampled(rate_hz, tone(rate_hz, at_hz))) for at_hz in np.linspace(60, top_hz, 9)]
    assert max(map(abs, levels)) < 0.1


@pytest.mark.parametrize("rate_hz", [rate for rate in RATES if rate > SAMPLE_RATE_HZ])
def test_what_would_be_heard_folded_is_taken_off(rate_hz: int) -> None:
    """Tones beyond 8 kHz are 75 dB down at least, wherever they would fold to."""
    beyond = np.linspace(8001, rate_hz / 2 - 20, 9)
    assert max(level_db(resampled(rate_hz, tone(rate_hz, at_hz))) for at_hz in beyond) < -75


@settings(max_examples=30)
@given(st.sampled_from(RATES), st.lists(st.integers(0, 900), max_size=12))
def test_how_the_audio_is_divided_changes_nothing(rate_hz: int, cuts: list[int]) -> None:
    """To the last bit, empty pieces included."""
    drawn = np.random.default_rng(len(cuts)).integers(-(2**15), 2**15, 4000).astype(np.int16)
    resampler = Resampler(rate_hz)
    edges = np.cumsum([0, *cuts])
    pieces = [resampler.push(drawn[a:b]) for a, b in zip(edges, [*edges[1:], len(drawn)], strict=True)]
    assert np.array_equal(np.concatenate([*pieces, resampler.finish()]), resampled(rate_hz, drawn))


def test_audio_at_the_right_rate_is_left_alone() -> None:
    """Not even rounded."""
    drawn = np.random.default_rng(5).integers(-(2**15), 2**15, 999).astype(np.int16)
    assert np.array_equal(resampled(SAMPLE_RATE_HZ, drawn), drawn)


@pytest.mark.parametrize("rate_hz", [0, -8000, 7975, 48_025, 44_101, 1_000_000])
def test_other_rates_are_refused(rate_hz: int) -> None:
    """With those that are taken."""
    with pytest.raises(InvalidRequest, match="8000 to 48000") as caught:
        check_rate(rate_hz)
    assert caught.value.param == "sample_rate"


@pytest.mark.parametrize("encoding", list(Encoding))
def test_bytes_may_be_cut_anywhere(encoding: Encoding) -> None:
    """Also in the middle of a sample; half of one at the end is left out."""
    data = np.random.default_rng(7).integers(0, 256, 2001).astype(np.uint8).tobytes()
    whole, odd = AudioStream(encoding, 24_000), AudioStream(encoding, 24_000)
    expected = np.concatenate([whole.push(data), whole.finish()])
    pieces = [odd.push(data[at : at + 7]) for at in range(0, len(data), 7)]
    assert np.array_equal(np.concatenate([*pieces, odd.finish()]), expected)


@pytest.mark.parametrize(
    ("encoding", "codes"),
    [
        # Values of the tables in ITU-T G.711, scaled to 16 bits.
        (Encoding.MULAW, {0x00: -32124, 0x80: 32124, 0x7F: 0, 0xFF: 0, 0xEF: 132, 0x6F: -132, 0x8F: 16764}),
        (Encoding.ALAW, {0x2A: -32256, 0xAA: 32256, 0x55: -8, 0xD5: 8, 0x54: -24, 0xD4: 24, 0x80: 5504}),
    ],
)
def test_both_laws_of_G711_are_expanded(encoding: Encoding, codes: dict[int, int]) -> None:
    """The loudest codes, the quietest and some between."""
    stream = AudioStream(encoding, SAMPLE_RATE_HZ)
    assert stream.push(bytes(codes)).tolist() == list(codes.values())


def test_lengths_of_bytes_are_known() -> None:
    """To divide audio before it is decoded."""
    assert AudioStream(Encoding.PCM_S16LE, 24_000).bytes_of(0.1) == 4800
    assert AudioStream(Encoding.MULAW, 8000).bytes_of(0.1) == 800
