"""Good media of every kind comes out as 16 kHz mono samples, in bounded blocks."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import media
from tympan.audio.decode import Decoder
from tympan.domain import Samples
from tympan.errors import InvalidRequest, NotFound, NotStereo, TooLong, UnsupportedMedia


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """A running decoder."""
    with Decoder(max_children=4) as running:
        yield running


def decode(decoder: Decoder, path: Path, data: bytes, max_audio_s: float = 60.0) -> Samples:
    """Return the samples of ``data``."""
    path.write_bytes(data)
    return np.concatenate([np.zeros(0, np.int16), *decoder.stream(path, max_audio_s=max_audio_s)])


def pitch_hz(samples: Samples) -> float:
    """Return the strongest frequency."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4].astype(float)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(np.argmax(spectrum) * 16_000 / len(middle))


@pytest.mark.parametrize("name", media.RECIPES)
def test_every_format_decodes_to_its_tone(decoder: Decoder, tmp_path: Path, name: str) -> None:
    """Two seconds of a 440 Hz tone are two seconds of a 440 Hz tone, whatever they were wrapped in."""
    samples = decode(decoder, tmp_path / "in", media.sample(name))
    assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.06)
    assert pitch_hz(samples) == pytest.approx(440, abs=2)
    middle = samples[8_000:24_000].astype(float)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(16_384, rel=0.15)


@pytest.mark.parametrize("kind", ["u8", "s16", "s24", "s32", "f32", "f64"])
def test_every_sample_width_decodes(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    """The level is the same from 8-bit integers to 64-bit floats."""
    samples = decode(decoder, tmp_path / "in", media.wav(media.tone(1.0), 16_000, kind))
    assert len(samples) == 16_000
    assert pitch_hz(samples) == pytest.approx(440, abs=2)
    assert np.abs(samples).max() == pytest.approx(16_384, rel=0.02)


@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw", "adpcm_ms"])
def test_telephone_codings_decode(decoder: Decoder, tmp_path: Path, codec: str) -> None:
    """8-bit companded and 4-bit differential samples decode."""
    samples = decode(decoder, tmp_path / "in", media.encode(media.tone(1.0, 8_000), "wav", codec, 8_000))
    assert len(samples) / 16_000 == pytest.approx(1.0, abs=0.1)
    assert pitch_hz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_accepted_rate_is_resampled(decoder: Decoder, tmp_path: Path, rate_hz: int) -> None:
    """Pitch and length survive resampling from 8 to 192 kHz."""
    samples = decode(decoder, tmp_path / "in", media.wav(media.tone(1.0, rate_hz), rate_hz))
    assert len(samples) == pytest.approx(16_000, abs=20)
    assert pitch_hz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("channels", range(1, 9))
def test_every_channel_is_heard_equally(decoder: Decoder, tmp_path: Path, channels: int) -> None:
    """Speech in any one channel of up to eight comes through at the same level, the bass channel's too."""
    for speaking in range(channels):
        audio = np.zeros((8_000, channels))
        audio[:, speaking] = media.tone(0.5)[:, 0]
        samples = decode(decoder, tmp_path / "in", media.wav(audio, 16_000))
        assert np.abs(samples).max() == pytest.approx(16_384 / channels, rel=0.02)


@pytest.mark.parametrize("layout_channels", [6, 8])
def test_surround_layouts_are_mixed_like_any_other(decoder: Decoder, tmp_path: Path, layout_channels: int) -> None:
    """A named layout (5.1, 7.1) does not drop its bass channel."""
    audio = np.zeros((8_000, layout_channels))
    audio[:, 3] = media.tone(0.5, pitch_hz=100)[:, 0]
    samples = decode(decoder, tmp_path / "in", media.encode(audio, "flac", "flac", 16_000))
    assert np.abs(samples).max() == pytest.approx(16_384 / layout_channels, rel=0.02)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("kind", ["s16", "f32"])
def test_stereo_of_opposite_phase_is_heard(decoder: Decoder, tmp_path: Path, rate_hz: int, kind: str) -> None:
    """One channel upside down would be silence in the mean; one of them is heard instead."""
    audio = media.tone(1.0, rate_hz) * [1.0, -1.0]
    samples = decode(decoder, tmp_path / "in", media.wav(audio, rate_hz, kind))
    assert len(samples) == pytest.approx(16_000, abs=20)
    assert np.abs(samples[2_000:]).max() == pytest.approx(16_384, rel=0.02)
    assert pitch_hz(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_both_channels_come_out_when_asked(decoder: Decoder, tmp_path: Path, rate_hz: int) -> None:
    """Left and right keep their sounds, and their mean is what comes out mixed."""
    audio = np.hstack([media.tone(6.0, rate_hz, pitch_hz=300), 0.5 * media.tone(6.0, rate_hz, pitch_hz=700)])
    path = tmp_path / "in"
    path.write_bytes(media.wav(audio, rate_hz))
    blocks = list(decoder.stream_stereo(path, max_audio_s=60))
    assert all(0 < len(block) <= 40_000 for block in blocks)
    both = np.concatenate(blocks)
    assert both.shape == (pytest.approx(96_000, abs=20), 2)
    assert [round(pitch_hz(channel), -1) for channel in both.T] == [300, 700]
    mixed = np.concatenate(list(decoder.stream(path, max_audio_s=60)))
    np.testing.assert_allclose(mixed, both.astype(float).mean(axis=1), atol=0.51)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_without_two_channels_speakers_cannot_be_told_apart(decoder: Decoder, tmp_path: Path, channels: int) -> None:
    """The error counts the channels and names both ways out."""
    path = tmp_path / "in"
    path.write_bytes(media.wav(media.tone(1.0, channels=channels), 16_000))
    with pytest.raises(NotStereo, match=f"this one has {channels}") as caught:
        list(decoder.stream_stereo(path, max_audio_s=60))
    assert caught.value.remedy
    assert "diarize_by" in caught.value.remedy
    assert "one speaker on each channel" in caught.value.remedy


def test_two_channels_are_as_long_as_one(decoder: Decoder, tmp_path: Path) -> None:
    """The limit counts seconds, not samples of both channels."""
    path = tmp_path / "in"
    path.write_bytes(media.wav(media.tone(3.0, channels=2), 16_000))
    assert sum(len(block) for block in decoder.stream_stereo(path, max_audio_s=3.0)) == 48_000
    with pytest.raises(TooLong):
        list(decoder.stream_stereo(path, max_audio_s=2.9))


def test_rf64_decodes(decoder: Decoder, tmp_path: Path) -> None:
    """The 64-bit variant of WAV decodes."""
    data = media.encode(media.tone(1.0), "wav", "pcm_s16le", 16_000, {"rf64": "always"})
    assert data[:4] == b"RF64"
    assert len(decode(decoder, tmp_path / "in", data)) == 16_000


def test_film_gives_its_sound(decoder: Decoder, tmp_path: Path) -> None:
    """Of a video file only the sound is decoded."""
    for container in ("mp4", "matroska"):
        samples = decode(decoder, tmp_path / "in", media.video(2.0, audio=True, container=container))
        assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.06)
        assert pitch_hz(samples) == pytest.approx(440, abs=2)


def test_chained_streams_of_different_shape_are_joined(decoder: Decoder, tmp_path: Path) -> None:
    """Two AAC streams of different rates and channels, one after the other, are decoded whole."""
    first = media.encode(media.tone(1.0, 44_100), "adts", "aac", 44_100)
    second = media.encode(media.tone(1.0, 16_000, channels=2), "adts", "aac", 16_000)
    samples = decode(decoder, tmp_path / "in", first + second)
    assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.2)
    assert pitch_hz(samples[-14_000:]) == pytest.approx(440, abs=2)


