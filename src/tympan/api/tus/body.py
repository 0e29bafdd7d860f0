"""The bytes of one request on their way into a resumable upload: paced, bounded, kept when the caller vanishes.

They gather in a local file and become a part of the upload when the request ends, however it ends, and every
``part_bytes`` before that, so that one long request loses little when the server dies. With a checksum it is all or
nothing.
"""

import asyncio
import hmac
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request

from tympan import telemetry
from tympan.api.deps import Services, services_of
from tympan.api.doors.admission import House, Place
from tympan.api.intake.incoming import Pace, UploadLimits, announced_bytes, next_chunk, to_disk
from tympan.api.intake.metering import limits_of
from tympan.api.tus.headers import Checksum, checksum
from tympan.disk import LEAST_FREE_BYTES
from tympan.errors import (
    Cancelled,
    ChecksumMismatch,
    InsufficientStorage,
    RequestTimeout,
    StorageUnavailable,
    TooLarge,
    TympanError,
    Unavailable,
    UploadLocked,
)
from tympan.jobs.resumable import Append, ResumableUploads, Writing, too_long
from tympan.pipeline import RequestContext

Result = TypeVar("Result")

_LOG = telemetry.get_logger(__name__)
_FLUSH_BYTES = 256 << 10
_LOOK_UP_S = 0.5
_KEEPS = (Cancelled, RequestTimeout, InsufficientStorage, Unavailable)
"""Ways for a request to end early that say nothing against the bytes that came."""


def resumable_of(request: Request) -> ResumableUploads:
    """Return the uploads of the application that a request came to. Raises ``Unavailable`` when it has none."""
    found = services_of(request).uploads
    if not isinstance(found, ResumableUploads):
        raise Unavailable("Resumable uploads are not served here.", remedy="Send the file with the request.")
    return found


async def run_slow(uploads: ResumableUploads, work: Callable[[], Result]) -> Result:
    """Return what ``work`` on the blobs returns: in threads of its own, as long as the blob store lets it take."""
    return await asyncio.wrap_future(uploads.submit(work))


