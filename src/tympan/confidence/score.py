"""Two figures for every text, both from 0 to 1.

``confidence`` estimates the share of words that are right: the geometric mean of the probabilities that the model gave
them, which on real speech is close to that share, times the chance that they were spoken at all.

``hallucination_score`` estimates the chance that nobody said the text, where that is as likely as speech beforehand. It
is a logistic function of eight signs, each from 0 to 1 but the first. The weights of the common signs were fitted to
one half of a set of real speech, recorded noises and drawn sounds, and tried on the other; those of signs too rare to
fit were chosen, so that alone they stay below one half, but for a loop. Figures: ``docs/explanation/confidence.md``.
"""

import math
import unicodedata
from dataclasses import dataclass, replace

from tympan.confidence.phrases import is_artefact, is_small_word
from tympan.confidence.repetition import repeats
from tympan.domain import Window, WindowResult, Word

SUSPICIOUS = 0.5
"""From this score on, text was more likely made up than said."""

BIAS = -4.75
UNSURE = 2.4
"""Per nat that the mean log-probability lies below 0, up to 2.5 of them."""
NO_SPEECH = 2.0
"""For the model's own probability that nobody speaks."""
UNVOICED = 3.0
"""For a window whose highest score of speech detection lies below 0.5, in proportion."""
THIN = 1.5
"""For less than one letter a second, over 3 s and more."""
SMALL_WORD = 1.0
"""For a small phrase that models make up and people say as well. Chosen: people say it more often than in the set."""
ARTEFACT = 3.0
"""For a phrase that models are known to make up. Chosen."""
HURRIED = 4.0
"""For more letters a second than anybody speaks. Chosen."""
LOOP = 5.0
"""For text that goes round in circles. Chosen."""

_MOST_UNSURE = 2.5
_VOICED = 0.5
_COMPRESSED = 2.4
"""Whisper's own limit of the compression ratio (Radford et al. 2022, section 4.5)."""
_THIN_PER_S, _THIN_FROM_S = 1.0, 3.0
_HURRIED_PER_S = 30.0
_WIDE_LETTER = 3
"""A Chinese, Japanese or Korean character is about a syllable: three letters."""
_FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a text: ``rate`` is letters a second over its window of ``duration_s``."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    speech_peak: float
    rate: float
    duration_s: float
    is_loop: bool

    @classmethod
    def of(cls, window: Window, result: WindowResult) -> "Evidence":
        """Return what is known of the whole text of a window, whose samples may be gone."""
        duration_s = window.covered_s
        return cls(
            text=result.text,
            avg_logprob=result.avg_logprob,
            no_speech_prob=result.no_speech_prob,
            speech_peak=window.speech_peak,
            rate=_letters(result.text) / max(duration_s, 0.1),
            duration_s=duration_s,
            is_loop=result.hit_token_cap or result.compression_ratio > _COMPRESSED or repeats(result.tokens),
        )

    def part(self, text: str, words: tuple[Word, ...]) -> "Evidence":
        """Return what is known of a part of the text; its ``words`` know better how sure the model was, if any."""
        return replace(self, text=text, avg_logprob=_mean_logprob(words) if words else self.avg_logprob)


def hallucination_score(evidence: Evidence) -> float:
    """Return the chance that nobody said the text; 0 for no text."""
    if not evidence.text.strip():
        return 0.0
    unsure = min(_MOST_UNSURE, max(0.0, -evidence.avg_logprob))
    total = (
        BIAS
        + UNSURE * unsure
        + NO_SPEECH * evidence.no_speech_prob
        + UNVOICED * max(0.0, 1.0 - evidence.speech_peak / _VOICED)
        + THIN * (evidence.rate < _THIN_PER_S and evidence.duration_s >= _THIN_FROM_S)
        + HURRIED * (evidence.rate > _HURRIED_PER_S)
        + LOOP * evidence.is_loop
        + _phrase_weight(evidence.text)
    )
    return 1.0 / (1.0 + math.exp(-total))


def confidence(evidence: Evidence) -> float:
    """Return the estimated share of words that are right; 0 for no text."""
    if not evidence.text.strip():
        return 0.0
    return math.exp(min(0.0, evidence.avg_logprob)) * (1.0 - hallucination_score(evidence))


def _phrase_weight(text: str) -> float:
    if is_artefact(text):
        return ARTEFACT
    return SMALL_WORD if is_small_word(text) else 0.0


def _letters(text: str) -> int:
    return sum(_WIDE_LETTER if unicodedata.east_asian_width(char) in "WF" else 1 for char in text if char.isalnum())


def _mean_logprob(words: tuple[Word, ...]) -> float:
    return sum(math.log(max(_FLOOR, word.probability)) for word in words) / len(words)
