"""Whether a run of a golden set is worse than its baseline, or differs by no more than chance. Pure.

Word errors are compared clip by clip over the clips that both runs have, so that hard clips do not count as noise:
the clips are drawn with replacement ten thousand times, and the run is worse when the interval of the difference lies
above zero as a whole and the difference itself is no less than a tolerance: it is no chance, and it matters. Clips
without speech either get text or do not; there the exact sign test asks how likely it is that so many more of them
changed for the worse than for the better.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tympan.quality.scoring import Counts, bootstrap_difference, rate_interval

CONFIDENCE = 0.99
"""Of the interval of the difference of error rates."""

LEVEL = 0.02
"""Of the sign test: six clips that newly get text, and none that no longer does, are enough (1/64)."""

_NONE = Counts()


@dataclass(frozen=True, slots=True)
class ItemScore:
    """What one clip came to: errors in words (characters in zh and ja) and in characters; or text where none was."""

    is_speech: bool
    words: Counts = _NONE
    characters: Counts = _NONE
    has_text: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """What many clips come to: pooled errors, and how many of the clips without speech got text."""

    words: Counts = _NONE
    characters: Counts = _NONE
    silent: int = 0
    hallucinated: int = 0

    @property
    def hallucination_rate(self) -> float | None:
        """Share of clips without speech that got text; ``None`` without such clips."""
        return self.hallucinated / self.silent if self.silent else None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Totals":
        """Return what ``as_dict`` made an object of."""
        words, characters = Counts(**values["words"]), Counts(**values["characters"])
        return cls(words, characters, values["silent"], values["hallucinated"])


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against its baseline: clips of speech in both, and how much worse it is, in points with an interval.

    ``newly`` clips without speech have text now and had none then, ``cured`` the other way round; ``chance`` is how
    likely that is if nothing has changed.
    """

    baseline: str
    clips: int
    difference_points: float | None
    low_points: float | None
    high_points: float | None
    silent: int
    newly: int
    cured: int
    chance: float
    worse_words: bool
    worse_silence: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def total(scores: Mapping[int, ItemScore]) -> Totals:
    """Return what these clips come to."""
    said = [each for each in scores.values() if each.is_speech]
    silent = [each for each in scores.values() if not each.is_speech]
    return Totals(
        sum((each.words for each in said), Counts()),
        sum((each.characters for each in said), Counts()),
        len(silent),
        sum(each.has_text for each in silent),
    )


def interval_of(scores: Mapping[int, ItemScore]) -> tuple[float, float] | None:
    """Return between which word error rates, in percent, that of these clips lies (95 %); ``None`` without words."""
    counts = [each.words for each in scores.values() if each.is_speech]
    return rate_interval(counts) if sum(each.units for each in counts) else None


def compare(
    now: Mapping[int, ItemScore], then: Mapping[int, ItemScore], baseline: str, tolerance_points: float
) -> Comparison:
    """Return how ``now`` stands to ``then``, both by number of clip; ``baseline`` is the name of the latter."""
    said = [index for index in now if index in then and now[index].is_speech]
    silent = [index for index in now if index in then and not now[index].is_speech]
    newly = sum(now[index].has_text and not then[index].has_text for index in silent)
    cured = sum(then[index].has_text and not now[index].has_text for index in silent)
    chance = sign_test(newly, cured)
    difference = low = high = None
    lengths = [now[index].words.units for index in said]
    if sum(lengths):
        excess = [now[index].words.errors - then[index].words.errors for index in said]
        found = bootstrap_difference(excess, lengths, confidence=CONFIDENCE)
        difference, low, high = found.difference_points, found.low_points, found.high_points
    return Comparison(
        baseline, len(said), difference, low, high, len(silent), newly, cured, chance,
        worse_words=difference is not None and low is not None and low > 0.0 and difference >= tolerance_points,
        worse_silence=chance <= LEVEL,
    )  # fmt: skip


def sign_test(worse: int, better: int) -> float:
    """Return how likely ``worse`` or more of all changes are for the worse, if each is a coin's toss."""
    n = worse + better
    return float(sum(math.comb(n, k) for k in range(worse, n + 1)) / 2**n)
