"""``/v1/jobs``: transcriptions that outlive the request that asked for them."""

import math
import time
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.deps import services_of
from tympan.api.doors.forecast import Wish
from tympan.api.fields.jobs import JOB_PARAMETERS, KEY_PARAMETER, idempotency_key, parse_job
from tympan.api.fields.openai import FORMATS
from tympan.api.fields.queries import PAGE_PARAMETERS, page_of, query_of
from tympan.api.fields.shapes import SHAPE_NAMES, SHAPE_PARAMETERS, shape_of
from tympan.api.fields.transcription import PARAMETERS
from tympan.api.intake.bodies import received
from tympan.api.intake.metering import charge_jobs
from tympan.api.intake.uploads import FileRules
from tympan.api.jobs.events import MEDIA_TYPE, JobEvents, seen_from
from tympan.api.jobs.intake import hand_in
from tympan.api.jobs.results import Asked, ResultFormat, result_answer
from tympan.api.jobs.together import appointments_of, together_of
from tympan.api.jobs.views import JobBody, JobListBody, ask_again, job_body, json_answer, revalidated
from tympan.api.wire.streaming import StreamResponse, streams_of
from tympan.domain import Job, JobState
from tympan.errors import StorageUnavailable
from tympan.formats import MEDIA_TYPES, docx
from tympan.jobs.service import JobFilter, JobView

router = APIRouter()

MAX_JSON_BYTES = 4 << 20
"""Largest body without a file: samples of voices in it are text."""

