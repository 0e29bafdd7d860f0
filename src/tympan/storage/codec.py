"""Our values as JSON text for the database, and back."""

from dataclasses import dataclass, field

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from pydantic_core import to_json

from tympan.domain import (
    DecodeStats,
    Options,
    Output,
    Piece,
    Provenance,
    Ranking,
    Segment,
    Transcript,
    Turn,
    Window,
    WindowResult,
)
from tympan.observation import Condition

_NO_SAMPLES = np.zeros(0, dtype=np.int16)


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """A window's place in the source and what the engine said about it."""

    index: int
    pieces: tuple[Piece, ...]
    speech_peak: float
    result: WindowResult

    def part(self) -> tuple[Window, WindowResult]:
        """Return both as the pipeline has them, without samples."""
        return Window(self.index, _NO_SAMPLES, self.pieces, self.speech_peak), self.result


@dataclass(frozen=True, slots=True)
class SectionResult:
    """What one section came to. ``languages`` is empty unless the section had to find out the language itself."""

    windows: tuple[DecodedWindow, ...]
    languages: Ranking
    stats: DecodeStats
    model: str
    processing_s: float
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What ``prepare`` learnt about a job's audio; ``condition`` is ``None`` where nobody wanted to know.

    ``turns`` are ``None`` where voices do not tell speakers apart, and in what was stored before they could.
    """

    audio_samples: int
    speech_samples: int
    languages: Ranking = ()
    condition: Condition | None = None
    turns: tuple[Turn, ...] | None = None


OPTIONS = TypeAdapter(Options)
OUTPUT = TypeAdapter(Output)
TRANSCRIPT = TypeAdapter(Transcript)
SEGMENTS = TypeAdapter(tuple[Segment, ...], config=ConfigDict(cache_strings="keys"))  # Texts are hardly ever equal.
TEXT = TypeAdapter(str)
SECTION = TypeAdapter(SectionResult)
PREPARED = TypeAdapter(Prepared)


def dump(value: object) -> str:
    """Return a value of ours as JSON text. Infinite numbers survive, such as the log-probability of no tokens."""
    return to_json(value, inf_nan_mode="constants").decode()
