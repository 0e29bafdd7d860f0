"""The form fields of a transcription request, and what they mean: one table and pure functions."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, get_args

from tympan.api.forms import FALSE, TRUE, Form, Parameter, bad, number_in, one_of
from tympan.api.shapes import SHAPE_PARAMETERS, SUBTITLES, refuse_shape, shape_of
from tympan.domain import Options, ResponseFormat, Shape, Suppression, Task, Timestamps, VadOptions
from tympan.errors import InvalidRequest, UnsupportedLanguage, UnsupportedOption
from tympan.languages import language_code

MAX_PROMPT_CHARS = 10_000
MAX_HOTWORDS_CHARS = 2_000
MAX_BEAMS = 10
MAX_VAD_MS = 60_000
MAX_LANGUAGES = 100
MAX_SUPPRESSED = 1_000
FORMATS: tuple[ResponseFormat, ...] = get_args(ResponseFormat)
GRANULARITIES = ("word", "segment")
PRESETS = MappingProxyType({"accurate": Options().beam_size, "fast": 1})
"""Preset name to beam size; ``fast`` is greedy decoding."""


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("file", {"type": "string", "format": "binary"}, "The audio or video file. Required."),
    Parameter(
        "model", {"type": "string"}, "The loaded model or one of its names. Left out or `whisper-1`: the default."
    ),
    Parameter("language", {"type": "string"}, "Language spoken (`en`, `en-US`, `english`); else it is detected."),
    Parameter("prompt", {"type": "string", "maxLength": MAX_PROMPT_CHARS}, "Text that sets style and spelling."),
    Parameter("response_format", {"type": "string", "enum": FORMATS, "default": "json"}, "Format of the answer."),
    Parameter("temperature", {"type": "number", "minimum": 0, "maximum": 1, "default": 0}, "Sampling temperature."),
    Parameter(
        "timestamp_granularities[]",
        {"type": "array", "items": {"type": "string", "enum": GRANULARITIES}},
        "Lists in `verbose_json`: `segment` (default), `word`, or both. Also taken without `[]`.",
    ),
    Parameter("stream", {"type": "boolean", "default": False}, "Only `false` is supported."),
    Parameter("chunking_strategy", {"type": "string", "enum": ("auto",)}, "Only `auto`; see `vad` for more."),
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
    Parameter("languages", {"type": "string"}, "Languages to detect among, as `en,de`. Repeatable.", ours=True),
    Parameter(
        "suppress_tokens",
        {"type": "string"},
        "Numbers of tokens not to write, as `13,30`, beside the model's own list.",
        ours=True,
    ),
    Parameter("suppress_blank", {"type": "boolean", "default": True}, "Do not begin with nothing.", ours=True),
    Parameter("suppress_numerals", {"type": "boolean", "default": False}, "Write numbers in words.", ours=True),
    *SHAPE_PARAMETERS,
)
"""Every field the two transcription routes take."""

UNSUPPORTED = MappingProxyType(
    {
        "include": "Log-probabilities of tokens are not available; verbose_json has them by segment.",
        "keywords": "Use hotwords.",
        "known_speaker_names": "Speakers are not told apart.",
        "known_speaker_references": "Speakers are not told apart.",
    }
)
"""OpenAI's fields that are refused by name, with the remedy."""

KNOWN = frozenset(parameter.name.removesuffix("[]") for parameter in PARAMETERS)
"""Names of the fields, without ``[]``."""

REPEATABLE = ("timestamp_granularities", "languages", "suppress_tokens")
ALL_FORMATS = (*FORMATS, "diarized_json")
"""The formats that callers may name; the last one is understood and refused."""

_FEW = 9


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """What one form asks for; ``model`` is ``None`` for the default."""

    options: Options
    response_format: ResponseFormat
    words: bool
    segments: bool
    model: str | None
    shape: Shape | None = None


def parse_form(raw: Mapping[str, list[str]], task: Task) -> TranscriptionRequest:
    """Return the request that the form's fields describe.

    Raises ``InvalidRequest``, ``UnsupportedOption`` or ``UnsupportedLanguage``, naming the field and the remedy.
    """
    form = Form(raw, KNOWN, REPEATABLE)
    asked = parse_options(form, task)
    if asked.response_format != "verbose_json":
        _refuse_granularities(form, asked.response_format)
    if asked.response_format not in SUBTITLES:
        refuse_shape(form, asked.response_format)
    return asked


