"""Pictures of jobs' audio: made when somebody asks, one after another, kept beside the audio and gone with it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Protocol

from tympan.domain import Samples
from tympan.errors import Cancelled, MediaMissing, NotFound, Overloaded
from tympan.jobs.media import job_prefix, media_key
from tympan.jobs.peaks import PeakMeter, Waveform
from tympan.jobs.recordings import Recordings
from tympan.storage.blobs import BlobStore

MOST_WAITING = 16
MOST_OF_A_TENANT = 4
"""So many may wait in this process, and of one tenant: each is a whole file to be decoded."""


class Blocks(Iterable[Samples], Protocol):
    """Audio on its way out of a decoder, until it is closed."""

    def close(self) -> None:
        """End the decoder."""


class Hears(Protocol):
    """What decodes a file, such as ``Decoder``."""

    def stream(self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool]) -> Blocks:
        """Yield the audio in short blocks."""


class Waveforms:
    """Makes waveforms in one thread of its own; ``close`` it."""

    def __init__(
        self, recordings: Recordings, blobs: BlobStore, scratch: Path, hears: Hears, max_audio_s: float
    ) -> None:
        """Take audio from ``recordings``; a download lies in ``scratch`` meanwhile."""
        self._recordings, self._blobs, self._scratch = recordings, blobs, scratch
        self._hears, self._max_audio_s = hears, max_audio_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="waveforms")
        self._lock, self._waiting = threading.Lock(), Counter[str]()
        self._closed = threading.Event()

    def kept(self, tenant: str, job_id: str) -> Waveform | None:
        """Return a waveform that was made before, ``None`` when it has to be made.

        Raises ``NotFound``, ``MediaMissing`` where the audio has gone, ``StorageUnavailable``.
        """
        self._recordings.find(tenant, job_id)
        return self._stored(job_id)

    def make(self, tenant: str, job_id: str, cancel: threading.Event) -> "Future[Waveform]":
        """Return what becomes the waveform, unless ``cancel`` is set before that.

        Raises ``Overloaded`` when too many wait. The future raises what decoding raises, ``Cancelled``, and as
        ``kept``.
        """
        with self._lock:
            if self._waiting.total() >= MOST_WAITING or self._waiting[tenant] >= MOST_OF_A_TENANT:
                raise Overloaded("Other waveforms are being made.", remedy="Try again later.", retry_after_s=10.0)
            self._waiting[tenant] += 1
        future = self._thread.submit(self._make, tenant, job_id, lambda: cancel.is_set() or self._closed.is_set())
        future.add_done_callback(lambda _: self._ended(tenant))
        return future

    def close(self) -> None:
        """Stop what is being made, and make no more."""
        self._closed.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self, tenant: str, job_id: str, cancelled: Callable[[], bool]) -> Waveform:
        if cancelled():
            raise Cancelled
        if (found := self.kept(tenant, job_id)) is not None:
            return found
        meter = PeakMeter()
        with self._blobs.fetch(media_key(job_id), self._scratch) as path:
            stream = self._hears.stream(path, max_audio_s=self._max_audio_s, cancelled=cancelled)
            with closing(stream):
                for block in stream:
                    if cancelled():
                        raise Cancelled
                    meter.add(block)
        made = meter.finish()
        self._blobs.put(_key(job_id), made.pack())
        self._check_kept(tenant, job_id)
        return made

    def _stored(self, job_id: str) -> Waveform | None:
        try:
            return Waveform.unpack(self._blobs.read(_key(job_id)))
        except MediaMissing:
            return None

    def _check_kept(self, tenant: str, job_id: str) -> None:
        """Remove what was stored too late, when the audio has gone in the meantime. Raises as ``kept``."""
        try:
            self._recordings.find(tenant, job_id)
        except (NotFound, MediaMissing):
            self._blobs.delete_prefix(job_prefix(job_id))
            raise

    def _ended(self, tenant: str) -> None:
        with self._lock:
            self._waiting[tenant] -= 1
            self._waiting += Counter()  # Forgets who has none.


def _key(job_id: str) -> str:
    return f"{job_prefix(job_id)}waveform"
