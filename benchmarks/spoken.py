"""Speech whose words have known times: synthesised by espeak-ng, or real with a forced alignment by pocketsphinx.

Both have to be installed: the first as a program with its library, the second as a Python package. Its model (mixtures
of Gaussians, with a dictionary) has nothing in common with Whisper's, which makes it an independent ruler.
"""

import ctypes
import importlib
import re
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import BenchmarkError
from benchmarks.wer_eval import read_samples
from tympan.domain import SAMPLE_RATE_HZ, Samples

_VOICE, _WORDS_PER_MIN = "en-us", 150
_FRAME = 160
_AUDIBLE_DB = -30.0
_WORD, _PHONEME = 1, 7
_PHONEME_EVENTS = 1
_TO_CALLER = 2
_RATE = 1
_UTF8 = 1
_LAST_EVENT = 0
_VARIANT = re.compile(r"\(\d+\)$")
_FRAMES_PER_S = 100.0
_BEAMS = (1e-48, 1e-60, 1e-80, 1e-100, 1e-130, 1e-160)
"""A narrow beam loses some sentences, a wide one overflows in others; they are tried in turn."""


@dataclass(frozen=True, slots=True)
class Said:
    """A word and when it is said, in seconds; whether it is the first or the last of its sentence."""

    text: str
    start_s: float
    end_s: float
    first: bool = False
    last: bool = False


@dataclass(frozen=True, slots=True)
class Marked:
    """Samples and the words in them."""

    samples: Samples
    words: tuple[Said, ...]


def joined(parts: Sequence[Marked], pauses_s: Sequence[float]) -> Marked:
    """Return sentences one after the other, each followed by so much silence."""
    pieces, words, at = list[Samples](), list[Said](), 0
    for part, pause_s in zip(parts, pauses_s, strict=True):
        by_s, ends = at / SAMPLE_RATE_HZ, (0, len(part.words) - 1)
        words += [
            replace(one, start_s=one.start_s + by_s, end_s=one.end_s + by_s, first=n == ends[0], last=n == ends[1])
            for n, one in enumerate(part.words)
        ]
        pieces += [part.samples, np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.int16)]
        at += len(pieces[-2]) + len(pieces[-1])
    return Marked(np.concatenate(pieces), tuple(words))


