"""What is transcribed: the speech that comes with Tympan, cut to any length, or the user's own recordings."""

import hashlib
import json
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from tympan.bench.facts import file_digest
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import InvalidRequest
from tympan.languages import language_code

SUFFIXES = frozenset({".aac", ".aiff", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm"})
"""Files of a folder without a manifest that are taken for recordings."""

MAX_RECORDINGS = 10_000
"""More in one folder are refused: somebody named the wrong folder."""

MAX_LENGTH_S = 14_400.0

_HERE = Path(__file__).parent
_SPEECH, _SENTENCES = _HERE / "speech.opus", _HERE / "speech.json"


@dataclass(frozen=True, slots=True)
class Recording:
    """One file: how long it is, and what is said in which language, as far as somebody wrote it down."""

    path: Path
    duration_s: float
    language: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class AudioSet:
    """What one row of figures is about: a single recording, or the recordings of a folder taken together."""

    name: str
    recordings: tuple[Recording, ...]

    @property
    def duration_s(self) -> float:
        """Seconds of all recordings together."""
        return sum(recording.duration_s for recording in self.recordings)

    @property
    def has_reference(self) -> bool:
        """Whether word errors can be counted on any of it."""
        return any(recording.reference is not None for recording in self.recordings)

    def digest(self) -> str:
        """Return a short digest of the files and of what should be heard. Raises ``InvalidRequest``."""
        try:
            parts = [f"{file_digest(r.path)} {r.language} {r.reference}" for r in self.recordings]
        except OSError as error:
            raise InvalidRequest(f"A recording of {self.name} cannot be read: {error.strerror}.") from error
        return str(hash_of(parts))


@dataclass(frozen=True, slots=True)
class Decode:
    """Reads whole files through ``stream``, a decoder's; what it raises are ``MediaError`` and its kin."""

    stream: Callable[..., Iterator[Samples]]
    max_audio_s: float

    def __call__(self, path: Path) -> Samples:
        """Return a file's samples, 16 kHz mono."""
        return np.concatenate([np.zeros(0, np.int16), *self._blocks(path)])

    def seconds(self, path: Path) -> float:
        """Return how long a file is, without keeping it in memory."""
        return sum(len(block) for block in self._blocks(path)) / SAMPLE_RATE_HZ

    def _blocks(self, path: Path) -> Iterator[Samples]:
        return self.stream(path, max_audio_s=self.max_audio_s)


def hash_of(value: object) -> str:
    """Return a short digest of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def made(lengths_s: Iterable[float], folder: Path, decode: Decode) -> list[AudioSet]:
    """Write one WAV file of each length, in seconds, from the speech that comes with Tympan, and return them.

    Whole sentences are repeated in their order while they fit; the rest is silence. So every word is in the reference.
    """
    facts = json.loads(_SENTENCES.read_text(encoding="utf-8"))
    samples = decode(_SPEECH)
    return [_made(length_s, folder, samples, facts) for length_s in lengths_s]


def _made(length_s: float, folder: Path, samples: Samples, facts: Mapping[str, Any]) -> AudioSet:
    check_length(length_s)
    total, used = round(length_s * SAMPLE_RATE_HZ), 0
    parts, words = [], []
    for sentence in cycle(facts["sentences"]):
        part = samples[_sample(sentence["start_s"]) : _sample(sentence["end_s"]) + SAMPLE_RATE_HZ // 4]
        if used + len(part) > total:
            break
        parts.append(part)
        words.append(sentence["text"])
        used += len(part)
    parts.append(np.zeros(total - used, np.int16))
    name = f"speech-{length_s:g}s"
    path = write_wav(folder / f"{name}.wav", np.concatenate(parts))
    return AudioSet(name, (Recording(path, length_s, facts["language"], " ".join(words)),))


def sentences(folder: Path, decode: Decode) -> list[Recording]:
    """Write each sentence of the speech that comes with Tympan as a WAV file and return them."""
    facts = json.loads(_SENTENCES.read_text(encoding="utf-8"))
    samples, found = decode(_SPEECH), []
    for number, sentence in enumerate(facts["sentences"]):
        part = samples[_sample(sentence["start_s"]) : _sample(sentence["end_s"])]
        path = write_wav(folder / f"sentence-{number:02}.wav", part)
        found.append(Recording(path, len(part) / SAMPLE_RATE_HZ, facts["language"], sentence["text"]))
    return found


def _sample(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


def check_length(length_s: float) -> None:
    """Raise ``InvalidRequest`` unless audio of ``length_s`` seconds can be made."""
    if not 4.0 <= length_s <= MAX_LENGTH_S:
        raise InvalidRequest(f"Audio of {length_s:g} s cannot be made.", remedy="Choose 4 to 14400 seconds.")


def given(paths: Sequence[Path], decode: Decode) -> list[AudioSet]:
    """Return the recordings at ``paths``: a file by itself, the files of a folder taken together.

    What is said stands beside a file in one with the suffix ``.txt``, or in the folder's ``manifest.jsonl``: one JSON
    object a line with ``audio`` and, where known, ``reference``, ``language`` and ``duration_s``. Raises
    ``InvalidRequest`` for what is not there, and what decoding raises.
    """
    return [_given(path, decode) for path in paths]


def _given(path: Path, decode: Decode) -> AudioSet:
    if path.is_file():
        return AudioSet(path.name, (_single(path, decode),))
    if not path.is_dir():
        raise InvalidRequest(f"There is no {path}.", remedy="Name audio files, or folders that hold some.")
    manifest = path / "manifest.jsonl"
    rows = _manifest(manifest) if manifest.is_file() else _listed(path)
    recordings = tuple(_recording(path, row, decode) for row in rows)
    if not recordings:
        raise InvalidRequest(f"There is no audio in {path}.", remedy="Name a folder that holds audio files.")
    return AudioSet(path.resolve().name, recordings)


def _single(path: Path, decode: Decode) -> Recording:
    sidecar = path.with_suffix(".txt")
    reference = sidecar.read_text(encoding="utf-8").strip() if sidecar.is_file() else None
    return Recording(path, decode.seconds(path), None, reference)


def _listed(folder: Path) -> list[dict[str, Any]]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    _check_number(folder, len(found))
    return [{"audio": path.name} for path in found]


def _manifest(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"{path}, line {number} is not JSON.", remedy="Write one object a line.") from error
        if not isinstance(row, dict) or not isinstance(row.get("audio"), str):
            raise InvalidRequest(f"{path}, line {number} names no audio.", remedy='Write {"audio": "file.wav"}.')
        rows.append(row)
    _check_number(path, len(rows))
    return rows


def _check_number(path: Path, number: int) -> None:
    if number > MAX_RECORDINGS:
        raise InvalidRequest(f"{path} has {number} recordings.", remedy=f"Name one with at most {MAX_RECORDINGS}.")


def _recording(folder: Path, row: Mapping[str, Any], decode: Decode) -> Recording:
    path = folder / row["audio"]
    if not path.is_file():
        raise InvalidRequest(f"There is no {path}.", remedy=f"Correct {folder / 'manifest.jsonl'}.")
    plain = _single(path, decode) if "duration_s" not in row else None
    spoken = row.get("language")
    return Recording(
        path,
        plain.duration_s if plain else float(row["duration_s"]),
        language_code(str(spoken)) if spoken not in (None, "", "none") else None,
        row.get("reference", plain.reference if plain else None),
    )


def resized(sets: Sequence[AudioSet], lengths_s: Iterable[float], folder: Path, decode: Decode) -> list[AudioSet]:
    """Join the recordings of ``sets`` in turn to audio of each length, in seconds, written as WAV files.

    The last one is cut where the length is reached, so only a length that ends with a recording has a reference.
    """
    recordings = [recording for group in sets for recording in group.recordings]
    return [_resized(recordings, length_s, folder, decode) for length_s in lengths_s]


def _resized(recordings: Sequence[Recording], length_s: float, folder: Path, decode: Decode) -> AudioSet:
    check_length(length_s)
    name = f"joined-{length_s:g}s"
    path, taken, total = folder / f"{name}.wav", list[Recording](), round(length_s * SAMPLE_RATE_HZ)
    used = whole = 0
    with _wav(path) as file:
        for recording in cycle(recordings):
            samples = decode(recording.path)
            if not len(samples):
                raise InvalidRequest(f"{recording.path} holds no sound.")
            part = samples[: total - used]
            file.writeframes(part.tobytes())
            used, whole = used + len(part), whole + (len(part) == len(samples))
            taken.append(recording)
            if used == total:
                break
    known = whole == len(taken) and all(recording.reference is not None for recording in taken)
    reference = " ".join(str(recording.reference) for recording in taken) if known else None
    spoken = {recording.language for recording in taken}
    return AudioSet(name, (Recording(path, length_s, spoken.pop() if len(spoken) == 1 else None, reference),))


def write_wav(path: Path, samples: Samples) -> Path:
    """Write 16-bit mono samples at 16 kHz as a WAV file and return its path."""
    with _wav(path) as file:
        file.writeframes(samples.tobytes())
    return path


def _wav(path: Path) -> wave.Wave_write:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = wave.open(str(path), "wb")  # noqa: SIM115 (returned to a with block)
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(SAMPLE_RATE_HZ)
    return file
