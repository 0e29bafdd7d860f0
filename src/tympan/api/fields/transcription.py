"""The form fields of a transcription request, and what they mean: one table and pure functions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from tympan.api.fields.forms import Form, Parameter, bad, one_of
from tympan.api.fields.openai import (
    GRANULARITIES,
    INCLUDED,
    MAX_HOTWORDS_CHARS,
    MAX_PROMPT_CHARS,
    NESTED,
    OPENAI_PARAMETERS,
    format_in,
    hotwords_of,
    speech_detection,
)
from tympan.api.fields.openai import REPEATABLE as LISTS
from tympan.api.fields.shapes import SHAPE_PARAMETERS, SUBTITLES, refuse_shape, shape_of
from tympan.api.fields.speakers import SPEAKER_PARAMETERS, speaker_names, speaker_options
from tympan.domain import Options, Output, ResponseFormat, Shape, Suppression, Task, Timestamps
from tympan.errors import InvalidRequest, UnsupportedLanguage, UnsupportedOption
from tympan.languages import language_code

MAX_BEAMS = 10
MAX_LANGUAGES = 100
MAX_SUPPRESSED = 1_000
PRESETS = MappingProxyType({"accurate": Options().beam_size, "fast": 1})
"""Preset name to beam size; ``fast`` is greedy decoding."""


PARAMETERS: tuple[Parameter, ...] = (
    *OPENAI_PARAMETERS,
    Parameter(
        "beam_size",
        {"type": "integer", "minimum": 1, "maximum": MAX_BEAMS, "default": 5},
        "Beams to search; overrides `preset`. 1 is greedy.",
        ours=True,
    ),
    Parameter(
        "best_of",
        {"type": "integer", "minimum": 1, "maximum": MAX_BEAMS, "default": 5},
        "Samples to draw where the temperature is above 0.",
        ours=True,
    ),
    Parameter(
        "vad",
        {"type": "string", "default": "true"},
        "`true`, `false`, or JSON with some of `threshold`, `min_speech_ms`, `min_silence_ms`, `speech_pad_ms`.",
        ours=True,
    ),
    Parameter(
        "hotwords",
        {"type": "string", "maxLength": MAX_HOTWORDS_CHARS},
        "Names and terms to expect, separated by commas.",
        ours=True,
    ),
    Parameter(
        "temperature_fallback",
        {"type": "boolean", "default": True},
        "Decode doubtful windows again at rising temperatures.",
        ours=True,
    ),
    Parameter(
        "word_timestamps",
        {"type": "boolean", "default": False},
        "Add words to `verbose_json`, beside the segments.",
        ours=True,
    ),
    *SPEAKER_PARAMETERS,
    Parameter(
        "tinydiarize",
        {"type": "boolean", "default": False},
        "Write `[SPEAKER_TURN]` where the speaker changes; for models made for it.",
        ours=True,
    ),
    Parameter(
        "preset",
        {"type": "string", "enum": tuple(PRESETS), "default": "accurate"},
        "`accurate`: beam search; `fast`: greedy.",
        ours=True,
    ),
    Parameter(
        "multilingual",
        {"type": "boolean", "default": False},
        "Detect the language of every window, of up to 28 s; segments tell theirs.",
        ours=True,
    ),
    Parameter(
        "suppress_tokens",
        {"type": "string"},
        "Numbers of tokens not to write, as `13,30`, beside the model's own list.",
        ours=True,
    ),
    Parameter("suppress_blank", {"type": "boolean", "default": True}, "Do not begin with nothing.", ours=True),
    Parameter("suppress_numerals", {"type": "boolean", "default": False}, "Write numbers as words.", ours=True),
    *SHAPE_PARAMETERS,
)
"""Every field the two transcription routes take."""

KNOWN = frozenset(parameter.name.removesuffix("[]") for parameter in PARAMETERS) | frozenset(NESTED)
"""Names of the fields, without ``[]``."""

REPEATABLE = (*LISTS, "suppress_tokens")
STREAMED: tuple[ResponseFormat, ...] = ("json", "text", "diarized_json")
"""The formats that a stream of events can stand for."""

IGNORES_STREAM = "whisper-1"
"""The name under which clients expect that a stream of another format is quietly none, because OpenAI's model does."""

NAMING: tuple[ResponseFormat, ...] = ("diarized_json", "verbose_json", "rttm", "srt", "vtt")
"""The formats that say who speaks."""

_FEW = 9


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """What one form asks for; ``model`` is ``None`` for the default, ``speakers`` are names for those of channels."""

    options: Options
    response_format: ResponseFormat
    words: bool
    segments: bool
    model: str | None
    shape: Shape | None = None
    speakers: tuple[str, ...] = ()
    stream: bool = False

    @property
    def output(self) -> Output:
        """How the result is to be rendered."""
        return Output(
            self.response_format, self.words, self.segments, self.shape, self.speakers, self.options.token_chances
        )


def parse_form(raw: Mapping[str, list[str]], task: Task) -> TranscriptionRequest:
    """Return the request that the form's fields describe.

    Raises ``InvalidRequest``, ``UnsupportedOption`` or ``UnsupportedLanguage``, naming the field and the remedy.
    """
    form = Form(raw, KNOWN, REPEATABLE)
    asked = parse_options(form, task)
    _refuse_words(form, asked)
    if asked.response_format not in SUBTITLES:
        refuse_shape(form, asked.response_format)
    if asked.options.token_chances:
        _check_chances(asked)
    if asked.options.diarize and asked.response_format not in NAMING:
        raise InvalidRequest(
            f"The format {asked.response_format} cannot show speakers.",
            param="diarize",
            remedy=f"Ask for one of {', '.join(NAMING)}, or leave diarize out.",
        )
    return replace(asked, stream=_stream(form, asked))


