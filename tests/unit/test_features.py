"""Samples to log-mel: the same numbers as an independent implementation of Whisper's front end."""

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st

from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.engine.features import FRAMES_PER_S, HOP, MAX_FRAMES, N_FFT, Mel, log_mel, mel_bank

N_MELS = (80, 128)
"""What Whisper models have; 128 since large-v3."""

SILENCE = -1.5
"""A frame of nothing: log10 of the floor 1e-10, scaled by (x + 4) / 4."""


def reference(samples: Samples, n_mels: int, n_frames: int) -> Mel:
    """Return what faster-whisper computes for the same samples, padded or cut to ``n_frames``."""
    audio = np.zeros(n_frames * HOP, np.float32)
    used = samples[: len(audio)].astype(np.float32) / 32768.0
    audio[: len(used)] = used
    mel: Mel = FeatureExtractor(feature_size=n_mels)(audio, padding=0)
    return mel


def tone(hz: float, duration_s: float, level: float = 0.5) -> Samples:
    """Return a sine tone."""
    moments = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    samples: Samples = (level * 32767 * np.sin(2 * np.pi * hz * moments)).astype(np.int16)
    return samples


def noise(n_samples: int, level: int = 3000, seed: int = 0) -> Samples:
    """Return white noise, the same for the same seed."""
    return np.random.default_rng(seed).integers(-level, level, n_samples).astype(np.int16)


SIGNALS = {
    "noise": noise(40_000),
    "quiet noise": noise(40_000, level=3),
    "low tone": tone(110.0, 2.5),
    "high tone": tone(7900.0, 2.5),
    "click": np.concatenate([np.zeros(9999, np.int16), [32767], np.zeros(30_000, np.int16)]).astype(np.int16),
    "full-scale square": np.tile(np.repeat([32767, -32768], 40), 500).astype(np.int16),
    "rising": (noise(40_000, 20_000) * np.linspace(0, 1, 40_000) ** 3).astype(np.int16),
}


@pytest.mark.parametrize("n_mels", N_MELS)
def test_the_mel_bank_is_the_reference_bank(n_mels: int) -> None:
    """Filter by filter and bin by bin, the weights agree with the reference."""
    theirs = FeatureExtractor.get_mel_filters(SAMPLE_RATE_HZ, N_FFT, n_mels)
    ours = mel_bank(n_mels)
    assert ours.shape == theirs.shape == (n_mels, 201)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("n_mels", N_MELS)
@pytest.mark.parametrize("name", SIGNALS)
def test_log_mel_is_the_reference_spectrogram(name: str, n_mels: int) -> None:
    """For loud, quiet, tonal and impulsive signals the spectrogram agrees with the reference, padding included."""
    ours = log_mel(SIGNALS[name], n_mels, 600)
    assert ours.shape == (n_mels, 600)
    np.testing.assert_allclose(ours, reference(SIGNALS[name], n_mels, 600), atol=2e-4)


def test_thirty_seconds_agree_with_the_reference() -> None:
    """The longest window agrees too, to its last frame."""
    samples = noise(30 * SAMPLE_RATE_HZ)
    np.testing.assert_allclose(log_mel(samples, 80, MAX_FRAMES), reference(samples, 80, MAX_FRAMES), atol=2e-4)


@settings(max_examples=60, deadline=None)
@given(
    n_samples=st.integers(0, 20_000), n_frames=st.integers(2, 120), level=st.integers(1, 32767), seed=st.integers(0, 99)
)
def test_any_length_agrees_with_the_reference(n_samples: int, n_frames: int, level: int, seed: int) -> None:
    """Shorter than the frames asked for, longer, or not a whole number of hops: always the reference's numbers."""
    samples = noise(n_samples, level, seed)
    np.testing.assert_allclose(log_mel(samples, 80, n_frames), reference(samples, 80, n_frames), atol=5e-4)


def test_short_audio_is_padded_with_silence() -> None:
    """Zeros after the audio, written out or not, make no difference; the padding is the quietest there is."""
    samples = noise(8000)
    padded = np.concatenate([samples, np.zeros(24_000, np.int16)])
    mel = log_mel(samples, 80, 200)
    np.testing.assert_array_equal(mel, log_mel(padded, 80, 200))
    assert np.all(mel[:, 60:] == mel.min())
    assert mel[:, :49].mean() > mel.min() + 0.5


def test_long_audio_is_cut() -> None:
    """What lies beyond the last frame has no influence, not even through the loudest point."""
    samples = noise(16_000)
    louder = np.concatenate([samples, np.full(16_000, 32767, np.int16)])
    np.testing.assert_array_equal(log_mel(louder, 80, 100), log_mel(samples, 80, 100))


@pytest.mark.parametrize("n_samples", [0, 1, 16_000])
def test_silence_is_the_floor_everywhere(n_samples: int) -> None:
    """No samples and zero samples give the same flat spectrogram, without a warning from the logarithm."""
    mel = log_mel(np.zeros(n_samples, np.int16), 80, 100)
    assert mel.shape == (80, 100)
    np.testing.assert_allclose(mel, SILENCE, rtol=1e-6)


@pytest.mark.parametrize("value", [-32768, 32767, -1, 1])
def test_constant_extremes_stay_finite_and_agree_with_the_reference(value: int) -> None:
    """The largest, the smallest and the most negative samples neither overflow nor wrap."""
    samples = np.full(16_000, value, np.int16)
    mel = log_mel(samples, 80, 100)
    assert np.isfinite(mel).all()
    np.testing.assert_allclose(mel, reference(samples, 80, 100), atol=2e-3)


def test_the_range_is_eight_decades() -> None:
    """The quietest value lies two units (eight decades, divided by four) below the loudest."""
    mel = log_mel(SIGNALS["rising"], 80, 400)
    assert mel.max() - mel.min() == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize(("hz", "lower", "upper"), [(250.0, 0, 15), (1000.0, 20, 32), (6000.0, 65, 79)])
def test_a_tone_lights_up_its_band(hz: float, lower: int, upper: int) -> None:
    """A tone's energy falls into the filter that covers its frequency, the same one in all frames."""
    loudest = log_mel(tone(hz, 1.0), 80, 100)[:, 5:-5].argmax(axis=0)
    assert len(set(loudest)) == 1
    assert lower <= loudest[0] <= upper


def test_a_sound_appears_at_its_time() -> None:
    """A click after half a second lights up the frames around number 50 and no others."""
    samples = np.zeros(16_000, np.int16)
    samples[8000] = 32767
    mel = log_mel(samples, 80, 100)
    lit = np.flatnonzero(mel.max(axis=0) > mel.min())
    assert 48 <= lit.min() <= 50 <= lit.max() <= 52


def test_samples_are_left_alone() -> None:
    """The caller's array is read, not written."""
    samples = noise(4000)
    before = samples.copy()
    samples.setflags(write=False)
    log_mel(samples, 80, 50)
    np.testing.assert_array_equal(samples, before)


def test_frame_rates_fit_whisper() -> None:
    """A hundred frames a second, three thousand in thirty seconds."""
    assert (FRAMES_PER_S, MAX_FRAMES, HOP * FRAMES_PER_S) == (100, 3000, SAMPLE_RATE_HZ)
