"""What was said before helps with what is said now: utterances are decoded behind earlier ones. Pure.

A file is cut into windows of up to 28 s; a pause of a talk comes after a few. Alone, such a short window has more
errors, since the model knows neither the topic nor the sentence. So the audio of the utterances before is decoded
again with each one, and the words of these, which are known, are taken off the result.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from tympan.audio.windows import SampleBuffer
from tympan.domain import SAMPLE_RATE_HZ, Piece, Span, Window, WindowResult, Word
from tympan.live.agreement import overlap
from tympan.transcript import source_time_s

MAX_WINDOW_S = 28.0
"""As in a file: an utterance and its context are no longer together."""

JOINED_S = 2.0
"""A silence of less stays in the window, as it does in a file; a longer one is left out."""

APART_S = 4.0
"""What lies behind a silence of more is no context."""


class Past:
    """The last utterances of a session."""

    def __init__(self, context_s: float) -> None:
        """Remember as much as ``context_s`` seconds, silences included."""
        self._context = round(context_s * SAMPLE_RATE_HZ)
        self._spans: deque[tuple[int, Span]] = deque()

    def add(self, number: int, span: Span) -> None:
        """Take the next utterance, and forget those that can be no context any more."""
        self._spans.append((number, span))
        while self._spans and span.end_sample - self._spans[0][1].start_sample > self._context:
            self._spans.popleft()

    def first_sample(self, otherwise: int) -> int:
        """Return where the first one begins that may still be context, or ``otherwise`` when there is none."""
        return self._spans[0][1].start_sample if self._spans else otherwise

    def before(self, span: Span) -> Mapping[int, Span]:
        """Return the utterances to decode before ``span``, in order, by their numbers."""
        found: dict[int, Span] = {}
        room = min(self._context, round(MAX_WINDOW_S * SAMPLE_RATE_HZ) - (span.end_sample - span.start_sample))
        following = span
        for number, earlier in reversed(self._spans):
            apart = following.start_sample - earlier.end_sample
            if apart > APART_S * SAMPLE_RATE_HZ or span.start_sample - earlier.start_sample > room:
                break
            found[number] = following = earlier
        return dict(reversed(found.items()))


def packed(number: int, spans: Sequence[Span], buffer: SampleBuffer) -> Window:
    """Return a window of these spans, with the short silences between them."""
    merged = [spans[0]]
    for before, span in pairwise(spans):
        if span.start_sample - before.end_sample < JOINED_S * SAMPLE_RATE_HZ:
            merged[-1] = replace(merged[-1], end_sample=span.end_sample, peak=max(merged[-1].peak, span.peak))
        else:
            merged.append(span)
    parts = [buffer.cut(span) for span in merged]
    pieces: list[Piece] = []
    at = 0
    for span, samples in zip(merged, parts, strict=True):
        pieces.append(Piece(at, span.start_sample, len(samples)))
        at += len(samples)
    return Window(number, np.concatenate(parts), tuple(pieces), max(span.peak for span in merged))


def placed(window: Window, words: Sequence[Word]) -> list[Word]:
    """Return a window's words with times that count in the source."""
    return [
        replace(word, start_s=source_time_s(window, word.start_s), end_s=source_time_s(window, word.end_s, is_end=True))
        for word in words
    ]


def without_context(window: Window, result: WindowResult, known: Sequence[Word]) -> WindowResult:
    """Return ``result`` without the words that say again what is ``known``, whose times count in the source."""
    n_known = overlap(known, placed(window, result.words))
    words = result.words[n_known:]
    n_tokens = sum(len(word.tokens) for word in result.words[:n_known])
    return replace(
        result,
        text="".join(word.text for word in words),
        tokens=tuple(token for word in words for token in word.tokens),
        words=words,
        token_chances=result.token_chances[n_tokens:],
    )
