"""Files in a local folder, one per key: written beside, made durable, then given their name."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tympan.errors import InsufficientStorage, StorageUnavailable, TympanError
from tympan.faultpoints import reach
from tympan.storage.blob_port import BlobInfo, check_key, check_prefix, missing, translated
from tympan.storage.local_file import LocalFile

_STAGING = ".staging"  # No key starts with a dot.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
_PLACE_TRIES = 20


class LocalBlobs:
    """A ``BlobStore`` in ``folder``; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which is made when it is missing. Raises ``StorageUnavailable`` when it cannot be."""
        self._folder = folder
        self._staging = folder / _STAGING
        with translated():
            self._make(self._staging)

    def adopt(self, key: str, source: Path) -> None:
        """Take a local file over: renamed where source and store are on one file system, else copied."""
        check_key(key)
        with translated():
            _sync(source)
            try:
                self._finish(key, source)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                staged = self._staged()
                self._copy_bytes(source, staged)
                self._finish(key, staged)
                source.unlink()

    def put(self, key: str, data: bytes) -> None:
        """Store ``data``, durable and whole when it becomes visible."""
        check_key(key)
        with translated():
            staged = self._staged()
            try:
                with _create(staged) as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self._finish(key, staged)
            except OSError:
                staged.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def fetch(self, key: str, folder: Path) -> Iterator[Path]:
        """Return the stored file itself. Raises ``MediaMissing``."""
        path = self._path(key)
        with translated(key):
            if not path.is_file():
                raise missing(key)
        yield path

    def read(self, key: str) -> bytes:
        """Return the bytes of a small file. Raises ``MediaMissing``."""
        with translated(key):
            return self._path(key).read_bytes()

    def open(self, key: str) -> LocalFile:
        """Return the stored file to be read in pieces. Raises ``MediaMissing``."""
        return LocalFile(key, self._path(key))

    def size(self, key: str) -> int | None:
        """Return the length in bytes, None when nothing is stored under ``key``."""
        path = self._path(key)
        with translated(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = path.stat()
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        return None

    def copy(self, source: str, target: str) -> None:
        """Give the file a second name; files are never written in place, so the two cannot disturb each other."""
        origin, staged = self._path(source), self._staged()
        check_key(target)
        with translated(source):
            if not origin.is_file():
                raise missing(source)
            try:
                os.link(origin, staged)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                self._copy_bytes(origin, staged)
        with translated():
            self._finish(target, staged)
            staged.unlink(missing_ok=True)  # Renaming onto another name of the same file leaves both.

    def delete_prefix(self, prefix: str) -> int:
        """Delete the folder ``prefix``; return how many files it held."""
        root = self._folder / check_prefix(prefix)
        deleted = 0
        with translated():
            for folder, _, names in os.walk(root, topdown=False, onerror=_unless_gone):
                for name in names:
                    reach("blob.delete")
                    deleted += _unlink(Path(folder, name))
                _remove_if_empty(Path(folder))
            if deleted:
                _sync_if_there(root.parent)
        return deleted

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Return all files under ``prefix``, in order of their folders."""
        root = self._folder / check_prefix(prefix) if prefix else self._folder
        with translated():
            for folder, folders, names in os.walk(root, onerror=_unless_gone):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(names):
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):  # Deleted since.
                        info = path.stat()
                        yield BlobInfo(path.relative_to(self._folder).as_posix(), info.st_size, info.st_mtime)

    def abort_stale_uploads(self, older_than_s: float) -> int:
        """Delete files that were being written when their process died, more than ``older_than_s`` ago."""
        aborted = 0
        with translated():
            for path in self._staging.iterdir():
                with contextlib.suppress(FileNotFoundError):  # It has its name by now.
                    # A renamed file keeps its old times of writing; the time of renaming is the inode's.
                    if time.time() - path.stat().st_ctime > older_than_s:
                        aborted += _unlink(path)
        return aborted

    def check(self) -> None:
        """Raise ``StorageUnavailable`` unless a file can be written durably now."""
        staged = self._staged()
        try:
            with translated():
                staged.write_bytes(b"check")
                _sync(staged)
                staged.unlink()
        except InsufficientStorage as error:
            staged.unlink(missing_ok=True)
            raise StorageUnavailable("The disk of the file storage is full.", remedy="Free disk space.") from error

    def free_bytes(self) -> int:
        """Return the room left on the disk, in bytes, for a process without special rights."""
        with translated():
            disk = os.statvfs(self._folder)
            return disk.f_bavail * disk.f_frsize

    def _path(self, key: str) -> Path:
        return self._folder / check_key(key)

    def _staged(self) -> Path:
        return self._staging / secrets.token_hex(16)

    def _finish(self, key: str, staged: Path) -> None:
        reach("blob.fsync")
        path = self._path(key)
        for attempt in range(_PLACE_TRIES):
            try:
                self._make(path.parent)
                staged.replace(path)
                break
            except FileNotFoundError:  # Somebody has just deleted the empty folder.
                if attempt == _PLACE_TRIES - 1 or not staged.exists():
                    raise
        reach("blob.rename")
        _sync_if_there(path.parent)

    def _copy_bytes(self, source: Path, staged: Path) -> None:
        try:
            with source.open("rb") as read, _create(staged) as write:
                shutil.copyfileobj(read, write, 1 << 20)
                write.flush()
                os.fsync(write.fileno())
        except (OSError, TympanError):
            staged.unlink(missing_ok=True)
            raise

    def _make(self, folder: Path) -> None:
        above = []
        while not folder.is_dir():
            above.append(folder)
            folder = folder.parent
        for made in reversed(above):
            made.mkdir(mode=0o700, exist_ok=True)
            _sync(made.parent)


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _sync_if_there(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # Deleted since, with all that was in it.
        _sync(folder)


def _unlink(path: Path) -> int:
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    return 1


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST}:
            raise


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
