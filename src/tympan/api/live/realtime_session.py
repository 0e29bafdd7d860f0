"""The settings of a realtime session: read from the JSON of a ``session.update``, and shown in ours. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from tympan.api.fields.forms import number_in
from tympan.api.live.dialect import JsonObject, Wish
from tympan.domain import Options
from tympan.errors import InvalidRequest, TympanError, UnsupportedOption
from tympan.languages import language_code
from tympan.live import Encoding, LiveOptions, Turns, check_rate

RATE_HZ = 24_000
"""OpenAI's rate of PCM, which is meant where none is given; here others are taken as well."""

LOGPROBS = "item.input_audio_transcription.logprobs"
"""What may be included in events: how likely each token of a transcript is."""

_PHONE_RATE_HZ = 8_000
_MAX_PROMPT_CHARS = 10_000
_MAX_KEYWORDS = 100
_MAX_NAME_CHARS = 200
_ROOT = "session"
_INPUT = "session.audio.input"
_ENCODINGS = MappingProxyType(
    {"audio/pcm": Encoding.PCM_S16LE, "audio/pcmu": Encoding.MULAW, "audio/pcma": Encoding.ALAW}
)
_OLD_FORMATS = MappingProxyType({"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"})
_OLD_NAMES = MappingProxyType(
    {
        "input_audio_transcription": "transcription",
        "input_audio_noise_reduction": "noise_reduction",
        "turn_detection": "turn_detection",
    }
)

_Fields: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """What a client of the realtime protocol has set. ``turns`` is ``None`` when it commits utterances itself."""

    model: str | None = None
    language: str | None = None
    languages: tuple[str, ...] = ()
    prompt: str | None = None
    keywords: tuple[str, ...] = ()
    format: str = "audio/pcm"
    rate_hz: int = RATE_HZ
    turns: Turns | None = field(default_factory=Turns)
    logprobs: bool = False

    @property
    def wish(self) -> Wish:
        """The same for the session that hears."""
        options = Options(
            language=self.language,
            languages=self.languages,
            prompt=self.prompt,
            hotwords=", ".join(self.keywords) or None,
            token_chances=self.logprobs,
        )
        # Who commits by hand still wants no text for silence, so speech is looked for all the same.
        live = LiveOptions(turns=self.turns or Turns())
        return Wish(self.model, options, live, _ENCODINGS[self.format], self.rate_hz)


def updated(settings: RealtimeSettings, session: object) -> RealtimeSettings:
    """Return the settings after a ``session.update``; what it does not name stays.

    Raises ``InvalidRequest`` that names the field, and ``UnsupportedOption`` for what is understood but not offered.
    """
    given = _object(session, _ROOT, ("type", "audio", "include"))
    if given.get("type", "transcription") != "transcription":
        raise UnsupportedOption(
            "Only transcription sessions are offered.", param="session.type", remedy="Send the type 'transcription'."
        )
    if "include" in given:
        settings = replace(settings, logprobs=_include(given["include"]))
    audio = _object(given.get("audio", {}), "session.audio", ("input", "output"))
    if audio.get("output") is not None:
        raise _not_offered("session.audio.output", "Speech output is")
    return _with_input(settings, _object(audio.get("input", {}), _INPUT, tuple(_READERS)))


def from_old(session: object) -> JsonObject:
    """Return the settings of the older protocol's ``transcription_session.update`` as a ``session.update`` has them.

    Raises ``InvalidRequest``.
    """
    known = ("input_audio_format", *_OLD_NAMES, "include", "modalities")
    given = _object(session, _ROOT, known)
    audio: JsonObject = {new: given[old] for old, new in _OLD_NAMES.items() if old in given}
    if given.get("input_audio_format") is not None:
        name = given["input_audio_format"]
        if not isinstance(name, str) or name not in _OLD_FORMATS:
            raise InvalidRequest(
                "This audio format is not supported.",
                param="session.input_audio_format",
                remedy=f"Allowed: {', '.join(_OLD_FORMATS)}.",
            )
        audio["format"] = {"type": _OLD_FORMATS[name]}
    include = {"include": given["include"]} if "include" in given else {}
    return {"type": "transcription", "audio": {"input": audio}, **include}


