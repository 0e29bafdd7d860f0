"""Segments to cues that can be read on a screen: lines of limited width, few of them, shown long enough. Pure.

The limits are those that makers of subtitles work with: 42 columns, two lines, one to seven seconds. No word is lost
and no two cues overlap; a word wider than a line has a line of its own. Segments without word times are shared out by
the width of their words.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from tympan.domain import Segment, Shape

MIN_CUE_S = 0.001
"""What a player needs of a cue, where there is no room for more."""

_PAUSES = frozenset(".,;:?!。，、；：？！…।؟")
_WORTH_A_BREAK = 0.5
_WIDE = "WF"
_PARTS = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines of text with the seconds between which they are shown, and who speaks, if that is known."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is never divided: a word with the space before it, or a character where there are no spaces."""

    text: str
    start_s: float
    end_s: float


def columns(text: str) -> int:
    """Return how wide text is on a screen: a Chinese, Japanese or Korean character takes two columns."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in _WIDE else 1 for char in text
    )


def shaped(segments: Iterable[Segment], shape: Shape, end_s: float) -> Iterator[Cue]:
    """Yield the cues of ``segments`` in order; none is stretched beyond ``end_s``, the end of the audio."""
    held: Cue | None = None
    for segment in segments:
        for cue in _cues(segment, shape):
            if held is not None:
                start_s = max(cue.start_s, held.start_s + MIN_CUE_S)
                yield _shown(held, shape, start_s)
                held = replace(cue, start_s=start_s, end_s=max(cue.end_s, start_s + MIN_CUE_S))
            else:
                held = cue
    if held is not None:
        yield _shown(held, shape, max(held.end_s, end_s))


def _shown(cue: Cue, shape: Shape, next_s: float) -> Cue:
    """Return the cue shown as long as it takes to read, but not beyond ``next_s``."""
    width = sum(map(columns, cue.lines))
    wanted_s = max(shape.min_cue_s, width / shape.max_chars_per_s)
    end_s = max(cue.end_s, cue.start_s + min(wanted_s, shape.max_cue_s))
    return replace(cue, end_s=max(cue.start_s + MIN_CUE_S, min(end_s, next_s)))


def _cues(segment: Segment, shape: Shape) -> Iterator[Cue]:
    units = _units(segment, shape.max_line_width)
    while units:
        count = _fitting(units, shape)
        lines = _balanced([unit.text for unit in units[:count]], shape)
        start_s, end_s = units[0].start_s, units[count - 1].end_s
        yield Cue(max(0.0, start_s), max(start_s + MIN_CUE_S, end_s), tuple(lines), segment.speaker)
        units = units[count:]


def _units(segment: Segment, width: int) -> list[_Unit]:
    timed = [_Unit(word.text, word.start_s, word.end_s) for word in segment.words]
    if not timed or "".join(segment.text.split()) != "".join("".join(unit.text.split()) for unit in timed):
        timed = [_Unit(segment.text, segment.start_s, max(segment.start_s, segment.end_s))]
    return [part for unit in timed for part in _divided(unit, width)]


def _divided(unit: _Unit, width: int) -> list[_Unit]:
    """Return the words of a unit, or its characters where a word of a script without spaces fills a line."""
    texts = [piece for part in _PARTS.findall(unit.text) for piece in _pieces(part, width)]
    ends = list(accumulate((columns(text) for text in texts), initial=0))
    if not ends[-1]:
        return []
    step_s = (unit.end_s - unit.start_s) / ends[-1]
    places = [unit.start_s + end * step_s for end in ends]
    return [_Unit(text, start_s, end_s) for text, (start_s, end_s) in zip(texts, pairwise(places), strict=True)]


def _pieces(part: str, width: int) -> list[str]:
    if columns(part.strip()) <= width or not any(unicodedata.east_asian_width(char) in _WIDE for char in part):
        return [part]
    lead = len(part) - len(part.lstrip())
    pieces = [part[: lead + 1]]
    for char in part[lead + 1 :]:
        if unicodedata.combining(char) or char in _PAUSES:  # Neither may start a line.
            pieces[-1] += char
        else:
            pieces.append(char)
    return pieces


def _fitting(units: Sequence[_Unit], shape: Shape) -> int:
    """Return how many of the units make one cue: as many as fit, but rather up to a pause in the later half."""
    count = 1
    while count < len(units):
        too_long = units[count].end_s - units[0].start_s > shape.max_cue_s
        if too_long or len(_wrapped([unit.text for unit in units[: count + 1]], shape)) > shape.max_line_count:
            break
        count += 1
    if count == len(units):
        return count
    for end in range(count, int(count * _WORTH_A_BREAK), -1):
        if units[end - 1].text[-1:] in _PAUSES:
            return end
    return count


def _balanced(texts: Sequence[str], shape: Shape) -> list[str]:
    """Return as few lines as the text needs, of about the same width."""
    lines = _wrapped(texts, shape)
    low = max(1, columns("".join(texts).strip()) // len(lines))
    for width in range(low, shape.max_line_width):
        even = _wrapped(texts, replace(shape, max_line_width=width))
        if len(even) == len(lines) and max(map(columns, even)) <= max(map(columns, lines)):
            return even
    return lines


def _wrapped(texts: Sequence[str], shape: Shape) -> list[str]:
    lines: list[str] = []
    words = 0
    for text in texts:
        joined = lines[-1] + " ".join(text.split("\n")) if lines else ""
        most = shape.max_words_per_line
        if lines and columns(joined) <= shape.max_line_width and (most is None or words < most):
            lines[-1], words = joined, words + 1
        else:
            lines.append(text.strip())
            words = 1
    return lines
