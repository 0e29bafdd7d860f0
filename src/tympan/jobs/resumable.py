"""Resumable uploads: parts go from local files to the blob store, then onto the books; a job takes the whole.

A part's blob has the token of its request in its name. A request that was frozen while another took its place can
therefore never write over bytes that are on the books; what it leaves is an orphan, removed with its upload or by the
sweep.
"""

import hashlib
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from tympan import telemetry
from tympan.disk import LEAST_FREE_BYTES
from tympan.errors import (
    EmptyAudio,
    InsufficientStorage,
    MediaChanged,
    Overloaded,
    RateLimited,
    TooLarge,
    TympanError,
    UploadLocked,
)
from tympan.faultpoints import reach
from tympan.storage.blob_port import translated
from tympan.storage.blobs import BlobStore
from tympan.storage.uploads import Append, NewUpload, Part, StoredUpload, UploadStore

__all__ = ["Append", "NewUpload", "ResumableUploads", "StoredUpload", "UploadRules", "Writing"]

Result = TypeVar("Result")

_LOG = telemetry.get_logger(__name__)
_FOLDER = "uploads/"
_BLOCK_BYTES = 1 << 20
_RENEW_S = 60.0
_IDS_AT_ONCE = 200
_ORPHANS_EVERY_S = 600.0
_THREADS = 4


@dataclass(frozen=True, slots=True)
class UploadRules:
    """Bounds: bytes of one upload and of one part, requests that may write at a time, the age of an orphan.

    ``kept_free_bytes`` is what no upload may take of a disk.

    ``renew_s`` is how often a request extends its lock: several times in the lock's life.
    """

    max_bytes: int
    part_bytes: int = 64 << 20
    max_writers: int = 32
    renew_s: float = 10.0
    orphan_s: float = 3_600.0
    kept_free_bytes: int = LEAST_FREE_BYTES


@dataclass(slots=True)
class Writing:
    """A request that may append to an upload: at ``offset_bytes``, up to ``end_bytes``, for ``left_s`` from now on."""

    upload_id: str
    token: str
    offset_bytes: int
    end_bytes: int
    expires_at: float
    left_s: float
    held: bool = True

    @property
    def room_bytes(self) -> int:
        """How many bytes may still come."""
        return self.end_bytes - self.offset_bytes