def test_streams_that_appear_in_mid_file_do_no_harm(decoder: Decoder, tmp_path: Path) -> None:
    """A broadcast recording whose programme gains a video stream half-way is decoded."""
    data = media.sample("ts") + media.video(2.0, audio=True, container="mpegts")
    assert len(decode(decoder, tmp_path / "in", data)) / 16_000 == pytest.approx(4.0, abs=2.1)


def test_blocks_are_bounded_and_complete(decoder: Decoder, tmp_path: Path) -> None:
    """A clip of 23 s comes in blocks of at most 5 s, none empty, in order."""
    path = tmp_path / "in"
    ramp = np.linspace(-0.9, 0.9, 23 * 16_000)[:, None]
    path.write_bytes(media.wav(ramp, 16_000))
    blocks = list(decoder.stream(path, max_audio_s=60))
    assert all(0 < len(block) <= 80_000 for block in blocks)
    assert {block.dtype for block in blocks} == {np.dtype(np.int16)}
    whole = np.concatenate(blocks)
    assert len(whole) == 23 * 16_000
    assert np.all(np.diff(whole.astype(int)) >= 0)


def test_some_nan_samples_become_silence(decoder: Decoder, tmp_path: Path) -> None:
    """NaN and infinity in a float file do not spread to their neighbours."""
    audio = media.tone(1.0)
    audio[4_000:4_010] = np.nan
    audio[8_000:8_010] = np.inf
    samples = decode(decoder, tmp_path / "in", media.wav(audio, 16_000, "f32"))
    assert np.abs(samples).max() <= 16_500
    assert not samples[4_000:4_010].any()
    assert pitch_hz(samples) == pytest.approx(440, abs=2)


def test_missing_file_is_not_found(decoder: Decoder, tmp_path: Path) -> None:
    """A path that does not exist says so."""
    with pytest.raises(NotFound):
        list(decoder.stream(tmp_path / "absent", max_audio_s=60))


def test_folder_and_pipe_are_refused_without_waiting(decoder: Decoder, tmp_path: Path) -> None:
    """A directory or a named pipe is no media file, and nothing waits for one."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidRequest, match="regular file"):
            list(decoder.stream(path, max_audio_s=60))


def test_errors_name_what_the_file_looks_like(decoder: Decoder, tmp_path: Path) -> None:
    """Cause and remedy are text for the sender of the file."""
    with pytest.raises(UnsupportedMedia) as caught:
        decode(decoder, tmp_path / "in", b"PK\x03\x04" + bytes(1000))
    assert "ZIP archive" in caught.value.message
    assert caught.value.remedy
    assert caught.value.code == "unsupported_media"
