"""What the library calls back while it decodes: each looks at the logits of a token, or changes them."""

import math
from ctypes import CFUNCTYPE, c_bool, c_void_p
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tympan.engine.whispercpp.beams import Dictation
from tympan.engine.whispercpp.structures import Filter

Abort = CFUNCTYPE(c_bool, c_void_p)
"""What the library asks whether to stop."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text: its log-probability and probability, and when it was said (-1: unknown)."""

    id: int
    logprob: float
    probability: float
    at_s: float


class Guard:
    """Stops a computation whose logits are no numbers."""

    def __init__(self, n_vocab: int) -> None:
        """Watch logits of ``n_vocab`` tokens."""
        self._n_vocab = n_vocab
        self.failed = False
        self.filter = Filter(self._check)
        self.abort = Abort(lambda _: self.failed)

    def _check(self, context: int, state: int, tokens: Any, n_tokens: int, logits: Any, data: int) -> None:
        values = np.ctypeslib.as_array(logits, (self._n_vocab,))
        # What is ruled out is minus infinity; at least one token never is.
        if np.isnan(values).any() or values.max() in {np.inf, -np.inf}:
            self.failed = True
            # Any plain token will do: the next step, which asks whether to go on, must come.
            values[1:], values[0] = -np.inf, 0.0


class Written:
    """A dictation as the library calls it."""

    def __init__(self, dictation: Dictation, n_vocab: int) -> None:
        """Hand on what the library asks, over ``n_vocab`` tokens."""
        self._dictation, self._n_vocab = dictation, n_vocab
        self.callback = Filter(self._steer)

    def rated(self, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        """Return ``tokens`` with their probabilities in the model; raise what went wrong in the search."""
        if self._dictation.error is not None:
            raise self._dictation.error
        logprobs = self._dictation.logprobs
        return tuple(
            replace(token, logprob=logprob, probability=math.exp(logprob))
            for token, logprob in zip(tokens, logprobs, strict=False)
        )

    def _steer(self, context: int, state: int, tokens: Any, n_tokens: int, logits: Any, data: int) -> None:
        self._dictation.steer(state, n_tokens, np.ctypeslib.as_array(logits, (self._n_vocab,)))


class Sums:
    """Turns log-probabilities at a temperature into those at temperature 1, by which texts are compared.

    A sampled token's log-probability is told after its logit was divided by the temperature. Before each token this
    notes the logarithms of the sums that both kinds are divided by; samples share what they have in common.
    """

    def __init__(self, temperature: float, n_vocab: int) -> None:
        """Correct what is said at ``temperature``, over ``n_vocab`` tokens."""
        self._temperature, self._n_vocab = temperature, n_vocab
        self._noted: dict[tuple[int, ...], tuple[float, float]] = {}
        self.callback = Filter(self._note)

    def at_one(self, tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        """Return ``tokens`` with log-probabilities and probabilities at temperature 1."""
        return tuple(self._corrected(tokens, place) for place in range(len(tokens))) if self._noted else tokens

    def _corrected(self, tokens: tuple[Token, ...], place: int) -> Token:
        warm, plain = self._noted[tuple(token.id for token in tokens[:place])]
        token = tokens[place]
        logprob = min(0.0, self._temperature * (token.logprob + warm) - plain)
        return replace(token, logprob=logprob, probability=math.exp(logprob))

    def _note(self, context: int, state: int, tokens: Any, n_tokens: int, logits: Any, data: int) -> None:
        warm = np.ctypeslib.as_array(logits, (self._n_vocab,))
        so_far = tuple(tokens[place].id for place in range(n_tokens))
        self._noted[so_far] = _log_sum(warm), _log_sum(warm * np.float32(self._temperature))


def _log_sum(values: NDArray[np.float32]) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - np.float32(top)).sum()))
