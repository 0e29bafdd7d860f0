"""What a batch looks like to its owner. These classes are the shape on the wire and in /openapi.json."""

import json
from dataclasses import dataclass
from typing import Literal

from tympan.api.jobs.views import rfc3339
from tympan.jobs.batches import Batch


@dataclass(frozen=True, slots=True)
class BatchProgressBody:
    """How far a batch has come, in jobs and in seconds of audio, as far as that is known yet."""

    jobs_done: int
    jobs_total: int
    audio_s_done: float
    audio_s_total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchBody:
    """A batch. Jobs that have been erased since are in ``total``, not in ``counts``."""

    id: str
    object: Literal["batch"] = "batch"
    state: Literal["running", "finished"]
    total: int
    counts: dict[str, int]
    progress: BatchProgressBody
    created_at: str | None
    finished_at: str | None
    metadata: dict[str, str]
    webhook_endpoint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchListBody:
    """One page of batches, newest first; ``next`` is what to send as ``after`` for the page behind it."""

    object: Literal["list"] = "list"
    data: list[BatchBody]
    has_more: bool
    next: str | None


def is_finished(batch: Batch) -> bool:
    """Return whether every job of a batch has ended."""
    return batch.pending <= 0


def batch_body(batch: Batch) -> BatchBody:
    """Return a batch as its owner sees it."""
    return BatchBody(
        id=batch.id,
        state="finished" if is_finished(batch) else "running",
        total=batch.total,
        counts={state.value: count for state, count in batch.counts.items()},
        progress=BatchProgressBody(
            batch.total - batch.pending, batch.total, round(batch.audio_s_done, 3), round(batch.audio_s_total, 3)
        ),
        created_at=rfc3339(batch.created_at),
        finished_at=rfc3339(batch.finished_at),
        metadata=json.loads(batch.metadata),
        webhook_endpoint=batch.webhook_endpoint,
    )