class Body:
    """The body of one request."""

    def __init__(self, request: Request, tenant: str, upload_id: str) -> None:
        """Prepare to append the body of ``request`` to an upload."""
        self._request, self._tenant, self._upload_id = request, tenant, upload_id
        self._services: Services = services_of(request)
        self._uploads = resumable_of(request)
        self._checksum = checksum(request.headers)
        self._lost = False

    async def send(self, wanted: Append) -> Writing:
        """Append the body; return where the upload stands then.

        Raises what ``ResumableUploads.begin`` and ``add`` raise, ``TooLarge`` for more bytes than there is room for,
        ``ChecksumMismatch``, ``RequestTimeout``, ``InsufficientStorage``, ``Overloaded`` and ``Unavailable``, and
        ``Cancelled`` when the caller hangs up.
        """
        n_bytes = announced_bytes(self._request)
        context = RequestContext(self._request.state.request_id, self._tenant)
        with self._uploads.place():
            place = self._services.house.admit(context, n_bytes)
            try:
                writing = await self._services.runner.query(
                    lambda: self._uploads.begin(self._tenant, self._upload_id, wanted)
                )
                writing.end_bytes = limits_of(self._request).smaller_upload(writing.end_bytes)
                await self._locked(writing, place, n_bytes)
            finally:
                place.leave()
        return writing

    async def _locked(self, writing: Writing, place: Place, n_bytes: int) -> None:
        spool = _Spool(self._services, self._checksum)
        keeper = asyncio.create_task(self._keep_lock(writing))
        try:
            if n_bytes > writing.room_bytes:
                raise self._overflow(writing)
            self._uploads.check_room(n_bytes)
            await self._receive(writing, spool, place)
        finally:
            keeper.cancel()
            await self._services.runner.to_disk(spool.remove)
            await self._unlock(writing)

    async def _receive(self, writing: Writing, spool: "_Spool", place: Place) -> None:
        try:
            await self._read(writing, spool, place)
        except _KEEPS:
            if self._checksum is None:
                await self._store(writing, spool, last=True)
            raise
        await spool.flush()
        if not spool.matches():
            raise ChecksumMismatch(param="Upload-Checksum", remedy="Send the same bytes again.")
        await self._store(writing, spool, last=True)

    async def _read(self, writing: Writing, spool: "_Spool", place: Place) -> None:
        deadline = time.monotonic() + max(0.0, writing.left_s)
        pace = Pace(UploadLimits(self._uploads.rules.max_bytes, self._services.limits.upload_idle_s, deadline))
        while (chunk := await self._next(pace, place)) is not None:
            if spool.n_bytes + len(chunk) > writing.room_bytes:
                raise self._overflow(writing)
            await spool.feed(chunk)
            await self._check_use(place)
            if self._checksum is None and spool.n_bytes >= self._uploads.rules.part_bytes:
                await self._store(writing, spool, last=False)

    async def _next(self, pace: Pace, place: Place) -> bytes | None:
        """Return the next piece of the body, ``None`` at its end; do not wait for it when there is no use in it."""
        coming = asyncio.create_task(next_chunk(self._request, pace))
        try:
            while not (await asyncio.wait({coming}, timeout=_LOOK_UP_S))[0]:
                await self._check_use(place)
            return coming.result()
        finally:
            coming.cancel()

    async def _store(self, writing: Writing, spool: "_Spool", *, last: bool) -> None:
        await spool.flush()
        if spool.n_bytes:
            path, n_bytes = spool.take()
            await run_slow(self._uploads, lambda: self._uploads.add(writing, path, n_bytes, last=last))

    async def _keep_lock(self, writing: Writing) -> None:
        while not self._lost:
            await asyncio.sleep(self._uploads.rules.renew_s)
            try:
                self._lost = not await self._services.runner.query(lambda: self._uploads.hold(writing))
            except TympanError as error:
                # Whether the lock is lost shows when the part is stored; until then the bytes are worth taking.
                _LOG.warning("upload_lock_not_extended", code=error.code)

    async def _check_use(self, place: Place) -> None:
        """Raise unless further bytes are of use: the upload may be gone, or the server about to be."""
        if place.evicted:
            raise Unavailable("The server is stopping.", remedy="Go on in a few seconds.", retry_after_s=5.0)
        if self._lost:
            await self._services.runner.query(lambda: self._uploads.get(self._tenant, self._upload_id))
            raise UploadLocked("Another request has taken this upload over.", remedy="Ask for the offset again.")

    async def _unlock(self, writing: Writing) -> None:
        try:
            await self._services.runner.query(lambda: self._uploads.end(writing))
        except StorageUnavailable as error:
            # What was stored is stored; the lock ends by itself.
            _LOG.warning("upload_lock_not_released", code=error.code)

    def _overflow(self, writing: Writing) -> TympanError:
        if writing.end_bytes == self._uploads.rules.max_bytes:
            return too_long(writing.end_bytes)
        return TooLarge(
            f"The body goes beyond the upload's length of {writing.end_bytes} bytes.",
            remedy="Send no more than the rest of the file.",
        )


class _Spool:
    """Bytes on their way to a part: a block in memory, the rest in a local file."""

    def __init__(self, services: Services, wanted: Checksum | None) -> None:
        self.n_bytes = 0
        self._folder = services.staging / uuid.uuid4().hex
        self._house: House = services.house
        self._runner = services.runner
        self._wanted = wanted
        self._digest = wanted.start() if wanted else None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._written = 0
        self._number = 0

    async def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises ``InsufficientStorage``."""
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        self.n_bytes += len(chunk)
        if self._pending_bytes >= _FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what is in memory to the file; what cannot be written is dropped. Raises ``InsufficientStorage``."""
        data = b"".join(self._pending)
        self._pending, self._pending_bytes, self.n_bytes = [], 0, self._written
        if data:
            await to_disk(self._runner, lambda: self._append(data))
            self._written += len(data)
            self.n_bytes = self._written

    def matches(self) -> bool:
        """Return whether the bytes add up to the checksum that was sent; they do when there was none."""
        if self._wanted is None or self._digest is None:
            return True
        return hmac.compare_digest(self._digest.digest(), self._wanted.digest)

    def take(self) -> tuple[Path, int]:
        """Return the file and its length, and begin another."""
        taken = self._path, self._written
        os.truncate(*taken)  # A write that failed may have left something behind the last whole block.
        self._number, self._written, self.n_bytes = self._number + 1, 0, 0
        return taken

    def remove(self) -> None:
        """Delete what was not taken over."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._number}"

    def _append(self, data: bytes) -> None:
        if self._house.disk_free_bytes < LEAST_FREE_BYTES:
            raise InsufficientStorage(remedy="Try again later; the operator has to free disk space.")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(data)
        if self._digest is not None:
            self._digest.update(data)
