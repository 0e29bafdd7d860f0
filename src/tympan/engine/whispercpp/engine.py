"""The engine: windows dealt out to threads, each from samples to text on whisper.cpp."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tympan.domain import Abilities, DecodeParams, Ranking, Task, WindowResult, WindowTask, Word
from tympan.engine import layouts
from tympan.engine.alignment import word_times
from tympan.engine.asking import (
    DECODER_POSITIONS,
    REPORTED_LANGUAGES,
    Answer,
    Decoded,
    given_languages,
    in_order,
    task_cap,
    window_result,
)
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.engine.failures import translated
from tympan.engine.ggml.blocks import FILE_TYPES
from tympan.engine.ggml.check import checked, is_multilingual
from tympan.engine.knobs import Knobs
from tympan.engine.machine import probe_machine
from tympan.engine.pauses import lead_s, settled
from tympan.engine.splice import FRAMES_PER_POSITION, MAX_POSITIONS, POSITIONS_PER_S, Splice
from tympan.engine.tokens import Vocabulary
from tympan.engine.whispercpp.beams import Rules
from tympan.engine.whispercpp.heads import KNOWN_HEADS, alignment
from tympan.engine.whispercpp.silent import barred
from tympan.engine.whispercpp.spelling import ByteSpelling
from tympan.engine.whispercpp.turns import marked, turns_after
from tympan.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from tympan.engine.whispercpp.filters import Token
    from tympan.engine.whispercpp.library import Ask, Said

_TURNS = "tdrz"
"""In the names of models that tinydiarize made."""

_DEVICES = {"cuda": "cuda", "metal": "metal", "mtl": "metal", "vulkan": "vulkan"}
"""What the library calls its devices, without their numbers."""

_SHORTEST_SAMPLES = 8000
"""Half a second: the library answers less than a tenth with nothing at all."""

_TRIAL_TOKENS, _TRIAL_POSITIONS = 3, 64
_MAX_THREADS = 16
_FULL_SCALE = np.float32(32768)


def create(spec: EngineSpec) -> "WhisperCppEngine":
    """Return a loaded engine for the folder with a ggml file in ``spec``."""
    # Waiting threads give their processor up at once: on a machine with other work, spinning made a call ten times
    # as long. It has to be said before the library is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return WhisperCppEngine(spec)
    except ModuleNotFoundError as error:
        if error.name != "_pywhispercpp":
            raise
        raise ConfigError(
            "The engine whispercpp needs the package pywhispercpp.",
            remedy="Install Tympan with the extra: pip install 'tympan[whispercpp]'.",
        ) from error


class WhisperCppEngine:
    """A Whisper model on whisper.cpp.

    ``options`` of the spec: ``splice`` (``on``, ``off``) and ``margin_s``: whether the encoder sees a short window and
    so much silence only; ``words`` (``on``, ``off``): off takes the quicker attention, which gives no times of words;
    ``beams`` (``kept``, ``drawn``): drawn takes the library's own search, which is quicker and finds less.
    """

    def __init__(self, spec: EngineSpec) -> None:
        """Load the model in ``spec.path``. Raises ``ModelError``, ``ConfigError`` or ``EngineError``."""
        from tympan.engine.whispercpp import library  # noqa: PLC0415 - the library reads the environment when loaded

        self._library = library
        path = _weights(Path(spec.path))
        header = checked(path)
        knobs = Knobs(spec, "splice margin_s words beams")
        self._splice = Splice.of(knobs)
        self._threads = min(spec.threads or probe_machine().cores, _MAX_THREADS)
        device = _device(spec.device, library.gpu_devices())
        self._hands = self._threads if device == "cpu" else 1
        timed = knobs.is_on("words", default=True)
        preset, heads = alignment(path.parent, header.sizes) if timed else (0, ())
        self._lead_s = lead_s(heads or KNOWN_HEADS.get(preset, ()))
        self._model = library.CppModel(path, library.Setup(device != "cpu", spec.device_index, preset, heads))
        # Damaged weights show now, before anybody waits for a text.
        trial = library.Ask(self._threads, _TRIAL_TOKENS, positions=_TRIAL_POSITIONS)
        self._model.try_out(np.zeros(_SHORTEST_SAMPLES, np.float32), trial)
        multilingual = is_multilingual(header.sizes)
        spelling = ByteSpelling(header.words, self._model.special_tokens())
        self._vocabulary = Vocabulary(spelling, multilingual=multilingual)
        drawn = knobs.choice("beams", "kept", "drawn") == "drawn"
        self._barred = None if drawn else barred(self._vocabulary, self._model.n_vocab)
        self._likely = "en"
        self._pool = ThreadPoolExecutor(self._hands, thread_name_prefix="hand")
        self.info = EngineInfo(
            engine="whispercpp",
            model=spec.model,
            revision=spec.revision,
            device=device,
            compute_type=FILE_TYPES.get(header.file_type, "unknown"),
            threads=self._threads,
            languages=tuple(sorted(self._vocabulary.languages)) or ("en",),
            multilingual=multilingual,
            # Models with speaker turns are built like any other: their name is all that tells.
            can=Abilities(
                word_times=timed, narrowing=False, suppression=False, speaker_turns=_TURNS in path.name.lower()
            ),
        )

    def transcribe(self, batch: Sequence[WindowTask]) -> list[WindowResult]:
        """Return one result per task, in order. See ``Engine``.

        Several windows are heard side by side on a thread each, a single one on all threads.
        """
        hands = max(1, min(self._hands, len(batch)))
        threads = max(1, self._threads // hands)
        longest_first = sorted(range(len(batch)), key=lambda i: -len(batch[i].window.samples))
        with translated("whisper.cpp"):
            results = list(self._pool.map(lambda i: self._heard(batch[i], threads), longest_first))
        return in_order([longest_first], [results]) if batch else []

    def close(self) -> None:
        """Stop the threads and free the model."""
        self._pool.shutdown(wait=True)
        self._model.close()

    def _heard(self, task: WindowTask, threads: int) -> WindowResult:
        given = given_languages(self._vocabulary, [task])
        if given is not None:
            return self._result(
                task, given[0], self._model.hear(_audio(task), self._ask(task, given[0][0][0], threads))
            )
        # What was heard before is a good guess, which decides how long this takes and never on the text.
        guess = self._likely
        said = self._model.hear(_audio(task), self._ask(task, guess, threads))
        languages = self._ranking(said)
        self._likely = languages[0][0]
        if languages[0][0] != guess and not task.params.language_only:
            said = self._model.hear(_audio(task), self._ask(task, languages[0][0], threads))
        return self._result(task, languages, said)

    def _ask(self, task: WindowTask, language: str, threads: int) -> "Ask":
        params = task.params
        whole = self._vocabulary.prompt(language, params.task, params.prompt, params.hotwords)
        prompt = self._vocabulary.previous_text(params.prompt, params.hotwords)
        cap = min(DECODER_POSITIONS - len(whole), task_cap(task))
        positions = self._splice.frames(task.window.samples, full_context=params.full_context) // FRAMES_PER_POSITION
        return self._library.Ask(
            threads=threads,
            cap=cap,
            language=language,
            translate=params.task is Task.TRANSLATE,
            prompt=tuple(prompt),
            beam_size=min(params.beam_size, self._library.MAX_DECODERS),
            best_of=min(params.best_of, self._library.MAX_DECODERS),
            temperature=params.temperature,
            positions=0 if positions >= MAX_POSITIONS else positions,
            turns=params.speaker_turns,
            search=self._rules(params, cap),
            lead=tuple(whole),
        )

    def _rules(self, params: DecodeParams, cap: int) -> Rules | None:
        allowed = self._barred
        if allowed is None or params.beam_size == 1 or params.temperature > 0:
            return None
        if params.speaker_turns:
            allowed = allowed.copy()
            allowed[self._model.turn] = 0.0
        return Rules(params.beam_size, cap, self._vocabulary.end, allowed)

    def _ranking(self, said: "Said") -> Ranking:
        tokens = self._vocabulary.languages
        chances = {code: float(said.opening[token]) for code, token in tokens.items()}
        total = sum(chances.values())
        likeliest = sorted(chances, key=lambda code: -chances[code])[:REPORTED_LANGUAGES]
        return tuple((code, chances[code] / total) for code in likeliest)

    def _result(self, task: WindowTask, languages: Ranking, said: "Said") -> WindowResult:
        ended = bool(said.tokens) and said.tokens[-1].id == self._vocabulary.end
        text = [token for token in said.tokens if token.id < self._vocabulary.end]
        decoded = Decoded(
            tokens=[token.id for token in text],
            avg_logprob=sum(token.logprob for token in said.tokens) / (len(text) + 1),
            no_speech_prob=float(said.opening[self._vocabulary.no_speech]),
            hit_cap=bool(said.tokens) and not ended,
            logprobs=[token.logprob for token in text],
        )
        words = self._words(task, languages[0][0], text) if task.params.align else ()
        positions = self._splice.frames(task.window.samples, full_context=task.params.full_context)
        whole = positions >= MAX_POSITIONS * FRAMES_PER_POSITION
        result = window_result(self._vocabulary, task, Answer(languages, decoded, whole, words))
        turns = turns_after([token.id for token in said.tokens], self._model.turn, self._vocabulary.end)
        return marked(result, turns, self._vocabulary.decode)

    def _words(self, task: WindowTask, language: str, text: Sequence["Token"]) -> tuple[Word, ...]:
        """Return times of words: a token's own time is when it ends, which is when the next one begins."""
        if not text or text[0].at_s < 0:
            return ()
        begins = [0.0, *(token.at_s for token in text[:-1])]
        steps = np.maximum.accumulate([round(max(0.0, begin_s) * POSITIONS_PER_S) for begin_s in begins])
        words = self._vocabulary.words([token.id for token in text], language)
        chances = [token.probability for token in text]
        found = word_times(words, list(enumerate(int(step) for step in steps)), chances, task.window.duration_s)
        return settled(found, task.window.samples, self._lead_s)


