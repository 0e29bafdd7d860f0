"""Rows of the job tables as our values."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from tympan import tracing
from tympan.domain import Fault, Job, JobProgress, JobState, Lane, NewJob, Source, SourceKind
from tympan.storage import codec


def job_from(row: RowMapping) -> Job:
    """Return the job in a row of ``jobs``."""
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        state=JobState(row["state"]),
        source=Source(
            SourceKind(row["source_kind"]), row["source_location"], row["source_bytes"], row["source_sha256"]
        ),
        options=codec.OPTIONS.validate_json(row["options"]),
        output=codec.OUTPUT.validate_json(row["output"]),
        lane=Lane(row["lane"]),
        priority=row["priority"],
        created_at=row["created_at"],
        progress=JobProgress(row["sections_done"], row["sections_total"], row["audio_s_done"], row["audio_s_total"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        deadline=row["deadline"],
        attempts=row["attempts"],
        error=Fault(row["error_code"], row["error_message"], row["error_remedy"]) if row["error_code"] else None,
        model=row["model"],
        metadata=row["metadata"],
        webhook_endpoint=row["webhook_endpoint"],
        batch_id=row["batch_id"],
        retry_of=row["retry_of"],
        language=row["language"],
        weights=row["weights"],
        restarts=row["restarts"],
        trace=row["trace"] or "",
    )


def values_of(job: NewJob) -> Mapping[str, Any]:
    """Return the columns of ``jobs`` that a new job fills, but for its state and time."""
    return {
        "id": job.id,
        "tenant": job.tenant,
        "lane": int(job.lane),
        "priority": job.priority,
        "deadline": job.deadline,
        "source_kind": job.source.kind.value,
        "source_location": job.source.location,
        "source_bytes": job.source.n_bytes,
        "source_sha256": job.source.sha256,
        "options": codec.dump(job.options),
        "output": codec.dump(job.output),
        "model": job.model,
        "metadata": job.metadata,
        "webhook_endpoint": job.webhook_endpoint,
        "batch_id": job.batch_id,
        "retry_of": job.retry_of,
        "language": job.options.language,
        "trace": tracing.current() or None,
    }
