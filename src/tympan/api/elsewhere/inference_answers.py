"""A transcript as whisper.cpp's server tells it. Pure.

A line is a segment, with a space before it as the model writes it; speakers are those of channels: 0, 1, or ? where
both are about as loud.
"""

import html
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from tympan.api.fields.inference import InferenceRequest
from tympan.domain import Segment, Transcript, Word
from tympan.formats import clock, number
from tympan.languages import language_name
from tympan.turns import speaker_number

MEDIA_TYPES = MappingProxyType(
    {
        "json": "application/json",
        "verbose_json": "application/json",
        "text": "text/html; charset=utf-8",
        "srt": "application/x-subrip",
        "vtt": "text/vtt",
    }
)
"""The media types of that server."""

_LEAST_TOLD = 0.001
_NO_TIME = -1


def rendered(transcript: Transcript, asked: InferenceRequest) -> str:
    """Return a transcript in the format asked for."""
    segments = list(cut(transcript.segments, asked.max_chars)) if asked.max_chars else list(transcript.segments)
    if asked.response_format == "srt":
        return "".join(_srt(segments, asked))
    if asked.response_format == "vtt":
        return "WEBVTT\n\n" + "".join(_vtt(segments, asked))
    text = "".join(f"{_speaker(one, asked)}{one.text}\n" for one in segments)
    if asked.response_format == "text":
        return text
    document = _document(transcript, segments, asked) if asked.response_format == "verbose_json" else {}
    return json.dumps({**document, "text": text}, ensure_ascii=False, allow_nan=False)


def cut(segments: Iterable[Segment], max_chars: int) -> Iterator[Segment]:
    """Yield the segments, cut between words where they are longer than ``max_chars``; a longer word stays whole."""
    index = 0
    for segment in segments:
        for words in _runs(segment.words, max_chars) if segment.words else [()]:
            yield replace(segment, id=index, **_share(words)) if words else replace(segment, id=index)
            index += 1


def _runs(words: Iterable[Word], max_chars: int) -> Iterator[tuple[Word, ...]]:
    run: list[Word] = []
    for word in words:
        if run and len("".join(one.text for one in (*run, word)).strip()) > max_chars:
            yield tuple(run)
            run = []
        run.append(word)
    if run:
        yield tuple(run)


def _share(words: tuple[Word, ...]) -> dict[str, Any]:
    return {
        "text": "".join(word.text for word in words),
        "start_s": words[0].start_s,
        "end_s": words[-1].end_s,
        "tokens": tuple(token for word in words for token in word.tokens),
        "words": words,
    }


def _srt(segments: Iterable[Segment], asked: InferenceRequest) -> Iterator[str]:
    for n, segment in enumerate(segments, asked.first_number):
        start, end = _times_ms(segment)
        text = f"{_speaker(segment, asked)}{segment.text}".replace("-->", "->").strip()
        yield f"{n}\n{clock(start, ',')} --> {clock(end, ',')}\n{text}\n\n"


def _vtt(segments: Iterable[Segment], asked: InferenceRequest) -> Iterator[str]:
    for segment in segments:
        start, end = _times_ms(segment)
        voice = f"<v Speaker{_number(segment)}>" if asked.options.diarize else ""
        yield f"{clock(start, '.')} --> {clock(end, '.')}\n{voice}{html.escape(segment.text.strip(), quote=False)}\n\n"


def _times_ms(segment: Segment) -> tuple[int, int]:
    start_ms = max(0, round(number(segment.start_s) * 1000))
    return start_ms, max(start_ms + 1, round(number(segment.end_s) * 1000))


def _speaker(segment: Segment, asked: InferenceRequest) -> str:
    return f"(speaker {_number(segment)})" if asked.options.diarize else ""


def _number(segment: Segment) -> str:
    number = speaker_number(segment.speaker or "")
    return "?" if number is None else str(number)


def _document(transcript: Transcript, segments: Iterable[Segment], asked: InferenceRequest) -> dict[str, Any]:
    return {
        "task": transcript.task.value,
        "language": language_name(transcript.language or ""),
        "duration": number(transcript.duration_s),
        "text": "",
        "segments": [_segment(one, asked) for one in segments],
        **(_detection(transcript) if asked.probabilities and not asked.options.language else {}),
    }


def _segment(segment: Segment, asked: InferenceRequest) -> dict[str, Any]:
    return {
        "id": segment.id,
        "text": segment.text,
        **_span(segment.start_s, segment.end_s, asked),
        **({"speaker": _number(segment)} if asked.options.diarize else {}),
        "tokens": list(segment.tokens),
        **({"words": [_word(word, asked) for word in segment.words]} if asked.words else {}),
        "temperature": number(segment.temperature),
        "avg_logprob": number(segment.avg_logprob, 6),
        "no_speech_prob": number(segment.no_speech_prob, 6),
    }


def _word(word: Word, asked: InferenceRequest) -> dict[str, Any]:
    times = {**_span(word.start_s, word.end_s, asked), "t_dtw": _NO_TIME} if asked.times else {}
    return {"word": word.text, **times, "probability": number(word.probability, 4)}


def _span(start_s: float, end_s: float, asked: InferenceRequest) -> dict[str, Any]:
    return {"start": number(start_s, 2), "end": number(end_s, 2)} if asked.times else {}


def _detection(transcript: Transcript) -> dict[str, Any]:
    """Tell what was heard of the language; there is nothing to tell where it was given, or nobody spoke."""
    if not transcript.language:
        return {}
    return {
        "detected_language": language_name(transcript.language),
        "detected_language_probability": number(transcript.language_probability, 6),
        "language_probabilities": {code: number(p, 6) for code, p in transcript.languages if p > _LEAST_TOLD},
    }
