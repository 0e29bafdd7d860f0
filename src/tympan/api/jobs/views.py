"""What a job looks like to its owner. These classes are the shape on the wire and in /openapi.json."""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from tympan.api.jobs.appointments import LONGEST_S, Appointments
from tympan.domain import Job, JobProgress, JobState
from tympan.jobs.service import JobView

_ETA_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class ProgressBody:
    """How far a job has come, in sections and in seconds of audio; totals are null until they are known."""

    sections_done: int
    sections_total: int | None
    audio_s_done: float
    audio_s_total: float | None


@dataclass(frozen=True, slots=True)
class FaultBody:
    """Why a job has no result."""

    code: str
    message: str
    remedy: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBody:
    """A job. Times are RFC 3339 in UTC; ``queue_position``, ``eta_s`` and ``partial_text`` are null in lists.

    ``restarts`` is how often it was begun anew because the weights of its model had changed.
    """

    id: str
    object: Literal["job"] = "job"
    state: JobState
    progress: ProgressBody
    queue_position: int | None
    eta_s: float | None
    attempts: int
    restarts: int
    error: FaultBody | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    deadline: str | None
    metadata: dict[str, str]
    priority: int
    model: str | None
    language: str | None
    batch_id: str | None
    retry_of: str | None
    webhook_endpoint: str | None
    partial_text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobListBody:
    """One page of jobs, newest first; ``next`` is what to send as ``after`` for the page behind it."""

    object: Literal["list"] = "list"
    data: list[JobBody]
    has_more: bool
    next: str | None


def job_body(view: JobView) -> JobBody:
    """Return a job as its owner sees it."""
    job = view.job
    return JobBody(
        id=job.id,
        state=job.state,
        progress=progress_body(job.progress),
        queue_position=view.position,
        eta_s=view.eta_s,
        attempts=job.attempts,
        restarts=job.restarts,
        error=fault_body(job),
        created_at=rfc3339(job.created_at),
        started_at=rfc3339(job.started_at),
        finished_at=rfc3339(job.finished_at),
        deadline=rfc3339(job.deadline),
        metadata=json.loads(job.metadata),
        priority=job.priority,
        model=job.model,
        language=job.language,
        batch_id=job.batch_id,
        retry_of=job.retry_of,
        webhook_endpoint=job.webhook_endpoint,
        partial_text=view.partial_text,
    )


def progress_body(progress: JobProgress) -> ProgressBody:
    """Return how far a job has come, to the millisecond."""
    total_s = progress.audio_s_total
    return ProgressBody(
        progress.sections_done,
        progress.sections_total,
        round(float(progress.audio_s_done), 3),
        None if total_s is None else round(total_s, 3),
    )


def fault_body(job: Job) -> FaultBody | None:
    """Return why a job has no result, ``None`` unless something went wrong."""
    return FaultBody(job.error.code, job.error.message, job.error.remedy) if job.error else None


def rfc3339(unix_s: float | None) -> str | None:
    """Return a time as text, in UTC and to the millisecond."""
    if unix_s is None:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a dataclass as a JSON answer."""
    content = json.dumps(asdict(body), ensure_ascii=False, allow_nan=False).encode()
    return Response(content, status, headers, "application/json")


def revalidated(request: Request, answer: Response) -> Response:
    """Return ``answer`` with an ETag, or 304 when the caller has it already."""
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        kept = {name: answer.headers[name] for name in ("retry-after",) if name in answer.headers}
        return Response(status_code=304, headers={"etag": tag, **kept})
    answer.headers["etag"] = tag
    return answer


def ask_again(view: JobView, appointments: Appointments | None = None) -> dict[str, str]:
    """Return the header that says when to look again, none once the job has ended; later where many look."""
    if view.job.state.is_terminal:
        return {}
    wait_s = 2.0 if view.eta_s is None else _ETA_SHARE * view.eta_s
    return come_back(math.ceil(wait_s), appointments)


def come_back(wait_s: int, appointments: Appointments | None) -> dict[str, str]:
    """Return the header that asks a caller to come back, after ``wait_s`` seconds or when there is room."""
    after_s = appointments.book(time.monotonic(), wait_s) if appointments else min(LONGEST_S, max(1, wait_s))
    return {"retry-after": str(after_s)}