def parse_options(form: "Form", task: Task) -> TranscriptionRequest:
    """Return the request that a form's fields describe, its other fields aside. Raises as ``parse_form``."""
    _refuse_unsupported(form)
    fmt = response_format("response_format", form.choice("response_format", ALL_FORMATS, "json"))
    granularities, shape = _granularities(form), shape_of(form)
    return TranscriptionRequest(
        options=_options(form, task, _timestamps(fmt, granularities | ({"word"} if shape else set()))),
        response_format=fmt,
        words="word" in granularities,
        segments="segment" in granularities,
        model=form.text("model", max_chars=512),
        shape=shape,
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
        hotwords=form.text("hotwords", max_chars=MAX_HOTWORDS_CHARS),
        beam_size=form.integer("beam_size", 1, MAX_BEAMS) or PRESETS[preset],
        best_of=form.integer("best_of", 1, MAX_BEAMS) or Options().best_of,
        temperature=form.number("temperature", 0.0, 1.0) or 0.0,
        temperature_fallback=form.flag("temperature_fallback", default=True),
        timestamps=timestamps,
        vad=_vad(form.text("vad", max_chars=MAX_PROMPT_CHARS)),
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


def _refuse_unsupported(form: Form) -> None:
    for name in form.names():
        if name in UNSUPPORTED and form.all(name):
            raise UnsupportedOption(f"{name} is not supported.", param=name, remedy=UNSUPPORTED[name])
    form.refuse_unknown(UNSUPPORTED)
    if form.flag("stream", default=False):
        raise UnsupportedOption("Streaming is not supported.", param="stream", remedy="Send stream=false.")
    if (form.text("chunking_strategy", max_chars=MAX_PROMPT_CHARS) or "auto").strip().lower() != "auto":
        raise UnsupportedOption(
            "Only chunking_strategy=auto is supported.", param="chunking_strategy", remedy="Tune speech with vad."
        )


def response_format(param: str, wanted: str) -> ResponseFormat:
    """Return one of ``ALL_FORMATS`` as a format that there is. Raises ``UnsupportedOption``."""
    for fmt in FORMATS:
        if fmt == wanted:
            return fmt
    raise UnsupportedOption(
        "Speakers are not told apart, so there is no diarized_json.",
        param=param,
        remedy=f"Use one of {', '.join(FORMATS)}.",
    )


def _granularities(form: Form) -> frozenset[str]:
    name = "timestamp_granularities"
    chosen = {one_of(name, word, GRANULARITIES) for value in form.all(name) for word in value.split(",")}
    if form.flag("word_timestamps", default=False):
        chosen |= set(GRANULARITIES)
    return frozenset(chosen or {"segment"})


def _refuse_granularities(form: Form, fmt: ResponseFormat) -> None:
    name = "timestamp_granularities" if form.all("timestamp_granularities") else "word_timestamps"
    if name != "word_timestamps" or form.flag(name, default=False):
        raise InvalidRequest(
            f"{name} needs response_format=verbose_json, not {fmt}.",
            param=name,
            remedy=f"Ask for verbose_json, or leave {name} out.",
        )


def _timestamps(fmt: ResponseFormat, granularities: frozenset[str]) -> Timestamps:
    if fmt in ("json", "text"):
        return Timestamps.NONE
    return Timestamps.WORD if "word" in granularities else Timestamps.SEGMENT


def _vad(value: str | None) -> VadOptions | None:
    if value is None or value.strip().lower() in TRUE:
        return VadOptions()
    if value.strip().lower() in FALSE:
        return None
    try:
        given = json.loads(value)
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, bool):
        return VadOptions() if given else None
    if not isinstance(given, dict):
        raise bad("vad", "true, false or a JSON object", ", ".join(field.name for field in fields(VadOptions)))
    return replace(VadOptions(), **{name: _vad_field(name, number) for name, number in given.items()})


def _vad_field(name: str, value: object) -> Any:
    known = asdict(VadOptions())
    if name not in known:
        raise InvalidRequest(f"vad has no field {name[:64]!r}.", param="vad", remedy=f"It has {', '.join(known)}.")
    if name == "threshold":
        return number_in("vad", value, 0.0, 1.0)
    return int(number_in("vad", value, 0, MAX_VAD_MS))
