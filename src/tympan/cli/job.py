"""Transcribing what the command line names: plan, resume, run, write, report."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

from tympan.cli import services
from tympan.cli.batch_run import Outcome, in_order, run_many
from tympan.cli.console import ExitCode, say, show_error, write_stdout
from tympan.cli.display import open_display
from tympan.cli.journal import NAME as JOURNAL_NAME
from tympan.cli.journal import Entry, FileState, Journal, file_state, fingerprint, has_changed, open_journal
from tympan.cli.known import Samples, heard
from tympan.cli.outputs import Format, check_writable, output_paths, plan_names, write_whole
from tympan.cli.progress import Display
from tympan.cli.report import STDOUT, Record, failure_record, success_record, summarise, write_report
from tympan.cli.services import FileTranscriber
from tympan.cli.sources import STDIN, Source, discover, spool_stdin, unreadable
from tympan.cli.stopping import stopping_on_signals
from tympan.cli.survey import surveying
from tympan.domain import Options, Progress, Shape, Timestamps, Transcript
from tympan.errors import Cancelled, DecoderUnavailable, Overloaded, Unavailable

if TYPE_CHECKING:
    from tympan.config import Settings


_BAD_MOMENTS = (Overloaded, Unavailable, DecoderUnavailable)
"""The queue is full, or a process is being replaced: nothing the file has done."""

_ATTEMPTS = 4
_RETRY_S, _MAX_RETRY_S = 1.0, 10.0
_FINGERPRINTED_SETTINGS = ("model", "device", "compute_type", "engine")


class OpenTranscriber(Protocol):
    """Something that starts and stops a transcriber."""

    def __call__(self, settings: "Settings", *, quiet: bool) -> AbstractContextManager[FileTranscriber]:
        """Return the context in which it runs."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a run was asked for.

    With ``output_dir`` transcripts go to files; else to stdout, unless ``prints`` is off and only the report is wanted.
    ``samples`` are files with the voices of known speakers, by their names.
    """

    paths: tuple[str, ...]
    recursive: bool
    formats: tuple[Format, ...]
    options: Options
    overrides: dict[str, object]
    output_dir: Path | None = None
    report: str | None = None
    prints: bool = True
    workers: int = 4
    force: bool = False
    fail_fast: bool = False
    quiet: bool = False
    shape: Shape | None = None
    samples: Samples = field(default_factory=dict)

    @property
    def journal_path(self) -> Path | None:
        """Where finished files are noted; ``None`` when nothing is kept that a later run could skip."""
        if self.output_dir:
            return self.output_dir / JOURNAL_NAME
        if not self.prints and self.report and self.report != STDOUT:
            report = Path(self.report)
            return report.with_name(f".{report.name}{JOURNAL_NAME}")
        return None


@dataclass(frozen=True, slots=True)
class Finished:
    """A file's transcript and its record."""

    transcript: Transcript
    record: Record


@dataclass(frozen=True, slots=True)
class Desk:
    """What the threads of a run share: the job, where outputs go, who is told, and when to stop."""

    job: Job
    fingerprint: str
    names: dict[str, str]
    journal: Journal | None
    display: Display
    stop: Event


def execute(job: Job, open_transcriber: OpenTranscriber = services.open_transcriber) -> int:
    """Do ``job`` and return the exit code; raises ``TympanError`` for what ends the whole run."""
    settings = services.load_settings(job.overrides)
    if job.report and job.report != STDOUT:
        check_writable(Path(job.report))
    known: dict[str, object] = {name: getattr(settings, name, None) for name in _FINGERPRINTED_SETTINGS}
    wanted = fingerprint(job.options, known | ({"shape": job.shape} if job.shape else {}))
    with ExitStack() as stack:
        sources = _found(job, stack)
        journal = stack.enter_context(open_journal(job.journal_path)) if job.journal_path else None
        records, todo = _split(sources, job, journal, wanted)
        signals: list[int] = []
        started = time.monotonic()
        if todo:
            transcriber = stack.enter_context(open_transcriber(settings, quiet=job.quiet))
            from tympan.pipeline import check_options  # noqa: PLC0415 (heavy: not for --help)

            check_options(job.options, transcriber.info)
            job = _introduced(job, transcriber)
            stop = Event()
            stack.enter_context(stopping_on_signals(stop, signals))
            display = stack.enter_context(open_display(todo, quiet=job.quiet))
            stack.enter_context(surveying(todo, display, transcriber))
            desk = Desk(job, wanted, _names(todo, job, journal), journal, display, stop)
            started = time.monotonic()
            records |= _run(todo, desk, transcriber, has_headers=len(sources) > 1)
        elapsed_s = time.monotonic() - started
    return _conclude(job, [_final(source, records) for source in sources], elapsed_s, signals)


def _introduced(job: Job, transcriber: FileTranscriber) -> Job:
    """Return the job with the voices of known speakers. Raises ``TympanError``."""
    if not job.samples:
        return job
    digests = {each.name: each.sample for each in job.options.known_voices}
    voices = heard(job.samples, transcriber.hear)
    return replace(job, options=job.options.with_voices({digests[name]: voice for name, voice in voices.items()}))


def _found(job: Job, stack: ExitStack) -> list[Source]:
    """Find the sources; standard input is put into a file that lives as long as ``stack``."""
    sources = discover(job.paths, recursive=job.recursive)
    for index, source in enumerate(sources):
        if source.key == STDIN:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tympan-")))
            path = spool_stdin(folder)
            sources[index] = replace(source, path=path, size_bytes=path.stat().st_size)
    if not sources and not job.quiet:
        say("No audio files found.")
    return sources


