"""A transcript as its readers want it: JSON in OpenAI's shapes, plain text, subtitles, a table. Pure functions.

Every format is made little by little, from a transcript that is read little by little, so that neither is ever held
whole by who does not want to.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from types import MappingProxyType
from typing import Any, TypeAlias

from tympan.domain import SPEAKER_TURN, Output, ResponseFormat, Segment, Shape, Task, TokenChance, Transcript
from tympan.formats.cues import clock, srt, tsv, vtt
from tympan.formats.readable import Readable, finite, name_of, named, number
from tympan.languages import language_name
from tympan.turns import names, rttm_text

__all__ = (
    "MEDIA_TYPES",
    "UNKNOWN_SPEAKER",
    "Readable",
    "Trim",
    "clock",
    "diarized_segment",
    "drop_in",
    "heard_languages",
    "held_pieces",
    "json_object",
    "json_string",
    "logprobs",
    "media_type",
    "number",
    "pieces",
    "render",
    "rendered",
    "segment_json",
    "token_usage",
)

JsonObject: TypeAlias = dict[str, Any]

MEDIA_TYPES = MappingProxyType[ResponseFormat, str](
    {
        "json": "application/json",
        "verbose_json": "application/json",
        "text": "text/plain; charset=utf-8",
        "srt": "application/x-subrip; charset=utf-8",
        "vtt": "text/vtt; charset=utf-8",
        "tsv": "text/tab-separated-values; charset=utf-8",
        "diarized_json": "application/json",
        "rttm": "text/plain; charset=utf-8",
    }
)
"""Every output format with the media type it is sent as."""

UNKNOWN_SPEAKER = "unknown"
"""Who speaks in ``diarized_json``, which has to say somebody, where nothing tells who it is."""

_FRAMES_PER_S = 100
_POSITIONS_PER_S = 50
_PIECE_CHARS = 16_384
_AT_ONCE = 256


def media_type(fmt: ResponseFormat) -> str:
    """Return the HTTP media type of a format."""
    return MEDIA_TYPES[fmt]


def render(
    transcript: Transcript,
    fmt: ResponseFormat,
    *,
    words: bool = False,
    segments: bool = True,
    shape: Shape | None = None,
) -> str:
    """Return the transcript in one format.

    ``words`` and ``segments`` choose the lists that ``verbose_json`` carries, ``shape`` cuts ``srt`` and ``vtt``; the
    other formats ignore them.
    """
    return rendered(transcript, Output(fmt, words, segments, shape))


def rendered(transcript: Transcript, output: Output) -> str:
    """Return the transcript as ``output`` says."""
    return "".join(held_pieces(transcript, output))


def held_pieces(transcript: Transcript, output: Output) -> Iterator[str]:
    """Yield a transcript as ``rendered`` returns it, in pieces of some kilobytes."""
    return pieces(_Held(transcript), output)


def pieces(source: Readable, output: Output, *, timed: bool = False) -> Iterator[str]:
    """Yield a transcript in the format asked for, in pieces of some kilobytes.

    ``timed`` adds to JSON how long the work took and the audio is; ``verbose_json`` tells that anyway. Raises what
    reading the source raises.
    """
    made = _OBJECTS.get(output.response_format)
    if made is None:
        return _gathered(_TEXTS[output.response_format](source, output))
    return _gathered(json_object(made(source, output) | (_timing(source.head) if timed else {})))


def drop_in(source: Readable, *, words: bool) -> Iterator[str]:
    """Yield a transcript as JSON in the shape that other servers have; ``words`` are listed in their segments."""
    head = source.head
    members = {
        "text": json_string(source.texts()),
        "language": head.language,
        "language_probability": number(head.language_probability, 4),
        "segments": _json_list([_timed(one, words=words) for one in group] for group in source.groups()),
    }
    return _gathered(json_object(members))


def token_usage(head: Transcript) -> JsonObject:
    """Return what was used as OpenAI tells it at the end of a stream, where it counts tokens.

    Those of the audio are the 20 ms that a Whisper encoder makes one of; ``seconds`` is as without a stream.
    """
    heard, said = math.ceil(finite(head.duration_s) * _POSITIONS_PER_S), sum(len(one.tokens) for one in head.segments)
    return {
        "type": "tokens",
        "input_tokens": heard,
        "output_tokens": said,
        "total_tokens": heard + said,
        "input_token_details": {"audio_tokens": heard},
        "seconds": _usage(head)["seconds"],
    }


def json_object(members: Mapping[str, Any]) -> Iterator[str]:
    """Yield a JSON object in pieces. A member that is an iterator yields JSON already."""
    before = "{"
    for name, value in members.items():
        yield f"{before}{_dump(name)}: "
        before = ", "
        if isinstance(value, Iterator):
            yield from value
        else:
            yield _dump(value)
    yield "}"


def json_string(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts as one JSON string, in pieces."""
    yield '"'
    for text in texts:
        yield _dump(text)[1:-1]
    yield '"'


