"""Where the speaker changes: a token of tinydiarize models, as a mark in the text."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from tympan.domain import SPEAKER_TURN, WindowResult, Word


def turns_after(tokens: Sequence[int], turn: int, end: int) -> tuple[int, ...]:
    """Return after how many tokens of plain text (those below ``end``) each ``turn`` stands in ``tokens``."""
    plain = list(accumulate(int(token < end) for token in tokens))
    return tuple(sorted({count for count, token in zip(plain, tokens, strict=True) if token == turn}))


def marked(result: WindowResult, turns: Sequence[int], decode: Callable[[Sequence[int]], str]) -> WindowResult:
    """Return ``result`` with a mark in its text, and in its words where it has any, after each of ``turns``.

    ``decode`` turns tokens into text. A word keeps the mark that falls inside of it to its end.
    """
    if not turns:
        return result
    words = _marked_words(result.words, turns)
    edges = [0, *turns, len(result.tokens)]
    pieces = SPEAKER_TURN.join(decode(result.tokens[begin:end]) for begin, end in pairwise(edges))
    return replace(result, text="".join(word.text for word in words) or pieces, words=words)


def _marked_words(words: Sequence[Word], turns: Sequence[int]) -> tuple[Word, ...]:
    ends = list(accumulate(len(word.tokens) for word in words))
    begins = [-1, *ends]
    marks = [sum(begin < turn <= end for turn in turns) for begin, end in zip(begins, ends, strict=False)]
    return tuple(replace(word, text=word.text + SPEAKER_TURN * count) for word, count in zip(words, marks, strict=True))
