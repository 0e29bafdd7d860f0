"""What moves at the terminal while something takes time; nothing at all when stderr is not one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from tympan.cli.console import stderr
from tympan.cli.progress import Display, NoDisplay
from tympan.cli.sources import Source

if TYPE_CHECKING:
    from tympan.engine.store import PullProgress


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


def waiting(message: str, *, quiet: bool) -> AbstractContextManager[object]:
    """Return a context that shows ``message`` beside a spinner."""
    return nullcontext() if quiet or not stderr().is_terminal else stderr().status(message)
