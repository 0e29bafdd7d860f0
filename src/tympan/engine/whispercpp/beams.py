"""Beam search that keeps the likeliest texts, over a decoder that follows one text at a time.

whisper.cpp's own search draws its candidates at random from all tokens, so that the likeliest is lost now and then, and
five beams made as many mistakes as one. Here the rules are CTranslate2's, as in ``tympan.engine.onnx.search``. Rows
cannot be decoded side by side through the library's interface. So a text that has become far less likely than the best
is let go, and of the past of one text as much is used again as the next one shares.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tympan.engine.onnx.search import Hypothesis
from tympan.errors import EngineError

Values = NDArray[np.float32]

NO_NUMBERS = "whisper.cpp computed no numbers: the model's weights must be damaged."

LET_GO = 3.0
"""How far, in nats, a text may be behind the best: one of twenty times less probability hardly ever wins."""


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """How many texts are followed, how many tokens they have at most, which token ends them, and which are barred.

    ``barred`` is 0 for what may be written, minus infinity for the rest.
    """

    width: int
    cap: int
    end: int
    barred: Values
    let_go: float = LET_GO


def likeliest(opening: Values, after: Callable[[tuple[int, ...]], Values], rules: Rules) -> tuple[int, ...]:
    """Return the tokens of the text with the best mean log-probability, without its end.

    ``opening`` are the logits of the first token, ``after`` returns those that follow a text. Raises ``EngineError``
    when they are no numbers.
    """
    live, ended = [Hypothesis((), 0.0)], list[Hypothesis]()
    logits = [opening]
    while True:
        live = _extended(live, logits, rules, ended)
        best = max((text.score for text in ended), default=-np.inf)
        if not live or len(ended) >= rules.width or best > live[0].score + rules.let_go:
            break
        if len(live[0].tokens) >= rules.cap:
            ended += live[: rules.width - len(ended)]
            break
        logits = [after(text.tokens) for text in live]
    return max(ended, key=lambda text: text.merit).tokens


def _extended(
    live: Sequence[Hypothesis], logits: Sequence[Values], rules: Rules, ended: list[Hypothesis]
) -> list[Hypothesis]:
    """Return the texts to go on with, the likeliest first; those that end are added to ``ended``."""
    found: list[tuple[float, Hypothesis, int]] = []
    for text, values in zip(live, logits, strict=True):
        logprobs = log_softmax(values + rules.barred)
        top = np.argpartition(-logprobs, 2 * rules.width)[: 2 * rules.width]
        found += [(text.score + float(logprobs[token]), text, int(token)) for token in top]
    found = sorted(found, key=lambda one: -one[0])[: 2 * rules.width]
    kept: list[Hypothesis] = []
    for rank, (score, text, token) in enumerate(found):
        following = text.then(token, score, rules.end)
        if not following.ended:
            kept.append(following)
        elif rank < rules.width:
            ended.append(following)
    return [text for text in kept[: rules.width] if text.score > kept[0].score - rules.let_go]


def log_softmax(values: Values) -> Values:
    """Return logarithms of probabilities. Raises ``EngineError`` when ``values`` are no numbers."""
    top = values.max()
    if not np.isfinite(top):
        raise EngineError(NO_NUMBERS)
    found: Values = values - (top + np.float32(np.log(np.exp(values - top).sum(dtype=np.float64))))
    return found


class Past:
    """What the decoder remembers of one text; another one is reached from where the two part."""

    def __init__(self, decode: Callable[[Sequence[int], int], Values], prompt: Sequence[int]) -> None:
        """Begin behind ``prompt``; ``decode`` takes tokens and how many are before them, and returns logits."""
        self._decode, self._prompt = decode, prompt
        self._text: tuple[int, ...] = ()

    def after(self, text: tuple[int, ...]) -> Values:
        """Return the logits of what follows ``text``, of at least one token."""
        shared = 0
        while shared < min(len(text) - 1, len(self._text)) and text[shared] == self._text[shared]:
            shared += 1
        self._text = text
        return self._decode(text[shared:], len(self._prompt) + shared)

    def restore(self) -> None:
        """Remember the prompt alone, as before."""
        self._text = ()
        self._decode(self._prompt[-1:], len(self._prompt) - 1)


class Dictation:
    """Lets the library write a text that is searched for when it asks for the first token."""

    def __init__(self, past: Callable[[Any], Past], rules: Rules) -> None:
        """Search by ``rules``; ``past`` gives the decoder of the library's state."""
        self._past, self._rules = past, rules
        self._text: tuple[int, ...] = ()
        self.logprobs: list[float] = []
        self.error: BaseException | None = None

    def steer(self, state: Any, n_tokens: int, logits: Values) -> None:
        """Leave one token to choose in ``logits``: the next of the text found, or the end, also after an error."""
        token = self._rules.end
        try:
            if n_tokens == 0:
                past = self._past(state)
                self._text = likeliest(logits.copy(), past.after, self._rules)
                past.restore()
            if n_tokens < len(self._text):
                token = self._text[n_tokens]
            self.logprobs.append(float(log_softmax(logits + self._rules.barred)[token]))
        except BaseException as error:  # noqa: BLE001 - nothing may be raised through the library
            self.error, token = error, self._rules.end
        logits[:] = -np.inf
        logits[token] = 0.0
