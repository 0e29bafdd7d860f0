"""``tympan bench engine`` from flags to files."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from tympan.audio.decode import Decoder
from tympan.bench import engine_report, engines, grid, recordings
from tympan.bench.facts import command_line
from tympan.bench.grid import Cell, Grid, Reading
from tympan.bench.measure import Bench
from tympan.bench.pages import write_all
from tympan.bench.recordings import AudioSet, Decode
from tympan.bench.specs import Home
from tympan.bootstrap import chosen_hardware
from tympan.cli.bench_options import AudioArgs, GridArgs, MeasureArgs, OutputArgs, counting, listed, named
from tympan.cli.console import ExitCode, say, show_error, stderr
from tympan.cli.display import pull_bar
from tympan.cli.services import load_settings
from tympan.cli.stopping import stopping_on_signals
from tympan.domain import Options, Timestamps
from tympan.engine import models
from tympan.engine.environment import engine_environment
from tympan.engine.hardware import AUTO, choose_hardware, probe_machine
from tympan.errors import TympanError
from tympan.languages import language_code

if TYPE_CHECKING:
    from tympan.config import Settings

NAME = "engine"
_WARM_UP_S = 5.0
_GPU_THREADS = (4,)
_TABLE_WIDTH, _FILE_WIDTH = 100, 140


def execute(audio: AudioArgs, asked: GridArgs, how: MeasureArgs, out: OutputArgs) -> int:
    """Measure, write the results and return the exit code."""
    overrides = {"device": how.device, "data_dir": how.data_dir}
    settings = load_settings({name: value for name, value in overrides.items() if value is not None})
    cells = _grid(asked, settings)
    signals: list[int] = []
    stop = Event()
    with ExitStack() as stack:
        decoder = stack.enter_context(Decoder())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tympan-bench-")))
        decode = recordings.Decode(decoder.stream, recordings.MAX_LENGTH_S)
        sets = audio_sets(audio.paths, _lengths(audio), folder, decode)
        counts = not audio.no_wer and any(group.has_reference for group in sets)
        home = _home(settings, cells, quiet=out.quiet)
        bench = Bench(
            decoder,
            _options(audio, how),
            engine_environment(),
            recordings.made([_WARM_UP_S], folder / "warm-up", decode)[0].recordings[0],
            counts,
            cancel=stop,
        )
        plan = engines.Plan(cells, tuple(sets), how.rounds, out.output / f"{NAME}.rounds.jsonl", how.fresh)
        watcher = stack.enter_context(_watching(quiet=out.quiet))
        stack.enter_context(stopping_on_signals(stop, signals))
        document, cut_short = engines.run(plan, bench, home, watcher, command_line("tympan", sys.argv[1:]))
    return _conclude(document, out, cut_short=cut_short, signals=signals)


def audio_sets(
    paths: Sequence[Path] | None, lengths_s: Sequence[float], folder: Path, decode: Decode
) -> list[AudioSet]:
    """Return what is transcribed: the files at ``paths``, or audio of ``lengths_s`` seconds made of them or of ours."""
    if not paths:
        return recordings.made(lengths_s, folder, decode)
    sets = recordings.given(paths, decode)
    return recordings.resized(sets, lengths_s, folder, decode) if lengths_s else sets


def _lengths(audio: AudioArgs) -> tuple[float, ...]:
    if audio.length is None:
        return () if audio.paths else grid.LENGTHS_S
    return listed(audio.length, float, "--length")


def _grid(asked: GridArgs, settings: "Settings") -> Grid:
    models_asked = asked.model or ("fake" if settings.engine == "fake" else settings.model)
    return Grid(
        models=tuple(_model(name, settings) for name in listed(models_asked, named, "--model")),
        engines=listed(asked.engine or settings.engine, named, "--engine"),
        compute_types=listed(asked.compute_type or settings.compute_type, named, "--compute-type"),
        threads=listed(asked.threads, counting, "--threads") if asked.threads else _threads(settings),
        replicas=listed(asked.replicas, counting, "--replicas"),
        batches=listed(asked.batch, counting, "--batch"),
    )


def _model(name: str, settings: "Settings") -> str:
    """Return the model that ``auto`` stands for on this machine; any other name is kept."""
    if name != AUTO:
        return name
    return chosen_hardware(settings.model_copy(update={"model": AUTO})).model


def _threads(settings: "Settings") -> tuple[int, ...]:
    """Return the numbers of threads to try: on a GPU they hardly matter, so there is one."""
    choice = choose_hardware(settings.model, settings.device, settings.compute_type, 0, probe_machine())
    return _GPU_THREADS if choice.device == "cuda" else grid.THREADS


def _options(audio: AudioArgs, how: MeasureArgs) -> Options:
    language = language_code(audio.language) if audio.language else None
    return Options(language=language, beam_size=how.beam_size, timestamps=Timestamps.NONE)


def _home(settings: "Settings", cells: Grid, *, quiet: bool) -> Home:
    """Have the models' files in place before anything is measured."""
    access = models.Access(offline=settings.offline, trust_first_use=settings.trust_first_use)
    if cells.engines != ("fake",):
        for name in cells.models:
            with pull_bar(name, quiet=quiet) as report:
                models.resolve(name, settings.data_dir, access, report)
    return Home(settings.data_dir, access, settings.device, settings.engine_options)


