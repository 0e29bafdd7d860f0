"""A transcript as its readers want it: JSON in OpenAI's shapes, plain text, subtitles, a table. Pure functions."""

import html
import json
import math
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any, TypeAlias

from tympan.domain import ResponseFormat, Segment, Task, Transcript, Word
from tympan.languages import language_name

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


def media_type(fmt: ResponseFormat) -> str:
    """Return the HTTP media type of a format."""
    return MEDIA_TYPES[fmt]


def render(transcript: Transcript, fmt: ResponseFormat, *, words: bool = False, segments: bool = True) -> str:
    """Return the transcript in one format.

    ``words`` and ``segments`` choose the lists that ``verbose_json`` carries; the other formats ignore them.
    """
    if fmt == "verbose_json":
        return _dump(verbose(transcript, words=words, segments=segments))
    return _RENDERERS[fmt](transcript)


def verbose(transcript: Transcript, *, words: bool, segments: bool) -> JsonObject:
    """Return ``verbose_json`` as an object: OpenAI's fields first, then ours."""
    accounting = transcript.accounting
    return {
        "task": transcript.task.value,
        "language": _output_language(transcript),
        "duration": _number(accounting.audio_s),
        "text": transcript.text,
        **({"segments": [_segment(segment) for segment in transcript.segments]} if segments else {}),
        **({"words": [_word(word) for word in transcript.words]} if words else {}),
        "usage": _usage(transcript),
        "language_code": transcript.language,
        "language_probability": _number(transcript.language_probability, 4),
        "languages": [{"code": code, "probability": _number(p, 4)} for code, p in transcript.languages],
        "model": transcript.model,
        "processing_time_ms": _number(transcript.processing_s * 1000, 1),
        "audio_duration_s": _number(accounting.audio_s),
        "speech": {
            "audio_s": _number(accounting.audio_s),
            "speech_s": _number(accounting.speech_s),
            "dropped_s": _number(accounting.dropped_s),
            "covered_s": _number(accounting.covered_s),
        },
    }


def _json(transcript: Transcript) -> str:
    return _dump({"text": transcript.text, "usage": _usage(transcript)})


def _text(transcript: Transcript) -> str:
    return transcript.text + "\n"


def _srt(transcript: Transcript) -> str:
    cues = (
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text.replace('-->', '->')}\n\n"
        for number, (start, end, text) in enumerate(_cues(transcript.segments), start=1)
    )
    return "".join(cues)


def _vtt(transcript: Transcript) -> str:
    cues = (
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{html.escape(text, quote=False)}\n\n"
        for start, end, text in _cues(transcript.segments)
    )
    return "WEBVTT\n\n" + "".join(cues)


def _tsv(transcript: Transcript) -> str:
    rows = (f"{start}\t{end}\t{_cell(text)}\n" for start, end, text in _cues(transcript.segments))
    return "start\tend\ttext\n" + "".join(rows)


_RENDERERS = MappingProxyType[ResponseFormat, Callable[[Transcript], str]](
    {"json": _json, "text": _text, "srt": _srt, "vtt": _vtt, "tsv": _tsv}
)


def _cues(segments: Iterable[Segment]) -> Iterable[tuple[int, int, str]]:
    """Yield start and end in milliseconds and one line of text; every cue has a length and something to read."""
    for segment in segments:
        text = " ".join(segment.text.split())
        if text:
            start_ms = max(0, round(_finite(segment.start_s) * 1000))
            yield start_ms, max(start_ms + _MIN_CUE_MS, round(_finite(segment.end_s) * 1000)), text


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
    }


def _word(word: Word) -> JsonObject:
    return {
        "word": word.text.strip(),
        "start": _number(word.start_s),
        "end": _number(word.end_s),
        "probability": _number(word.probability, 4),
    }


def _output_language(transcript: Transcript) -> str:
    """Name the language of the *text*, as OpenAI does: a translation is always English."""
    return "english" if transcript.task is Task.TRANSLATE else language_name(transcript.language or "")


def _usage(transcript: Transcript) -> JsonObject:
    return {"type": "duration", "seconds": math.ceil(_finite(transcript.duration_s))}


def _number(value: float, digits: int = 3) -> float:
    return round(_finite(value), digits)


def _finite(value: float) -> float:
    """Return the value, or 0 for what JSON cannot say (a log-probability of no tokens is minus infinity)."""
    return float(value) if math.isfinite(value) else 0.0


def _dump(value: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