def _split(
    sources: Sequence[Source], job: Job, journal: Journal | None, wanted: str
) -> tuple[dict[str, Record], list[Source]]:
    """Return the records that need no work, by key, and the sources that do."""
    records: dict[str, Record] = {}
    todo = []
    for source in sources:
        earlier = None
        if source.problem:
            show_error(source.problem, source.label)
            earlier = failure_record(source, source.problem)
        elif journal and not job.force:
            earlier = journal.finished(source, wanted, job.output_dir, job.formats)
            earlier = earlier and replace(earlier, filename=source.label, skipped=True)
        if earlier:
            records[source.key] = earlier
        else:
            todo.append(source)
    return records, todo


def _names(todo: Sequence[Source], job: Job, journal: Journal | None) -> dict[str, str]:
    folder = job.output_dir
    if folder is None:
        return {}

    def is_foreign(name: str) -> bool:
        return not job.force and any(path.exists() for path in output_paths(folder, name, job.formats).values())

    return plan_names(todo, journal.names if journal else {}, is_foreign)


def _run(todo: Sequence[Source], desk: Desk, transcriber: FileTranscriber, *, has_headers: bool) -> dict[str, Record]:
    """Transcribe ``todo`` and return a record by key for every file that was begun."""
    job = desk.job
    outcomes: Iterator[Outcome[Source, Finished]] = run_many(
        todo,
        lambda source: _transcribe(source, desk, transcriber),
        workers=job.workers,
        stop=desk.stop,
        fail_fast=job.fail_fast,
    )
    prints = job.prints and not job.output_dir and job.report != STDOUT
    records = {}
    for outcome in in_order(outcomes) if prints else outcomes:
        source = outcome.item
        if outcome.result:
            records[source.key] = outcome.result.record
            if prints:
                _print(source, outcome.result.transcript, job, has_headers=has_headers)
        elif outcome.error:
            records[source.key] = failure_record(source, outcome.error, outcome.processing_s)
            if not isinstance(outcome.error, Cancelled):
                show_error(outcome.error, source.label)
    return records


def _transcribe(source: Source, desk: Desk, transcriber: FileTranscriber) -> Finished:
    """Transcribe one file, write its outputs and note it as done: the work of one thread."""
    audio_s = None
    desk.display.started(source)
    try:
        state = _state(source) if desk.journal else None
        started = time.monotonic()

        transcript = _patiently(source, desk, transcriber)
        processing_s = time.monotonic() - started
        paths = _write(source, transcript, desk)
        record = success_record(source, transcript, processing_s, paths)
        if desk.journal and state and not has_changed(source.path, state):
            name = desk.names.get(source.key, source.label)
            desk.journal.add(Entry(source.key, state, desk.fingerprint, name, record))
        audio_s = transcript.duration_s
        return Finished(transcript, record)
    finally:
        desk.display.finished(source, audio_s)


def _patiently(source: Source, desk: Desk, transcriber: FileTranscriber) -> Transcript:
    """Transcribe a file; try again, a few times, when it only came at a bad moment."""

    def on_progress(progress: Progress) -> None:
        desk.display.progressed(source, progress)

    for _ in range(_ATTEMPTS - 1):
        try:
            return transcriber.transcribe(source.path, desk.job.options, desk.stop, on_progress)
        except _BAD_MOMENTS as error:
            if desk.stop.wait(min(error.retry_after_s or _RETRY_S, _MAX_RETRY_S)):
                raise Cancelled from error
    return transcriber.transcribe(source.path, desk.job.options, desk.stop, on_progress)


def _state(source: Source) -> FileState:
    try:
        return file_state(source.path)
    except OSError as error:
        raise unreadable(error) from error


def _write(source: Source, transcript: Transcript, desk: Desk) -> list[Path]:
    if desk.job.output_dir is None:
        return []
    paths = output_paths(desk.job.output_dir, desk.names[source.key], desk.job.formats)
    for fmt, path in paths.items():
        write_whole(path, _rendered(transcript, fmt, desk.job))
    return list(paths.values())


def _print(source: Source, transcript: Transcript, job: Job, *, has_headers: bool) -> None:
    for fmt in job.formats:
        if has_headers or len(job.formats) > 1:
            kind = f" ({fmt.value})" if len(job.formats) > 1 else ""
            write_stdout(f"==> {source.label}{kind} <==")
        write_stdout(_rendered(transcript, fmt, job))


def _rendered(transcript: Transcript, fmt: Format, job: Job) -> str:
    from tympan.formats import render  # noqa: PLC0415

    words = job.options.timestamps is Timestamps.WORD
    return render(transcript, fmt.response_format, words=words, segments=True, shape=job.shape)


def _final(source: Source, records: dict[str, Record]) -> Record:
    return records.get(source.key) or failure_record(source, Cancelled("The run ended before this file was begun."))


def _conclude(job: Job, records: Sequence[Record], elapsed_s: float, signals: Sequence[int]) -> int:
    if job.report:
        write_report(job.report, records)
    if not job.quiet:
        say(summarise(records, elapsed_s, job.output_dir))
    if signals:
        resume = " Repeat the command to go on." if job.journal_path else ""
        say(f"Interrupted; what is finished is kept.{resume}")
        return 128 + signals[0]
    return ExitCode.OK if all(record.success for record in records) else ExitCode.SOME_FAILED