def parse_options(form: "Form", task: Task) -> TranscriptionRequest:
    """Return the request that a form's fields describe, its other fields aside. Raises as ``parse_form``."""
    form.refuse_unknown()
    fmt = format_in(form, "response_format") or "json"
    granularities, shape = _granularities(form), shape_of(form)
    return TranscriptionRequest(
        options=replace(
            _options(form, task, _timestamps(fmt, granularities | ({"word"} if shape else set()))),
            **speaker_options(form, task, fmt),
            token_chances=bool(form.each("include", INCLUDED)),
        ),
        response_format=fmt,
        words="word" in granularities,
        segments="segment" in granularities,
        model=form.text("model", max_chars=512),
        shape=shape,
        speakers=speaker_names(form),
    )


def require_language(code: str | None, supported: Iterable[str]) -> None:
    """Raise ``UnsupportedLanguage`` when the loaded model does not know ``code``."""
    known = tuple(supported)
    if code is not None and known and code not in known:
        raise UnsupportedLanguage(
            f"The loaded model does not know the language {code!r}.",
            param="language",
            remedy=f"It knows {', '.join(known)}." if len(known) < _FEW else "Serve a multilingual model.",
        )


def _options(form: Form, task: Task, timestamps: Timestamps) -> Options:
    preset = form.choice("preset", PRESETS, "accurate")
    language = form.text("language", max_chars=MAX_PROMPT_CHARS)
    return Options(
        task=task,
        language=None if language is None or language.strip().lower() == "auto" else language_code(language),
        prompt=form.text("prompt", max_chars=MAX_PROMPT_CHARS),
        hotwords=hotwords_of(form),
        beam_size=form.integer("beam_size", 1, MAX_BEAMS) or PRESETS[preset],
        best_of=form.integer("best_of", 1, MAX_BEAMS) or Options().best_of,
        temperature=form.number("temperature", 0.0, 1.0) or 0.0,
        temperature_fallback=form.flag("temperature_fallback", default=True),
        timestamps=timestamps,
        vad=speech_detection(form),
        speaker_turns=form.flag("tinydiarize", default=False),
        **_words_and_languages(form),
    )


def _words_and_languages(form: Form) -> dict[str, Any]:
    """Return which languages may be heard and which tokens may not be written."""
    named = [word for value in form.all("languages") for word in value.split(",") if word.strip()]
    if len(named) > MAX_LANGUAGES:
        raise bad("languages", "a short list", f"at most {MAX_LANGUAGES}")
    numbers = [word for value in form.all("suppress_tokens") for word in value.split(",") if word.strip()]
    if len(numbers) > MAX_SUPPRESSED:
        raise bad("suppress_tokens", "a short list", f"at most {MAX_SUPPRESSED}")
    if not all(re.fullmatch(r"-1|[0-9]{1,6}", word.strip(), re.ASCII) for word in numbers):
        raise bad("suppress_tokens", "a list of token numbers", "numbers from 0, separated by commas")
    return {
        "multilingual": form.flag("multilingual", default=False),
        "languages": tuple(dict.fromkeys(language_code(word) for word in named)),
        "suppression": Suppression(
            tokens=tuple(
                sorted({int(word) for word in numbers} - {-1})
            ),  # -1 is the model's own list, always left out.
            blank=form.flag("suppress_blank", default=True),
            numerals=form.flag("suppress_numerals", default=False),
        ),
    }


def refuse_stream(form: Form, remedy: str) -> None:
    """Raise ``UnsupportedOption`` when a form asks for a stream where there is none."""
    if form.flag("stream", default=False):
        raise UnsupportedOption("This route cannot stream.", param="stream", remedy=remedy)


def _stream(form: Form, asked: TranscriptionRequest) -> bool:
    if asked.options.task is Task.TRANSLATE:
        refuse_stream(form, "Leave stream out, or send the audio to /v1/audio/transcriptions.")
    wanted = form.flag("stream", default=False)
    if wanted and asked.response_format not in STREAMED:
        if asked.model == IGNORES_STREAM:
            return False
        raise InvalidRequest(
            f"{asked.response_format} cannot be streamed.",
            param="response_format",
            remedy=f"Ask for {' or '.join(STREAMED)}, or leave stream out.",
        )
    return wanted


def _granularities(form: Form) -> frozenset[str]:
    name = "timestamp_granularities"
    chosen = {one_of(name, word, GRANULARITIES) for value in form.all(name) for word in value.split(",")}
    if form.flag("word_timestamps", default=False):
        chosen |= set(GRANULARITIES)
    return frozenset(chosen or {"segment"})


def _check_chances(asked: TranscriptionRequest) -> None:
    """Refuse them where OpenAI has none, and where marks stand in the text that are no tokens of it."""
    if asked.response_format != "json" or asked.options.speaker_turns:
        besides = "response_format=json" if asked.response_format != "json" else "a text without tinydiarize"
        raise InvalidRequest(f"logprobs need {besides}.", param="include", remedy="Leave include out, or change that.")


def _refuse_words(form: Form, asked: TranscriptionRequest) -> None:
    """As OpenAI does: segments may be asked for with any format, words with one."""
    if asked.words and asked.response_format != "verbose_json":
        name = "timestamp_granularities" if form.all("timestamp_granularities") else "word_timestamps"
        raise InvalidRequest(
            f"Times of words need response_format=verbose_json, not {asked.response_format}.",
            param=name,
            remedy=f"Ask for verbose_json, or leave {name} out.",
        )


def _timestamps(fmt: ResponseFormat, granularities: frozenset[str]) -> Timestamps:
    if fmt in ("json", "text"):
        return Timestamps.NONE
    return Timestamps.WORD if "word" in granularities else Timestamps.SEGMENT
