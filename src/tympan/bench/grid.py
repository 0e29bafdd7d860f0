"""Which cells an engine benchmark has, and what is found out about one. Pure values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

THREADS = (1, 2, 4, 8)
LENGTHS_S = (5.0, 30.0, 120.0, 600.0)
ROUNDS = 3
MAX_CELLS = 5_000


@dataclass(frozen=True, slots=True)
class Grid:
    """What is varied; every combination is a cell."""

    models: tuple[str, ...] = ("base",)
    engines: tuple[str, ...] = ("auto",)
    compute_types: tuple[str, ...] = ("auto",)
    threads: tuple[int, ...] = THREADS
    replicas: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (16,)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination, as it was asked for."""

    model: str
    engine: str
    compute_type: str
    threads: int
    replicas: int
    batch: int
    audio: str

    @property
    def label(self) -> str:
        """The cell in a few words, for progress."""
        return (
            f"{self.model} {self.compute_type}, {self.threads} threads x {self.replicas}, batch {self.batch}, "
            f"{self.audio}"
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What one round of one cell gave; times in milliseconds.

    ``load_ms`` is from the start of the engine's process until it is ready, ``total_ms`` from handing the recordings
    over until the last transcript, ``inference_ms`` the part of it that the (busiest) engine computed.
    ``errors``: per recording with a reference, how many units it has and how many errors the text.
    """

    model: str
    engine: str
    revision: str
    quantization: str
    gpu: str | None
    load_ms: float
    total_ms: float
    inference_ms: float
    memory_peak_mb: float
    requests: int
    processed_s: float
    text_digest: str
    errors: tuple[tuple[int, int], ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Reading":
        """Return the reading that ``as_dict`` and JSON made ``values`` from; raises ``TypeError`` for another."""
        errors = values.get("errors")
        return cls(**{**values, "errors": None if errors is None else tuple((int(u), int(e)) for u, e in errors)})


def cells(grid: Grid, audio: Sequence[str]) -> list[Cell]:
    """Return every combination, those that share a model together."""
    return [
        Cell(*values)
        for values in product(
            grid.models, grid.engines, grid.compute_types, grid.threads, grid.replicas, grid.batches, audio
        )
    ]


def requests_at_once(cell: Cell, durations_s: Sequence[float], window_s: float) -> int:
    """Return how many recordings are transcribed at a time, so that their windows fill the engines' batches."""
    windows = sum(max(1, -(-duration_s // window_s)) for duration_s in durations_s) / len(durations_s)
    return max(1, -(-cell.batch * cell.replicas // int(windows)))
