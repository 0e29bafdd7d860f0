"""Audio that a user keeps: an object in an allowed bucket, or a file below an allowed folder, copied for a job."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tympan.errors import AddressRefused, Cancelled, MediaMissing, TooLarge, TympanError
from tympan.retry_budget import RetryBudget
from tympan.storage.blob_port import storage_error, translated
from tympan.storage.objects import SCHEMES, Bucket, RequestLimits

_BLOCK_BYTES = 4 << 20
_MAX_URL_CHARS = 2048
_PARAM = "audio_object"
_PROC = Path("/proc/self/fd")
_Blocks = Iterator[bytes]


class ObjectSource:
    """Copies audio from addresses that the operator allows; safe to share between threads."""

    def __init__(
        self, roots: tuple[Path, ...] = (), allowed: tuple[str, ...] = (), limits: RequestLimits | None = None
    ) -> None:
        """Allow files below ``roots`` and objects below ``allowed`` (such as ``s3://bucket/folder``); neither: none."""
        self._roots = tuple(Path(os.path.realpath(root)) for root in roots)
        self._allowed = tuple(prefix.rstrip("/") + "/" for prefix in allowed)
        self._limits = limits
        self._budgets: dict[str, RetryBudget] = {}
        """By bucket; no more of them than the operator allows."""

    def check(self, url: str) -> None:
        """Raise ``InvalidRequest`` or ``AddressRefused`` when ``url`` can be seen not to be allowed; reads nothing."""
        if url.startswith("file:"):
            if not self._roots:
                raise AddressRefused(
                    "Files of the server may not be read.", param=_PARAM, remedy="Upload the file instead."
                )
            return
        _split(url)
        self._require_allowed(url)

    def fetch(self, url: str, target: Path, max_bytes: int, cancelled: Callable[[], bool]) -> int:
        """Copy what ``url`` names to ``target`` and return its length in bytes.

        Raises ``AddressRefused`` unless it is allowed, ``MediaMissing``, ``TooLarge`` above ``max_bytes``,
        ``MediaChanged`` when it changes meanwhile, ``Cancelled`` and ``StorageUnavailable``; then ``target`` is gone.
        """
        blocks = self._file(url, max_bytes) if url.startswith("file:") else self._object(url, max_bytes)
        n_bytes = 0
        try:
            with translated(), target.open("wb") as file:
                for block in blocks:
                    if cancelled():
                        raise Cancelled
                    n_bytes += len(block)
                    if n_bytes > max_bytes:
                        raise _too_large(max_bytes)
                    file.write(block)
        except TympanError:
            target.unlink(missing_ok=True)
            raise
        return n_bytes

    def _object(self, url: str, max_bytes: int) -> _Blocks:
        scheme, bucket, key = _split(url)
        self._require_allowed(url)
        address = f"{scheme}://{bucket}"
        store = Bucket(address, self._limits, self._budgets.setdefault(address, RetryBudget()))
        found = store.head(key)
        if found is None:
            raise _missing()
        if found.n_bytes > max_bytes:
            raise _too_large(max_bytes)
        for start in range(0, found.n_bytes, _BLOCK_BYTES):
            yield store.get_range(found, start, _BLOCK_BYTES)

    def _require_allowed(self, url: str) -> None:
        if not any(url.startswith(prefix) for prefix in self._allowed):
            raise AddressRefused(
                "Objects of this bucket or folder may not be read.", param=_PARAM, remedy="Ask the operator."
            )

    def _file(self, url: str, max_bytes: int) -> _Blocks:
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc not in {"", "localhost"} or parts.query or not path.startswith("/") or "\0" in path:
            raise AddressRefused("A file is named by file:///absolute/path.", remedy="Write its absolute path.")
        self._below_a_root(Path(os.path.realpath(path)))
        with _opened(path) as descriptor:
            self._below_a_root(_true_path(descriptor))
            if os.fstat(descriptor).st_size > max_bytes:
                raise _too_large(max_bytes)
            while block := _read(descriptor):
                yield block

    def _below_a_root(self, path: Path) -> None:
        if not any(path.is_relative_to(root) for root in self._roots):
            raise AddressRefused("This file is not in a folder that the server may read.", remedy="Ask the operator.")


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a regular file without touching anything else: a pipe would block, a device might act on being opened."""
    try:
        looked_at = os.open(path, getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC)
    except OSError as error:
        raise _open_error(error) from error
    descriptor = looked_at
    try:
        if not stat.S_ISREG(os.fstat(looked_at).st_mode):
            raise AddressRefused("This is not a regular file.", remedy="Name an audio file.")
        if hasattr(os, "O_PATH"):
            try:
                descriptor = os.open(_PROC / str(looked_at), os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise _open_error(error) from error
        yield descriptor
    finally:
        for number in {looked_at, descriptor}:
            os.close(number)


def _true_path(descriptor: int) -> Path:
    """Return where the open file is, whatever happened to its name and to links since."""
    if hasattr(os, "O_PATH"):
        return (_PROC / str(descriptor)).readlink()
    name = fcntl.fcntl(descriptor, getattr(fcntl, "F_GETPATH", 50), bytes(1024))
    return Path(os.fsdecode(name.rstrip(b"\0")))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _BLOCK_BYTES)
    except OSError as error:
        raise storage_error(error) from error


def _open_error(error: OSError) -> TympanError:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
        return _missing()
    if error.errno in {errno.EACCES, errno.EPERM}:
        return AddressRefused("The server may not read this file.", remedy="Change its permissions.")
    return storage_error(error)


def _split(url: str) -> tuple[str, str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    plain = bool(bucket) and bucket.replace("-", "").replace(".", "").replace("_", "").isalnum() and bucket.isascii()
    names = key.split("/")
    if scheme not in SCHEMES or not plain or not set(names).isdisjoint({"", ".", ".."}) or len(url) > _MAX_URL_CHARS:
        raise AddressRefused(
            "This is not the address of an audio object.",
            param=_PARAM,
            remedy="Write s3://bucket/key, gs://bucket/key or file:///path.",
        )
    if not key.isprintable():
        raise AddressRefused(
            "The key holds characters that cannot be printed.", param=_PARAM, remedy="Rename the object."
        )
    return scheme, bucket, key


def _missing() -> MediaMissing:
    return MediaMissing("There is no audio at this address.", remedy="Check the address.")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The audio is larger than {max_bytes} bytes.", remedy="Send a shorter or compressed file.")
