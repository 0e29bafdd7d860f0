"""What an engine asks of a model for one window, and what it makes of the answer: shared by engines. Pure."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tympan.domain import Ranking, Suppression, TokenChance, WindowResult, WindowTask, Word
from tympan.engine.tokens import Vocabulary
from tympan.errors import UnsupportedLanguage, UnsupportedOption

DECODER_POSITIONS = 448
"""Tokens that a Whisper decoder can see: prompt and text."""

MAX_TOKENS = 224
"""Half of the decoder's positions: Whisper's own cap on a window's text."""

REPORTED_LANGUAGES = 5
"""How many candidates are kept when a window's language is detected."""

_TOKENS_PER_S = 20.0
_TOKENS_ALWAYS = 12


@dataclass(frozen=True, slots=True)
class Decoded:
    """A window's text: tokens, mean log-probability with the end token, and whether it filled its cap.

    ``logprobs`` are those of the tokens, where the search keeps them.
    """

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    hit_cap: bool
    logprobs: Sequence[float] = ()


def token_cap(duration_s: float) -> int:
    """Return how many tokens ``duration_s`` of speech can plausibly need; more is a loop.

    Fast English needs about five tokens a second; 20 leaves room for scripts spelled in several tokens a character.
    """
    return min(MAX_TOKENS, _TOKENS_ALWAYS + int(_TOKENS_PER_S * duration_s))


def task_cap(task: WindowTask) -> int:
    """Return how many tokens a task may need: one, where nobody reads them."""
    return 1 if task.params.language_only else token_cap(task.window.duration_s)


def given_languages(vocabulary: Vocabulary, tasks: Sequence[WindowTask]) -> list[Ranking] | None:
    """Return the tasks' languages, or ``None`` when one of them has to be detected.

    Raises ``UnsupportedLanguage`` for one that the model does not know.
    """
    if not vocabulary.multilingual:
        return [(("en", 1.0),)] * len(tasks)
    given = [task.params.language for task in tasks]
    if not all(given):
        return None
    for language in given:
        if language not in vocabulary.languages:
            raise UnsupportedLanguage(f"The model does not know the language {language!r}.", param="language")
    return [((language or "", 1.0),) for language in given]


def narrowed(found: Ranking, allowed: Sequence[str]) -> Ranking:
    """Return the likeliest of the languages detected, of those ``allowed`` if any are, as shares of these.

    Raises ``UnsupportedLanguage`` when the model knows none of them.
    """
    kept = [(name, chance) for name, chance in found if not allowed or name in allowed]
    if not kept:
        raise UnsupportedLanguage(f"The model knows none of {', '.join(allowed)}.", param="languages")
    total = sum(chance for _, chance in kept) if allowed else 1.0
    return tuple((name, chance / total if total else 1.0 / len(kept)) for name, chance in kept[:REPORTED_LANGUAGES])


def suppressed(vocabulary: Vocabulary, asked: Suppression) -> frozenset[int]:
    """Return the tokens that a caller does not want. Raises ``UnsupportedOption`` for what is not a text token."""
    odd = [token for token in asked.tokens if token >= vocabulary.end]
    if odd:
        raise UnsupportedOption(
            f"{odd[0]} is not a text token.", param="suppress_tokens", remedy=f"Send numbers below {vocabulary.end}."
        )
    return frozenset(asked.tokens) | (vocabulary.numerals if asked.numerals else frozenset())


def prompts_and_caps(
    vocabulary: Vocabulary, tasks: Sequence[WindowTask], languages: Sequence[Ranking]
) -> tuple[list[list[int]], list[int]]:
    """Return, per task, the decoder's prompt and the greatest number of tokens that may follow it."""
    params = tasks[0].params
    prompts = [vocabulary.prompt(names[0][0], params.task, params.prompt, params.hotwords) for names in languages]
    room = DECODER_POSITIONS - len(prompts[0])
    return prompts, [min(room, task_cap(task)) for task in tasks]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of one window."""

    languages: Ranking
    decoded: Decoded
    full_context: bool
    words: tuple[Word, ...] = ()


def window_result(vocabulary: Vocabulary, task: WindowTask, answer: Answer) -> WindowResult:
    """Return the result of ``task``."""
    decoded = answer.decoded
    text = vocabulary.decode(decoded.tokens)
    return WindowResult(
        text=text,
        tokens=tuple(vocabulary.text_tokens(decoded.tokens)),
        language=answer.languages[0][0],
        language_probabilities=answer.languages,
        avg_logprob=decoded.avg_logprob,
        no_speech_prob=decoded.no_speech_prob,
        compression_ratio=compression_ratio(text),
        temperature=task.params.temperature,
        full_context=answer.full_context,
        hit_token_cap=decoded.hit_cap,
        words=answer.words,
        token_chances=_chances(vocabulary, decoded) if task.params.token_chances else (),
    )


def _chances(vocabulary: Vocabulary, decoded: Decoded) -> tuple[TokenChance, ...]:
    return tuple(
        TokenChance(tuple(vocabulary.octets(token)), min(0.0, logprob))
        for token, logprob in zip(decoded.tokens, decoded.logprobs, strict=True)
        if token < vocabulary.end
    )


def in_order(groups: Sequence[Sequence[int]], parts: Sequence[Sequence[WindowResult]]) -> list[WindowResult]:
    """Return the results of all groups in the order of the task numbers in ``groups``."""
    found = {
        i: result for group, part in zip(groups, parts, strict=True) for i, result in zip(group, part, strict=True)
    }
    return [found[i] for i in range(len(found))]


def compression_ratio(text: str) -> float:
    """Return bytes of ``text`` per byte after zlib; repetition pushes it up. 0 for no text."""
    raw = text.strip().encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
