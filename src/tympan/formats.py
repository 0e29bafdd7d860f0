"""A transcript as its readers want it: JSON in OpenAI's shapes, plain text, subtitles, a table. Pure functions.

Every format is made little by little, from a transcript that is read little by little, so that neither is ever held
whole by who does not want to.
"""

import html
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from tympan.domain import Output, ResponseFormat, Segment, Shape, Task, Transcript, Word
from tympan.languages import language_name
from tympan.subtitles import shaped

JsonObject: TypeAlias = dict[str, Any]

MEDIA_TYPES = MappingProxyType[ResponseFormat, str](
    {
        "json": "application/json",
        "verbose_json": "application/json",
        "text": "text/plain; charset=utf-8",
        "srt": "application/x-subrip; charset=utf-8",
        "vtt": "text/vtt; charset=utf-8",
        "tsv": "text/tab-separated-values; charset=utf-8",
    }
)
"""Every output format with the media type it is sent as."""

_MIN_CUE_MS = 1
_FORMULA_STARTS = ("=", "+", "-", "@")
_FRAMES_PER_S = 100
_PIECE_CHARS = 16_384
_AT_ONCE = 256


class Readable(Protocol):
    """A transcript that is read little by little, as often as one likes."""

    @property
    def head(self) -> Transcript:
        """The transcript, whose text and segments are not looked at."""

    def texts(self) -> Iterator[str]:
        """Yield the text in pieces."""

    def groups(self) -> Iterator[Sequence[Segment]]:
        """Yield the segments, some at a time."""


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
    return "".join(pieces(_Held(transcript), Output(fmt, words, segments, shape)))


def pieces(source: Readable, output: Output, *, timed: bool = False) -> Iterator[str]:
    """Yield a transcript in the format asked for, in pieces of some kilobytes.

    ``timed`` adds to plain ``json`` how long the work took and the audio is. Raises what reading the source raises.
    """
    if output.response_format == "verbose_json":
        return _gathered(_verbose(source, output))
    if output.response_format == "json":
        return _gathered(_json(source, timed=timed))
    return _gathered(_RENDERERS[output.response_format](source, output.shape))


def drop_in(source: Readable, *, words: bool) -> Iterator[str]:
    """Yield a transcript as JSON in the shape that other servers have; ``words`` are listed in their segments."""
    head = source.head
    members = {
        "text": json_string(source.texts()),
        "language": head.language,
        "language_probability": _number(head.language_probability, 4),
        "segments": _json_list([_timed(one, words=words) for one in group] for group in source.groups()),
    }
    return _gathered(json_object(members))


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


def _verbose(source: Readable, output: Output) -> Iterator[str]:
    """Yield ``verbose_json``: OpenAI's fields first, then ours."""
    head = source.head
    lists: JsonObject = {}
    if output.segments:
        lists["segments"] = _json_list([_segment(one) for one in group] for group in source.groups())
    if output.words:
        lists["words"] = _json_list([_word(word) for one in group for word in one.words] for group in source.groups())
    members = {
        "task": head.task.value,
        "language": _output_language(head),
        "duration": _number(head.duration_s),
        "text": json_string(source.texts()),
        **lists,
        "usage": _usage(head),
        "language_code": head.language,
        "language_probability": _number(head.language_probability, 4),
        "languages": [{"code": code, "probability": _number(p, 4)} for code, p in head.languages],
        "model": head.model,
        **_timing(head),
    }
    return json_object(members)


def _json(source: Readable, *, timed: bool) -> Iterator[str]:
    timing = _timing(source.head) if timed else {}
    return json_object({"text": json_string(source.texts()), "usage": _usage(source.head), **timing})


def _timing(head: Transcript) -> JsonObject:
    accounting = head.accounting
    return {
        "processing_time_ms": _number(head.processing_s * 1000, 1),
        "audio_duration_s": _number(accounting.audio_s),
        "speech": {
            "audio_s": _number(accounting.audio_s),
            "speech_s": _number(accounting.speech_s),
            "dropped_s": _number(accounting.dropped_s),
            "covered_s": _number(accounting.covered_s),
        },
    }


def _text(source: Readable, _shape: Shape | None) -> Iterator[str]:
    yield from source.texts()
    yield "\n"


def _srt(source: Readable, shape: Shape | None) -> Iterator[str]:
    for number, (start, end, text) in enumerate(_shaped_cues(source, shape), start=1):
        yield f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text.replace('-->', '->')}\n\n"


