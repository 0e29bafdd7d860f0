"""Files of one line a fact, which one process at a time adds to and reads again when it goes on."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tympan.errors import InsufficientStorage, InvalidRequest, TympanError


@contextmanager
def hold_lines(path: Path, holder: str, *, fresh: bool = False) -> Iterator[tuple[IO[str], str]]:
    """Yield the file at ``path``, open to add to, and its text; created if need be, held by this process alone.

    ``fresh`` empties it. A last line that a crash cut short is ended, so that what is added stands on lines of its own.
    ``holder`` names what else may hold it. Raises ``InvalidRequest`` when another process does, and as ``write_error``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"Another {holder} is writing to {path.parent}."
            raise InvalidRequest(message, remedy="Wait for it, or choose another place.") from error
        if fresh:
            file.truncate(0)
        file.seek(0)
        text = file.read()
        if text and not text.endswith("\n"):
            file.write("\n")
        yield file, text


def write_error(path: Path, error: OSError) -> TympanError:
    """Return what a failed write to ``path`` means for the caller."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InsufficientStorage(f"The disk has no room for {path}.", remedy="Free some space and run this again.")
    return InvalidRequest(f"{path} cannot be written: {error.strerror}.", remedy="Choose another place.")
