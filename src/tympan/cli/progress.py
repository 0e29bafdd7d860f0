"""Progress in seconds of audio, with speed and time left; nothing at all when stderr is not a terminal."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from tympan.cli.console import stderr
from tympan.cli.sources import Source
from tympan.domain import Progress

if TYPE_CHECKING:
    from tympan.engine.store import PullProgress


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far one file has come; ``total_s`` is ``None`` until its length is known."""

    size_bytes: int
    done_s: float = 0.0
    total_s: float | None = None


def estimate_total_s(files: Collection[FileProgress]) -> float | None:
    """Return the audio-seconds of all files together, or ``None`` before the first length is known.

    Files whose length is unknown count by their size, at the seconds per byte of those known, and never as less than
    what is already done of them.
    """
    known = [file for file in files if file.total_s is not None]
    known_s = sum(file.total_s or 0.0 for file in known)
    known_bytes = sum(file.size_bytes for file in known)
    if not known_s or not known_bytes:
        return None
    s_per_byte = known_s / known_bytes
    return known_s + sum(max(file.size_bytes * s_per_byte, file.done_s) for file in files if file.total_s is None)


class Display(Protocol):
    """What follows a run; every method may be called from any thread. ``is_visible`` says whether anybody looks."""

    is_visible: bool

    def __enter__(self) -> Self:
        """Start showing."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing and leave the terminal clean."""
        ...

    def started(self, source: Source) -> None:
        """Note that a file's turn has come."""
        ...

    def progressed(self, source: Source, progress: Progress) -> None:
        """Note how far a file has come."""
        ...

    def measured(self, source: Source, total_s: float) -> None:
        """Note the length of a file."""
        ...

    def finished(self, source: Source, audio_s: float | None) -> None:
        """Note that a file has ended, after ``audio_s`` seconds of audio, or ``None`` when it failed."""
        ...


class NoDisplay:
    """A display for pipes and logs: it shows nothing."""

    is_visible = False

    def __enter__(self) -> Self:
        """Show nothing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have nothing to clean."""

    def started(self, source: Source) -> None:
        """Show nothing."""

    def progressed(self, source: Source, progress: Progress) -> None:
        """Show nothing."""

    def measured(self, source: Source, total_s: float) -> None:
        """Show nothing."""

    def finished(self, source: Source, audio_s: float | None) -> None:
        """Show nothing."""


def open_display(sources: Sequence[Source], *, quiet: bool) -> Display:
    """Return bars for a person at a terminal, and nothing for pipes, logs or ``quiet``."""
    if quiet or not sources or not stderr().is_terminal:
        return NoDisplay()
    from tympan.cli.bars import BarDisplay  # noqa: PLC0415  (rich's bars cost a tenth of a second)

    return BarDisplay(sources)


@contextmanager
def pull_bar(name: str, *, quiet: bool = False) -> "Iterator[Callable[[PullProgress], None]]":
    """Yield a function that shows how far a model has come: a bar at a terminal, nothing elsewhere."""
    if quiet or not stderr().is_terminal:
        yield lambda _progress: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=stderr(), transient=True) as bars:
        task = bars.add_task(name, total=None)

        def report(progress: "PullProgress") -> None:
            total = progress.total_bytes or None
            bars.update(task, description=progress.step, completed=progress.done_bytes, total=total)

        yield report
