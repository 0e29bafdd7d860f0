"""One record per file: what ``--report`` writes, what a later run resumes from, what the summary adds up."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tympan.cli.console import format_duration, write_stdout
from tympan.cli.outputs import write_whole
from tympan.cli.sources import Source
from tympan.domain import Transcript
from tympan.errors import Cancelled, TympanError

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Record:
    """What happened to one file.

    ``realtime_factor`` is seconds of audio per second of processing: above 1 is faster than listening. ``outputs`` are
    the files written; ``skipped`` says that an earlier run had done the work.
    """

    filename: str
    path: str
    text: str | None = None
    language: str | None = None
    duration_s: float | None = None
    processing_s: float | None = None
    realtime_factor: float | None = None
    success: bool = False
    skipped: bool = False
    outputs: tuple[str, ...] = ()
    error: Mapping[str, str] | None = None


def success_record(source: Source, transcript: Transcript, processing_s: float, outputs: Sequence[Path]) -> Record:
    """Return the record of a file that was transcribed in ``processing_s`` seconds."""
    audio_s = transcript.duration_s
    return Record(
        filename=source.label,
        path=source.key,
        text=transcript.text,
        language=transcript.language,
        duration_s=round(audio_s, 3),
        processing_s=round(processing_s, 3),
        realtime_factor=round(audio_s / processing_s, 3) if processing_s else None,
        success=True,
        outputs=tuple(str(output) for output in outputs),
    )


def failure_record(source: Source, error: TympanError, processing_s: float | None = None) -> Record:
    """Return the record of a file without a transcript."""
    described = {"code": error.code, "message": error.message}
    if error.remedy:
        described["remedy"] = error.remedy
    rounded = None if processing_s is None else round(processing_s, 3)
    return Record(filename=source.label, path=source.key, processing_s=rounded, error=described)


def record_from_json(values: Mapping[str, Any]) -> Record:
    """Return the record that ``asdict`` and JSON made ``values`` from; raises ``TypeError`` for anything else."""
    return Record(**{**values, "outputs": tuple(values.get("outputs", ()))})


def write_report(target: str, records: Iterable[Record]) -> None:
    """Write the records as one JSON array to the file ``target``, or to stdout for ``-``."""
    text = json.dumps([asdict(record) for record in records], ensure_ascii=False, indent=2) + "\n"
    if target == STDOUT:
        write_stdout(text)
    else:
        write_whole(Path(target), text)


def summarise(records: Sequence[Record], elapsed_s: float, place: Path | None = None) -> str:
    """Return the line that ends a run: how many files, into which folder, how much audio, how fast, what failed."""
    done = [record for record in records if record.success and not record.skipped]
    audio_s = sum(record.duration_s or 0.0 for record in done)
    unfinished = sum(record.error is not None and record.error["code"] == Cancelled.code for record in records)
    failed = sum(not record.success for record in records) - unfinished
    skipped = sum(record.skipped for record in records)
    parts = [f"{_count(len(done), 'file')} transcribed" + (f" into {place}" if place else "")]
    if done:
        speed = f" ({audio_s / elapsed_s:.1f}x real time)" if elapsed_s > 0 else ""
        parts[0] += f", {format_duration(audio_s)} of audio in {format_duration(elapsed_s)}{speed}"
    if skipped:
        parts.append(f"{skipped} skipped, done earlier")
    if failed:
        parts.append(f"{failed} failed")
    if unfinished:
        parts.append(f"{unfinished} not finished")
    return "; ".join(parts) + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
