"""Reference sets and error rates: pooled word (or character) errors, and whether a difference is more than chance.

A *set* is a folder with a ``manifest.jsonl``. Each line is one JSON object; these keys are read, all others are
ignored:

- ``id``: unique in the set; what stands before its first ``-`` or digit names the clip's source;
- ``audio``: path of the encoded file, relative to the set's folder;
- ``duration_s``: length in seconds;
- ``language``: ISO 639-1 code, or ``none`` when nothing is spoken;
- ``reference``: what is said, ``""`` for nothing, ``null`` when nobody wrote it down;
- ``license``, if there: whom to credit; it is printed with every result of the set.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jiwer
import numpy as np
from numpy.typing import NDArray
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

CHARACTER_LANGUAGES = frozenset({"zh", "ja"})
"""Languages written without spaces; their unit of error is the character."""

_BLOCK = 1_000
"""Bootstrap resamples drawn at a time, so that memory stays flat."""


class SetError(Exception):
    """A reference set is missing or its manifest is not what this module reads."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a set; ``language`` and ``reference`` are ``None`` when nothing is spoken or written down."""

    id: str
    path: Path
    duration_s: float
    language: str | None
    reference: str | None
    license: str = ""

    @property
    def source(self) -> str:
        """Name of the corpus the clip comes from: the letters its id starts with."""
        match = re.match(r"[A-Za-z]+", self.id)
        return match.group(0) if match else self.id


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


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How far ``a``'s pooled rate lies above ``b``'s, in points, with a 95 % interval over resampled clips."""

    difference_points: float
    low_points: float
    high_points: float
    share_above_zero: float
    resamples: int
    clips: int


def load_set(corpus: Path, name: str) -> list[Clip]:
    """Return the clips of set ``name`` in ``corpus``, in the manifest's order.

    Raises ``SetError`` when the manifest, a key or an audio file is missing.
    """
    folder = corpus / name
    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        raise SetError(f"There is no {manifest}. Point --corpus at a folder that holds the set {name!r}.")
    lines = manifest.read_text(encoding="utf-8").splitlines()
    return [_clip(folder, json.loads(line), number) for number, line in enumerate(lines, 1) if line.strip()]


def _clip(folder: Path, row: dict[str, Any], number: int) -> Clip:
    missing = {"id", "audio", "duration_s", "language", "reference"} - row.keys()
    if missing:
        raise SetError(f"{folder / 'manifest.jsonl'}, line {number}: {', '.join(sorted(missing))} missing.")
    path = folder / row["audio"]
    if not path.is_file():
        raise SetError(f"{folder / 'manifest.jsonl'}, line {number}: there is no {path}.")
    language = None if row["language"] in (None, "none") else str(row["language"])
    licence = str(row.get("license") or "")
    return Clip(str(row["id"]), path, float(row["duration_s"]), language, row["reference"], licence)


def licences(clips: Iterable[Clip]) -> list[str]:
    """Return the distinct licences of ``clips``, sorted, to be printed with their result."""
    return sorted({clip.license for clip in clips if clip.license})


@lru_cache(maxsize=1)
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


@lru_cache(maxsize=1)
def _basic() -> BasicTextNormalizer:
    return BasicTextNormalizer()


def units(text: str, language: str) -> list[str]:
    """Return the words (characters in zh and ja) of ``text`` after Whisper's own normalisation."""
    if language in CHARACTER_LANGUAGES:
        return list(re.sub(r"\s+", "", _basic()(text)))
    normalise = _english() if language == "en" else _basic()
    return str(normalise(text)).split()


def count(pair: Pair) -> Counts:
    """Return the edit operations that turn one pair's reference into its hypothesis."""
    reference, hypothesis = units(pair.reference, pair.language), units(pair.hypothesis, pair.language)
    if not reference:
        return Counts(insertions=len(hypothesis), clips=1)
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
    """Compare two systems on the same clips by resampling clips with replacement.

    A positive difference means that ``a`` errs more. Raises ``ValueError`` when the lists differ in length, are empty
    or hold no reference unit at all.
    """
    spoken = [languages] * len(refs) if isinstance(languages, str) else list(languages)
    if not refs or not len(refs) == len(hyps_a) == len(hyps_b) == len(spoken):
        raise ValueError("refs, hyps_a, hyps_b and languages must be of one length, and not empty.")
    a = [count(Pair(*row)) for row in zip(refs, hyps_a, spoken, strict=True)]
    b = [count(Pair(*row)) for row in zip(refs, hyps_b, spoken, strict=True)]
    lengths = np.array([item.units for item in a], dtype=np.float64)
    if not lengths.sum():
        raise ValueError("No reference holds a word.")
    excess = np.array([x.errors - y.errors for x, y in zip(a, b, strict=True)], dtype=np.float64)
    draws = _resample(excess, lengths, resamples, seed)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Bootstrap(
        difference_points=100.0 * float(excess.sum() / lengths.sum()),
        low_points=float(low),
        high_points=float(high),
        share_above_zero=float((draws > 0).mean()),
        resamples=resamples,
        clips=len(refs),
    )


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
