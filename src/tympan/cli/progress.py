"""Progress in seconds of audio: what is known, what is estimated, and who is told."""

from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from tympan.cli.sources import Source
from tympan.domain import Progress


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