def write(path: Path, samples: Samples, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Write mono samples as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


# --------------------------------------------------------------------------------------------------------- word by word


def word_by_word(words: Sequence[str], gaps_s: Sequence[float]) -> Marked:
    """Return ``words`` spoken each on its own, without the silence around it, and joined with gaps between them."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = {word: _spoken(word, Path(folder) / "word.wav") for word in set(words)}
    parts = [Marked(spoken[word], (Said(word, 0.0, len(spoken[word]) / SAMPLE_RATE_HZ),)) for word in words]
    whole = joined(parts, [*gaps_s, 0.0])
    last = len(words) - 1
    marked = (replace(word, first=n == 0, last=n == last) for n, word in enumerate(whole.words))
    return Marked(whole.samples, tuple(marked))


def _spoken(word: str, path: Path) -> Samples:
    command = ["espeak-ng", "-v", _VOICE, "-s", str(_WORDS_PER_MIN), "-w", str(path), word]
    try:
        subprocess.run(command, check=True, timeout=60)
    except FileNotFoundError as error:
        raise BenchmarkError("Install espeak-ng: it speaks the words whose times are known.") from error
    samples: Samples = read_samples(path, dtype="int16")
    return samples[_first_audible(samples) : len(samples) - _first_audible(samples[::-1])]


def _first_audible(samples: Samples) -> int:
    """Return where the level of 10-ms frames first comes within 30 dB of the loudest, in samples."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float64)
    level = np.sqrt((frames**2).mean(axis=1))
    return int((level > level.max() * 10 ** (_AUDIBLE_DB / 20)).argmax()) * _FRAME


# ------------------------------------------------------------------------------------------------------------ sentences


class _Identity(ctypes.Union):
    """What an event is about (``espeak_EVENT.id``)."""

    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of espeak-ng's ``speak_lib.h``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    )


_Take = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Speaker:
    """espeak-ng's library, which tells where in the sound each word begins. One in a process, for one thread."""

    def __init__(self) -> None:
        """Load it. Raises ``BenchmarkError`` when it is not installed."""
        try:
            self._library: Any = ctypes.CDLL("libespeak-ng.so.1")
        except OSError as error:
            raise BenchmarkError("Install espeak-ng: it speaks the sentences whose times are known.") from error
        self._rate_hz = int(self._library.espeak_Initialize(_TO_CALLER, 0, None, _PHONEME_EVENTS))
        self._pieces: list[Samples] = []
        self._events: list[tuple[int, int, int, int, bytes]] = []
        self._take = _Take(self._taken)
        self._library.espeak_SetSynthCallback(self._take)
        self._library.espeak_SetVoiceByName(_VOICE.encode())
        self._library.espeak_SetParameter(_RATE, _WORDS_PER_MIN, 0)

    def say(self, words: Sequence[str]) -> Marked:
        """Return ``words`` as one sentence; a word ends where the next one or a pause begins."""
        self._pieces, self._events = [], []
        text = " ".join(words)
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sentence.wav"
            write(path, np.concatenate(self._pieces), self._rate_hz)
            samples: Samples = read_samples(path, dtype="int16")
        return Marked(samples, tuple(self._words(text, len(samples) / SAMPLE_RATE_HZ)))

    def _taken(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        place = 0
        while events[place].type != _LAST_EVENT:
            one = events[place]
            self._events.append((one.type, one.text_position - 1, one.length, one.sample, bytes(one.id.string)))
            place += 1
        return 0

    def _words(self, text: str, duration_s: float) -> Iterator[Said]:
        pauses = [at / self._rate_hz for kind, _, _, at, name in self._events if kind == _PHONEME and name[:1] == b"_"]
        said = [
            (text[at : at + size], sample / self._rate_hz)
            for kind, at, size, sample, _ in self._events
            if kind == _WORD
        ]
        for (word, start_s), (_, next_s) in pairwise([*said, ("", duration_s)]):
            yield Said(word, start_s, min([next_s, *(at_s for at_s in pauses if at_s > start_s)]))


# ---------------------------------------------------------------------------------------------------------- real speech


class Aligner:
    """pocketsphinx, told what is said and asked when."""

    def __init__(self) -> None:
        """Load its own English model. Raises ``BenchmarkError`` when the package is not installed."""
        try:
            package: Any = importlib.import_module("pocketsphinx")
        except ModuleNotFoundError as error:
            raise BenchmarkError(
                "Run pip install pocketsphinx: it tells when words of real speech are said."
            ) from error
        self._decoders = [
            package.Decoder(lm=None, loglevel="FATAL", beam=beam, wbeam=beam, pbeam=beam, maxhmmpf=-1)
            for beam in _BEAMS
        ]

    def aligned(self, samples: Samples, words: Sequence[str]) -> Marked | None:
        """Return when ``words`` are said; ``None`` when one is not in the dictionary, or they cannot be found."""
        if any(self._decoders[0].lookup_word(word) is None for word in words):
            return None
        for decoder in self._decoders:
            found = _found(decoder, samples, " ".join(words))
            if [word.text for word in found] == list(words):
                return Marked(samples, tuple(found))
        return None


def _found(decoder: Any, samples: Samples, text: str) -> list[Said]:
    """Return the words of ``text`` with their times, as far as the decoder came."""
    decoder.set_align_text(text)
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    try:
        decoder.end_utt()
    except RuntimeError:  # So it tells that the text did not fit within the beam.
        return []
    return [
        Said(_VARIANT.sub("", one.word), one.start_frame / _FRAMES_PER_S, (one.end_frame + 1) / _FRAMES_PER_S)
        for one in decoder.seg()
        if one.word[:1] not in "<["
    ]
