"""The form fields of a transcription request, and what they mean: one table and pure functions."""

import difflib
import json
import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, get_args

from tympan.domain import Options, ResponseFormat, Task, Timestamps, VadOptions
from tympan.errors import InvalidRequest, UnsupportedLanguage, UnsupportedOption
from tympan.languages import language_code

MAX_PROMPT_CHARS = 10_000
MAX_HOTWORDS_CHARS = 2_000
MAX_BEAMS = 10
MAX_VAD_MS = 60_000
FORMATS: tuple[ResponseFormat, ...] = get_args(ResponseFormat)
GRANULARITIES = ("word", "segment")
PRESETS = MappingProxyType({"accurate": Options().beam_size, "fast": 1})
"""Preset name to beam size; ``fast`` is greedy decoding."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One form field: its JSON schema and its help; ``ours`` tells our extensions from OpenAI's fields."""

    name: str
    schema: Mapping[str, Any]
    description: str
    ours: bool = False


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
)
"""Every field the two transcription routes take."""

UNSUPPORTED = MappingProxyType(
    {
        "include": "Log-probabilities of tokens are not available; verbose_json has them by segment.",
        "keywords": "Use hotwords.",
        "known_speaker_names": "Speakers are not told apart.",
        "known_speaker_references": "Speakers are not told apart.",
        "languages": "Use language for one language, or leave it out to have it detected.",
    }
)
"""OpenAI's fields that are refused by name, with the remedy."""

KNOWN = frozenset(parameter.name.removesuffix("[]") for parameter in PARAMETERS)
"""Names of the fields, without ``[]``."""

REPEATABLE = ("timestamp_granularities",)
ALL_FORMATS = (*FORMATS, "diarized_json")
"""The formats that callers may name; the last one is understood and refused."""

_FEW = 9
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """What one form asks for; ``model`` is ``None`` for the default."""

    options: Options
    response_format: ResponseFormat
    words: bool
    segments: bool
    model: str | None


def parse_form(raw: Mapping[str, list[str]], task: Task) -> TranscriptionRequest:
    """Return the request that the form's fields describe.

    Raises ``InvalidRequest``, ``UnsupportedOption`` or ``UnsupportedLanguage``, naming the field and the remedy.
    """
    form = Form(raw)
    asked = parse_options(form, task)
    if asked.response_format != "verbose_json":
        _refuse_granularities(form, asked.response_format)
    return asked


def parse_options(form: "Form", task: Task) -> TranscriptionRequest:
    """Return the request that a form's fields describe, its other fields aside. Raises as ``parse_form``."""
    _refuse_unsupported(form)
    fmt = response_format("response_format", form.choice("response_format", ALL_FORMATS, "json"))
    granularities = _granularities(form)
    return TranscriptionRequest(
        options=_options(form, task, _timestamps(fmt, granularities)),
        response_format=fmt,
        words="word" in granularities,
        segments="segment" in granularities,
        model=form.text("model", max_chars=512),
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


class Form:
    """The fields of a form or a query by name, each checked as it is read. An empty field counts as left out."""

    def __init__(
        self, raw: Mapping[str, list[str]], known: frozenset[str] = KNOWN, repeatable: tuple[str, ...] = REPEATABLE
    ) -> None:
        """Take ``raw``. Raises ``InvalidRequest`` for a ``known`` field given twice, unless it is ``repeatable``."""
        self.known = known
        self._values: dict[str, list[str]] = {}
        for name, values in raw.items():
            self._values.setdefault(name.removesuffix("[]"), []).extend(value for value in values if value.strip())
        for name, given in self._values.items():
            if len(given) > 1 and name in known and name not in repeatable:
                raise InvalidRequest(f"The field {name} is given twice.", param=name, remedy="Send it once.")

    def names(self) -> Iterable[str]:
        """Return the names that were given."""
        return self._values

    def all(self, name: str) -> list[str]:
        """Return every value of one field."""
        return self._values.get(name, [])

    def refuse_unknown(self, besides: Container[str] = ()) -> None:
        """Raise ``InvalidRequest`` for a name that is neither known nor in ``besides``, with the nearest that is."""
        for name in self._values:
            if name not in self.known and name not in besides:
                near = difflib.get_close_matches(name[:64], self.known, n=1)
                remedy = f"The nearest is {near[0]!r}." if near else "Leave it out, or look in /openapi.json."
                raise InvalidRequest(f"There is no field {name[:64]!r}.", param=name[:64], remedy=remedy)

    def text(self, name: str, *, max_chars: int) -> str | None:
        """Return a field's text, ``None`` when left out. Raises ``InvalidRequest`` for a longer one, or a NUL in it."""
        values = self.all(name)
        if not values:
            return None
        if len(values[0]) > max_chars:
            raise InvalidRequest(f"{name} is longer than {max_chars} characters.", param=name, remedy="Shorten it.")
        if "\0" in values[0]:  # No text holds one, and PostgreSQL cannot store it.
            raise InvalidRequest(f"{name} holds a NUL character.", param=name, remedy="Remove it.")
        return values[0]

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """Return which of ``choices`` a field names. Raises ``InvalidRequest``."""
        value = self.text(name, max_chars=MAX_PROMPT_CHARS)
        return default if value is None else one_of(name, value, choices)

    def each(self, name: str, choices: Iterable[str]) -> list[str]:
        """Return which of ``choices`` a field names that may be given several times. Raises ``InvalidRequest``."""
        return [one_of(name, value, choices) for value in self.all(name)]

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a field that is on or off. Raises ``InvalidRequest``."""
        return self.choice(name, (*_TRUE, *_FALSE), "true" if default else "false").lower() in _TRUE

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number from ``low`` to ``high``. Raises ``InvalidRequest``."""
        value = self.text(name, max_chars=MAX_PROMPT_CHARS)
        return None if value is None else number_in(name, _to_float(value), low, high)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number from ``low`` to ``high``. Raises ``InvalidRequest``."""
        value = self.number(name, low, high)
        if value is not None and value != int(value):
            raise _bad(name, "a whole number", f"between {low} and {high}")
        return None if value is None else int(value)


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """Return ``value`` in lower case when it is one of ``choices``. Raises ``InvalidRequest``."""
    known = tuple(choices)
    word = value.strip().lower()
    if word not in known:
        raise _bad(name, "one of its values", ", ".join(known))
    return word


def number_in(name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` when it is a number from ``low`` to ``high``. Raises ``InvalidRequest``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise _bad(name, "a number in its range", f"{low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


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
    )


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
    if value is None or value.strip().lower() in _TRUE:
        return VadOptions()
    if value.strip().lower() in _FALSE:
        return None
    try:
        given = json.loads(value)
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, bool):
        return VadOptions() if given else None
    if not isinstance(given, dict):
        raise _bad("vad", "true, false or a JSON object", ", ".join(field.name for field in fields(VadOptions)))
    return replace(VadOptions(), **{name: _vad_field(name, number) for name, number in given.items()})


def _vad_field(name: str, value: object) -> Any:
    known = asdict(VadOptions())
    if name not in known:
        raise InvalidRequest(f"vad has no field {name[:64]!r}.", param="vad", remedy=f"It has {', '.join(known)}.")
    if name == "threshold":
        return number_in("vad", value, 0.0, 1.0)
    return int(number_in("vad", value, 0, MAX_VAD_MS))


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _bad(name: str, kind: str, allowed: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is not {kind}.", param=name, remedy=f"Allowed: {allowed}.")
