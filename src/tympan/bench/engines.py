"""The engine benchmark: every cell in rounds that take turns, kept as they finish, put together as one document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tympan.bench.facts import provenance
from tympan.bench.grid import MAX_CELLS, Cell, Grid, Reading, cells
from tympan.bench.journal import open_journal
from tympan.bench.measure import Bench, measure
from tympan.bench.recordings import AudioSet, hash_of
from tympan.bench.specs import Home, spec_of
from tympan.bench.stats import Spread
from tympan.errors import Cancelled, InvalidRequest, TympanError
from tympan.quality.scoring import Counts

KIND = "tympan.bench.engine"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, how often, and where finished rounds are kept."""

    grid: Grid
    audio: tuple[AudioSet, ...]
    rounds: int
    journal: Path
    fresh: bool = False


class Watcher(Protocol):
    """Somebody who wants to know how far it is."""

    def total(self, rounds: int, done: int) -> None:
        """There are ``rounds`` rounds of cells in all, ``done`` of them from an earlier run."""
        ...

    def begin(self, cell: Cell, number: int) -> None:
        """A round of a cell begins."""
        ...

    def end(self, cell: Cell, reading: Reading | None, error: TympanError | None) -> None:
        """It ended, well or not."""
        ...


Failures = dict[Cell, TympanError]
Readings = dict[Cell, list[Reading]]


def run(plan: Plan, bench: Bench, home: Home, watcher: Watcher, command: str) -> tuple[dict[str, Any], bool]:
    """Measure what is not in the journal yet; return the document, and whether it was cut short.

    A cell that fails is left out of later rounds and told in its row; the others go on. Raises ``InvalidRequest`` for
    too many cells or a journal that cannot be written.
    """
    asked = cells(plan.grid, [group.name for group in plan.audio])
    if len(asked) > MAX_CELLS:
        raise InvalidRequest(
            f"This would measure {len(asked)} cells (combinations).", remedy=f"Ask for at most {MAX_CELLS}."
        )
    origin = provenance()
    scope = _scope(plan, bench, home, origin)
    with open_journal(plan.journal, scope, fresh=plan.fresh) as journal:
        kept = {key: done for key in _turns(asked, plan.rounds) if (done := journal.get(*key)) is not None}
        watcher.total(len(asked) * plan.rounds, len(kept))
        readings, failures, cut_short = _measured(plan, bench, home, watcher, _Desk(journal.add, kept))
    rows = [_row(cell, _audio(plan, cell), readings.get(cell, []), failures.get(cell)) for cell in asked]
    options = {**asdict(bench.options), "rounds": plan.rounds, "device": home.device, "engine": dict(home.options)}
    document = {"kind": KIND, "version": VERSION, **origin, "command": command, "options": options, "rows": rows}
    return document, cut_short


@dataclass(frozen=True, slots=True)
class _Desk:
    keep: Callable[[Cell, int, Reading], None]
    kept: Mapping[tuple[Cell, int], Reading]


def _turns(asked: Sequence[Cell], rounds: int) -> list[tuple[Cell, int]]:
    """Return every round of every cell. A round goes through all cells, so that a slow minute hits them alike."""
    return [(cell, number) for number in range(rounds) for cell in asked]


def _measured(plan: Plan, bench: Bench, home: Home, watcher: Watcher, desk: _Desk) -> tuple[Readings, Failures, bool]:
    readings, failures = Readings(), Failures()
    asked = cells(plan.grid, [group.name for group in plan.audio])
    for cell, number in _turns(asked, plan.rounds):
        if cell in failures:
            continue
        reading = desk.kept.get((cell, number))
        if reading is None:
            watcher.begin(cell, number)
            try:
                reading = measure(bench, cell, spec_of(cell, home), _audio(plan, cell))
            except Cancelled:
                return readings, failures, True
            except TympanError as error:
                failures[cell] = error
                watcher.end(cell, None, error)
                continue
            desk.keep(cell, number, reading)
            watcher.end(cell, reading, None)
        readings.setdefault(cell, []).append(reading)
        if bench.cancel.is_set():
            return readings, failures, True
    return readings, failures, False


def _audio(plan: Plan, cell: Cell) -> AudioSet:
    return next(group for group in plan.audio if group.name == cell.audio)


def _scope(plan: Plan, bench: Bench, home: Home, origin: Mapping[str, Any]) -> str:
    """Return a digest of all that bears on the figures beside the cell itself."""
    facts = {name: origin[name] for name in ("machine", "versions", "source_digest")}
    audio = {group.name: group.digest() for group in plan.audio}
    knobs = [asdict(bench.options), dict(bench.environment), bench.counts_errors, home.device, dict(home.options)]
    return hash_of([facts, audio, knobs])


def _row(cell: Cell, audio: AudioSet, readings: Sequence[Reading], error: TympanError | None) -> dict[str, Any]:
    """Return a cell's figures: medians under the plain names, least and greatest beside them, and every round."""
    asked = {"asked": {"engine": cell.engine, "compute_type": cell.compute_type}}
    row: dict[str, Any] = {
        "model": cell.model,
        "engine": cell.engine,
        "quantization": cell.compute_type,
        "threads": cell.threads,
        "replicas": cell.replicas,
        "batch": cell.batch,
        "audio_file": audio.name,
        "audio_duration_s": round(audio.duration_s, 3),
        "recordings": len(audio.recordings),
        **asked,
        "error": {"code": error.code, "message": str(error)} if error else None,
    }
    if readings:
        row |= _figures(readings)
    return row


def _figures(readings: Sequence[Reading]) -> dict[str, Any]:
    last = readings[-1]
    total, inference, load = (
        Spread.of([getattr(reading, name) for reading in readings]) for name in ("total_ms", "inference_ms", "load_ms")
    )
    counts = [reading.errors for reading in readings]
    return {
        "model": last.model,
        "engine": last.engine,
        "quantization": last.quantization,
        "revision": last.revision,
        "gpu": last.gpu,
        "load_time_ms": load.median,
        "inference_time_ms": inference.median,
        "total_time_ms": total.median,
        "realtime_factor": round(1e3 * last.processed_s / total.median, 3),
        "rtf": round(total.median / (1e3 * last.processed_s), 5),
        "memory_peak_mb": max(reading.memory_peak_mb for reading in readings),
        "wer": _wer(counts[-1]),
        "wer_words": sum(units for units, _ in counts[-1]) if counts[-1] is not None else None,
        "errors_by_recording": counts[-1],
        "texts_repeat": len({reading.text_digest for reading in readings}) == 1,
        "requests": last.requests,
        "processed_s": last.processed_s,
        "spread": {"load_time_ms": load.as_dict(), "inference_time_ms": inference.as_dict(),
                   "total_time_ms": total.as_dict()},
        "runs": [reading.as_dict() for reading in readings],
    }  # fmt: skip


def _wer(errors: Sequence[tuple[int, int]] | None) -> float | None:
    """Return the pooled error rate in percent."""
    if errors is None:
        return None
    units, wrong = (sum(pair[index] for pair in errors) for index in (0, 1))
    return round(Counts(units=units, insertions=wrong).rate, 3)