def shown(settings: RealtimeSettings, model: str) -> JsonObject:
    """Return the settings as ``session.created`` and ``session.updated`` show them, with the ``model`` that hears."""
    pcm = {"rate": settings.rate_hz} if settings.format == "audio/pcm" else {}
    return {
        "audio": {
            "input": {
                "format": {"type": settings.format, **pcm},
                "transcription": _transcription(settings, model),
                "noise_reduction": None,
                "turn_detection": _turn_detection(settings.turns),
            }
        },
        "include": [LOGPROBS] if settings.logprobs else None,
    }


def shown_as_old(settings: RealtimeSettings, model: str) -> JsonObject:
    """Return the settings as the older protocol shows them."""
    old = {new: name for name, new in _OLD_FORMATS.items()}
    return {
        "input_audio_format": old[settings.format],
        "input_audio_transcription": _transcription(settings, model),
        "input_audio_noise_reduction": None,
        "turn_detection": _turn_detection(settings.turns),
        "include": [LOGPROBS] if settings.logprobs else None,
    }


def _transcription(settings: RealtimeSettings, model: str) -> JsonObject:
    lists = {"languages": list(settings.languages), "keywords": list(settings.keywords)}
    return {
        "model": model,
        "language": settings.language,
        "prompt": settings.prompt or "",
        **{name: values for name, values in lists.items() if values},
    }


def _turn_detection(turns: Turns | None) -> JsonObject | None:
    if turns is None:
        return None
    return {
        "type": "server_vad",
        "threshold": turns.threshold,
        "prefix_padding_ms": turns.prefix_padding_ms,
        "silence_duration_ms": turns.silence_ms,
    }


def _with_input(settings: RealtimeSettings, given: _Fields) -> RealtimeSettings:
    for name, read in _READERS.items():
        if name in given:
            settings = read(settings, given[name])
    return settings


def _with_format(settings: RealtimeSettings, value: object) -> RealtimeSettings:
    param = f"{_INPUT}.format"
    given = _object(value, param, ("type", "rate"))
    name = given.get("type")
    if not isinstance(name, str) or name not in _ENCODINGS:
        allowed = ", ".join(_ENCODINGS)
        raise InvalidRequest(
            "This audio format is not supported.", param=f"{param}.type", remedy=f"Allowed: {allowed}."
        )
    usual = RATE_HZ if name == "audio/pcm" else _PHONE_RATE_HZ
    rate = given.get("rate", usual)
    if not isinstance(rate, int) or isinstance(rate, bool) or (name != "audio/pcm" and rate != usual):
        raise InvalidRequest(
            "This sample rate does not fit the format.", param=f"{param}.rate", remedy=f"The usual is {usual}."
        )
    return replace(settings, format=name, rate_hz=check_rate(rate, f"{param}.rate"))


def _with_noise_reduction(settings: RealtimeSettings, value: object) -> RealtimeSettings:
    """Take the wish, which many clients send unasked; the session says that there is none. The model bears noise."""
    param = f"{_INPUT}.noise_reduction"
    if value is not None and _object(value, param, ("type",)).get("type") not in _NOISE_REDUCTIONS:
        raise InvalidRequest(
            "This noise reduction is not supported.", param=param, remedy="Leave it out; there is none."
        )
    return settings


