"""What a place for files has to do, and which names files may have."""

import errno
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tympan.errors import InsufficientStorage, InvalidRequest, MediaMissing, StorageUnavailable

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_KEY_CHARS = 512
# No part starts with a dot (so neither "." nor ".." is one, and stores may use such names for themselves) or a hyphen.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored file: its key, its length, and when it was stored (Unix seconds)."""

    key: str
    n_bytes: int
    modified_s: float


class StoredFile(Protocol):
    """One stored file, read piece by piece; nothing is held open between two of them.

    ``tag`` is another one when the file is. Safe to share between threads.
    """

    @property
    def n_bytes(self) -> int:
        """Length of the file."""

    @property
    def tag(self) -> str:
        """What tells this file from any that is put in its place."""

    def read(self, start: int, n_bytes: int) -> bytes:
        """Return ``n_bytes`` from ``start`` on, fewer at the end alone.

        Raises ``MediaMissing`` when the file has gone since, ``MediaChanged`` when it is another one.
        """


class BlobStore(Protocol):
    """Files under keys such as ``jobs/<id>/media``; synchronous, safe to share between threads.

    Every method raises ``StorageUnavailable`` when the storage does not answer, ``InsufficientStorage`` when it is
    full, and ``InvalidRequest`` for a key of the wrong shape.
    """

    def adopt(self, key: str, source: Path) -> None:
        """Take a local file over: stored durably when this returns, and gone from ``source``."""

    def put(self, key: str, data: bytes) -> None:
        """Store ``data``, durable when this returns and never half visible; replaces what was there."""

    def fetch(self, key: str, folder: Path) -> AbstractContextManager[Path]:
        """Return a local file to read, valid inside the ``with`` block; a download goes into ``folder``.

        Raises ``MediaMissing`` when nothing is stored under ``key``, ``MediaChanged`` when it is not what was stored.
        """

    def read(self, key: str) -> bytes:
        """Return the bytes of a small file. Raises like ``fetch``."""

    def open(self, key: str) -> StoredFile:
        """Return a file to be read in pieces. Raises ``MediaMissing``, ``MediaChanged`` for one that is not ours."""

    def size(self, key: str) -> int | None:
        """Return the length in bytes, None when nothing is stored under ``key``."""

    def copy(self, source: str, target: str) -> None:
        """Store the file under a second key without moving its bytes through here. Raises ``MediaMissing``."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything whose key starts with ``prefix`` (ends with "/"); return how many files that were."""

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Return all files whose key starts with ``prefix``: "" for all, else it ends with "/"."""

    def abort_stale_uploads(self, older_than_s: float) -> int:
        """Delete what unfinished uploads left more than ``older_than_s`` ago; return how many uploads that were."""

    def check(self) -> None:
        """Raise ``StorageUnavailable`` unless the storage answers now."""

    def free_bytes(self) -> int | None:
        """Return the room left in bytes, None where storage has no such limit."""


def check_key(key: str) -> str:
    """Return ``key``. Raises ``InvalidRequest`` unless it is a relative path of plain names."""
    if len(key) > _MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise InvalidRequest(f"{key[:80]!r} is no key of a stored file.", remedy="Use letters, digits, '.', '_', '-'.")
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` without its "/". Raises ``InvalidRequest`` unless it ends with one and is a key before it."""
    if not prefix.endswith("/"):
        raise InvalidRequest(f"The prefix {prefix[:80]!r} does not end with '/'.", remedy="Add it.")
    return check_key(prefix[:-1])


def missing(key: str) -> MediaMissing:
    """Return the error that says that nothing is stored under ``key``."""
    return MediaMissing(f"Nothing is stored under {key!r}.", remedy="Send the audio again.")


def storage_error(error: OSError) -> InsufficientStorage | StorageUnavailable:
    """Return what an error of the file system means to callers."""
    if error.errno in _FULL:
        return InsufficientStorage(remedy="Try again later; the operator has to free disk space.")
    return StorageUnavailable(f"The file storage failed: {error.strerror or error}.", remedy="Try again later.")


@contextmanager
def translated(key: str = "") -> Iterator[None]:
    """Turn errors of the file system into typed ones; a missing file is ``MediaMissing`` where ``key`` is given."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if key:
            raise missing(key) from error
        raise storage_error(error) from error
    except OSError as error:
        raise storage_error(error) from error
