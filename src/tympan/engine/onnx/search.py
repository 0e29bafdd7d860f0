"""Which tokens to keep: beam search and sampling over whatever says what may come next. Pure.

Beam search follows Whisper's (Radford et al. 2022, patience 1) with CTranslate2's rule for ends: the best ``2 * width``
continuations are looked at, an end counts if it is among the first ``width``, the search is over when ``width`` texts
have ended, and the text with the best mean log-probability wins. A beam of one is greedy search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tympan.engine.asking import Decoded

Values = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text so far, the sum of its tokens' log-probabilities with the end, and each of them without it."""

    tokens: tuple[int, ...]
    score: float
    ended: bool = False
    logprobs: tuple[float, ...] = ()

    @property
    def merit(self) -> float:
        """Mean log-probability, by which texts of different lengths are compared."""
        return self.score / max(1, len(self.tokens))

    def then(self, token: int, score: float, end: int) -> "Hypothesis":
        """Return the text with one more token, or ended by ``end``."""
        if token == end:
            return Hypothesis(self.tokens, score, True, self.logprobs)
        return Hypothesis((*self.tokens, token), score, False, (*self.logprobs, score - self.score))


@dataclass(frozen=True, slots=True)
class Move:
    """What to feed next for one window: per row a token, and the row whose past it continues."""

    tokens: list[int]
    parents: list[int]


class Search(Protocol):
    """Looks for the text of one window.

    ``width`` rows are decoded for it, ``top`` likeliest tokens (0: all, by number) are looked at in each, and the text
    ends at ``cap`` tokens at the latest.
    """

    width: int
    top: int
    cap: int

    def start(self, logprobs: Values) -> Move | None:
        """Take the log-probabilities of all tokens after the prompt; see ``advance``."""
        ...

    def advance(self, best: Values, ids: Ids) -> Move | None:
        """Take the rows' answers, shape ``[width, top]``; return what to feed next, or ``None`` at the end."""
        ...

    def result(self, no_speech_prob: float) -> Decoded:
        """Return the text found."""
        ...


class BeamSearch:
    """Keeps the ``width`` likeliest texts; needs the ``2 * width`` best tokens of each."""

    def __init__(self, width: int, cap: int, end: int) -> None:
        """Search for a text of at most ``cap`` tokens that ``end`` ends."""
        self.width = width
        self.top = 2 * width
        self.cap = cap
        self._end = end
        self._live: list[Hypothesis] = [Hypothesis((), 0.0)]
        self._ended: list[Hypothesis] = []

    def start(self, logprobs: Values) -> Move | None:
        """See ``Search``."""
        ids = np.argpartition(-logprobs, self.top)[: self.top]
        return self.advance(logprobs[None, ids], ids[None])

    def advance(self, best: Values, ids: Ids) -> Move | None:
        """See ``Search``."""
        self._live, parents = self._extend(best, ids)
        if len(self._ended) >= self.width or len(self._live[0].tokens) >= self.cap:
            return None
        return Move([text.tokens[-1] for text in self._live], parents)

    def _extend(self, best: Values, ids: Ids) -> tuple[list[Hypothesis], list[int]]:
        totals = best + np.array([[text.score] for text in self._live], dtype=np.float32)
        order = np.argsort(-totals, axis=None, kind="stable")[: 2 * self.width]
        live: list[Hypothesis] = []
        parents: list[int] = []
        for rank, place in enumerate(order.tolist()):
            row, column = divmod(place, best.shape[1])
            text = self._live[row].then(int(ids[row, column]), float(totals[row, column]), self._end)
            if not text.ended:
                live.append(text)
                parents.append(row)
                if len(live) == self.width:
                    break
            elif rank < self.width:
                self._ended.append(text)
        return live, parents

    def result(self, no_speech_prob: float) -> Decoded:
        """See ``Search``."""
        missing = max(0, self.width - len(self._ended))
        return _decoded([*self._ended, *self._live[:missing]], no_speech_prob)


class Sampling:
    """Draws ``width`` texts at a temperature; needs every token's log-probability.

    The generator is seeded alike for every window: the same window gives the same text, alone or in a batch.
    """

    def __init__(self, width: int, cap: int, end: int, temperature: float) -> None:
        """Draw texts of at most ``cap`` tokens that ``end`` ends."""
        self.width = width
        self.top = 0
        self.cap = cap
        self._end = end
        self._temperature = temperature
        self._random = np.random.default_rng(0)
        self._texts = [Hypothesis((), 0.0)] * width

    def start(self, logprobs: Values) -> Move | None:
        """See ``Search``."""
        ids = np.arange(len(logprobs))
        return self.advance(np.tile(logprobs, (self.width, 1)), np.tile(ids, (self.width, 1)))

    def advance(self, best: Values, ids: Ids) -> Move | None:
        """See ``Search``."""
        for row, column in enumerate(self._draw(best)):
            text = self._texts[row]
            if not self._over(text):
                score = text.score + float(best[row, column])
                self._texts[row] = text.then(int(ids[row, column]), score, self._end)
        if all(map(self._over, self._texts)):
            return None
        # A row that is over keeps its place; what it is fed no longer matters.
        return Move([text.tokens[-1] if text.tokens else self._end for text in self._texts], list(range(self.width)))

    def _draw(self, logprobs: Values) -> list[int]:
        """Return one column per row, each as likely as its log-probability at the temperature says."""
        heat = (logprobs - logprobs.max(axis=1, keepdims=True)) / self._temperature
        sums = np.cumsum(np.exp(heat), axis=1, dtype=np.float64)
        marks = self._random.random(len(sums)) * sums[:, -1]
        last = sums.shape[1] - 1  # Rounding may put a mark on the very end.
        return [min(last, int(np.searchsorted(row, mark, side="right"))) for row, mark in zip(sums, marks, strict=True)]

    def _over(self, text: Hypothesis) -> bool:
        return text.ended or len(text.tokens) >= self.cap

    def result(self, no_speech_prob: float) -> Decoded:
        """See ``Search``."""
        return _decoded(self._texts, no_speech_prob)


def _decoded(texts: Sequence[Hypothesis], no_speech_prob: float) -> Decoded:
    text = max(texts, key=lambda text: text.merit)
    # Whisper's average counts the end token as one of the text's.
    average = text.score / (len(text.tokens) + 1)
    return Decoded(list(text.tokens), average, no_speech_prob, not text.ended, text.logprobs)
