"""A transcript to be read little by little, its numbers made fit to print, its speakers called by their names."""

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from tympan.domain import Output, Segment, Transcript

_LETTERS = string.ascii_uppercase


class Readable(Protocol):
    """A transcript that is read little by little, as often as one likes."""

    @property
    def head(self) -> Transcript:
        """The transcript, whose text and segments are not looked at."""

    def texts(self) -> Iterator[str]:
        """Yield the text in pieces."""

    def groups(self) -> Iterator[Sequence[Segment]]:
        """Yield the segments, some at a time."""


def named(source: Readable, output: Output) -> Iterator[Sequence[Segment]]:
    """Yield the segments with the names of known speakers."""
    for group in source.groups():
        yield [replace(one, speaker=name_of(one, output.speakers)) for one in group] if output.speakers else group


def name_of(segment: Segment, names: Sequence[str]) -> str | None:
    """Return what the speaker of a segment is called; known speakers have the first letters."""
    return dict(zip(_LETTERS, names, strict=False)).get(segment.speaker or "", segment.speaker)


def number(value: float, digits: int = 3) -> float:
    """Return the value rounded to ``digits``, or 0 for what JSON cannot say."""
    return round(float(value), digits) if math.isfinite(value) else 0.0


def finite(value: float) -> float:
    """Return the value, or 0 for what JSON cannot say (a log-probability of no tokens is minus infinity)."""
    return float(value) if math.isfinite(value) else 0.0