@dataclass(frozen=True, slots=True)
class _Held:
    """A transcript in memory, to be read."""

    head: Transcript

    def texts(self) -> Iterator[str]:
        yield self.head.text

    def groups(self) -> Iterator[Sequence[Segment]]:
        for start in range(0, len(self.head.segments), _AT_ONCE):
            yield self.head.segments[start : start + _AT_ONCE]


def _gathered(strings: Iterable[str]) -> Iterator[str]:
    """Yield the same text in pieces that are worth sending."""
    held: list[str] = []
    n_chars = 0
    for string in strings:
        held.append(string)
        n_chars += len(string)
        if n_chars >= _PIECE_CHARS:
            yield "".join(held)
            held, n_chars = [], 0
    if held:
        yield "".join(held)


def _verbose(source: Readable, output: Output) -> JsonObject:
    """Return the members of ``verbose_json``: OpenAI's fields first, then ours."""
    head = source.head
    lists: JsonObject = {}
    if output.segments:
        lists["segments"] = _json_list([segment_json(one) for one in group] for group in named(source, output))
    if output.words:
        lists["words"] = _json_list([word for one in group for word in _words(one)] for group in named(source, output))
    return {
        "task": head.task.value,
        "language": _output_language(head),
        "duration": number(head.duration_s),
        "text": json_string(source.texts()),
        **lists,
        "usage": _usage(head),
        "language_code": head.language,
        "language_probability": number(head.language_probability, 4),
        "languages": [{"code": code, "probability": number(p, 4)} for code, p in head.languages],
        "model": head.model,
        "made_by": asdict(head.provenance),
        **_timing(head),
    }


def _json(source: Readable, output: Output) -> JsonObject:
    chances = {"logprobs": _json_list(map(logprobs, _tokens(source)))} if output.token_chances else {}
    head = source.head
    return {"text": json_string(source.texts()), **heard_languages(head), **chances, "usage": _usage(head)}


def _tokens(source: Readable) -> Iterator[Sequence[TokenChance]]:
    """Yield the tokens of the text, some at a time; no space before the first and behind the last."""
    trim = Trim()
    for group in source.groups():
        yield trim.some(token for segment in group for token in segment.token_chances)


def logprobs(tokens: Iterable[TokenChance]) -> list[JsonObject]:
    """Return tokens as OpenAI lists them; one that is part of a character shows a mark for it, and its bytes."""
    return [
        {
            "token": bytes(one.octets).decode("utf-8", "replace"),
            "bytes": list(one.octets),
            "logprob": number(one.logprob, 6),
        }
        for one in tokens
    ]


class Trim:
    """Tokens without the spaces around the text that they spell."""

    def __init__(self) -> None:
        """Begin before the first token."""
        self._has_begun = False
        self._blank: list[TokenChance] = []

    def some(self, tokens: Iterable[TokenChance]) -> list[TokenChance]:
        """Return the next tokens; spaces wait until something follows them."""
        found: list[TokenChance] = []
        for token in tokens:
            octets = token.octets if self._has_begun else _lead_cut(token.octets)
            if octets and bytes(octets).isspace():
                self._blank.append(token)
            elif octets:
                found += [*self._blank, replace(token, octets=octets)]
                self._blank, self._has_begun = [], True
        return found