class ResumableUploads:
    """Everything about uploads but HTTP. All methods block; unknown and foreign ids raise ``NotFound``."""

    def __init__(self, store: UploadStore, blobs: BlobStore, rules: UploadRules) -> None:
        """Keep rows in ``store`` and bytes in ``blobs``; ``close`` it when the server has stopped."""
        self._store, self._blobs, self.rules = store, blobs, rules
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="uploads")
        self._lock = threading.Lock()
        self._writers = 0
        self._orphans_at = float("-inf")

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Do slow work on the blobs in a thread of this service, so that nobody else's waits for it."""
        return self._pool.submit(work)

    def close(self) -> None:
        """Take no more work; what runs is left to end by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count a request among those that send bytes, inside the ``with`` block. Raises ``Overloaded``."""
        with self._lock:
            if self._writers >= self.rules.max_writers:
                raise Overloaded("Too many uploads are running.", remedy="Try again in a few seconds.")
            self._writers += 1
        try:
            yield
        finally:
            with self._lock:
                self._writers -= 1

    def create(self, tenant: str, n_bytes: int | None, metadata: Mapping[str, str]) -> StoredUpload:
        """Return a new, empty upload of ``n_bytes``, or of a length to be told later.

        Raises ``TooLarge``, ``InsufficientStorage`` when the bytes would not fit now, and ``Overloaded``.
        """
        self._check_length(n_bytes)
        self.check_room(n_bytes or 0)
        return self._store.create(tenant, NewUpload(n_bytes, metadata))

    def get(self, tenant: str, upload_id: str) -> StoredUpload:
        """Return the upload. Raises ``NotFound``, ``UploadExpired``."""
        return self._store.get(tenant, upload_id)

    def begin(self, tenant: str, upload_id: str, wanted: Append) -> Writing:
        """Return the right to append; ``end`` it. Raises what ``UploadStore.lock`` raises."""
        self._check_length(wanted.n_bytes)
        token = secrets.token_hex(8)
        found = self._store.lock(tenant, upload_id, token, wanted)
        end = self.rules.max_bytes if found.n_bytes is None else found.n_bytes
        return Writing(upload_id, token, found.offset_bytes, end, found.expires_at, found.left_s)

    def hold(self, writing: Writing) -> bool:
        """Extend the right to append; return False when it is lost."""
        return self._store.hold(writing.upload_id, writing.token)

    def add(self, writing: Writing, source: Path, n_bytes: int, *, last: bool) -> None:
        """Take the local file ``source`` over as the next part: stored durably and on the books when this returns.

        ``last`` ends the right to append. Raises ``NotFound``, ``UploadExpired``, ``UploadLocked``,
        ``StorageUnavailable``, ``InsufficientStorage``, ``QuotaExceeded``.
        """
        # No other part has this name: the token is one request's own, and its offset only grows.
        key = f"{_FOLDER}{writing.upload_id}/{writing.offset_bytes:014d}-{writing.token}"
        self._blobs.adopt(key, source)
        reach("upload.part")
        part = Part(writing.offset_bytes, n_bytes, key)
        try:
            self._store.add_part(writing.upload_id, writing.token, part, last=last)
        except TympanError as error:
            if error.code == "not_found":
                self._delete_blobs(writing.upload_id)  # It was removed meanwhile, and this part came too late for that.
            elif isinstance(error, RateLimited):
                self._blobs.delete_prefix(key)
            raise
        writing.offset_bytes += n_bytes
        writing.held = not last

    def end(self, writing: Writing) -> None:
        """Give the right to append back."""
        if writing.held:
            self._store.unlock(writing.upload_id, writing.token)
            writing.held = False

    def terminate(self, tenant: str, upload_id: str) -> None:
        """Remove the upload, whoever is writing to it. Raises ``NotFound``, ``UploadExpired``, ``Conflict``."""
        self._store.remove(tenant, upload_id)
        self._delete_blobs(upload_id)

    def take(self, tenant: str, upload_id: str, job_id: str, target: Path) -> tuple[int, str]:
        """Write a finished upload to the file ``target`` for one job; return its bytes and their SHA-256.

        The same job may take it again; ``release`` it when the job is stored, ``give_back`` when there will be none.
        Raises ``NotFound``, ``UploadExpired``, ``UploadLocked``, ``Conflict`` when it is not finished or belongs to
        another job, ``EmptyAudio``, ``MediaMissing`` or ``MediaChanged`` when the store has lost bytes, and
        ``InsufficientStorage`` before anything is written when it would not fit.
        """
        found, parts = self._store.claim(tenant, upload_id, job_id)
        try:
            self._check_copy(found, target)
            return self._join(found, parts, job_id, target)
        except BaseException:
            target.unlink(missing_ok=True)
            self._store.give_back(upload_id, job_id)
            raise

    def give_back(self, upload_id: str, job_id: str) -> None:
        """Let another job take the upload: this one will not be."""
        self._store.give_back(upload_id, job_id)

    def release(self, upload_id: str) -> None:
        """Remove an upload whose job has its own copy; may be called twice."""
        self._store.forget(upload_id)
        self._delete_blobs(upload_id)

    def sweep_expired(self) -> int:
        """Remove what has expired, what jobs have left behind, and now and then orphans; return how many uploads."""
        gone = self._store.bury_expired()
        for upload_id in gone:
            self._delete_blobs(upload_id)
        used = self._store.used()
        for upload_id in used:
            self.release(upload_id)
        if time.monotonic() - self._orphans_at > _ORPHANS_EVERY_S:
            self._orphans_at = time.monotonic()
            self.sweep_orphans()
        return len(gone) + len(used)

    def sweep_orphans(self) -> int:
        """Delete blobs whose upload is not on the books and that are no longer new; return how many."""
        deleted = 0
        ids = self._ids_of_old_blobs()
        while page := set(islice(ids, _IDS_AT_ONCE)):
            for upload_id in page - self._store.living(page):
                deleted += self._blobs.delete_prefix(f"{_FOLDER}{upload_id}/")
        return deleted

    def check_room(self, n_bytes: int) -> None:
        """Raise ``InsufficientStorage`` when the store has not that much room and a reserve."""
        free = self._blobs.free_bytes()
        if free is not None:
            self._check_free(free, n_bytes)

    def _check_copy(self, found: StoredUpload, target: Path) -> None:
        if not found.n_bytes:
            raise EmptyAudio("The upload is empty.", remedy="Upload a file with audio in it.")
        with translated():
            free_bytes = shutil.disk_usage(target.parent).free
        self._check_free(free_bytes, found.n_bytes)

    def _check_free(self, free_bytes: int, n_bytes: int) -> None:
        if free_bytes < n_bytes + self.rules.kept_free_bytes:
            raise InsufficientStorage(remedy="Try again later; the operator has to free disk space.")

    def _check_length(self, n_bytes: int | None) -> None:
        if n_bytes is not None and n_bytes > self.rules.max_bytes:
            raise too_long(self.rules.max_bytes)

    def _join(self, found: StoredUpload, parts: Iterable[Part], job_id: str, target: Path) -> tuple[int, str]:
        digest, at, renewed = hashlib.sha256(), 0, time.monotonic()
        with translated(), target.open("wb") as file:
            for part in parts:
                if time.monotonic() - renewed > _RENEW_S:
                    renewed = time.monotonic()
                    if not self._store.hold_claim(found.id, job_id):
                        raise UploadLocked("Another job has taken this upload over.")
                with self._blobs.fetch(part.key, target.parent) as source:
                    n_bytes = _copy(source, file, digest.update)
                if (part.offset_bytes, part.n_bytes) != (at, n_bytes):
                    raise MediaChanged(remedy="Upload the file again.")
                at += n_bytes
        if at != found.n_bytes:
            raise MediaChanged(remedy="Upload the file again.")
        return at, digest.hexdigest()

    def _ids_of_old_blobs(self) -> Iterator[str]:
        before, last = time.time() - self.rules.orphan_s, ""
        for blob in self._blobs.list(_FOLDER):
            upload_id = blob.key.split("/")[1]
            if blob.modified_s < before and upload_id != last:
                last = upload_id
                yield upload_id

    def _delete_blobs(self, upload_id: str) -> None:
        """Delete the bytes of an upload that is off the books; what cannot be deleted now is an orphan."""
        try:
            self._blobs.delete_prefix(f"{_FOLDER}{upload_id}/")
        except TympanError as error:
            _LOG.warning("upload_not_deleted", upload=upload_id, code=error.code)


def too_long(max_bytes: int) -> TooLarge:
    """Return the error for an upload above the limit."""
    return TooLarge(
        f"The upload is larger than {max_bytes / 1e6:g} MB.",
        remedy="Send a compressed format (opus, mp3, m4a) or cut the file; MAX_RESUMABLE_MB sets the limit.",
    )


def _copy(source: Path, target: BinaryIO, update: Callable[[bytes], object]) -> int:
    n_bytes = 0
    with source.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            target.write(block)
            update(block)
            n_bytes += len(block)
    return n_bytes
