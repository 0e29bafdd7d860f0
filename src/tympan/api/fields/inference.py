"""The fields of whisper.cpp's ``/inference``, and what they mean here: each is honoured, or refused by name. Pure.

Names, meanings and defaults are those of its ``examples/server``, but for three: what is no speech is left out unless
``vad`` is off, a language that is not given is detected, and ``model`` is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from tympan.api.fields.forms import Form, Parameter
from tympan.api.fields.openai import MAX_PROMPT_CHARS, MAX_VAD_MS
from tympan.api.fields.transcription import MAX_BEAMS, parse_options
from tympan.domain import Options, Task, Timestamps, VadOptions
from tympan.errors import InvalidRequest, UnsupportedOption

FORMATS: Final = ("json", "text", "srt", "vtt", "verbose_json")
"""Values of ``response_format``."""

BEST_OF: Final = 2
"""Samples drawn above temperature 0, unless the form says otherwise."""

_MOST_MS = 7 * 24 * 3_600_000
_MOST_INDEX = 1_000_000
_MOST_CHARS = 1_000
_MOST_TOKENS = 448
_HALF_CONTEXT = 224
_WHOLE_CONTEXT = 1_500
_LONGEST_STRETCH_S = 28.0


def _flag(*, default: bool = False) -> dict[str, Any]:
    return {"type": "boolean", "default": default}


def _whole(least: int, most: int, default: int | None = None) -> dict[str, Any]:
    limits = {"type": "integer", "minimum": least, "maximum": most}
    return limits if default is None else {**limits, "default": default}


def _only(value: object) -> dict[str, Any]:
    kind = "boolean" if isinstance(value, bool) else "number"
    return {"type": kind, "enum": (value,), "default": value}


FIXED: Final[Mapping[str, tuple[tuple[float, ...], str]]] = MappingProxyType(
    {
        "temperature_inc": ((0.2, 0.0), "Doubtful windows are decoded again in steps of 0.2, or not at all."),
        "entropy_thold": ((2.4,), "Doubt is measured by how far a text can be compressed, not by its entropy."),
        "word_thold": ((0.01,), "Times of words do not come from probabilities of timestamps."),
        "audio_ctx": ((0.0, float(_WHOLE_CONTEXT)), "How much audio the encoder sees follows from the speech."),
        "vad_samples_overlap": ((0.1,), "Stretches of speech are padded (vad_speech_pad_ms) and do not overlap."),
    }
)
"""Numbers that can have few values here, the first being the default, and why."""

PARAMETERS: Final[tuple[Parameter, ...]] = (
    Parameter("file", {"type": "string", "format": "binary"}, "The audio or video file. Required."),
    Parameter("model", {"type": "string"}, "The model or one of its names. Left out: that of `/load`, or the default."),
    Parameter(
        "response_format",
        {"type": "string", "enum": FORMATS, "default": "json"},
        "`text` is sent as text/html, as there.",
    ),
    Parameter("language", {"type": "string"}, "Language spoken. Left out or `auto`: it is detected."),
    Parameter("detect_language", _flag(), "Tell the language and write no text."),
    Parameter("translate", _flag(), "Into English."),
    Parameter("prompt", {"type": "string", "maxLength": MAX_PROMPT_CHARS}, "Text that sets style and spelling."),
    Parameter("carry_initial_prompt", _flag(default=True), "Taken either way: the prompt goes with every window."),
    Parameter("max_context", _whole(-1, _MOST_TOKENS, -1), "0 leaves the prompt out; no other text is carried along."),
    Parameter("offset_t", _whole(0, _MOST_MS, 0), "Milliseconds of audio to pass over."),
    Parameter("duration", _whole(0, _MOST_MS, 0), "Milliseconds of audio to hear; 0: all."),
    Parameter("offset_n", _whole(0, _MOST_INDEX, 0), "Added to the numbers of `srt`."),
    Parameter("temperature", {"type": "number", "minimum": 0, "maximum": 1, "default": 0}, "Sampling temperature."),
    Parameter(
        "temperature_inc", {"type": "number", "enum": FIXED["temperature_inc"][0], "default": 0.2}, "0: no retry."
    ),
    Parameter("best_of", _whole(1, MAX_BEAMS, BEST_OF), "Samples to draw where the temperature is above 0."),
    Parameter("beam_size", _whole(-1, MAX_BEAMS, -1), "Beams to search; up to 1 is greedy."),
    Parameter(
        "logprob_thold",
        {"type": "number", "minimum": -100, "maximum": 0, "default": -1},
        "A mean log-probability below it is doubtful.",
    ),
    Parameter(
        "no_speech_thold",
        {"type": "number", "minimum": 0, "maximum": 1, "default": 0.6},
        "A doubtful window that is silence with more than this probability has no text.",
    ),
    Parameter("max_len", _whole(0, _MOST_CHARS, 0), "Longest segment in characters, cut between words; 0: any."),
    Parameter("split_on_word", _flag(default=True), "Taken either way: segments are cut between words."),
    Parameter("no_timestamps", _flag(), "Leave times out of `verbose_json`."),
    Parameter("token_timestamps", _flag(default=True), "`false`: `verbose_json` has no words."),
    Parameter("diarize", _flag(), "Tell speakers apart, by their voices or the channels of a stereo file."),
    Parameter("tinydiarize", _flag(), "Mark where the speaker changes; for models made for it."),
    Parameter("suppress_nst", _flag(default=True), "Taken either way: what is no speech is never written."),
    Parameter("suppress_non_speech", _flag(default=True), "The same, under its older name."),
    Parameter("vad", _flag(default=True), "Leave out what is no speech. On unless it is turned off."),
    Parameter("vad_threshold", {"type": "number", "minimum": 0, "maximum": 1}, "Probability of speech."),
    Parameter("vad_min_speech_duration_ms", _whole(0, MAX_VAD_MS), "Shorter speech is none."),
    Parameter("vad_min_silence_duration_ms", _whole(0, MAX_VAD_MS), "Shorter silence is part of the speech around it."),
    Parameter("vad_speech_pad_ms", _whole(0, MAX_VAD_MS), "Kept before and after speech."),
    Parameter(
        "vad_max_speech_duration_s",
        {"type": "number", "minimum": _LONGEST_STRETCH_S},
        "Any from 28: longer speech is cut at its quietest places.",
    ),
    Parameter("vad_samples_overlap", _only(FIXED["vad_samples_overlap"][0][0]), FIXED["vad_samples_overlap"][1]),
    Parameter("no_language_probabilities", _flag(), "Leave the three fields about the detection out."),
    Parameter("entropy_thold", _only(FIXED["entropy_thold"][0][0]), FIXED["entropy_thold"][1]),
    Parameter("word_thold", _only(FIXED["word_thold"][0][0]), FIXED["word_thold"][1]),
    Parameter("audio_ctx", {"type": "number", "enum": FIXED["audio_ctx"][0], "default": 0}, FIXED["audio_ctx"][1]),
    Parameter("debug_mode", _only(value=False), "Nothing is dumped."),
)
"""Every field of the form."""

_KNOWN = frozenset(parameter.name for parameter in PARAMETERS) - {"file"}
_OURS = ("language", "prompt", "temperature", "best_of", "tinydiarize", "model")
_VAD: Mapping[str, str] = MappingProxyType(
    {
        "vad_min_speech_duration_ms": "min_speech_ms",
        "vad_min_silence_duration_ms": "min_silence_ms",
        "vad_speech_pad_ms": "speech_pad_ms",
    }
)


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a form asks for. ``times`` and ``words`` are about ``verbose_json``, ``first_number`` about ``srt``."""

    options: Options
    response_format: str
    model: str | None = None
    only_language: bool = False
    max_chars: int = 0
    first_number: int = 1
    times: bool = True
    words: bool = True
    probabilities: bool = True