_FILE = FileRules(least=0, digest=True, voices=True)
_FORM_SCHEMA = {
    "type": "object",
    "properties": {p.name: {**p.schema, "description": p.description} for p in (*PARAMETERS, *JOB_PARAMETERS)},
}
_LIST_QUERY: list[dict[str, Any]] = [
    {"name": "state", "in": "query", "schema": {"type": "array", "items": {"enum": list(JobState)}}},
    {"name": "batch_id", "in": "query", "schema": {"type": "string"}},
    *PAGE_PARAMETERS,
]
_CREATE: dict[str, Any] = {
    "parameters": [KEY_PARAMETER],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM_SCHEMA},
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "The fields of the form, but for `file`, as numbers, booleans, lists and objects.",
                }
            },
        },
    },
}
_RESULT_FORMATS: dict[str, ResultFormat] = {**{fmt: fmt for fmt in FORMATS}, "docx": "docx"}
_KINDS = (*MEDIA_TYPES.values(), docx.MEDIA_TYPE)
_VERSIONS = ("original", "edited")
_RESULT: dict[str, Any] = {
    "parameters": [
        {"name": "format", "in": "query", "schema": {"type": "string", "enum": list(_RESULT_FORMATS)}},
        {
            "name": "version",
            "in": "query",
            "schema": {"type": "string", "enum": list(_VERSIONS), "default": _VERSIONS[0]},
            "description": "`edited` is as it was corrected.",
        },
        *({"name": p.name, "in": "query", "schema": p.schema, "description": p.description} for p in SHAPE_PARAMETERS),
    ],
    "responses": {"200": {"description": "The transcript.", "content": {kind: {} for kind in _KINDS}}},
}
_EVENTS: dict[str, Any] = {
    "parameters": [{"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}],
    "responses": {
        "200": {"description": "Events `state`, `progress` and `segment`.", "content": {MEDIA_TYPE: {}}},
        "204": {"description": "The caller has had them all."},
    },
}


@router.post(
    "/v1/jobs", status_code=202, responses={202: {"model": JobBody}}, openapi_extra=_CREATE, response_class=Response
)
async def create_job(request: Request) -> Response:
    """Take audio, or the address of audio, and return the job that will transcribe it."""
    key = idempotency_key(request.headers.getlist("idempotency-key"))
    query_of(request)
    async with received(request, _FILE, MAX_JSON_BYTES, Wish.JOB) as body:
        ask = parse_job(body.all_fields, has_file=bool(body.files))
        job, replayed = await hand_in(request, body, ask, key)
    return _accepted(job, {"idempotent-replayed": "true"} if replayed else {})


@router.get("/v1/jobs", responses={200: {"model": JobListBody}}, openapi_extra={"parameters": _LIST_QUERY})
async def list_jobs(request: Request) -> Response:
    """List jobs, newest first."""
    query = query_of(request, "state", "batch_id", "limit", "after", repeatable=("state",))
    limit, after = page_of(query, "job")
    states = tuple(JobState(value) for value in query.each("state", tuple(JobState)))
    wanted = JobFilter(states, query.text("batch_id", max_chars=64), after, limit + 1)
    jobs = services_of(request).jobs
    found = await services_of(request).runner.query(lambda: jobs.page(tenant_of(request), wanted))
    data = [job_body(JobView(job)) for job in found[:limit]]
    more = len(found) > limit
    return json_answer(JobListBody(data=data, has_more=more, next=data[-1].id if more else None))


@router.get("/v1/jobs/{job_id}", responses={200: {"model": JobBody}, 304: {}})
async def get_job(request: Request, job_id: str) -> Response:
    """Return a job as it stands; while it runs, with the text so far."""
    query_of(request)
    services = services_of(request)
    tenant = tenant_of(request)
    look = partial(services.runner.query, lambda: services.jobs.view(tenant, job_id))
    appointments = appointments_of(request)
    try:
        view = await together_of(request).ask((tenant, job_id), look)
    except StorageUnavailable as error:
        # A herd that was turned away must not come back as a herd.
        after_s = appointments.book(time.monotonic(), math.ceil(error.retry_after_s or 1.0))
        raise StorageUnavailable(error.message, remedy=error.remedy, retry_after_s=float(after_s)) from error
    return revalidated(request, json_answer(job_body(view), headers=ask_again(view, appointments)))


@router.get("/v1/jobs/{job_id}/result", openapi_extra=_RESULT, response_class=Response)
async def get_result(request: Request, job_id: str) -> Response:
    """Return the transcript of a finished job, in the format it was asked for or in another."""
    query = query_of(request, "format", "version", *SHAPE_NAMES)
    fmt = _RESULT_FORMATS.get(query.choice("format", _RESULT_FORMATS, ""))
    asked = Asked(fmt, shape_of(query), query.choice("version", _VERSIONS, _VERSIONS[0]) == "edited")
    return await result_answer(request, tenant_of(request), job_id, asked)


@router.get("/v1/jobs/{job_id}/events", openapi_extra=_EVENTS, response_class=Response)
async def get_events(request: Request, job_id: str) -> Response:
    """Stream a job's state, progress and text as they come, until it has ended."""
    query_of(request)
    services = services_of(request)
    job = await services.runner.query(lambda: services.jobs.get(tenant_of(request), job_id))
    seen = seen_from(request.headers.get("last-event-id"))
    if job.state.is_terminal and seen.state == job.state.value:
        return Response(status_code=204)
    answer = StreamResponse(
        streams_of(request), JobEvents(services, tenant_of(request), job_id, seen).pieces, MEDIA_TYPE
    )
    answer.headers["x-accel-buffering"] = "no"  # A proxy that collected events would make a live stream a late one.
    return answer


@router.post("/v1/jobs/{job_id}/cancel", responses={200: {"model": JobBody}}, response_class=Response)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Stop a job and return it; one that has ended stays as it is."""
    query_of(request)
    services = services_of(request)
    job = await services.runner.query(lambda: services.jobs.cancel(tenant_of(request), job_id))
    return json_answer(job_body(JobView(job)))


@router.post("/v1/jobs/{job_id}/retry", status_code=202, responses={202: {"model": JobBody}}, response_class=Response)
async def retry_job(request: Request, job_id: str) -> Response:
    """Hand in a job that failed, expired or was cancelled once more, as a new one, and return that."""
    query_of(request)
    services = services_of(request)
    limit_s = services.limits.request_timeout_s
    job = await services.runner.chore(lambda: services.jobs.retry(tenant_of(request), job_id), limit_s)
    charge_jobs(request, (job.source.n_bytes,))
    return _accepted(job)


@router.delete("/v1/jobs/{job_id}", status_code=204, response_class=Response)
async def delete_job(request: Request, job_id: str) -> Response:
    """Cancel a job and remove everything about it: audio, text and events."""
    query_of(request)
    services = services_of(request)
    await services.runner.chore(
        lambda: services.jobs.erase(tenant_of(request), job_id), services.limits.request_timeout_s
    )
    return Response(status_code=204)


def _accepted(job: Job, headers: dict[str, str] | None = None) -> Response:
    view = JobView(job)
    found = {"location": f"/v1/jobs/{job.id}", **ask_again(view), **(headers or {})}
    return json_answer(job_body(view), 202, found)
