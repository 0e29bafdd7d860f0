"""``tympan transcribe`` and ``tympan batch``."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from tympan.cli.arguments import command
from tympan.cli.console import printable, turn_debugging_on
from tympan.cli.job import Job, execute
from tympan.cli.known import samples_of
from tympan.cli.options import DecodeArgs, EngineArgs, to_options, to_overrides
from tympan.cli.outputs import Format
from tympan.domain import Shape, Timestamps
from tympan.errors import InvalidRequest

_FORMAT_HELP = f"{', '.join(Format)}; repeat it for several; txt unless given."
_SHAPE = Shape()
_REPORT_HELP = "Write a JSON array with one record per file; - for stdout."


@dataclass(frozen=True, slots=True)
class InputArgs:
    """What to transcribe."""

    PANEL: ClassVar[str] = "Input and output"

    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders, or - for standard input.")]
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look for audio in folders and below.")] = False
    report: Annotated[str | None, typer.Option(metavar="FILE", help=_REPORT_HELP)] = None


@dataclass(frozen=True, slots=True)
class BatchInputArgs:
    """What ``batch`` transcribes."""

    PANEL: ClassVar[str] = "Input and output"

    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to search for audio, with all below it.")]
    report: Annotated[str, typer.Argument(metavar="REPORT", help=_REPORT_HELP)]


@dataclass(frozen=True, slots=True)
class OutputArgs:
    """Where transcripts go."""

    PANEL: ClassVar[str] = "Input and output"

    formats: Annotated[list[Format] | None, typer.Option("--format", "-f", metavar="FORMAT", help=_FORMAT_HELP)] = None
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", metavar="DIR", help="Write files here, in the folders of the sources."),
    ] = None


@dataclass(frozen=True, slots=True)
class SubtitleArgs:
    """How subtitles are cut."""

    PANEL: ClassVar[str] = "Subtitles (any of these turns the others on)"

    max_line_width: Annotated[
        int | None, typer.Option(min=4, max=1000, metavar="N", help=f"Characters in a line; {_SHAPE.max_line_width}.")
    ] = None
    max_line_count: Annotated[
        int | None, typer.Option(min=1, max=10, metavar="N", help=f"Lines of a cue; {_SHAPE.max_line_count}.")
    ] = None
    max_words_per_line: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="N", help="Words of a line; cues of one line then.")
    ] = None
    min_cue_s: Annotated[
        float | None,
        typer.Option(min=0, max=60, metavar="S", help=f"Shortest cue, if there is room; {_SHAPE.min_cue_s}."),
    ] = None
    max_cue_s: Annotated[
        float | None, typer.Option(min=0.5, max=60, metavar="S", help=f"Longest cue; {_SHAPE.max_cue_s}.")
    ] = None
    max_chars_per_s: Annotated[
        float | None, typer.Option(min=1, max=1000, metavar="N", help=f"Reading speed; {_SHAPE.max_chars_per_s}.")
    ] = None

    def shape(self) -> Shape | None:
        """Return what the flags ask for, ``None`` without any. Raises ``InvalidRequest`` when they contradict."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not given:
            return None
        if self.max_words_per_line:
            given.setdefault("max_line_count", 1)
        shape = Shape(**given)
        if shape.min_cue_s > shape.max_cue_s:
            raise InvalidRequest("--min-cue-s is more than --max-cue-s.", remedy="Lower it.")
        return shape


@dataclass(frozen=True, slots=True)
class RunArgs:
    """How the run goes."""

    PANEL: ClassVar[str] = "Run"

    workers: Annotated[
        int,
        typer.Option(
            "--workers", "-w", min=1, max=16, metavar="N", help="Files worked on at the same time; they share batches."
        ),
    ] = 4
    force: Annotated[bool, typer.Option("--force", help="Transcribe again files that an earlier run finished.")] = False
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; errors only.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, like TYMPAN_DEBUG=1.")] = False


def register(app: typer.Typer) -> None:
    """Add the two commands to ``app``."""
    command(app, "transcribe")(transcribe)
    command(app, "batch")(batch)


def transcribe(
    source: InputArgs, output: OutputArgs, shape: SubtitleArgs, decode: DecodeArgs, engine: EngineArgs, run: RunArgs
) -> int:
    """Turn audio files into text.

    Transcripts go to stdout, or to files with --output-dir; all else goes to stderr.
    A broken file never stops the rest.
    With --output-dir a run can be repeated: finished, unchanged files are skipped.

    Exit codes: 0 all done, 1 some files failed, 2 wrong usage,
    3 no usable model, engine or setting, 130 interrupted.
    """
    job = _with_shape(_job(output, decode, engine, run), shape.shape())
    return execute(replace(job, paths=tuple(source.paths), recursive=source.recursive, report=source.report))


def batch(
    source: BatchInputArgs,
    output: OutputArgs,
    shape: SubtitleArgs,
    decode: DecodeArgs,
    engine: EngineArgs,
    run: RunArgs,
) -> int:
    """Transcribe a folder into a report.

    The same as `transcribe --recursive DIR --report REPORT`, but the transcripts
    are in the report instead of on stdout; in files too with --output-dir.
    Repeat it to resume: finished, unchanged files are skipped.
    """
    if not source.folder.exists():
        raise InvalidRequest(f"There is no folder {printable(str(source.folder))}.")
    job = _with_shape(_job(output, decode, engine, run), shape.shape())
    return execute(replace(job, paths=(str(source.folder),), recursive=True, report=source.report, prints=False))


def _job(output: OutputArgs, decode: DecodeArgs, engine: EngineArgs, run: RunArgs) -> Job:
    """Return the job that the flags describe, without its paths."""
    if run.debug:
        turn_debugging_on()
    formats = tuple(dict.fromkeys(output.formats or [Format.TXT]))
    options = to_options(decode)
    options = replace(options, diarize=options.diarize or any(fmt.needs_speakers for fmt in formats))
    if options.diarize and not any(fmt.names_speakers for fmt in formats):
        raise InvalidRequest(
            "Speakers show in the formats diarized_json, verbose_json, rttm, srt and vtt only.",
            remedy="Add --format diarized_json.",
        )
    if not any(fmt.needs_times for fmt in formats):
        options = replace(options, timestamps=Timestamps.NONE)
    return Job(
        paths=(),
        recursive=False,
        formats=formats,
        options=options,
        overrides=to_overrides(engine),
        samples=samples_of(decode.known_speaker),
        output_dir=output.output_dir,
        workers=run.workers,
        force=run.force,
        fail_fast=run.fail_fast,
        quiet=run.quiet,
    )


def _with_shape(job: Job, shape: Shape | None) -> Job:
    """Return the job with its subtitles cut to ``shape``, for which the times of words are needed."""
    if shape is None or not any(fmt in {Format.SRT, Format.VTT} for fmt in job.formats):
        return job
    return replace(job, shape=shape, options=replace(job.options, timestamps=Timestamps.WORD))
