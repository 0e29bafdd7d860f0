"""OpenAI's form fields: what they are called, and what those mean whose meaning is not plain. Pure."""

import json
from dataclasses import fields, replace
from typing import Any, Final, get_args

from tympan.api.fields.forms import FALSE, TRUE, Form, Parameter, bad, number_in
from tympan.api.fields.speakers import KNOWN_SPEAKER_PARAMETERS
from tympan.domain import ResponseFormat, VadOptions
from tympan.errors import InvalidRequest

FORMATS: tuple[ResponseFormat, ...] = get_args(ResponseFormat)
"""The formats that callers may name."""

GRANULARITIES = ("word", "segment")
INCLUDED = ("logprobs",)
MAX_PROMPT_CHARS = 10_000
MAX_HOTWORDS_CHARS = 2_000
MAX_VAD_MS = 60_000

_CHUNKING = "chunking_strategy"
_CHUNKING_FIELDS: Final = {
    "threshold": "threshold",
    "prefix_padding_ms": "speech_pad_ms",
    "silence_duration_ms": "min_silence_ms",
}
"""Fields of ``chunking_strategy``, and what ``VadOptions`` calls them."""

NESTED = tuple(f"{_CHUNKING}[{name}]" for name in ("type", *_CHUNKING_FIELDS))
"""Fields of an object as OpenAI's clients put it into a form."""

REPEATABLE = (
    "include",
    "timestamp_granularities",
    "languages",
    "keywords",
    "known_speaker_names",
    "known_speaker_references",
)
"""Those of the fields that are lists."""

OPENAI_PARAMETERS: tuple[Parameter, ...] = (
    Parameter("file", {"type": "string", "format": "binary"}, "The audio or video file. Required."),
    Parameter(
        "model", {"type": "string"}, "The loaded model or one of its names. Left out or `whisper-1`: the default."
    ),
    Parameter("language", {"type": "string"}, "Language spoken (`en`, `en-US`, `english`); else it is detected."),
    Parameter("languages[]", {"type": "array", "items": {"type": "string"}}, "Languages to detect among."),
    Parameter("prompt", {"type": "string", "maxLength": MAX_PROMPT_CHARS}, "Text that sets style and spelling."),
    Parameter(
        "keywords[]", {"type": "array", "items": {"type": "string"}}, "Names and terms to expect; added to `hotwords`."
    ),
    Parameter("response_format", {"type": "string", "enum": FORMATS, "default": "json"}, "Format of the answer."),
    Parameter("temperature", {"type": "number", "minimum": 0, "maximum": 1, "default": 0}, "Sampling temperature."),
    Parameter(
        "timestamp_granularities[]",
        {"type": "array", "items": {"type": "string", "enum": GRANULARITIES}},
        "Lists in `verbose_json`: `segment` (default), `word`, or both.",
    ),
    Parameter(
        "include[]",
        {"type": "array", "items": {"type": "string", "enum": INCLUDED}},
        "With `json`: `logprobs` lists the tokens of the text, each with its log-probability.",
    ),
    Parameter(
        "stream",
        {"type": "boolean", "default": False},
        "Send the text as it comes, in server-sent events; `json`, `text` and `diarized_json` of transcriptions.",
    ),
    Parameter(
        _CHUNKING,
        {"type": "string", "default": "auto"},
        "`auto`, or a JSON object: `type` is `server_vad`, and any of `threshold`, `prefix_padding_ms`, "
        "`silence_duration_ms`. Also as fields of their own, such as `chunking_strategy[type]`.",
    ),
    *KNOWN_SPEAKER_PARAMETERS,
)
"""The fields that OpenAI's routes have."""

_VAD_FIELDS = tuple(one.name for one in fields(VadOptions))
_BY_NAME: Final[dict[str, ResponseFormat]] = {fmt: fmt for fmt in FORMATS}


def format_in(form: Form, name: str) -> ResponseFormat | None:
    """Return the format that ``name`` asks for, ``None`` where it is left out. Raises ``InvalidRequest``."""
    return _BY_NAME.get(form.choice(name, FORMATS, ""))


def hotwords_of(form: Form) -> str | None:
    """Return the terms to expect, from both of the fields that name some. Raises ``InvalidRequest``."""
    keywords = [word.strip() for word in form.all("keywords")]
    found = ", ".join(filter(None, [form.text("hotwords", max_chars=MAX_HOTWORDS_CHARS), *keywords]))
    if len(found) > MAX_HOTWORDS_CHARS or "\0" in found:
        raise bad("keywords", "a list of plain text", f"at most {MAX_HOTWORDS_CHARS} characters, with hotwords")
    return found or None


def speech_detection(form: Form) -> VadOptions | None:
    """Return how speech is told from the rest, by our field or by OpenAI's. Raises ``InvalidRequest``."""
    vad = form.text("vad", max_chars=MAX_PROMPT_CHARS)
    strategy = _strategy(form)
    if strategy is None:
        return _vad(vad)
    if vad is not None:
        raise InvalidRequest(f"vad and {_CHUNKING} were both sent.", param=_CHUNKING, remedy="Send one of the two.")
    if (kind := strategy.pop("type", None)) != "server_vad":
        raise InvalidRequest(f"{_CHUNKING} has no type {str(kind)[:64]!r}.", param=_CHUNKING, remedy="Send server_vad.")
    given = {}
    for name, value in strategy.items():
        if name not in _CHUNKING_FIELDS:
            known = ", ".join(("type", *_CHUNKING_FIELDS))
            raise InvalidRequest(
                f"{_CHUNKING} has no field {name[:64]!r}.", param=_CHUNKING, remedy=f"The fields are {known}."
            )
        given[_CHUNKING_FIELDS[name]] = value
    return _vad_with(given, _CHUNKING)


def _strategy(form: Form) -> dict[str, Any] | None:
    """Return ``chunking_strategy`` as an object, from whichever spelling; ``None`` for ``auto``."""
    nested = {name: form.text(name, max_chars=MAX_PROMPT_CHARS) for name in NESTED}
    found = {name[len(_CHUNKING) + 1 : -1]: _number(value) for name, value in nested.items() if value is not None}
    text = form.text(_CHUNKING, max_chars=MAX_PROMPT_CHARS)
    if text is None or text.strip().lower() == "auto":
        return found or None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or found:
        raise bad(_CHUNKING, "auto or one JSON object", f"auto, or type and any of {', '.join(_CHUNKING_FIELDS)}")
    return value


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text.strip()


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
        raise bad("vad", "true, false or a JSON object", ", ".join(_VAD_FIELDS))
    return _vad_with(given, "vad")


def _vad_with(given: dict[str, object], param: str) -> VadOptions:
    return replace(VadOptions(), **{name: _vad_field(name, value, param) for name, value in given.items()})


def _vad_field(name: str, value: object, param: str) -> Any:
    if name not in _VAD_FIELDS:
        remedy = f"The fields are {', '.join(_VAD_FIELDS)}."
        raise InvalidRequest(f"{param} has no field {name[:64]!r}.", param=param, remedy=remedy)
    if name == "threshold":
        return number_in(param, value, 0.0, 1.0)
    return int(number_in(param, value, 0, MAX_VAD_MS))
