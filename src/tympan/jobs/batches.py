"""What may be asked about batches: hand in, look at, read, cancel, erase. It blocks, like ``JobService``."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from tympan import telemetry
from tympan.domain import Job, NewJob
from tympan.errors import IdempotencyMismatch, InvalidRequest, Overloaded, RateLimited, TympanError
from tympan.faultpoints import reach
from tympan.jobs.fetching import SourceGuard
from tympan.jobs.media import job_prefix, media_key
from tympan.jobs.result_cache import ResultCache
from tympan.storage.batches import Batch, BatchStore, NewBatch
from tympan.storage.blobs import BlobStore
from tympan.storage.idempotency import IdempotencyKey

_LOG = telemetry.get_logger(__name__)

__all__ = ["MAX_ITEMS", "Batch", "BatchService", "NewBatch", "refuse_items"]

MAX_ITEMS = 10_000
"""Jobs in one batch."""

_MAX_NAMED = 20


class BatchService:
    """The batches of one installation."""

    def __init__(
        self,
        store: BatchStore,
        blobs: BlobStore,
        guard: SourceGuard,
        *,
        ring: Callable[[], None],
        cache: ResultCache | None = None,
    ) -> None:
        """Keep batches in ``store``, audio in ``blobs``; ``ring`` wakes a worker, ``cache`` is told what is erased."""
        self._store, self._blobs, self._guard, self._ring = store, blobs, guard, ring
        self._cache = cache or ResultCache()

    def check(self, members: Sequence[NewJob]) -> None:
        """Raise ``InvalidRequest`` when audio may not be fetched from an address, naming every such item."""
        refuse_items(self._refused(members), len(members))

    def submit(
        self,
        new: NewBatch,
        members: Sequence[NewJob],
        media: Mapping[str, Path],
        key: IdempotencyKey | None = None,
    ) -> tuple[Batch, bool]:
        """Store all jobs or none; return the batch, and whether it is an earlier one with the same key.

        ``media`` are the local files of stored sources by job id; they are moved away. Raises as
        ``JobService.submit``.
        """
        self.check(members)
        self._store.bound.check()
        try:
            for job_id, path in media.items():
                self._blobs.adopt(media_key(job_id), path)
        except TympanError:
            self._drop(media)
            raise
        try:
            batch, replayed = self._store.submit(new, members, key)
        except (IdempotencyMismatch, Overloaded, RateLimited):
            # After any other failure the rows may be there all the same; what is not is swept up later.
            self._drop(media)
            raise
        if replayed:
            self._drop(media)
        else:
            self._ring()
        _LOG.info("batch_submitted", batch_id=batch.id, tenant=batch.tenant, jobs=len(members), replayed=replayed)
        return batch, replayed

    def earlier(self, tenant: str, key: IdempotencyKey) -> Batch | None:
        """Return the batch that has this key already. Raises ``IdempotencyMismatch``."""
        return self._store.earlier(tenant, key)

    def get(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch. Raises ``NotFound``."""
        return self._store.get(tenant, batch_id)

    def page(self, tenant: str, limit: int, after: str | None) -> list[Batch]:
        """Return up to ``limit`` batches, newest first, from beyond ``after``."""
        return self._store.page(tenant, limit, after)

    def members(self, tenant: str, batch_id: str, limit: int, after: str) -> list[Job]:
        """Return up to ``limit`` jobs of a batch in the order they were handed in, from beyond ``after``."""
        return self._store.members(tenant, batch_id, limit, after)

    def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Return the batch, its jobs cancelled unless they had ended. Raises ``NotFound``."""
        self._store.get(tenant, batch_id)
        while self._store.cancel_some(tenant, batch_id):
            pass
        return self._store.get(tenant, batch_id)

    def erase(self, tenant: str, batch_id: str) -> None:
        """Remove everything about a batch and its jobs. Raises ``NotFound``.

        What fails in the middle can be asked for again: the batch itself goes last.
        """
        self._store.get(tenant, batch_id)
        while gone := self._store.erase_some(tenant, batch_id):
            reach("erase.blobs")
            self._drop(gone)
            self._cache.forget(tenant, gone.values())

    def _refused(self, members: Sequence[NewJob]) -> Iterator[tuple[int, TympanError]]:
        for number, job in enumerate(members):
            try:
                self._guard.check(job.source)
            except TympanError as error:
                yield number, error

    def _drop(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self._blobs.delete_prefix(job_prefix(job_id))


def refuse_items(faults: Iterator[tuple[int, TympanError]], n_items: int) -> None:
    """Raise one ``InvalidRequest`` that names the items at fault and what is wrong with each, unless there are none."""
    named = [(number, error) for number, error in islice(faults, _MAX_NAMED)]
    more = sum(1 for _ in faults)
    if named:
        causes = " ".join(f"items[{number}]: {error}" for number, error in named)
        raise InvalidRequest(
            f"{len(named) + more} of {n_items} items are not valid. {causes}" + (f" And {more} more." if more else ""),
            param=f"items[{named[0][0]}]" + (f".{named[0][1].param}" if named[0][1].param else ""),
            remedy="Nothing was stored; mend them and send the batch again.",
        )