def parse_inference(fields: Mapping[str, list[str]]) -> InferenceRequest:
    """Return what a form asks for. Raises ``InvalidRequest``, ``UnsupportedOption`` or ``UnsupportedLanguage``."""
    form = Form(fields, _KNOWN)
    form.refuse_unknown()
    _check_fixed(form)
    fmt = form.choice("response_format", FORMATS, "json")
    words = fmt == "verbose_json" and form.flag("token_timestamps", default=True)
    max_chars = form.integer("max_len", 0, _MOST_CHARS) or 0
    options, model = _options(form)
    return InferenceRequest(
        options=replace(options, timestamps=_timestamps(fmt, words=words or max_chars > 0)),
        response_format=fmt,
        model=model,
        only_language=form.flag("detect_language", default=False),
        max_chars=max_chars,
        first_number=1 + (form.integer("offset_n", 0, _MOST_INDEX) or 0),
        times=not form.flag("no_timestamps", default=False),
        words=words,
        probabilities=not form.flag("no_language_probabilities", default=False),
    )


def _options(form: Form) -> tuple[Options, str | None]:
    task = Task.TRANSLATE if form.flag("translate", default=False) else Task.TRANSCRIBE
    ours = Form({name: form.all(name) for name in _OURS if name != "prompt" or _keeps_prompt(form)}, frozenset(_OURS))
    asked = parse_options(ours, task)
    length_ms = form.integer("duration", 0, _MOST_MS)
    logprob, no_speech = form.number("logprob_thold", -100.0, 0.0), form.number("no_speech_thold", 0.0, 1.0)
    options = replace(
        asked.options,
        language=None if form.flag("detect_language", default=False) else asked.options.language,
        beam_size=max(1, form.integer("beam_size", -1, MAX_BEAMS) or 1),
        best_of=form.integer("best_of", 1, MAX_BEAMS) or BEST_OF,
        temperature_fallback=form.number("temperature_inc", 0.0, 1.0) != 0.0,
        vad=_vad(form),
        diarize=form.flag("diarize", default=False),
        start_s=(form.integer("offset_t", 0, _MOST_MS) or 0) / 1000.0,
        length_s=length_ms / 1000.0 if length_ms else None,
        logprob_threshold=asked.options.logprob_threshold if logprob is None else logprob,
        no_speech_threshold=asked.options.no_speech_threshold if no_speech is None else no_speech,
    )
    return options, asked.model


