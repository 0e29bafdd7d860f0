"""A stored file in a folder, read in pieces. Each opens it anew: what is erased is not read on."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tympan.errors import MediaChanged
from tympan.storage.blob_port import missing, translated

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class LocalFile:
    """The file at ``path`` as it is now; files are never written in place."""

    def __init__(self, key: str, path: Path) -> None:
        """Look at it. Raises ``MediaMissing``."""
        self._key, self._path = key, path
        with self._opened() as (_, found):
            self.n_bytes, self.tag = found.st_size, _tag(found)

    def read(self, start: int, n_bytes: int) -> bytes:
        """Return ``n_bytes`` from ``start`` on. Raises ``MediaMissing``, ``MediaChanged``."""
        with self._opened() as (descriptor, found):
            if _tag(found) != self.tag:
                raise MediaChanged(f"Another file is stored under {self._key!r}.", remedy="Begin anew.")
            wanted = min(n_bytes, self.n_bytes - start)
            pieces, rest = [], wanted
            while rest > 0 and (piece := os.pread(descriptor, rest, start + wanted - rest)):
                pieces.append(piece)
                rest -= len(piece)
        return b"".join(pieces)

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, os.stat_result]]:
        with translated(self._key):
            descriptor = os.open(self._path, _FLAGS)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise missing(self._key)
                yield descriptor, found
            finally:
                os.close(descriptor)


def _tag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
