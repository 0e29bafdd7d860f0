"""A deterministic engine without a model, **for tests and demonstrations only**: its words are made up.

The text is a function of the samples and the decode parameters and of nothing else, so equal input gives equal text
alone or in a batch. Knobs, passed as strings in ``EngineSpec.options``, make it slow or make it fail in the ways real
engines fail:

=====================  ==============================================================================================
``ms_per_batch``       milliseconds each batch sleeps; likewise ``ms_per_window`` and ``ms_per_audio_s``
``language``           what it "detects" (default ``en``)
``never_ends``         ``1``: every window runs into the token cap
``mishears``           ``5``: every fifth word of a window is another one than without this knob
``fail_at``            numbers of the batches (from 1: ``2``, ``1-3``, ``2,5``) that raise ``fail_text``
``hang_at``            batches that hang inside a native call, holding the interpreter
``abort_at``           batches that abort the process; ``exit_at`` ends it without a word
``poison``             a sample value; a batch with a window containing it does ``poison_does``: ``raise`` (default),
                       ``abort`` or ``hang``
``max_windows``        larger batches run out of memory
``counter``            a file in which batches are counted across restarts of the process
``leak_mb``            mebibytes every batch keeps
``load_delay_s``       seconds a load takes; ``load_error`` raises this text instead, ``load_exit`` ends the process
``stuck_close``        ``1``: closing never returns
``gone``               a file; while it exists and the device is no CPU, batches and loads fail as without a GPU
=====================  ==============================================================================================
"""

import ctypes
import hashlib
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from tympan.domain import DecodeParams, TokenChance, WindowResult, WindowTask, Word
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.engine.knobs import Knobs
from tympan.errors import EngineError

TOKEN_CAP: Final = 224
"""No window gets more tokens than this, as in Whisper's decoder."""

_VOCABULARY: Final = (
    "river stone candle winter garden letter morning bridge silver window harbour meadow orange paper quiet thunder "
    "village yellow anchor basket copper dinner engine feather gentle hollow island jacket kettle ladder marble needle "
    "ocean pencil ribbon saddle timber umbrella velvet wagon acorn butter cotton desert eagle forest ginger hammer "
    "ivory jungle kitten lemon mirror north olive planet rabbit shadow ticket under valley whistle young zebra"
)
_WORDS: Final = tuple(_VOCABULARY.split())
_WORDS_PER_S: Final = 2.5
_QUIET_SAMPLE: Final = 8
_LOGPROB: Final = -0.2
_KNOBS: Final = (
    "ms_per_batch ms_per_window ms_per_audio_s language never_ends mishears fail_at fail_text hang_at abort_at exit_at "
    "poison poison_does max_windows counter leak_mb load_delay_s load_error load_exit stuck_close gone"
)


def create(spec: EngineSpec) -> "FakeEngine":
    """Return a fake engine as ``spec.options`` describe it; ``ConfigError`` for an unknown knob."""
    return FakeEngine(spec)


