"""How speech came in: signal to noise, what is cut off at the top, how high it reaches, what kind of file it is."""

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tympan.audio.condition import FAMILIES, MAX_FRAMES, ConditionMeter, family, media_facts
from tympan.audio.decode import Decoder
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.observation import Condition, MediaFacts


def voice(seconds: float = 5.0, top_hz: float = 7_500.0, seed: int = 1) -> Samples:
    """Return noise up to ``top_hz`` in syllables with pauses, in which next to nothing is."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[np.fft.rfftfreq(n, 1 / SAMPLE_RATE_HZ) > top_hz] = 0
    sound = np.fft.irfft(spectrum, n)
    syllables = (np.arange(n) // (SAMPLE_RATE_HZ // 5)) % 3 > 0
    return whole(3_000 * sound * syllables + rng.standard_normal(n))


def whole(values: NDArray[np.floating]) -> Samples:
    """Return values as samples."""
    return np.clip(np.round(values), -32_768, 32_767).astype(np.int16)


def condition(samples: Samples) -> Condition:
    """Return how one window came in."""
    meter = ConditionMeter()
    meter.hear(samples)
    return meter.condition()


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 30.0])
def test_the_ratio_of_signal_to_noise_is_told_to_some_decibels(snr_db: float) -> None:
    """White noise that is added shows as what it is against the loud parts, whatever the level."""
    clean = voice()
    loud = clean[np.abs(clean) > 500].astype(float)
    noise = np.random.default_rng(2).standard_normal(len(clean)) * np.sqrt(np.mean(loud**2) / 10 ** (snr_db / 10))
    for gain in (1.0, 0.2):
        found = condition(whole((clean + noise) * gain)).snr_db
        assert found is not None
        assert found == pytest.approx(snr_db, abs=4.0)


def test_what_is_clean_is_far_above_its_noise() -> None:
    """Without added noise it is more than any of those."""
    found = condition(voice()).snr_db
    assert found is not None
    assert found > 45.0


@pytest.mark.parametrize("top_hz", [3_400.0, 4_000.0, 5_500.0, 7_000.0])
def test_bandwidth_is_where_sound_ends_whatever_the_sample_rate_says(top_hz: float) -> None:
    """Telephone speech at 16,000 samples a second is telephone speech, also when it is faint."""
    for gain in (1.0, 0.1):
        found = condition(whole(voice(top_hz=top_hz) * gain)).bandwidth_hz
        assert found is not None
        assert top_hz - 250 <= found <= top_hz + 750


def test_clipping_is_told_also_when_the_level_was_lowered_afterwards() -> None:
    """It is the share of samples at the top, wherever the top is."""
    sound = voice().astype(float)
    clean, cut = condition(whole(sound)).clipped, np.clip(sound * 6, -15_000, 15_000)
    assert clean is not None
    assert clean < 0.001
    for gain in (1.0, 0.3):
        found = condition(whole(cut * gain)).clipped
        assert found is not None
        assert found > 0.02


@pytest.mark.parametrize(
    "samples",
    [np.zeros(0, np.int16), np.zeros(100, np.int16), np.zeros(80_000, np.int16), np.full(80_000, -32_768, np.int16)],
    ids=["nothing", "a moment", "silence", "a constant"],
)
def test_of_what_holds_no_sound_nothing_is_told(samples: Samples) -> None:
    """Digital silence has no noise, and one level all along is no sound."""
    assert condition(samples) == Condition()


def test_the_whole_range_of_samples_can_be_heard() -> None:
    """The loudest square wave there is gives finite figures."""
    square = np.where(np.arange(80_000) // 40 % 2, 32_767, -32_768).astype(np.int16)
    found = condition(square)
    figures = [found.snr_db, found.clipped, found.bandwidth_hz]
    assert all(figure is not None and np.isfinite(figure) for figure in figures)


def test_pauses_that_hold_nothing_are_no_reason_for_praise() -> None:
    """Silence that a program has put in between says nothing about the noise in the speech."""
    noisy = voice().astype(float) + 300 * np.random.default_rng(3).standard_normal(len(voice()))
    padded = np.concatenate([whole(noisy), np.zeros(SAMPLE_RATE_HZ * 5, np.int16)])
    found, alone = condition(padded).snr_db, condition(whole(noisy)).snr_db
    assert found is not None
    assert found == pytest.approx(alone, abs=3.0)


def test_ten_hours_cost_no_more_than_some_minutes() -> None:
    """After enough windows no more are looked at."""
    meter, window = ConditionMeter(), voice(28.0)
    for _ in range(1_300):
        meter.hear(window)
    assert sum(map(len, meter._bands)) == MAX_FRAMES
    assert meter.condition().snr_db is not None


def test_codecs_are_counted_by_family_and_there_are_few() -> None:
    """Whatever a library calls its decoders."""
    names = {"pcm_s16le": "pcm", "pcm_mulaw": "g711", "pcm_alaw": "g711", "mp3float": "mp3", "libopus": "opus",
             "opus": "opus", "aac_latm": "aac", "amrnb": "amr", "libopencore_amrwb": "amr", "adpcm_ms": "adpcm",
             "wmav2": "wma", "gsm_ms": "gsm", "eac3": "ac3", "mpc8": "musepack", "x" * 10_000: "other"}  # fmt: skip
    assert {name: family(name) for name in names} == names
    assert set(names.values()) <= set(FAMILIES)


@pytest.mark.parametrize("lie", [None, -1, 0, 10**30, 3.5, "16000", True, float("nan"), [1]])
def test_what_a_decoder_says_of_a_file_is_believed_within_bounds(lie: object) -> None:
    """The child that decodes is as untrusted as the file."""
    assert media_facts("flac", lie, lie) == MediaFacts("flac")
    assert media_facts(lie if not isinstance(lie, str) else None, 16_000, 1) == MediaFacts(None, 16_000, 1)


def test_the_decoder_tells_what_kind_of_file_it_was(tmp_path: Path) -> None:
    """Codec, own sample rate and channels, once everything is decoded."""
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(22_050)
        out.writeframes(struct.pack("<h", 7) * 22_050)
    with Decoder() as decoder:
        blocks = decoder.stream(path, max_audio_s=10.0)
        heard = 0
        while True:
            try:
                heard += len(next(blocks))
            except StopIteration as end:
                facts = end.value
                break
    assert heard == pytest.approx(SAMPLE_RATE_HZ / 2, abs=50)
    assert facts == MediaFacts("pcm", 22_050, 2)
