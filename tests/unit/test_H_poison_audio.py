"""Poison audio: too little, broken off, or not sound at all. A valid prefix or a typed error, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import media
from tympan.audio.decode import Decoder
from tympan.errors import (
    CorruptMedia,
    EmptyAudio,
    MediaCrash,
    MediaError,
    MediaTimeout,
    NoAudioStream,
    UnsupportedMedia,
)

TRUNCATED = ("wav", "aiff", "caf", "flac", "mp3", "opus", "m4a", "mov", "webm", "mkv", "aac", "wv")
"""The twelve formats that are cut short."""


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """A running decoder."""
    with Decoder(max_children=4) as running:
        yield running


def length_s(decoder: Decoder, path: Path, data: bytes) -> float:
    """Return the seconds decoded from ``data``."""
    path.write_bytes(data)
    return sum(len(block) for block in decoder.stream(path, max_audio_s=600)) / 16_000


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("0 bytes", b"", EmptyAudio),
        ("1 byte", b"R", UnsupportedMedia),
        ("RIFF only", b"RIFF\0\0\0\0WAVE", CorruptMedia),
        ("header only", media.wav_header(0, 16_000, 1, 16), EmptyAudio),
        ("mp3 header only", media.sample("mp3")[:200], MediaError),
        ("flac header only", media.sample("flac")[:42], MediaError),
        ("10 ms", media.wav(media.tone(0.01), 16_000), EmptyAudio),
        ("all NaN, 32 bit", media.wav(np.full((16_000, 1), np.nan), 16_000, "f32"), CorruptMedia),
        ("all infinite, 64 bit", media.wav(np.full((16_000, 2), np.inf), 16_000, "f64"), CorruptMedia),
        ("no audio stream", media.matroska(media.ebml("1654AE6B")), MediaError),
        ("video only", media.video(1.0, audio=False), NoAudioStream),
        ("video only, Matroska", media.video(1.0, audio=False, container="matroska"), NoAudioStream),
        ("text", b"hello world\n" * 100, UnsupportedMedia),
        ("random", np.random.default_rng(7).bytes(50_000), MediaError),
        ("zeros", bytes(50_000), MediaError),
    ],
)
def test_H1_nothing_to_hear_is_a_typed_error(
    decoder: Decoder, tmp_path: Path, name: str, data: bytes, error: type[MediaError]
) -> None:
    """Files without usable sound are refused for the right reason, with a text for their sender."""
    with pytest.raises(error) as caught:
        length_s(decoder, tmp_path / "in", data)
    assert not isinstance(caught.value, (MediaCrash, MediaTimeout))
    assert caught.value.message.endswith(".")


def test_H1_twenty_milliseconds_are_enough(decoder: Decoder, tmp_path: Path) -> None:
    """The shortest clip accepted is 20 ms."""
    assert length_s(decoder, tmp_path / "in", media.wav(media.tone(0.02), 16_000)) == 0.02


def check_truncations(decoder: Decoder, path: Path, data: bytes, seconds: float, cuts: range) -> int:
    """Decode ``data`` cut at every one of ``cuts``; return how many were decodable in part."""
    partial = 0
    for cut in cuts:
        try:
            found_s = length_s(decoder, path, data[:cut])
        except (MediaCrash, MediaTimeout):
            raise
        except MediaError:
            continue
        assert 0 < found_s <= seconds + 0.1
        partial += 1
    return partial


@pytest.mark.parametrize("name", TRUNCATED)
def test_H4_truncated_files_give_their_prefix_or_an_error(decoder: Decoder, tmp_path: Path, name: str) -> None:
    """A file cut anywhere gives what is before the cut, or a media error; never a crash, never a hang."""
    data = media.sample(name, seconds=2.0)
    partial = check_truncations(decoder, tmp_path / "in", data, 2.0, range(1, len(data), len(data) // 8))
    if name not in ("m4a", "mov"):  # their index comes last
        assert partial >= 4


@pytest.mark.long
@pytest.mark.parametrize("name", TRUNCATED)
def test_H4_truncated_at_every_kilobyte(decoder: Decoder, tmp_path: Path, name: str) -> None:
    """Cut at every 1000 bytes, more than 170 times per format: the same."""
    container, codec, rate_hz = media.RECIPES[name]
    noise = np.random.default_rng(3).normal(0, 0.2, (30 * rate_hz, 1)).clip(-1, 1)
    data = media.encode(noise, container, codec, rate_hz)[:180_000]
    assert len(data) >= 170_000
    check_truncations(decoder, tmp_path / "in", data, 30.0, range(1000, len(data), 1000))


@pytest.mark.parametrize("name", ["flac", "mp3", "opus", "aac"])
def test_H4_damage_in_the_middle_loses_little(decoder: Decoder, tmp_path: Path, name: str) -> None:
    """Bytes overwritten in the middle of a stream cost a moment of it, not what follows."""
    data = media.sample(name, seconds=10.0)
    middle = len(data) // 2
    damaged = media.patched(data, middle, b"\xa5" * 300)
    assert length_s(decoder, tmp_path / "in", damaged) == pytest.approx(10.0, abs=1.5)
