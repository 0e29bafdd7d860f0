"""Where models lie on disk: verified folders, the record of digests, and one writer at a time.

::

    <models>/base/...              a model's files, put there in one rename
    <models>/digests.json          what arrived for models without published digests, and is checked from then on
    <models>/.verified/<key>.json  which files were hashed already, by size and modification time
    <models>/.locks/<name>         held by whoever fetches that model
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tympan.engine.catalogue import FileSpec
from tympan.errors import InsufficientStorage, ModelDigestMismatch, ModelUnavailable

LOCK_WAIT_S = 3600.0
"""Longest wait for another process that fetches the same model."""

_CHUNK_BYTES = 1 << 20
_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class PullProgress:
    """What is happening to a model's files: a phrase, and how many bytes of how many."""

    step: str
    done_bytes: int
    total_bytes: int


Report: TypeAlias = Callable[[PullProgress], None]
"""Called now and then while files are fetched or checked; must be quick."""


def silent(progress: PullProgress) -> None:
    """Report to nobody."""
    del progress


@dataclass(frozen=True, slots=True)
class Record:
    """What arrived the first time an unpinned model was fetched."""

    revision: str
    files: tuple[FileSpec, ...]


class ModelStore:
    """The models folder. Reading needs no lock; fetching one model holds that model's lock."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, which is created when something is first written."""
        self.root = root

    def folder(self, name: str) -> Path:
        """Return where the model of this catalogue name lies, or would."""
        return self.root / name

    def record(self, name: str) -> Record | None:
        """Return the digests recorded for an unpinned model, or ``None``."""
        found = _read_json(self.root / "digests.json").get(name)
        if found is None:
            return None
        return Record(found["revision"], tuple(FileSpec(**file) for file in found["files"]))

    def remember(self, name: str, record: Record) -> None:
        """Write down what arrived, to be checked from now on."""
        with self.lock(".digests"):
            everything = _read_json(self.root / "digests.json")
            files = [{"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in record.files]
            everything[name] = {"revision": record.revision, "files": files}
            _write_json(self.root / "digests.json", everything)

    def verify(self, folder: Path, files: Iterable[FileSpec], report: Report = silent, *, again: bool = False) -> None:
        """Check that ``folder`` holds exactly these files' bytes; hash only what changed, or all when ``again``.

        Raises ``ModelDigestMismatch`` that names the file, what was expected and what was found.
        """
        state = self._state(folder)
        known = {} if again else _read_state(state)
        hashed = {spec.name: _verify_file(folder / spec.name, spec, known.get(spec.name), report) for spec in files}
        if hashed != known:
            _write_state(state, hashed)

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file anywhere; a big file is hashed once and again only when it changes."""
        state = self._state(path)
        stamp, known = _stamp(path), _read_state(state)
        if known.get("stamp") == stamp:
            return str(known["sha256"])
        sha256 = _sha256(path, stamp[0], silent)
        _write_state(state, {"stamp": stamp, "sha256": sha256})
        return sha256

    @contextmanager
    def lock(self, name: str, report: Report = silent, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
        """Be the only process that writes this model; raises ``ModelUnavailable`` after ``wait_s``."""
        path = self.root / ".locks" / name
        with _storage_errors(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("a")
        with handle:
            _acquire(handle.fileno(), name, report, wait_s)
            yield

    @contextmanager
    def staging(self, name: str, needed_bytes: int) -> Iterator[Path]:
        """Yield an empty folder on the same disk, removed afterwards; hold the lock.

        Raises ``InsufficientStorage`` when the disk has no room for ``needed_bytes``.
        """
        with _storage_errors(self.root):
            for left_over in self.root.glob(f".staging-{name}-*"):
                shutil.rmtree(left_over)
            free_bytes = shutil.disk_usage(self.root).free
            if free_bytes < needed_bytes:
                raise InsufficientStorage(
                    f"{name} needs {needed_bytes / 1e6:.0f} MB in {self.root}; {free_bytes / 1e6:.0f} MB are free.",
                    remedy="Free some space, or set TYMPAN_DATA_DIR to a larger disk.",
                )
            with tempfile.TemporaryDirectory(prefix=f".staging-{name}-", dir=self.root) as folder:
                yield Path(folder)

    def install(self, name: str, staged: Path, files: Iterable[FileSpec]) -> Path:
        """Put a folder in place, in one rename, that was found to hold exactly ``files``; hold the lock."""
        target = self.folder(name)
        with _storage_errors(self.root):
            hashed = {spec.name: [*_stamp(staged / spec.name), spec.sha256] for spec in files}
            for path in _files(staged):
                _flush(path)
            if target.exists():
                # Beside the new files in the staging area, so that whoever cleans that up removes the old ones too.
                target.rename(staged.parent / "replaced")
            staged.rename(target)
        _write_state(self._state(target), hashed)
        return target

    def _state(self, path: Path) -> Path:
        key = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
        return self.root / ".verified" / f"{path.name}-{key}.json"


def measure(folder: Path, report: Report = silent) -> tuple[FileSpec, ...]:
    """Return name, size and digest of every file in ``folder`` and in the folders in it."""
    specs = []
    for path in _files(folder):
        size_bytes = path.stat().st_size
        specs.append(FileSpec(path.relative_to(folder).as_posix(), size_bytes, _sha256(path, size_bytes, report)))
    return tuple(specs)


def _files(folder: Path) -> list[Path]:
    """Return the files in a folder and in the folders in it, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check(folder: Path, files: Iterable[FileSpec], report: Report = silent) -> None:
    """Hash ``files`` in ``folder``; raises ``ModelDigestMismatch`` when one is not what it should be."""
    for spec in files:
        _verify_file(folder / spec.name, spec, None, report)


def _verify_file(path: Path, spec: FileSpec, known: object, report: Report) -> list[int | str]:
    """Return what to remember of a file that was found right; raises ``ModelDigestMismatch``."""
    if not path.is_file():
        raise _mismatch(path, f"{spec.size_bytes} bytes", "no such file")
    stamp = _stamp(path)
    if stamp[0] != spec.size_bytes:
        raise _mismatch(path, f"{spec.size_bytes} bytes", f"{stamp[0]} bytes")
    verified: list[int | str] = [*stamp, spec.sha256]
    if known != verified:
        found = _sha256(path, spec.size_bytes, report)
        if found != spec.sha256:
            raise _mismatch(path, f"SHA-256 {spec.sha256}", found)
    return verified


def _mismatch(path: Path, expected: str, found: str) -> ModelDigestMismatch:
    return ModelDigestMismatch(
        f"{path} is not the file it should be: expected {expected}, found {found}.",
        remedy=f"Fetch it again with: tympan models pull {path.parent.name} --force",
    )


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _flush(path: Path) -> None:
    """Wait until a file's bytes are on the disk, so that a power cut cannot leave a hollow file in place."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sha256(path: Path, total_bytes: int, report: Report) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            report(PullProgress(f"checking {path.name}", file.tell(), total_bytes))
    return digest.hexdigest()


def _acquire(handle: int, name: str, report: Report, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise ModelUnavailable(
                    f"Another process has been fetching {name} for {wait_s:.0f} s.",
                    remedy="Wait for it to finish, or stop it, then try again.",
                ) from None
            report(PullProgress(f"waiting for another process that fetches {name}", 0, 0))
            time.sleep(_LOCK_POLL_S)
        else:
            return


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into a typed error."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise InsufficientStorage(
                f"The disk of {root} is full.", remedy="Free some space, or set TYMPAN_DATA_DIR to a larger disk."
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
            raise ModelUnavailable(
                f"Models cannot be kept in {root}: {error.strerror}.",
                remedy="Give this user write permission there, or set TYMPAN_DATA_DIR to another folder.",
            ) from error
        raise


def _read_state(path: Path) -> dict[str, Any]:
    """Return what was hashed before; a damaged note is as good as none, for the files are then hashed again."""
    try:
        return _read_json(path)
    except ModelUnavailable:
        return {}


def _write_state(path: Path, content: dict[str, Any]) -> None:
    """Note what was hashed. On a read-only disk nothing is noted, and the next start hashes again."""
    try:
        _write_json(path, content)
    except (ModelUnavailable, InsufficientStorage):
        return


def _read_json(path: Path) -> dict[str, Any]:
    """Return what a state file holds; nothing when there is none. Raises ``ModelUnavailable`` when it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelUnavailable(
            f"{path} is damaged.", remedy="Remove it; models are then checked, or trusted, anew."
        ) from error
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a state file in one step."""
    with _storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(content, file, indent=1, sort_keys=True)
        Path(file.name).replace(path)