def _audio(task: WindowTask) -> NDArray[np.float32]:
    samples = task.window.samples
    audio = np.zeros(max(len(samples), _SHORTEST_SAMPLES), np.float32)
    np.divide(samples, _FULL_SCALE, out=audio[: len(samples)])
    return audio


def _weights(folder: Path) -> Path:
    found = layouts.look(folder)
    if found.layout is not layouts.GGML or found.missing or found.weights is None:
        raise ModelError(f"The folder {folder} holds no ggml model.", remedy=layouts.GGML.remedy)
    return found.weights


def _device(asked: str, found: Sequence[str]) -> str:
    """Return what to run on: as ``asked``, for ``auto`` the first device that the library found.

    Raises ``ConfigError`` when it found none of the kind asked for: it would take the CPU without a word.
    """
    kinds = [_DEVICES.get(name.rstrip("0123456789").lower(), name.lower()) for name in found]
    if asked == "auto":
        return kinds[0] if kinds else "cpu"
    if asked != "cpu" and asked not in kinds:
        raise ConfigError(
            f"whisper.cpp cannot use {asked} here: it finds {', '.join(found) or 'the CPU alone'}.",
            param="device",
            remedy="Set DEVICE=cpu, or build pywhispercpp for the device and look at its driver: see "
            "docs/howto/use-whisper-cpp.md.",
        )
    return asked
