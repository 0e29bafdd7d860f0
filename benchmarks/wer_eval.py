"""Word errors of anything that turns samples into text, for trying an engine before there is a server.

The one thing to supply is a callable that takes ``[(samples, language), ...]`` (16 kHz mono) and returns the texts in
the same order::

    report = evaluate(my_engine, Path("corpus"), "a_english_read")
    print(report.describe())
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.scoring import Clip, load_set
from tympan.quality.scoring import Counts, Pair, count

Batch: TypeAlias = Sequence[tuple[NDArray[Any], str | None]]
"""Samples at 16 kHz with the language they are in, or ``None`` to have it detected."""

Transcribe: TypeAlias = Callable[[Batch], Sequence[str]]
"""Texts for a batch, in its order."""


@dataclass(frozen=True, slots=True)
class Report:
    """Errors of one set: pooled, by source, and clip by clip with the texts."""

    clips: tuple[Clip, ...]
    texts: tuple[str, ...]
    counts: tuple[Counts, ...]

    @property
    def pooled(self) -> Counts:
        """All clips together."""
        return sum(self.counts, Counts())

    def by(self, key: Callable[[Clip], str]) -> dict[str, Counts]:
        """Return the pooled counts of each group that ``key`` names, sorted by name."""
        groups: dict[str, Counts] = {}
        for clip, counts in zip(self.clips, self.counts, strict=True):
            groups[key(clip)] = groups.get(key(clip), Counts()) + counts
        return dict(sorted(groups.items()))

    def worst(self, n: int = 10) -> list[tuple[Clip, str, Counts]]:
        """Return the ``n`` clips with most errors, with their texts."""
        rows = zip(self.clips, self.texts, self.counts, strict=True)
        return sorted(rows, key=lambda row: -row[2].errors)[:n]

    def describe(self) -> str:
        """Return the pooled figures and one line for each source."""
        rows = {"all": self.pooled} | self.by(lambda clip: clip.source)
        return "\n".join(
            f"{name:12} {c.clips:4} clips {c.units:6} units  {c.rate:6.2f} %  "
            f"sub {c.substitutions:4} del {c.deletions:4} ins {c.insertions:4}"
            for name, c in rows.items()
        )


def read_samples(path: Path, *, dtype: str = "float32") -> NDArray[Any]:
    """Decode a file to 16 kHz mono: ``float32`` in [-1, 1], or ``int16``."""
    from faster_whisper.audio import decode_audio  # noqa: PLC0415 - pulls in the runtime, wanted in experiments only

    samples: NDArray[np.float32] = decode_audio(str(path))
    if dtype == "int16":
        return (np.clip(samples, -1.0, 32767 / 32768) * 32768).astype(np.int16)
    return samples


def report_on(clips: Sequence[Clip], texts: Sequence[str]) -> Report:
    """Score ``texts`` against the references of ``clips``; clips without a reference are left out."""
    kept = [(clip, text) for clip, text in zip(clips, texts, strict=True) if clip.reference is not None]
    counts = tuple(count(Pair(clip.reference or "", text, clip.language or "en")) for clip, text in kept)
    return Report(tuple(clip for clip, _ in kept), tuple(text for _, text in kept), counts)


def evaluate(
    transcribe: Transcribe, corpus: Path, name: str, *, batch: int = 8, limit: int | None = None, dtype: str = "float32"
) -> Report:
    """Run ``transcribe`` over the clips of a set that have a reference, ``batch`` at a time, and score the texts."""
    clips = [clip for clip in load_set(corpus, name) if clip.reference is not None][:limit]
    texts: list[str] = []
    for start in range(0, len(clips), batch):
        part = clips[start : start + batch]
        texts += transcribe([(read_samples(clip.path, dtype=dtype), clip.language) for clip in part])
    return report_on(clips, texts)
