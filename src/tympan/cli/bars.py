"""Progress bars for a person at a terminal, drawn with rich on stderr."""

from collections.abc import Sequence
from threading import Lock
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from tympan.cli.console import format_clock, stderr
from tympan.cli.progress import FileProgress, estimate_total_s
from tympan.cli.sources import Source
from tympan.domain import Progress

_LABEL_WIDTH = 28
_MAX_FILE_BARS = 8


class AudioColumn(ProgressColumn):
    """Audio done and audio in all; ``~`` marks an estimate."""

    def render(self, task: Task) -> Text:
        """Return for example ``3:20 / 1:02:11``."""
        total = "?" if task.total is None else task.fields.get("about", "") + format_clock(task.total)
        return Text(f"{format_clock(task.completed)} / {total}", style="progress.download")


class SpeedColumn(ProgressColumn):
    """Seconds of audio per second, since the start."""

    def render(self, task: Task) -> Text:
        """Return for example ``12.3x``."""
        speed = _speed(task)
        return Text(f"{speed:.1f}x" if speed else "", style="progress.data.speed")


class TimeLeftColumn(ProgressColumn):
    """Time left at the speed so far."""

    def render(self, task: Task) -> Text:
        """Return for example ``4:10 left``."""
        speed = _speed(task)
        if not speed or task.total is None:
            return Text("")
        return Text(f"{format_clock(max(task.total - task.completed, 0.0) / speed)} left", style="progress.remaining")


class BarDisplay:
    """One bar for the whole run and, when there are several files, one for each of those in flight."""

    is_visible = True

    def __init__(self, sources: Sequence[Source]) -> None:
        """Prepare bars for ``sources``, of which there is at least one."""
        self._files = {source.key: FileProgress(source.size_bytes) for source in sources}
        self._finished = 0
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            AudioColumn(),
            SpeedColumn(),
            TimeLeftColumn(),
            console=stderr(),
            transient=True,
            expand=True,
            refresh_per_second=5,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = Lock()
        label = _shortened(sources[0].label) if len(sources) == 1 else self._count()
        self._total = self._bars.add_task(label, total=None)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away, so that what follows starts on a clean line."""
        self._bars.stop()

    def started(self, source: Source) -> None:
        """Add the file's own bar."""
        with self._lock:
            if len(self._files) > 1 and len(self._tasks) < _MAX_FILE_BARS:
                self._tasks[source.key] = self._bars.add_task(f"  {_shortened(source.label)}", total=None)

    def progressed(self, source: Source, progress: Progress) -> None:
        """Move the file's bar and the total."""
        with self._lock:
            before = self._files[source.key]
            total_s = progress.total_s if progress.total_s is not None else before.total_s
            self._draw(source, FileProgress(before.size_bytes, progress.done_s, total_s))

    def measured(self, source: Source, total_s: float) -> None:
        """Fix the end of the file's bar, unless it is known already."""
        with self._lock:
            before = self._files[source.key]
            if before.total_s is None:
                self._draw(source, FileProgress(before.size_bytes, before.done_s, total_s))

    def finished(self, source: Source, audio_s: float | None) -> None:
        """Remove the file's bar and settle its share of the total."""
        with self._lock:
            before = self._files[source.key]
            size_bytes, length_s = (0, before.done_s) if audio_s is None else (before.size_bytes, audio_s)
            self._files[source.key] = FileProgress(size_bytes, length_s, length_s)
            self._finished += 1
            if source.key in self._tasks:
                self._bars.remove_task(self._tasks.pop(source.key))
            self._draw_total()

    def _draw(self, source: Source, file: FileProgress) -> None:
        self._files[source.key] = file
        if source.key in self._tasks:
            self._bars.update(self._tasks[source.key], completed=file.done_s, total=file.total_s)
        self._draw_total()

    def _draw_total(self) -> None:
        files = self._files.values()
        is_exact = all(file.total_s is not None for file in files)
        self._bars.update(
            self._total,
            description=self._count() if len(files) > 1 else None,
            completed=sum(file.done_s for file in files),
            total=estimate_total_s(files),
            about="" if is_exact else "~",
        )

    def _count(self) -> str:
        return f"{self._finished} of {len(self._files)} files"


def _speed(task: Task) -> float | None:
    return task.completed / task.elapsed if task.completed and task.elapsed else None


def _shortened(label: str) -> str:
    if len(label) <= _LABEL_WIDTH:
        return label
    end = _LABEL_WIDTH // 2
    return f"{label[: _LABEL_WIDTH - end - 1]}…{label[-end:]}"
