"""Calls that are answered at once, as jobs: whoever goes may come back to any process, and is forgotten in the end."""

from tympan.domain import Job
from tympan.jobs.media import job_prefix
from tympan.storage.blobs import BlobStore
from tympan.storage.calls import Caller, CallStore
from tympan.storage.jobs import Beside

__all__ = ["CallDesk", "Caller"]


class CallDesk:
    """Who waits for which job, in all processes."""

    def __init__(self, store: CallStore, blobs: BlobStore) -> None:
        """Ask ``store``; audio is in ``blobs``."""
        self._store, self._blobs = store, blobs

    def waiting(self, caller: Caller, job_id: str) -> Beside:
        """Return what notes, beside a new job, who waits for it."""
        return lambda tx: self._store.begin(tx, caller, job_id)

    def take_up(self, caller: Caller) -> Job | None:
        """Return the job that a call is about once more, for which the caller waits from now on; ``None`` for none.

        Raises ``IdempotencyMismatch`` for a key that belongs to another call.
        """
        return self._store.take_up(caller)

    def leave(self, caller: Caller, job_id: str, keep_s: float) -> None:
        """Let a caller wait no more; the last of them keeps the job for ``keep_s``, or at 0 erases it."""
        if self._store.leave(caller, job_id, keep_s):
            self._blobs.delete_prefix(job_prefix(job_id))

    def drop_abandoned(self) -> int:
        """Erase jobs for which nobody waits and nobody came back in time; return how many."""
        dropped = 0
        for tenant, job_id in self._store.abandoned():
            if self._store.drop(tenant, job_id):
                self._blobs.delete_prefix(job_prefix(job_id))
                dropped += 1
        return dropped