def _vtt(source: Readable, shape: Shape | None) -> Iterator[str]:
    yield "WEBVTT\n\n"
    for start, end, text in _shaped_cues(source, shape):
        yield f"{_clock(start, '.')} --> {_clock(end, '.')}\n{html.escape(text, quote=False)}\n\n"


def _tsv(source: Readable, _shape: Shape | None) -> Iterator[str]:
    yield "start\tend\ttext\n"
    for start, end, text in _cues(source):
        yield f"{start}\t{end}\t{_cell(text)}\n"


_RENDERERS = MappingProxyType[ResponseFormat, Callable[[Readable, Shape | None], Iterator[str]]](
    {"text": _text, "srt": _srt, "vtt": _vtt, "tsv": _tsv}
)


def _cues(source: Readable) -> Iterator[tuple[int, int, str]]:
    """Yield start and end in milliseconds and one line of text; every cue has a length and something to read."""
    for segment in chain.from_iterable(source.groups()):
        text = " ".join(segment.text.split())
        if text:
            start_ms = max(0, round(_finite(segment.start_s) * 1000))
            yield start_ms, max(start_ms + _MIN_CUE_MS, round(_finite(segment.end_s) * 1000)), text


def _shaped_cues(source: Readable, shape: Shape | None) -> Iterator[tuple[int, int, str]]:
    """Yield as ``_cues`` does, but in several lines and cut as ``shape`` says, if there is one; no two overlap."""
    if shape is None:
        yield from _cues(source)
        return
    before_ms = 0
    for cue in shaped(_sound(source), shape, _finite(source.head.duration_s)):
        start_ms = max(before_ms, round(cue.start_s * 1000))
        before_ms = max(start_ms + _MIN_CUE_MS, round(cue.end_s * 1000))
        yield start_ms, before_ms, "\n".join(cue.lines)


def _sound(source: Readable) -> Iterator[Segment]:
    """Yield the segments with times that can be calculated with."""
    for segment in chain.from_iterable(source.groups()):
        yield replace(segment, start_s=max(0.0, _finite(segment.start_s)), end_s=_finite(segment.end_s))


def _clock(time_ms: int, point: str) -> str:
    seconds, ms = divmod(time_ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{ms:03}"


def _cell(text: str) -> str:
    """Keep a spreadsheet from reading a spoken 'equals' or 'minus' as a formula."""
    return f" {text}" if text.startswith(_FORMULA_STARTS) else text


def _segment(segment: Segment) -> JsonObject:
    return {
        "id": segment.id,
        "seek": int(_finite(segment.start_s) * _FRAMES_PER_S),
        "start": _number(segment.start_s),
        "end": _number(segment.end_s),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": _number(segment.temperature),
        "avg_logprob": _number(segment.avg_logprob, 6),
        "compression_ratio": _number(segment.compression_ratio, 6),
        "no_speech_prob": _number(segment.no_speech_prob, 6),
        "confidence": segment.confidence,
        "hallucination_score": segment.hallucination_score,
        **({"language": segment.language} if segment.language else {}),
    }


def _word(word: Word) -> JsonObject:
    return {
        "word": word.text.strip(),
        "start": _number(word.start_s),
        "end": _number(word.end_s),
        "probability": _number(word.probability, 4),
    }


def _timed(segment: Segment, *, words: bool) -> JsonObject:
    found = {"start": _number(segment.start_s), "end": _number(segment.end_s), "text": segment.text}
    return found | {"words": [_word(word) for word in segment.words]} if words else found


def _output_language(transcript: Transcript) -> str:
    """Name the language of the *text*, as OpenAI does: a translation is always English."""
    return "english" if transcript.task is Task.TRANSLATE else language_name(transcript.language or "")


def _usage(transcript: Transcript) -> JsonObject:
    return {"type": "duration", "seconds": math.ceil(_finite(transcript.duration_s))}


def _number(value: float, digits: int = 3) -> float:
    return round(float(value), digits) if math.isfinite(value) else 0.0


def _finite(value: float) -> float:
    """Return the value, or 0 for what JSON cannot say (a log-probability of no tokens is minus infinity)."""
    return float(value) if math.isfinite(value) else 0.0


def _json_list(batches: Iterable[Sequence[JsonObject]]) -> Iterator[str]:
    """Yield all entries as one JSON list, a batch at a time."""
    before = "["
    for batch in filter(None, batches):
        yield before + _dump(batch)[1:-1]
        before = ", "
    yield "[]" if before == "[" else "]"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