class FakeEngine:
    """An engine whose words come from a hash of the audio. For tests and demonstrations."""

    def __init__(self, spec: EngineSpec) -> None:
        """Read the knobs, and take as long or fail as they say."""
        self._knobs = Knobs(spec, _KNOBS).said
        self._info = EngineInfo(
            engine="fake",
            model=spec.model,
            revision=spec.revision or "fake",
            device=spec.device,
            compute_type="none",
            threads=1,
            languages=("en", "de", "es", "fr"),
            multilingual=True,
        )
        self._device = spec.device
        self._batches = 0
        self._leaked: list[bytes] = []
        self._load()

    @property
    def info(self) -> EngineInfo:
        """A description that says ``fake``."""
        return self._info

    def transcribe(self, batch: Sequence[WindowTask]) -> list[WindowResult]:
        """Return made-up words for each window, after the delays and faults that were asked for."""
        number = self._count()
        self._misbehave(number, batch)
        time.sleep(self._delay_s(batch))
        if leak_mb := int(self._knobs.get("leak_mb", "0")):
            self._leaked.append(os.urandom(1) * (leak_mb << 20))
        return [self._hear(task) for task in batch]

    def close(self) -> None:
        """Return at once, or never with ``stuck_close``."""
        if self._knobs.get("stuck_close") == "1":
            _hang()

    def _load(self) -> None:
        time.sleep(float(self._knobs.get("load_delay_s", "0")))
        if "load_exit" in self._knobs:
            os._exit(int(self._knobs["load_exit"]))
        self._look_for_device()
        if "load_error" in self._knobs:
            raise EngineError(self._knobs["load_error"])

    def _count(self) -> int:
        self._batches += 1
        if path := self._knobs.get("counter"):
            # One byte per batch: an append survives the crash that may follow it.
            with Path(path).open("ab") as file:
                file.write(b".")
            return Path(path).stat().st_size
        return self._batches

    def _look_for_device(self) -> None:
        if (path := self._knobs.get("gone")) and self._device != "cpu" and Path(path).exists():
            raise EngineError("CUDA failed with error no CUDA-capable device is detected")

    def _misbehave(self, number: int, batch: Sequence[WindowTask]) -> None:
        self._look_for_device()
        if len(batch) > int(self._knobs.get("max_windows", "1000000")):
            raise EngineError("CUDA failed with error out of memory")
        for knob, fault in (("hang_at", "hang"), ("abort_at", "abort"), ("exit_at", "exit"), ("fail_at", "raise")):
            if number in _numbers(self._knobs, knob):
                self._fail(fault)
        if (poison := self._knobs.get("poison")) and any(np.any(t.window.samples == int(poison)) for t in batch):
            self._fail(self._knobs.get("poison_does", "raise"))

    def _fail(self, fault: str) -> NoReturn:
        if fault == "hang":
            _hang()
        if fault == "abort":
            os.abort()
        if fault == "exit":
            os._exit(7)
        raise EngineError(self._knobs.get("fail_text", "The fake engine was told to fail."))

    def _delay_s(self, batch: Sequence[WindowTask]) -> float:
        audio_s = sum(task.window.duration_s for task in batch)
        ms = float(self._knobs.get("ms_per_batch", "0")) + len(batch) * float(self._knobs.get("ms_per_window", "0"))
        return (ms + audio_s * float(self._knobs.get("ms_per_audio_s", "0"))) / 1000.0

    def _hear(self, task: WindowTask) -> WindowResult:
        endless = self._knobs.get("never_ends") == "1"
        words = _misheard(_words(task, endless=endless), int(self._knobs.get("mishears", "0")))
        # As in Whisper, each word carries the space before it, so that windows can be joined.
        text = "".join(f" {word}" for word in words)
        hears, allowed = self._knobs.get("language", "en"), task.params.languages
        language = task.params.language or (hears if not allowed or hears in allowed else allowed[0])
        detected = task.params.language is None
        return WindowResult(
            text=text,
            tokens=tuple(_WORDS.index(word) for word in words),
            language=language,
            language_probabilities=((language, 0.9), ("de" if language != "de" else "en", 0.06)) if detected else (),
            avg_logprob=_LOGPROB,
            no_speech_prob=0.02 if words else 0.95,
            compression_ratio=len(text) / len(zlib.compress(text.encode())) if words else 0.0,
            temperature=task.params.temperature,
            full_context=task.params.full_context,
            hit_token_cap=endless,
            words=_timed(words, task.window.duration_s) if task.params.align else (),
            token_chances=tuple(TokenChance(tuple(f" {word}".encode()), _LOGPROB) for word in words)
            if task.params.token_chances
            else (),
        )


def _words(task: WindowTask, *, endless: bool) -> list[str]:
    samples = task.window.samples
    if not len(samples) or int(np.abs(samples.astype(np.int32)).max()) < _QUIET_SAMPLE:
        return []
    if endless:
        return [_WORDS[0]] * TOKEN_CAP
    count = min(TOKEN_CAP, max(1, round(task.window.duration_s * _WORDS_PER_S)))
    seed = hashlib.blake2b(_fingerprint(task.params) + np.ascontiguousarray(samples).tobytes()).digest()
    stream = hashlib.shake_128(seed).digest(count)
    return [_WORDS[byte % len(_WORDS)] for byte in stream]


def _misheard(words: Sequence[str], every: int) -> list[str]:
    """Return ``words`` with every one in ``every`` taken for its neighbour in the vocabulary; 0 takes none."""
    return [
        _WORDS[(_WORDS.index(word) + 1) % len(_WORDS)] if every and number % every == 0 else word
        for number, word in enumerate(words, 1)
    ]


def _fingerprint(params: DecodeParams) -> bytes:
    """Return everything that may change the text; alignment adds times only."""
    return repr(
        (
            params.task.value,
            params.language,
            params.prompt,
            params.hotwords,
            params.beam_size,
            params.best_of,
            params.temperature,
            params.full_context,
        )
    ).encode()


def _timed(words: Sequence[str], duration_s: float) -> tuple[Word, ...]:
    step_s = duration_s / max(1, len(words))
    return tuple(Word(f" {word}", i * step_s, (i + 1) * step_s, 0.9) for i, word in enumerate(words))


def _numbers(knobs: Mapping[str, str], knob: str) -> set[int]:
    numbers: set[int] = set()
    for part in knobs.get(knob, "").split(","):
        first, _, last = part.partition("-")
        if first:
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def _hang() -> NoReturn:
    """Block inside libc with the interpreter lock held, as a deadlocked native runtime would."""
    while True:
        ctypes.PyDLL(None).pause()
