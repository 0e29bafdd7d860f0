"""How long the files are, found out beside the work, so that bars have an end and a time left.

A transcription knows its length only when it has decoded everything, which is just before it ends. Decoding alone costs
a few per cent of the work, and only a person at a terminal pays it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from tympan.cli.progress import Display
from tympan.cli.services import FileTranscriber
from tympan.cli.sources import Source
from tympan.errors import TympanError

MAX_FILES = 16
"""Files to measure; the rest are estimated by their size."""

_END_S = 5.0


@contextmanager
def surveying(sources: Sequence[Source], display: Display, transcriber: FileTranscriber) -> Iterator[None]:
    """Measure the first of ``sources`` in a thread, for ``display``, until the block ends."""
    if not display.is_visible:
        yield
        return
    leave = Event()
    thread = Thread(target=_survey, args=(sources[:MAX_FILES], display, transcriber, leave), name="survey", daemon=True)
    thread.start()
    try:
        yield
    finally:
        leave.set()
        thread.join(_END_S)


def _survey(sources: Sequence[Source], display: Display, transcriber: FileTranscriber, leave: Event) -> None:
    for source in sources:
        if leave.is_set():
            return
        try:
            display.measured(source, transcriber.measure(source.path, leave))
        except TympanError:
            # The file's own transcription reports what is wrong with it.
            continue
