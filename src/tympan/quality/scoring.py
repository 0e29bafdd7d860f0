"""Error rates of transcripts: pooled word (or character) errors, and whether a difference is more than chance.

Texts go through Whisper's own normalisers (package whisper-normalizer) and are aligned by jiwer. Both take their time
to load, so they are loaded by the first text that is scored: only processes that score have them in memory.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHARACTER_LANGUAGES = frozenset({"zh", "ja"})
"""Languages written without spaces; their unit of error is the character."""

_BLOCK = 1_000
"""Bootstrap resamples drawn at a time, so that memory stays flat."""


class Pair(NamedTuple):
    """What was said and what was heard, in one language."""

    reference: str
    hypothesis: str
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Counts:
    """Edit operations against ``units`` reference words (characters in zh and ja)."""

    units: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    clips: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Pool two counts."""
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def errors(self) -> int:
        """All edit operations."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference unit, in percent; 0 for no reference and no error, 100 for text where none was said."""
        if self.units:
            return 100.0 * self.errors / self.units
        return 100.0 if self.errors else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts and the rate as a JSON object."""
        return {**asdict(self), "errors": self.errors, "rate_percent": round(self.rate, 3)}


class Chunk(NamedTuple):
    """A run of units: ``equal``, ``substitute``, ``delete`` or ``insert``."""

    kind: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How far ``a``'s pooled rate lies above ``b``'s, in points, with an interval over resampled clips."""

    difference_points: float
    low_points: float
    high_points: float
    share_above_zero: float
    resamples: int
    clips: int


@lru_cache(maxsize=2)
def _normaliser(*, english: bool) -> Callable[[str], str]:
    if english:
        from whisper_normalizer.english import EnglishTextNormalizer  # noqa: PLC0415 (slow to load)

        return EnglishTextNormalizer()  # type: ignore[no-any-return]
    from whisper_normalizer.basic import BasicTextNormalizer  # noqa: PLC0415 (as above)

    return BasicTextNormalizer()  # type: ignore[no-any-return]


def units(text: str, language: str) -> list[str]:
    """Return the words (characters in zh and ja) of ``text`` after Whisper's own normalisation."""
    plain = _normaliser(english=language == "en")(text)
    return list(re.sub(r"\s+", "", plain)) if language in CHARACTER_LANGUAGES else plain.split()


def count(pair: Pair) -> Counts:
    """Return the edit operations that turn one pair's reference into its hypothesis."""
    return _edits(units(pair.reference, pair.language), units(pair.hypothesis, pair.language))


def count_characters(pair: Pair) -> Counts:
    """Return the edit operations in characters, after the same normalisation; blanks do not count."""
    reference, hypothesis = (list("".join(units(text, pair.language))) for text in pair[:2])
    return _edits(reference, hypothesis)


def align(pair: Pair) -> list[Chunk]:
    """Return both texts, normalised, as runs of units that agree or do not."""
    reference, hypothesis = units(pair.reference, pair.language), units(pair.hypothesis, pair.language)
    if not reference:
        return [Chunk("insert", (), tuple(hypothesis))] if hypothesis else []
    import jiwer  # noqa: PLC0415 (slow to load)

    found = jiwer.process_words(" ".join(reference), " ".join(hypothesis)).alignments[0]
    return [
        Chunk(
            each.type,
            tuple(reference[each.ref_start_idx : each.ref_end_idx]),
            tuple(hypothesis[each.hyp_start_idx : each.hyp_end_idx]),
        )
        for each in found
    ]


def _edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Counts:
    if not reference:
        return Counts(insertions=len(hypothesis), clips=1)
    import jiwer  # noqa: PLC0415 (slow to load)

    out = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return Counts(len(reference), out.substitutions, out.deletions, out.insertions, 1)


def score(pairs: Iterable[Pair | tuple[str, str, str]]) -> Counts:
    """Return the pooled counts of many pairs: all errors over all reference units."""
    return sum((count(Pair(*pair)) for pair in pairs), Counts())


def paired_bootstrap(
    refs: Sequence[str],
    hyps_a: Sequence[str],
    hyps_b: Sequence[str],
    *,
    languages: Sequence[str] | str = "en",
    resamples: int = 10_000,
    seed: int = 20240501,
) -> Bootstrap:
    """Compare two systems on the same clips by resampling clips with replacement; the interval holds 95 %.

    A positive difference means that ``a`` errs more. Raises ``ValueError`` when the lists differ in length, are empty
    or hold no reference unit at all.
    """
    spoken = [languages] * len(refs) if isinstance(languages, str) else list(languages)
    if not refs or not len(refs) == len(hyps_a) == len(hyps_b) == len(spoken):
        raise ValueError("refs, hyps_a, hyps_b and languages must be of one length, and not empty.")
    a = [count(Pair(*row)) for row in zip(refs, hyps_a, spoken, strict=True)]
    b = [count(Pair(*row)) for row in zip(refs, hyps_b, spoken, strict=True)]
    excess = [x.errors - y.errors for x, y in zip(a, b, strict=True)]
    return bootstrap_difference(excess, [item.units for item in a], resamples=resamples, seed=seed)


def bootstrap_difference(
    excess: Sequence[int],
    units_of: Sequence[int],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 20240501,
) -> Bootstrap:
    """Return the pooled difference of two systems from each clip's surplus of errors and reference units.

    Raises ``ValueError`` when no clip has a reference unit.
    """
    surplus, lengths = np.array(excess, dtype=np.float64), np.array(units_of, dtype=np.float64)
    if not lengths.sum():
        raise ValueError("No reference holds a word.")
    draws = _resample(surplus, lengths, resamples, seed)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return Bootstrap(
        difference_points=100.0 * float(surplus.sum() / lengths.sum()),
        low_points=float(low),
        high_points=float(high),
        share_above_zero=float((draws > 0).mean()),
        resamples=resamples,
        clips=len(surplus),
    )


def rate_interval(
    counts: Sequence[Counts], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 20240501
) -> tuple[float, float]:
    """Return between which error rates, in percent, the pooled one lies, by resampling clips with replacement.

    Raises ``ValueError`` when no clip has a reference unit.
    """
    found = bootstrap_difference(
        [each.errors for each in counts],
        [each.units for each in counts],
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    return found.low_points, found.high_points


def _resample(
    excess: NDArray[np.float64], lengths: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return the pooled difference, in points, of each resample of the clips."""
    rng, done, parts = np.random.default_rng(seed), 0, []
    while done < resamples:
        rows = min(_BLOCK, resamples - done)
        picks = rng.integers(0, len(excess), size=(rows, len(excess)))
        # A resample without a single reference word says nothing; the floor keeps it at no difference.
        parts.append(100.0 * excess[picks].sum(axis=1) / np.maximum(lengths[picks].sum(axis=1), 1.0))
        done += rows
    return np.concatenate(parts)