class _Quiet:
    """Tells of failures only."""

    def total(self, rounds: int, done: int) -> None:
        """Say nothing."""

    def begin(self, cell: Cell, number: int) -> None:
        """Say nothing."""

    def end(self, cell: Cell, reading: Reading | None, error: TympanError | None) -> None:
        """Tell of a failure."""
        if error is not None:
            show_error(error, cell.label)


class _Lines(_Quiet):
    """One line for each finished round, for logs and pipes; at a terminal a bar below them."""

    def __init__(self, bars: Any = None) -> None:
        self._bars, self._task = bars, bars.add_task("", total=None) if bars else None

    def total(self, rounds: int, done: int) -> None:
        """Set the bar's length."""
        if done:
            say(f"{done} of {rounds} rounds are known from an earlier run.")
        if self._bars:
            self._bars.update(self._task, total=rounds, completed=done)

    def begin(self, cell: Cell, number: int) -> None:
        """Name the cell beside the bar."""
        if self._bars:
            self._bars.update(self._task, description=f"round {number + 1}: {cell.label}")

    def end(self, cell: Cell, reading: Reading | None, error: TympanError | None) -> None:
        """Tell what came of the round."""
        super().end(cell, reading, error)
        if reading is not None:
            speed = 1e3 * reading.processed_s / reading.total_ms
            say(f"{cell.label}: {speed:.1f}x real time, {reading.memory_peak_mb:.0f} MB")
        if self._bars:
            self._bars.advance(self._task)


@contextmanager
def _watching(*, quiet: bool) -> Iterator[_Quiet]:
    if quiet:
        yield _Quiet()
    elif not stderr().is_terminal:
        yield _Lines()
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        with Progress(*columns, console=stderr(), transient=True) as bars:
            yield _Lines(bars)


def _conclude(document: dict[str, Any], out: OutputArgs, *, cut_short: bool, signals: Sequence[int]) -> int:
    failed = [row for row in document["rows"] if row["error"]]
    charts = engine_report.charts(document)
    names = [f"{NAME}-{name}.svg" for name in charts]
    written = write_all(out.output, NAME, document, charts, engine_report.page(document, names))
    if not out.quiet:
        if len(failed) < len(document["rows"]):
            show_rows(document)
        say(f"Written: {', '.join(str(path) for path in written)}.")
    if cut_short or signals:
        say("Interrupted; finished rounds are kept. Repeat the command to go on.")
        return 128 + signals[0] if signals else ExitCode.INTERRUPTED
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


_COLUMNS = {
    "model": "model", "engine": "engine", "quantization": "format", "audio_file": "audio", "threads": "threads",
    "replicas": "replicas", "batch": "batch",
}  # fmt: skip
_FIGURES = {
    "load_time_ms": ("load ms", ".0f"), "total_time_ms": ("total ms", ".0f"), "realtime_factor": ("x real time", ".1f"),
    "memory_peak_mb": ("peak MB", ".0f"), "wer": ("WER %", ".2f"),
}  # fmt: skip


def show_rows(document: dict[str, Any]) -> None:
    """Print the cells' figures as a table for people, on stderr; what is the same in all of them is left out."""
    from rich.table import Table  # noqa: PLC0415

    rows = [row for row in document["rows"] if "runs" in row]
    differing = [name for name in _COLUMNS if len({row[name] for row in rows}) > 1 or name == "audio_file"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in differing:
        table.add_column(_COLUMNS[name], justify="right" if isinstance(rows[0][name], int) else "left")
    for title, _ in _FIGURES.values():
        table.add_column(title, justify="right")
    for row in rows:
        figures = ("-" if row[name] is None else format(row[name], how) for name, (_, how) in _FIGURES.items())
        table.add_row(*(str(row[name]) for name in differing), *figures)
    stderr().print(table, width=max(stderr().width, _TABLE_WIDTH if stderr().is_terminal else _FILE_WIDTH))
