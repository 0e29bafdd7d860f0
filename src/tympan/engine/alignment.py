"""Cross-attention alignments to word times."""

from collections.abc import Sequence

import numpy as np

from tympan.domain import Word
from tympan.engine.splice import POSITIONS_PER_S
from tympan.engine.tokens import WordTokens


def word_times(
    words: Sequence[WordTokens],
    alignments: Sequence[tuple[int, int]],
    probabilities: Sequence[float],
    duration_s: float,
) -> tuple[Word, ...]:
    """Return ``words`` with times in seconds from the window's start, never beyond ``duration_s``.

    ``alignments`` are (text token, encoder position) pairs of one monotone path, as dynamic time warping over the
    cross-attention weights gives them; a word lasts from its first token's first position to the next word's.
    """
    if not words or not alignments:
        return ()
    path = np.asarray(alignments)
    tokens, positions = path[:, 0], path[:, 1]
    first = positions[np.concatenate([[True], np.diff(tokens) > 0])] / POSITIONS_PER_S
    edges = np.cumsum([0, *(len(word.tokens) for word in words)])
    found: list[Word] = []
    for word, begin, end in zip(words, edges[:-1], edges[1:], strict=True):
        start_s = _at(first, begin, duration_s)
        end_s = max(start_s, _at(first, end, duration_s))
        chance = probabilities[begin:end]
        found.append(Word(word.text, start_s, end_s, float(np.mean(chance)) if len(chance) else 0.0, word.tokens))
    return tuple(found)


def _at(first: "np.ndarray[tuple[int], np.dtype[np.float64]]", token: int, duration_s: float) -> float:
    return min(duration_s, float(first[token])) if token < len(first) else duration_s
