"""What a model said of one window, and how it becomes words and a result: pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tympan.domain import WindowResult, WindowTask, Word
from tympan.engine.asking import compression_ratio

LAST_TOKEN_S = 0.32
"""How long a word goes on after its last token begins, unless the next word cuts in.

These models tell when a token begins only. 0.32 s is the longest that a token lasts in token-and-duration transducers
(Xu et al. 2023, "Efficient Sequence Transduction by Jointly Predicting Tokens and Durations").
"""


@dataclass(frozen=True, slots=True)
class Said:
    """The text of a window without outer spaces; tokens, and where the model gives them their begins and chances.

    ``hit_cap`` says that the text was cut at its longest.
    """

    text: str
    spelled: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    starts_s: tuple[float, ...] = ()
    logprobs: tuple[float, ...] = ()
    hit_cap: bool = False


NOTHING = Said("")


def window_result(task: WindowTask, said: Said, languages: Sequence[str]) -> WindowResult:
    """Return the result of ``task``; ``languages`` are those of the model, of which a single one is certain."""
    params = task.params
    language = params.language or (languages[0] if len(languages) == 1 else "")
    text = f" {said.text}" if said.text else ""
    return WindowResult(
        text=text,
        tokens=said.tokens,
        language=language,
        language_probabilities=((language, 1.0),) if language else (),
        avg_logprob=sum(said.logprobs) / len(said.logprobs) if said.logprobs else 0.0,
        no_speech_prob=0.0,
        compression_ratio=compression_ratio(text),
        temperature=0.0,
        full_context=True,
        hit_token_cap=said.hit_cap,
        words=words_of(said, task.window.duration_s) if params.align else (),
        is_rated=bool(said.logprobs) or not said.text,
    )


def words_of(said: Said, duration_s: float) -> tuple[Word, ...]:
    """Return the words of the text with times in seconds, never beyond ``duration_s``.

    None unless the tokens have times and chances.
    """
    if not said.starts_s or not said.logprobs:
        return ()
    found: list[Word] = []
    groups = _groups(said)
    begins = [min(duration_s, said.starts_s[group[0]]) for _, group in groups]
    for i, (text, group) in enumerate(groups):
        limit_s = begins[i + 1] if i + 1 < len(groups) else duration_s
        end_s = max(begins[i], min(limit_s, said.starts_s[group[-1]] + LAST_TOKEN_S))
        tokens = tuple(said.tokens[k] for k in group) if said.tokens else ()
        found.append(Word(f" {text}", begins[i], end_s, _chance(said, group), tokens))
    return tuple(found)


def _groups(said: Said) -> list[tuple[str, list[int]]]:
    """Return each word of the text with the numbers of the tokens that it is spelled with.

    The text has the tokens' characters in their order and fewer spaces, so characters other than spaces tell which is
    which. A token that reaches into two words belongs to both.
    """
    owners = [i for i, token in enumerate(said.spelled) for character in token if not character.isspace()]
    found: list[tuple[str, list[int]]] = []
    done = 0
    for word in said.text.split():
        group = list(dict.fromkeys(owners[done : done + len(word)]))
        done += len(word)
        if group:
            found.append((word, group))
    return found


def _chance(said: Said, group: Sequence[int]) -> float:
    return min(1.0, math.exp(sum(said.logprobs[i] for i in group) / len(group)))
