"""``/transcribe/async`` and ``/transcribe/{job_id}``: the job routes in the shape that other servers have."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.deps import services_of
from tympan.api.doors.forecast import Wish
from tympan.api.fields.forms import form_body
from tympan.api.fields.jobs import parse_job
from tympan.api.fields.queries import query_of
from tympan.api.intake.bodies import received
from tympan.api.intake.uploads import FileRules
from tympan.api.jobs.intake import hand_in
from tympan.api.jobs.results import spooled_answer
from tympan.domain import Job, JobState
from tympan.errors import InvalidRequest
from tympan.formats import drop_in, json_object
from tympan.jobs.service import JobService

router = APIRouter()

FIELDS: Mapping[str, str] = {
    "language": "language",
    "word_timestamps": "word_timestamps",
    "beam_size": "beam_size",
    "vad_filter": "vad",
}
"""Fields of the form beside ``audio``, and what they are called in ours."""

STATUSES: Mapping[JobState, str] = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "processing",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
    JobState.EXPIRED: "failed",
}

_AUDIO = FileRules(field="audio", digest=True)
_CREATE: dict[str, Any] = {
    "requestBody": form_body(
        "audio",
        {
            "audio": {"type": "string", "format": "binary"},
            "language": {"type": "string"},
            "word_timestamps": {"type": "boolean", "default": False},
            "beam_size": {"type": "integer", "default": 5},
            "vad_filter": {"type": "boolean", "default": True},
        },
    )
}


@router.post("/transcribe/async", status_code=202, openapi_extra=_CREATE, response_class=Response)
async def submit(request: Request) -> Response:
    """Take a file named ``audio`` and return the id of the job that will transcribe it."""
    query_of(request)
    async with received(request, _AUDIO, wish=Wish.JOB) as body:
        fields = _ours(body.fields)
        ask = parse_job({**fields, "response_format": ["verbose_json"]}, has_file=True)
        job, _ = await hand_in(request, body, ask, None)
    return _json({"job_id": job.id, "status": STATUSES[job.state]}, 202)


@router.get("/transcribe/{job_id}", response_class=Response)
async def poll(request: Request, job_id: str) -> Response:
    """Return the status of a job, and its result once it is completed."""
    query_of(request)
    services = services_of(request)
    jobs = services.jobs
    job = await services.runner.query(lambda: jobs.get(tenant_of(request), job_id))
    if job.state is not JobState.SUCCEEDED:
        return _json(_standing(job), 200)
    return await spooled_answer(request, lambda: (_completed(jobs, job), "application/json"))


def _ours(fields: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the fields under our names. Raises ``InvalidRequest`` for one that there is not."""
    for name in fields:
        if name not in FIELDS:
            raise InvalidRequest(
                f"There is no field {name[:64]!r}.",
                param=name[:64],
                remedy=f"The fields are audio, {', '.join(FIELDS)}.",
            )
    return {FIELDS[name]: values for name, values in fields.items()}


def _standing(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = {"job_id": job.id, "status": STATUSES[job.state], "result": None}
    if job.state.is_terminal:
        found["error"] = job.error.message if job.error else f"It was {job.state.value}."
    return found


def _completed(jobs: JobService, job: Job) -> Iterator[str]:
    result = drop_in(jobs.result(job.tenant, job.id)[1], words=job.output.words)
    return json_object({"job_id": job.id, "status": STATUSES[job.state], "result": result})


def _json(value: Mapping[str, Any], status: int) -> Response:
    content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(content, status, media_type="application/json")
