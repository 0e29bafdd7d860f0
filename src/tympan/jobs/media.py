"""A job's audio as a local file, wherever it comes from: stored, behind a web address, or in object storage."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tympan.domain import Job, SourceKind
from tympan.errors import AddressRefused, MediaChanged, MediaMissing
from tympan.faultpoints import reach
from tympan.storage.blobs import BlobStore


class Fetcher(Protocol):
    """What brings audio from elsewhere."""

    def fetch(self, location: str, target: Path, max_bytes: int, cancelled: Callable[[], bool]) -> object:
        """Write the audio at ``location`` to ``target``; raise a typed error when that cannot be."""
        ...


@dataclass(frozen=True, slots=True)
class Media:
    """A local file and the SHA-256 of its bytes."""

    path: Path
    sha256: str


class MediaDesk:
    """Hands out jobs' audio. What comes from elsewhere is fetched once and kept like an upload."""

    def __init__(self, blobs: BlobStore, scratch: Path, fetchers: dict[SourceKind, Fetcher], max_bytes: int) -> None:
        """Keep audio in ``blobs``; ``scratch`` is a folder for files in transit."""
        self._blobs, self._scratch, self._fetchers, self._max_bytes = blobs, scratch, fetchers, max_bytes

    @contextmanager
    def open(self, job: Job, cancelled: Callable[[], bool]) -> Iterator[Media]:
        """Yield the job's audio. Raises ``MediaMissing``, ``MediaChanged``, and what fetching raises."""
        key = media_key(job.id)
        if job.source.kind is not SourceKind.STORED and self._blobs.size(key) is None:
            self._bring(job, key, cancelled)
        n_bytes = self._blobs.size(key)
        if n_bytes is None:
            raise MediaMissing(remedy="Hand the job in again, with its audio.")
        if job.source.n_bytes is not None and n_bytes != job.source.n_bytes:
            raise MediaChanged(f"{n_bytes} of {job.source.n_bytes} bytes are stored.", remedy="Hand the job in again.")
        with self._blobs.fetch(key, self._scratch) as path:
            reach("prepare.media")
            yield Media(path, job.source.sha256 or sha256_of(path))

    def _bring(self, job: Job, key: str, cancelled: Callable[[], bool]) -> None:
        fetcher = self._fetchers.get(job.source.kind)
        if fetcher is None:
            raise AddressRefused("Audio cannot be fetched from there.", remedy="Upload the file instead.")
        target = self._scratch / f"fetch-{job.id}"
        try:
            fetcher.fetch(job.source.location, target, self._max_bytes, cancelled)
            self._blobs.adopt(key, target)
        finally:
            target.unlink(missing_ok=True)


def media_key(job_id: str) -> str:
    """Return where a job's audio is kept."""
    return f"{job_prefix(job_id)}media"


def section_prefix(job_id: str, index: int | None = None) -> str:
    """Return below which key one section of a job, or all of them, are kept."""
    every = f"{job_prefix(job_id)}sections/"
    return every if index is None else f"{every}{index:05d}/"


def job_prefix(job_id: str) -> str:
    """Return below which key everything of a job is kept."""
    return f"jobs/{job_id}/"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