def _keeps_prompt(form: Form) -> bool:
    """Return whether the prompt is used. Raises ``UnsupportedOption`` for a bound on it that cannot be kept."""
    most = form.integer("max_context", -1, _MOST_TOKENS)
    if most is not None and 0 < most < _HALF_CONTEXT and form.all("prompt"):
        raise UnsupportedOption(
            "max_context cannot shorten a prompt.", param="max_context", remedy="Shorten the prompt, or send 0 or -1."
        )
    return most != 0


def _vad(form: Form) -> VadOptions | None:
    """Return how speech is found; what the form does not say is ours, not whisper.cpp's."""
    threshold = form.number("vad_threshold", 0.0, 1.0)
    given: dict[str, Any] = {ours: form.integer(name, 0, MAX_VAD_MS) for name, ours in _VAD.items()}
    changed = {name: value for name, value in {**given, "threshold": threshold}.items() if value is not None}
    longest_s = form.number("vad_max_speech_duration_s", 0.0, float("inf"))
    if longest_s is not None and longest_s < _LONGEST_STRETCH_S:
        raise UnsupportedOption(
            f"vad_max_speech_duration_s cannot be below {_LONGEST_STRETCH_S:g}.",
            param="vad_max_speech_duration_s",
            remedy="Leave it out.",
        )
    return replace(VadOptions(), **changed) if form.flag("vad", default=True) else None


def _timestamps(fmt: str, *, words: bool) -> Timestamps:
    if words:
        return Timestamps.WORD
    return Timestamps.NONE if fmt in ("json", "text") else Timestamps.SEGMENT


def _check_fixed(form: Form) -> None:
    for name, (allowed, reason) in FIXED.items():
        value = form.number(name, float("-inf"), float("inf"))
        if value is not None and value not in allowed:
            named = " or ".join(f"{one:g}" for one in allowed)
            raise UnsupportedOption(f"{name} can only be {named}.", param=name, remedy=reason)
    if form.flag("debug_mode", default=False):
        raise UnsupportedOption("debug_mode is not supported.", param="debug_mode", remedy="Leave it out.")
    if form.flag("diarize", default=False) and form.flag("tinydiarize", default=False):
        raise InvalidRequest("diarize and tinydiarize exclude each other.", param="diarize", remedy="Choose one.")
    for parameter in PARAMETERS:
        if parameter.schema["type"] == "boolean":
            form.flag(parameter.name, default=False)