def _with_transcription(settings: RealtimeSettings, value: object) -> RealtimeSettings:
    param = f"{_INPUT}.transcription"
    given = _object(value, param, ("model", "language", "languages", "prompt", "keywords", "delay"))
    if given.get("delay") is not None:
        raise _not_offered(f"{param}.delay", "A choice of delay is")
    if given.get("model") is not None:
        settings = replace(settings, model=_text(given["model"], f"{param}.model", _MAX_NAME_CHARS))
    if "language" in given:
        settings = replace(settings, language=_language(given["language"], f"{param}.language"))
    if "languages" in given:
        named = _texts(given["languages"], f"{param}.languages")
        settings = replace(settings, languages=tuple(language_code(name) for name in named))
    if "prompt" in given:
        settings = replace(settings, prompt=_text(given["prompt"], f"{param}.prompt", _MAX_PROMPT_CHARS))
    if "keywords" in given:
        settings = replace(settings, keywords=_texts(given["keywords"], f"{param}.keywords"))
    return settings


def _with_turns(settings: RealtimeSettings, value: object) -> RealtimeSettings:
    if value is None:
        return replace(settings, turns=None)
    param = f"{_INPUT}.turn_detection"
    offered = ("type", "threshold", "prefix_padding_ms", "silence_duration_ms")
    given = _object(value, param, (*offered, "create_response", "interrupt_response", "idle_timeout_ms", "eagerness"))
    if given.get("type", "server_vad") != "server_vad":
        raise _not_offered(f"{param}.type", "Turn detection other than 'server_vad' is")
    for name in ("create_response", "idle_timeout_ms", "eagerness"):
        if given.get(name):
            raise _not_offered(f"{param}.{name}", f"{name} is")
    return replace(settings, turns=_turns(given, param))


def _turns(given: _Fields, param: str) -> Turns:
    default = Turns()
    threshold = _number(given, param, "threshold", default.threshold)
    prefix_padding_ms = _number(given, param, "prefix_padding_ms", default.prefix_padding_ms)
    silence_ms = _number(given, param, "silence_duration_ms", default.silence_ms)
    try:
        return Turns(threshold, round(prefix_padding_ms), round(silence_ms))
    except InvalidRequest as error:
        # The knob has another name here than in the options of a session.
        said, name = (text.replace("silence_ms", "silence_duration_ms") for text in (error.message, error.param or ""))
        raise InvalidRequest(said, param=f"{param}.{name}") from None


_NOISE_REDUCTIONS = ("near_field", "far_field")
_READERS = MappingProxyType(
    {
        "format": _with_format,
        "noise_reduction": _with_noise_reduction,
        "transcription": _with_transcription,
        "turn_detection": _with_turns,
    }
)


def _object(value: object, param: str, known: Sequence[str]) -> _Fields:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{param} is not an object.", param=param)
    for name in value:
        if name not in known:
            raise InvalidRequest(
                f"There is no field {name[:64]!r} in {param}.",
                param=f"{param}.{name[:64]}",
                remedy=f"Allowed: {', '.join(known)}.",
            )
    return value


def _include(value: object) -> bool:
    wanted = _texts(value, "session.include")
    if set(wanted) - {LOGPROBS}:
        raise UnsupportedOption(f"Only {LOGPROBS!r} can be included.", param="session.include")
    return bool(wanted)


def _text(value: object, param: str, max_chars: int) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > max_chars or "\0" in value:
        raise InvalidRequest(f"{param} is not a text of at most {max_chars} characters.", param=param)
    return value


def _texts(value: object, param: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_KEYWORDS:
        raise InvalidRequest(f"{param} is not a list of at most {_MAX_KEYWORDS} texts.", param=param)
    texts = (_text(each, param, _MAX_NAME_CHARS) for each in value)
    return tuple(text for text in texts if text is not None)


def _language(value: object, param: str) -> str | None:
    text = _text(value, param, _MAX_NAME_CHARS)
    try:
        return None if text is None else language_code(text)
    except TympanError as error:
        error.param = param
        raise


def _number(given: _Fields, param: str, name: str, default: float) -> float:
    value = given.get(name)
    return default if value is None else number_in(f"{param}.{name}", value, 0, 60_000)


def _not_offered(param: str, what: str) -> UnsupportedOption:
    return UnsupportedOption(f"{what} not offered here.", param=param, remedy="Leave it out, or set it to null.")
