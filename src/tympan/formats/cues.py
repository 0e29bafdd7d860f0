"""Timed text: subtitles and a table. Every cue has a length and some text, on lines of its own."""

import html
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeAlias

from tympan.domain import Output, Segment
from tympan.formats.readable import Readable, finite, named
from tympan.subtitles import shaped

_TimedText: TypeAlias = tuple[int, int, str, str | None]

_MIN_CUE_MS = 1
_FORMULA_STARTS = ("=", "+", "-", "@")


def srt(source: Readable, output: Output) -> Iterator[str]:
    """Yield SubRip subtitles, whoever speaks before the text."""
    for number, (start, end, text, speaker) in enumerate(_shaped_cues(source, output), start=1):
        said = f"{speaker}: {text}" if speaker else text
        yield f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{said.replace('-->', '->')}\n\n"


def vtt(source: Readable, output: Output) -> Iterator[str]:
    """Yield WebVTT captions; whoever speaks is a voice."""
    yield "WEBVTT\n\n"
    for start, end, text, speaker in _shaped_cues(source, output):
        voice = f"<v {html.escape(speaker)}>" if speaker else ""
        yield f"{clock(start, '.')} --> {clock(end, '.')}\n{voice}{html.escape(text, quote=False)}\n\n"


def tsv(source: Readable, output: Output) -> Iterator[str]:
    """Yield a table of start and end in milliseconds and text, by tabs."""
    yield "start\tend\ttext\n"
    for start, end, text, _ in _cues(source, output):
        yield f"{start}\t{end}\t{_cell(text)}\n"


def _cues(source: Readable, output: Output) -> Iterator[_TimedText]:
    """Yield start and end in milliseconds, one line of text, and who speaks; every cue has a length and some text."""
    for segment in chain.from_iterable(named(source, output)):
        text = " ".join(segment.text.split())
        if text:
            start_ms = max(0, round(finite(segment.start_s) * 1000))
            end_ms = max(start_ms + _MIN_CUE_MS, round(finite(segment.end_s) * 1000))
            yield start_ms, end_ms, text, segment.speaker


def _shaped_cues(source: Readable, output: Output) -> Iterator[_TimedText]:
    """Yield as ``_cues`` does, but in several lines and cut as ``shape`` says, if there is one; no two overlap."""
    if output.shape is None:
        yield from _cues(source, output)
        return
    before_ms = 0
    for cue in shaped(_sound(source, output), output.shape, finite(source.head.duration_s)):
        start_ms = max(before_ms, round(cue.start_s * 1000))
        before_ms = max(start_ms + _MIN_CUE_MS, round(cue.end_s * 1000))
        yield start_ms, before_ms, "\n".join(cue.lines), cue.speaker


def _sound(source: Readable, output: Output) -> Iterator[Segment]:
    """Yield the segments with times that can be calculated with."""
    for segment in chain.from_iterable(named(source, output)):
        yield replace(segment, start_s=max(0.0, finite(segment.start_s)), end_s=finite(segment.end_s))


def clock(time_ms: int, point: str) -> str:
    """Return a time as subtitles have it: ``00:00:01`` and three digits behind ``point``."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{ms:03}"


def _cell(text: str) -> str:
    """Keep a spreadsheet from reading a spoken 'equals' or 'minus' as a formula."""
    return f" {text}" if text.startswith(_FORMULA_STARTS) else text
