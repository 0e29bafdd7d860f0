"""Whisper on CTranslate2, with silence-tail splice. The only importer of ``ctranslate2``."""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from tympan.domain import DecodeParams, Ranking, Samples, WindowResult, WindowTask, Word
from tympan.engine.alignment import word_times
from tympan.engine.asking import (
    Answer,
    Decoded,
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
from tympan.engine.pauses import Heads, lead_s, settled
from tympan.engine.splice import FRAMES_PER_POSITION, MAX_POSITIONS, Encoded, Splice, speech_positions, with_tail
from tympan.engine.tokens import Vocabulary

_MAX_REPLICAS = 4
_LEAST = 1e-30
_NAME = "CTranslate2"


def create(spec: EngineSpec) -> "CTranslate2Engine":
    """Return a loaded engine for the model directory in ``spec``."""
    return CTranslate2Engine(spec)


def _replicas(spec: EngineSpec) -> int:
    """Return how many copies of the decoder loop share the weights; a GPU runs one batch at a time."""
    return min(spec.threads or 1, _MAX_REPLICAS) if spec.device == "cpu" else 1


class CTranslate2Engine:
    """A Whisper model on one device.

    On a CPU the model runs as several single-threaded replicas that share weights: a decoder step is too small to
    divide, so a batch is dealt out to replicas and each takes its part from samples to text.

    ``options`` of the spec: ``replicas``; ``splice`` and ``margin_s``, see ``Splice``; with ``deterministic`` (``on``)
    every window is a batch of its own and nothing is drawn, see ``_search``.
    """

    def __init__(self, spec: EngineSpec) -> None:
        """Load the model in ``spec.path``. Raises ``ConfigError``, and ``EngineError`` when the runtime refuses it."""
        knobs = Knobs(spec, "splice margin_s replicas deterministic")
        self._replicas = knobs.count("replicas") or _replicas(spec)
        self._deterministic = knobs.is_on("deterministic", default=False)
        with translated(_NAME, RuntimeError):
            self._model = ctranslate2.models.Whisper(
                spec.path,
                device=spec.device,
                device_index=spec.device_index,
                compute_type=spec.compute_type,
                inter_threads=self._replicas,
                intra_threads=max(1, spec.threads // self._replicas) if spec.threads else 0,
            )
        multilingual = bool(self._model.is_multilingual)
        self._vocabulary = Vocabulary(Path(spec.path) / "tokenizer.json", multilingual=multilingual)
        self._splice = Splice.of(knobs)
        self._lead_s = lead_s(_heads(Path(spec.path) / "config.json"))
        self._pool = ThreadPoolExecutor(self._replicas, thread_name_prefix="replica")
        self._silence = self._encode_one(np.zeros(0, dtype=np.int16), MAX_POSITIONS * 2)
        self.info = EngineInfo(
            engine="ctranslate2",
            model=spec.model,
            revision=spec.revision,
            device=self._model.device,
            compute_type=self._model.compute_type,
            threads=spec.threads,
            languages=tuple(sorted(self._vocabulary.languages)) or ("en",),
            multilingual=multilingual,
        )

    def transcribe(self, batch: Sequence[WindowTask]) -> list[WindowResult]:
        """Return one result per task, in order. See ``Engine``."""
        groups = _deal(batch, len(batch) if self._deterministic else self._replicas)
        answers = list(self._pool.map(self._guarded, [[batch[i] for i in group] for group in groups]))
        return in_order(groups, answers)

    def close(self) -> None:
        """Stop the replica threads. The model itself goes with the process."""
        self._pool.shutdown(wait=True)

    def _guarded(self, tasks: Sequence[WindowTask]) -> list[WindowResult]:
        with translated(_NAME, RuntimeError):
            return self._run(tasks)

    def _run(self, tasks: Sequence[WindowTask]) -> list[WindowResult]:
        encoded = np.stack([self._encode(task) for task in tasks])
        features = _storage(encoded)
        languages = given_languages(self._vocabulary, tasks) or self._detect(features, tasks)
        decoded = self._generate(features, tasks, languages)
        heard = self._align(features, tasks, languages, decoded)
        return [
            self._result(task, names, best, found)
            for task, names, (best, found) in zip(tasks, languages, heard, strict=True)
        ]

    def _encode(self, task: WindowTask) -> Encoded:
        samples = task.window.samples
        frames = self._splice.frames(samples, full_context=task.params.full_context)
        return with_tail(self._encode_one(samples, frames), self._silence)

    def _encode_one(self, samples: Samples, n_frames: int) -> Encoded:
        mel = log_mel(samples, self._model.n_mels, n_frames)
        output = self._model.encode(_storage(mel[None]), to_cpu=True)
        encoded: Encoded = np.array(output)[0]
        return encoded

    def _detect(self, features: ctranslate2.StorageView, tasks: Sequence[WindowTask]) -> list[Ranking]:
        found = self._model.detect_language(features)
        return [
            narrowed(tuple((token.strip("<|>"), float(p)) for token, p in names), task.params.languages)
            for names, task in zip(found, tasks, strict=True)
        ]

    def _generate(
        self, features: ctranslate2.StorageView, tasks: Sequence[WindowTask], languages: Sequence[Ranking]
    ) -> list[Decoded]:
        prompts, caps = prompts_and_caps(self._vocabulary, tasks, languages)
        cap, asked = max(caps), tasks[0].params.suppression
        outputs = self._model.generate(
            features,
            prompts,
            max_length=max(2 * cap, cap + len(prompts[0])),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=asked.blank,
            suppress_tokens=[-1, *sorted(suppressed(self._vocabulary, asked))],
            **_search(tasks[0].params, deterministic=self._deterministic),
        )
        return [_best(output, cap) for output, cap in zip(outputs, caps, strict=True)]

    def _align(
        self,
        features: ctranslate2.StorageView,
        tasks: Sequence[WindowTask],
        languages: Sequence[Ranking],
        decoded: Sequence[Decoded],
    ) -> list[tuple[Decoded, tuple[Word, ...]]]:
        """Return, per task, its text with what each token's chance is, and its words with times in the window.

        What was not asked for is not looked for; nor is there anything where nothing was said.
        """
        encoded = np.array(features) if any(_is_read_again(task) for task in tasks) else ()
        found: list[tuple[Decoded, tuple[Word, ...]]] = []
        for i, (task, names, best) in enumerate(zip(tasks, languages, decoded, strict=True)):
            said = replace(best, tokens=self._vocabulary.text_tokens(best.tokens))
            again = _is_read_again(task) and bool(said.tokens)
            found.append(self._align_one(encoded[i], task, names[0][0], said) if again else (said, ()))
        return found

    def _align_one(
        self, encoded: Encoded, task: WindowTask, language: str, said: Decoded
    ) -> tuple[Decoded, tuple[Word, ...]]:
        """Look for the words in the speech alone, since silence attracts the last; the decoder hears both."""
        duration_s = task.window.duration_s
        frames = speech_positions(duration_s) * FRAMES_PER_POSITION
        start = self._vocabulary.start_sequence(language, task.params.task)
        answer = self._model.align(_storage(encoded[None]), start, [said.tokens], frames)[0]
        rated = replace(said, logprobs=[math.log(max(chance, _LEAST)) for chance in answer.text_token_probs])
        if not task.params.align:
            return rated, ()
        words = self._vocabulary.words(said.tokens, language)
        found = word_times(words, answer.alignments, answer.text_token_probs, duration_s)
        return rated, settled(found, task.window.samples, self._lead_s)

    def _result(self, task: WindowTask, languages: Ranking, best: Decoded, words: tuple[Word, ...]) -> WindowResult:
        whole = self._splice.frames(task.window.samples, full_context=task.params.full_context) >= MAX_POSITIONS * 2
        return window_result(self._vocabulary, task, Answer(languages, best, whole, words))


def _is_read_again(task: WindowTask) -> bool:
    """Return whether the text has to be looked for in the speech: its search keeps no chances of single tokens."""
    return task.params.align or task.params.token_chances


def _heads(config: Path) -> Heads:
    """Return the attention heads that the runtime takes times of words from, none where the model does not say."""
    named = json.loads(config.read_text(encoding="utf-8")).get("alignment_heads") or ()
    return tuple((int(layer), int(head)) for layer, head in named)


def _storage(array: "np.ndarray[Any, Any]") -> ctranslate2.StorageView:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _search(params: DecodeParams, *, deterministic: bool) -> dict[str, Any]:
    """Return how to search: beams at temperature 0, samples above it (Whisper's own scheme).

    The runtime's dice cannot be thrown the same way twice: each of its threads has its own. A ``deterministic`` search
    goes other ways as it gets warmer by making words that were said already less likely, which breaks loops as dice do.
    """
    if params.temperature > 0.0 and deterministic:
        return {"beam_size": params.best_of, "repetition_penalty": 1.0 + params.temperature / 2.0}
    if params.temperature > 0.0:
        return {
            "beam_size": 1,
            "num_hypotheses": params.best_of,
            "sampling_topk": 0,
            "sampling_temperature": params.temperature,
        }
    return {"beam_size": params.beam_size}


def _best(output: Any, cap: int) -> Decoded:
    """Return the likeliest text, cut at the window's own cap: the batch ran to the cap of its longest window."""
    scores = list(output.scores)
    pick = max(range(len(scores)), key=scores.__getitem__)
    tokens = list(output.sequences_ids[pick])
    # A score is the mean over the text's tokens; Whisper's average counts the end token too.
    average = scores[pick] * len(tokens) / (len(tokens) + 1)
    return Decoded(tokens[:cap], float(average), float(output.no_speech_prob), len(tokens) >= cap)


def _deal(batch: Sequence[WindowTask], hands: int) -> list[list[int]]:
    """Deal task numbers to at most ``hands`` groups, longest first and in turn, so that all end at about one time.

    The batch is done when the last group is: a group of long windows would keep the other cores waiting.
    """
    order = sorted(range(len(batch)), key=lambda i: -len(batch[i].window.samples))
    return [group for group in (order[hand::hands] for hand in range(hands)) if group]