def _lead_cut(octets: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(bytes(octets).lstrip())


def heard_languages(head: Transcript) -> JsonObject:
    """Return the language of the speech as OpenAI tells it; nothing where the model does not say."""
    return {"languages": [{"code": head.language}]} if head.language else {}


def _diarized(source: Readable, output: Output) -> JsonObject:
    head = source.head
    return {
        "task": head.task.value,
        "duration": number(head.duration_s),
        "text": json_string(source.texts()),
        "segments": _json_list([diarized_segment(one, output.speakers) for one in group] for group in source.groups()),
        "usage": _usage(head),
    }


def diarized_segment(segment: Segment, names: Sequence[str]) -> JsonObject:
    """Return a segment as ``diarized_json`` has it, and streams of it; ``names`` are those of known speakers."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{segment.id}",
        "start": number(segment.start_s),
        "end": number(segment.end_s),
        "speaker": name_of(segment, names) or UNKNOWN_SPEAKER,
        "text": segment.text.strip(),
    }


def _timing(head: Transcript) -> JsonObject:
    accounting = head.accounting
    return {
        "processing_time_ms": number(head.processing_s * 1000, 1),
        "audio_duration_s": number(accounting.audio_s),
        "speech": {
            "audio_s": number(accounting.audio_s),
            "speech_s": number(accounting.speech_s),
            "dropped_s": number(accounting.dropped_s),
            "covered_s": number(accounting.covered_s),
        },
    }


def _text(source: Readable, _output: Output) -> Iterator[str]:
    yield from source.texts()
    yield "\n"


def _rttm(source: Readable, output: Output) -> Iterator[str]:
    """Yield who spoke when: the turns that voices tell, or where there are none the segments, joined by speaker."""
    if source.head.turns:
        called = dict(enumerate(names(source.head.turns))) | dict(enumerate(output.speakers))
        for turn in source.head.turns:
            yield rttm_text([(turn.start_s, turn.end_s, called[turn.speaker])])
        return
    spoken = (segment for group in named(source, output) for segment in group if segment.speaker)
    for name, run in groupby(spoken, key=lambda segment: segment.speaker or ""):
        first, *rest = run
        yield rttm_text([(finite(first.start_s), finite((rest or [first])[-1].end_s), name)])


_OBJECTS = MappingProxyType[ResponseFormat, Callable[[Readable, Output], JsonObject]](
    {"json": _json, "verbose_json": _verbose, "diarized_json": _diarized}
)
_TEXTS = MappingProxyType[ResponseFormat, Callable[[Readable, Output], Iterator[str]]](
    {"text": _text, "srt": srt, "vtt": vtt, "tsv": tsv, "rttm": _rttm}
)


def segment_json(segment: Segment) -> JsonObject:
    """Return a segment as ``verbose_json`` lists it."""
    return {
        "id": segment.id,
        "seek": int(finite(segment.start_s) * _FRAMES_PER_S),
        "start": number(segment.start_s),
        "end": number(segment.end_s),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": number(segment.temperature),
        "avg_logprob": number(segment.avg_logprob, 6),
        "compression_ratio": number(segment.compression_ratio, 6),
        "no_speech_prob": number(segment.no_speech_prob, 6),
        "confidence": segment.confidence,
        "hallucination_score": segment.hallucination_score,
        **({"language": segment.language} if segment.language else {}),
        **_spoken_by(segment),
        **_turn_after(segment),
    }


def _spoken_by(segment: Segment) -> JsonObject:
    return {"speaker": segment.speaker} if segment.speaker else {}


def _turn_after(segment: Segment) -> JsonObject:
    """Name it as whisper.cpp does, where a turn was written down."""
    return {"speaker_turn_next": True} if segment.text.endswith(SPEAKER_TURN) else {}


def _words(segment: Segment) -> list[JsonObject]:
    return [
        {
            "word": word.text.strip(),
            "start": number(word.start_s),
            "end": number(word.end_s),
            "probability": number(word.probability, 4),
            **_spoken_by(segment),
        }
        for word in segment.words
    ]


def _timed(segment: Segment, *, words: bool) -> JsonObject:
    found = {"start": number(segment.start_s), "end": number(segment.end_s), "text": segment.text}
    return found | ({"words": _words(segment)} if words else {})


def _output_language(transcript: Transcript) -> str:
    """Name the language of the *text*, as OpenAI does: a translation is always English."""
    return "english" if transcript.task is Task.TRANSLATE else language_name(transcript.language or "")


def _usage(transcript: Transcript) -> JsonObject:
    return {"type": "duration", "seconds": math.ceil(finite(transcript.duration_s))}


def _json_list(batches: Iterable[Sequence[JsonObject]]) -> Iterator[str]:
    """Yield all entries as one JSON list, a batch at a time."""
    before = "["
    for batch in filter(None, batches):
        yield before + _dump(batch)[1:-1]
        before = ", "
    yield "[]" if before == "[" else "]"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
