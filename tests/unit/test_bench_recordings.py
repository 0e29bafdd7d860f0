"""What is transcribed: made lengths, files and folders of the user's, and what is wrong with them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tympan.audio.decode import Decoder
from tympan.bench.recordings import Decode, given, made, resized, sentences, write_wav
from tympan.domain import SAMPLE_RATE_HZ
from tympan.errors import InvalidRequest, MediaError


@pytest.fixture(scope="module")
def decode() -> Iterator[Decode]:
    """Return what reads a whole file through the sandboxed decoder."""
    with Decoder() as decoder:
        yield Decode(decoder.stream, 1_000.0)


def _noise(path: Path, seconds: float, seed: int = 1) -> Path:
    drawn = np.random.default_rng(seed).integers(-999, 999, round(seconds * SAMPLE_RATE_HZ))
    return write_wav(path, drawn.astype(np.int16))


def test_made_audio_has_its_length_and_every_word_in_its_reference(tmp_path: Path, decode: Decode) -> None:
    """Lengths are exact; a longer one has more sentences, and repeats them when they run out."""
    short, long = made((5.0, 120.0), tmp_path, decode)
    for group, seconds in ((short, 5.0), (long, 120.0)):
        assert group.duration_s == seconds
        assert len(decode(group.recordings[0].path)) == seconds * SAMPLE_RATE_HZ
    assert short.recordings[0].reference == "The first train of the morning left the station a few minutes late."
    assert long.recordings[0].language == "en"
    assert str(long.recordings[0].reference).count("The first train") == 3


def test_sentences_are_recordings_of_their_own(tmp_path: Path, decode: Decode) -> None:
    """Fourteen files of three to five seconds, each with its own words, none of them silent."""
    found = sentences(tmp_path, decode)
    assert len({recording.reference for recording in found}) == 14
    assert all(3.0 < recording.duration_s < 5.0 for recording in found)
    assert all(np.abs(decode(recording.path)).max() > 3_000 for recording in found)


@pytest.mark.parametrize("length_s", [0.0, 1.0, 1e6, float("nan")])
def test_lengths_that_cannot_be_made_are_refused(length_s: float, tmp_path: Path, decode: Decode) -> None:
    """Too short for a sentence, or longer than the longest audio."""
    with pytest.raises(InvalidRequest, match="cannot be made"):
        made((length_s,), tmp_path, decode)


def test_a_file_brings_its_text_from_beside_it(tmp_path: Path, decode: Decode) -> None:
    """``talk.txt`` is the reference of ``talk.wav``; without one there is none."""
    path = _noise(tmp_path / "talk.wav", 1.5)
    assert given([path], decode)[0].has_reference is False
    path.with_suffix(".txt").write_text("Hello there.\n", encoding="utf-8")
    group = given([path], decode)[0]
    assert (group.name, group.duration_s, group.recordings[0].reference) == ("talk.wav", 1.5, "Hello there.")


def test_a_folder_is_one_set(tmp_path: Path, decode: Decode) -> None:
    """Audio files of a folder are taken together, in the order of their names; other files are not audio."""
    _noise(tmp_path / "b.wav", 1.0)
    _noise(tmp_path / "a.wav", 2.0)
    (tmp_path / "notes.md").write_text("no audio", encoding="utf-8")
    (group,) = given([tmp_path], decode)
    assert [recording.path.name for recording in group.recordings] == ["a.wav", "b.wav"]
    assert group.duration_s == 3.0


def test_a_manifest_says_what_is_known(tmp_path: Path, decode: Decode) -> None:
    """Language, reference and length come from the manifest; a missing length is measured."""
    _noise(tmp_path / "a.wav", 1.0)
    rows = [{"audio": "a.wav", "reference": "one", "language": "German"}, {"audio": "a.wav", "duration_s": 9}]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    first, second = given([tmp_path], decode)[0].recordings
    assert (first.duration_s, first.language, first.reference) == (1.0, "de", "one")
    assert (second.duration_s, second.language, second.reference) == (9.0, None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [("nonsense", "not JSON"), ("[1]", "names no audio"), ('{"audio": "gone.wav"}', "There is no")],
)
def test_a_wrong_manifest_is_told_by_line(line: str, words: str, tmp_path: Path, decode: Decode) -> None:
    """Whatever is wrong, the message says where."""
    (tmp_path / "manifest.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=words):
        given([tmp_path], decode)


def test_what_is_not_there_is_refused(tmp_path: Path, decode: Decode) -> None:
    """A missing path, an empty folder and a file that is no audio have their own errors."""
    with pytest.raises(InvalidRequest, match="There is no"):
        given([tmp_path / "gone"], decode)
    with pytest.raises(InvalidRequest, match="no audio in"):
        given([tmp_path], decode)
    (tmp_path / "a.wav").write_bytes(b"not audio at all")
    with pytest.raises(MediaError):
        given([tmp_path / "a.wav"], decode)


def test_own_recordings_are_joined_to_a_length(tmp_path: Path, decode: Decode) -> None:
    """Recordings follow one another; there is a reference only if the last one was not cut."""
    for name, text in (("a", "one"), ("b", "two")):
        _noise(tmp_path / f"{name}.wav", 2.0).with_suffix(".txt").write_text(text, encoding="utf-8")
    sets = given([tmp_path / "a.wav", tmp_path / "b.wav"], decode)
    whole, cut = resized(sets, (6.0, 5.0), tmp_path / "out", decode)
    assert (whole.duration_s, whole.recordings[0].reference) == (6.0, "one two one")
    assert (cut.duration_s, cut.recordings[0].reference) == (5.0, None)
    samples = decode(whole.recordings[0].path)
    assert np.array_equal(samples[: 2 * SAMPLE_RATE_HZ], samples[4 * SAMPLE_RATE_HZ :])


def test_another_file_or_text_is_another_set(tmp_path: Path, decode: Decode) -> None:
    """The digest follows the bytes and the references, so that figures of others are not taken for these."""
    path = _noise(tmp_path / "a.wav", 1.0)
    digests = {given([path], decode)[0].digest()}
    path.with_suffix(".txt").write_text("text", encoding="utf-8")
    digests.add(given([path], decode)[0].digest())
    _noise(path, 1.0, seed=2)
    digests.add(given([path], decode)[0].digest())
    assert len(digests) == 3
