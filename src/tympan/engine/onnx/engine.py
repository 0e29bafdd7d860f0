"""The engine: encoded windows, grouped by memory, through languages, prompts and search to results."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tympan.domain import Ranking, Samples, Suppression, WindowResult, WindowTask, Word
from tympan.engine.alignment import word_times
from tympan.engine.asking import (
    Answer,
    given_languages,
    in_order,
    narrowed,
    prompts_and_caps,
    suppressed,
    window_result,
)
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.engine.failures import translated
from tympan.engine.features import log_mel
from tympan.engine.knobs import Knobs
from tympan.engine.machine import probe_machine
from tympan.engine.onnx.decoder import LARGE_POSITIONS, Int8Decoder, Marks, Masks
from tympan.engine.onnx.decoder_graph import vocabulary_size
from tympan.engine.onnx.dimensions import Dimensions, supported
from tympan.engine.onnx.encoder_graph import encoder_graph, mel_bands
from tympan.engine.onnx.memory import Heard
from tympan.engine.onnx.runtime import Crew, Session, trim
from tympan.engine.onnx.search import BeamSearch, Sampling, Search
from tympan.engine.onnx.weights import Weights
from tympan.engine.pauses import lead_s, settled
from tympan.engine.splice import FRAMES_PER_POSITION, MAX_POSITIONS, Encoded, Splice, speech_positions
from tympan.engine.tokens import Vocabulary
from tympan.errors import ModelError

GROUP_BYTES = 64 << 20
"""Memory for what one group of windows attends to; a single window may take more."""

_MAX_THREADS = 8
_MULTILINGUAL_TOKENS = 51865
"""English-only models have one token less (CTranslate2 tells them apart in the same way)."""

_EXACT_INT8 = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
_TYPICAL_TOKENS_PER_S = 6.0


def create(spec: EngineSpec) -> "OnnxEngine":
    """Return a loaded engine for the model directory in ``spec``."""
    return OnnxEngine(spec)


class OnnxEngine:
    """A Whisper model in int8 on processors.

    ``options`` of the spec: ``splice`` (``on``, ``off``) and ``margin_s``, see ``Splice``; ``deterministic`` changes
    nothing, because it always is.
    """

    def __init__(self, spec: EngineSpec) -> None:
        """Load the converted model in ``spec.path``. Raises ``ModelError`` for one that the graphs do not describe."""
        knobs = Knobs(spec, "splice margin_s deterministic")
        knobs.is_on("deterministic", default=True)
        folder = Path(spec.path)
        weights = Weights(folder / "model.bin")
        if not supported(weights):
            raise ModelError(
                f"The model {spec.model!r} is not built like Whisper.", remedy="Serve it with TYMPAN_ENGINE=ct2."
            )
        self._threads = min(spec.threads or probe_machine().cores, _MAX_THREADS)
        self._splice = Splice.of(knobs)
        self._n_mels = mel_bands(weights)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._vocabulary = Vocabulary(
            folder / "tokenizer.json", multilingual=vocabulary_size(weights) >= _MULTILINGUAL_TOKENS
        )
        signed = not _saturates()
        self._encoder = Crew(encoder_graph(weights, signed=signed), self._threads)
        nothing = np.zeros(0, dtype=np.int16)
        [silence] = self._encoder.map(self._encoded, [(nothing, MAX_POSITIONS * FRAMES_PER_POSITION)])
        marks = _marks(config, self._vocabulary, Dimensions.of(weights, "decoder"))
        self._lead_s = lead_s(marks.alignment_heads)
        self._decoder = Int8Decoder(weights, marks, silence, threads=self._threads, signed=signed)
        del silence
        weights.let_go()
        self._decoder.give_back()
        self.info = EngineInfo(
            engine="onnx",
            model=spec.model,
            revision=spec.revision,
            device="cpu",
            compute_type="int8",
            threads=self._threads,
            languages=tuple(sorted(self._vocabulary.languages)) or ("en",),
            multilingual=self._vocabulary.multilingual,
        )

    def transcribe(self, batch: Sequence[WindowTask]) -> list[WindowResult]:
        """Return one result per task, in order. See ``Engine``."""
        with translated("The engine"):
            groups = self._groups(batch)
            parts = []
            for group in groups:
                parts.append(self._read([batch[i] for i in group]))
                if self._is_large(batch[group[0]]):
                    trim()
        return in_order(groups, parts)

    def close(self) -> None:
        """End the threads; the rest goes with the process."""
        self._encoder.close()
        self._decoder.close()

    def _is_large(self, task: WindowTask) -> bool:
        return self._frames(task) > LARGE_POSITIONS * FRAMES_PER_POSITION

    def _frames(self, task: WindowTask) -> int:
        return self._splice.frames(task.window.samples, full_context=task.params.full_context)

    def _encoded(self, encoder: Session, given: tuple[Samples, int]) -> Encoded:
        samples, n_frames = given
        encoded: Encoded = encoder.outputs(mel=log_mel(samples, self._n_mels, n_frames)[None])[0]
        return encoded

    def _groups(self, tasks: Sequence[WindowTask]) -> list[list[int]]:
        """Return task numbers in groups that fit in memory, alike in length and even: both save time."""
        order = sorted(range(len(tasks)), key=lambda i: -self._frames(tasks[i]))
        sizes = {i: self._size(tasks[i]) for i in order}
        count = max(1, -(-sum(sizes.values()) // GROUP_BYTES))
        while True:
            groups = _even(order, sizes, count)
            if count >= len(order) or all(sum(sizes[i] for i in group) <= GROUP_BYTES for group in groups):
                return groups
            count += 1

    def _size(self, task: WindowTask) -> int:
        positions = self._frames(task) // FRAMES_PER_POSITION
        return self._decoder.window_bytes(positions, _width(task), int(task.window.duration_s * _TYPICAL_TOKENS_PER_S))

    def _read(self, tasks: Sequence[WindowTask]) -> list[WindowResult]:
        # Groups come in order of length, longest first, which is what makes side by side end at about one time.
        given = [(task.window.samples, self._frames(task)) for task in tasks]
        large = self._is_large(tasks[0])
        encoded = self._encoder.map(self._encoded, given, large=large)
        whole = [len(one) >= MAX_POSITIONS for one in encoded]
        if large:
            self._decoder.give_back()
        heard = self._decoder.listen(encoded)
        del encoded  # 3 MB a window, and decoding takes the most memory of all.
        if large:
            self._decoder.give_back()
        languages = given_languages(self._vocabulary, tasks) or self._detect(heard, tasks)
        prompts, caps = prompts_and_caps(self._vocabulary, tasks, languages)
        searches = [self._search(task, cap) for task, cap in zip(tasks, caps, strict=True)]
        words: list[tuple[Word, ...]] = [()] * len(tasks)

        def align(window: int, heard: Heard, place: int) -> None:
            task, said = tasks[window], searches[window].result(0.0).tokens
            words[window] = self._words(heard, place, task, (languages[window][0][0], said))

        decoded = self._decoder.generate(heard, prompts, searches, align, self._masks(tasks[0].params.suppression))
        answers = map(Answer, languages, decoded, whole, words)
        return [window_result(self._vocabulary, task, answer) for task, answer in zip(tasks, answers, strict=True)]

    def _detect(self, heard: Heard, tasks: Sequence[WindowTask]) -> list[Ranking]:
        names = {token: name for name, token in self._vocabulary.languages.items()}
        found = self._decoder.languages(heard)
        return [
            narrowed(tuple((names[token], chance) for token, chance in row), task.params.languages)
            for row, task in zip(found, tasks, strict=True)
        ]

    def _masks(self, asked: Suppression) -> Masks | None:
        """Return what the tasks' caller does not want written, ``None`` for the model's own choice."""
        if asked == Suppression():
            return None
        return self._decoder.masks(suppressed(self._vocabulary, asked), blank=asked.blank)

    def _search(self, task: WindowTask, cap: int) -> Search:
        width, temperature = _width(task), task.params.temperature
        end = self._vocabulary.end
        return Sampling(width, cap, end, temperature) if temperature else BeamSearch(width, cap, end)

    def _words(self, heard: Heard, place: int, task: WindowTask, said: tuple[str, Sequence[int]]) -> tuple[Word, ...]:
        """Return word times relative to the window; empty when not asked for or nothing was said.

        ``said`` is the language and the tokens of the text; the window is heard at ``place``.
        """
        language, tokens = said[0], self._vocabulary.text_tokens(said[1])
        if not task.params.align or not tokens:
            return ()
        duration_s = task.window.duration_s
        lead = self._vocabulary.prompt(language, task.params.task, None, None)
        path, chances = self._decoder.align(heard.alone(place), speech_positions(duration_s), lead, tokens)
        words = word_times(self._vocabulary.words(tokens, language), path, chances, duration_s)
        return settled(words, task.window.samples, self._lead_s)


def _even(order: Sequence[int], sizes: Mapping[int, int], count: int) -> list[list[int]]:
    """Return ``order`` cut into at most ``count`` groups of about the same size."""
    groups: list[list[int]] = [[] for _ in range(count)]
    target = sum(sizes.values()) / count
    used = 0
    for i in order:
        groups[min(count - 1, int(used / target))].append(i)
        used += sizes[i]
    return [group for group in groups if group]


def _width(task: WindowTask) -> int:
    return task.params.best_of if task.params.temperature else task.params.beam_size


def _marks(config: dict[str, Any], vocabulary: Vocabulary, size: Dimensions) -> Marks:
    later_half = [(layer, head) for layer in range(size.layers // 2, size.layers) for head in range(size.heads)]
    return Marks(
        start=vocabulary.start,
        end=vocabulary.end,
        no_speech=vocabulary.no_speech,
        languages=tuple(vocabulary.languages.values()),
        suppressed=frozenset(config.get("suppress_ids", ())),
        suppressed_first=frozenset(config.get("suppress_ids_begin", ())),
        alignment_heads=tuple((layer, head) for layer, head in config.get("alignment_heads") or later_half),
    )


def _saturates() -> bool:
    """Tell whether products of int8 numbers may overflow here: on x86 without the instructions made for them."""
    x86 = platform.machine().lower() in {"x86_64", "amd64", "i686"}
    return x86 and not _EXACT_INT8 & set(probe_machine().cpu_flags)
