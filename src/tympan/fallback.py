"""When is a window's text not good enough, and what to try next: pure.

The signs are Whisper's own (Radford et al. 2022, section 4.5): text that compresses too well is a loop, a low mean
log-probability is a guess, a high no-speech probability with a low log-probability is silence. Two more come from
batching: text that filled its token cap, and a phrase said over and over. Two come from a shortened context: one phrase
said twice, and far too little text. The last weighs them all: text that more likely than not nobody said, see
``tympan.confidence``. The first remedy is the full 30-s context; then rising temperature.
"""

from collections.abc import Sequence
from dataclasses import replace

from tympan.confidence.repetition import is_said_twice, repeats
from tympan.confidence.score import SUSPICIOUS, Evidence, hallucination_score
from tympan.domain import Abilities, DecodeParams, Options, Window, WindowResult

TEMPERATURE_STEP = 0.2
MAX_TEMPERATURE = 1.0

SURE_WHEN_SPLICED = -0.3
"""Mean log-probability under which other languages than English are decoded again at full context.

Tried on eight languages with the base model, see ``docs/decisions/``; English is held to Whisper's own limit alone.
"""

QUIET_PEAK = 0.2
"""Highest VAD score of a window in which nobody seems to speak; text over it has to be surer than usual."""

SURE_WHEN_QUIET = -0.4
"""Mean log-probability that text over such a window needs. Most of what noise and music makes up is below."""

SPARSE_TOKENS_PER_S = 1.2
"""Below this, text is too short for what was spoken. The slowest of 93 long windows of reading had 2.1, one whose text
broke off at a shortened context 0.7."""

_SPARSE_FROM_S = 5.0


def within(options: Options, can: Abilities) -> Options:
    """Return ``options`` without the steps of the ladder that the model does not have."""
    return options if can.temperatures else replace(options, temperature_fallback=False)


def first_attempt(options: Options, language: str | None) -> DecodeParams:
    """Return how a window is decoded first."""
    return DecodeParams(
        task=options.task,
        language=language,
        prompt=options.prompt,
        hotwords=options.hotwords,
        beam_size=options.beam_size,
        best_of=options.best_of,
        temperature=options.temperature,
        align=options.timestamps != "none" or options.diarize,
        languages=options.languages,
        suppression=options.suppression,
        speaker_turns=options.speaker_turns,
        token_chances=options.token_chances,
    )


def next_attempt(window: Window, last: DecodeParams, result: WindowResult, options: Options) -> DecodeParams | None:
    """Return how to decode the window again, or ``None`` when ``result`` is good or nothing is left to try."""
    if is_silence(window, result, options) and (result.full_context or not _is_sure_loop(result, options)):
        return None
    doubtful = is_doubtful(result, options) or is_suspicious(window, result, options)
    if not result.full_context and (doubtful or _is_unsure_when_spliced(window, result, options)):
        return replace(last, full_context=True, language=result.language)
    if not doubtful:
        return None
    if not options.temperature_fallback or last.temperature + TEMPERATURE_STEP > MAX_TEMPERATURE + 1e-6:
        return None
    warmer = round(last.temperature + TEMPERATURE_STEP, 3)
    return replace(last, full_context=True, language=result.language, temperature=warmer)


def _is_unsure_when_spliced(window: Window, result: WindowResult, options: Options) -> bool:
    unsure = result.language != "en" and bool(result.tokens) and result.avg_logprob < SURE_WHEN_SPLICED
    return unsure or _is_spoiled(window, result, options)


def is_doubtful(result: WindowResult, options: Options) -> bool:
    """Tell whether the text looks like a loop or a guess."""
    return is_loop(result, options) or result.avg_logprob < options.logprob_threshold


def is_suspicious(window: Window, result: WindowResult, options: Options) -> bool:
    """Tell whether the text was more likely made up than said; what counts as a loop is the caller's choice."""
    evidence = replace(Evidence.of(window, result), is_loop=is_loop(result, options))
    return hallucination_score(evidence) > SUSPICIOUS


def is_loop(result: WindowResult, options: Options) -> bool:
    """Tell whether the text repeats itself or never came to its end."""
    return (
        result.hit_token_cap or result.compression_ratio > options.compression_ratio_threshold or repeats(result.tokens)
    )


def is_silence(window: Window, result: WindowResult, options: Options) -> bool:
    """Tell whether nobody spoke: by the model's own word, or by VAD's where the text is unsure or a loop."""
    unsure = result.avg_logprob < SURE_WHEN_QUIET or is_loop(result, options)
    if window.speech_peak < QUIET_PEAK and unsure:
        return True
    return result.no_speech_prob > options.no_speech_threshold and result.avg_logprob < options.logprob_threshold


def _is_sure_loop(result: WindowResult, options: Options) -> bool:
    """Tell whether a text repeats itself without doubt: a shortened context does that to speech, noise to any."""
    return result.avg_logprob >= SURE_WHEN_QUIET and is_loop(result, options)


def best_of(window: Window, results: Sequence[WindowResult], options: Options) -> WindowResult:
    """Return the result to keep after all attempts: the likeliest of the best kind.

    Best is text that was probably said, then text that at least is no loop.
    """
    sound = [result for result in results if not is_loop(result, options) and not _is_spoiled(window, result, options)]
    said = [result for result in sound if not is_suspicious(window, result, options)]
    return max(said or sound or results, key=lambda result: result.avg_logprob)


def _is_spoiled(window: Window, result: WindowResult, options: Options) -> bool:
    """Tell whether a shortened context may have doubled the text or cut it off; with all of it, it counts as spoken."""
    return not result.full_context and (is_said_twice(result.tokens) or is_sparse(window, result, options))


def is_sparse(window: Window, result: WindowResult, options: Options) -> bool:
    """Tell whether there is some text, but far too little for the speech that VAD found."""
    duration_s = window.duration_s
    if options.vad is None or duration_s < _SPARSE_FROM_S:
        return False
    return 0 < len(result.tokens) < SPARSE_TOKENS_PER_S * duration_s
