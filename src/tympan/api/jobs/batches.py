"""``/v1/batches``: many jobs handed in with one request, and their results with another."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.deps import services_of
from tympan.api.doors.forecast import Wish
from tympan.api.fields.jobs import KEY_PARAMETER, idempotency_key
from tympan.api.fields.openai import format_in
from tympan.api.fields.queries import PAGE_PARAMETERS, page_of, query_of
from tympan.api.intake.bodies import received
from tympan.api.intake.metering import charge_jobs
from tympan.api.intake.uploads import FileRules
from tympan.api.jobs.batch_intake import BatchDesk
from tympan.api.jobs.batch_results import BatchResults
from tympan.api.jobs.batch_views import BatchBody, BatchListBody, batch_body, is_finished
from tympan.api.jobs.together import appointments_of
from tympan.api.jobs.views import come_back, json_answer
from tympan.api.wire.streaming import StreamResponse, streams_of
from tympan.errors import JobNotFinished
from tympan.formats import MEDIA_TYPES
from tympan.jobs.batches import Batch

router = APIRouter()

MAX_FILES = 200
MAX_MANIFEST_BYTES = 16 << 20

_TOTAL_UPLOADS = 10
"""How many uploads of the greatest length one batch may carry."""

_RETRY_S = "5"
_CREATE: dict[str, Any] = {
    "parameters": [KEY_PARAMETER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["items"],
                    "properties": {
                        "items": {"type": "array", "items": {"type": "object"}, "description": "Jobs, without files."},
                        "defaults": {"type": "object", "description": "Fields for items that leave them out."},
                        "metadata": {"type": "object"},
                        "webhook_url": {"type": "string"},
                        "webhook_endpoint": {"type": "string"},
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "description": f"Up to {MAX_FILES} files, and fields of a job, which go for each of them.",
                }
            },
        },
    },
}
_RESULTS: dict[str, Any] = {
    "parameters": [
        {"name": "format", "in": "query", "schema": {"type": "string", "enum": ["jsonl", "zip"], "default": "jsonl"}},
        {"name": "result_format", "in": "query", "schema": {"type": "string", "enum": list(MEDIA_TYPES)}},
    ],
    "responses": {
        "200": {"description": "Results of all jobs.", "content": {"application/jsonl": {}, "application/zip": {}}}
    },
}


@router.post(
    "/v1/batches",
    status_code=202,
    responses={202: {"model": BatchBody}},
    openapi_extra=_CREATE,
    response_class=Response,
)
async def create_batch(request: Request) -> Response:
    """Take many files, or a list of addresses, and return the batch of jobs that will transcribe them."""
    query_of(request)
    key = idempotency_key(request.headers.getlist("idempotency-key"))
    services = services_of(request)
    limits = services.limits
    total_bytes = _TOTAL_UPLOADS * limits.max_upload_bytes
    rules = FileRules(least=0, most=MAX_FILES, total_bytes=total_bytes, digest=True, voices=True)
    async with received(request, rules, MAX_MANIFEST_BYTES, Wish.JOB) as body:
        desk = BatchDesk(services, tenant_of(request), body)
        batch, replayed = await services.runner.chore(lambda: desk.submit(key), limits.request_timeout_s)
        charge_jobs(request, desk.n_bytes)
    headers = {"location": f"/v1/batches/{batch.id}", "retry-after": _RETRY_S}
    return json_answer(batch_body(batch), 202, headers | ({"idempotent-replayed": "true"} if replayed else {}))


@router.get(
    "/v1/batches",
    responses={200: {"model": BatchListBody}},
    openapi_extra={"parameters": PAGE_PARAMETERS},
    response_class=Response,
)
async def list_batches(request: Request) -> Response:
    """List batches, newest first."""
    limit, after = page_of(query_of(request, "limit", "after"), "batch")
    batches = services_of(request).jobs.batches
    found = await services_of(request).runner.query(lambda: batches.page(tenant_of(request), limit + 1, after))
    data, more = [batch_body(batch) for batch in found[:limit]], len(found) > limit
    return json_answer(BatchListBody(data=data, has_more=more, next=data[-1].id if more else None))


@router.get("/v1/batches/{batch_id}", responses={200: {"model": BatchBody}}, response_class=Response)
async def get_batch(request: Request, batch_id: str) -> Response:
    """Return a batch: how many of its jobs are in each state, and how far they have come."""
    query_of(request)
    batch = await _find(request, batch_id)
    again = {} if is_finished(batch) else come_back(int(_RETRY_S), appointments_of(request))
    return json_answer(batch_body(batch), headers=again)


@router.get("/v1/batches/{batch_id}/results", openapi_extra=_RESULTS, response_class=Response)
async def get_results(request: Request, batch_id: str) -> Response:
    """Return the results of a finished batch: a line of JSON for each job, or a file for each in a zip archive."""
    query = query_of(request, "result_format", "format")
    fmt, kind = format_in(query, "result_format"), query.choice("format", ("jsonl", "zip"), "jsonl")
    if not is_finished(batch := await _find(request, batch_id)):
        raise JobNotFinished(
            f"{batch.pending} of {batch.total} jobs have not finished.",
            remedy="Ask again later; GET /v1/jobs?batch_id= lists those that have.",
            retry_after_s=float(_RETRY_S),
        )
    streams = streams_of(request)
    results = BatchResults(services_of(request), streams, tenant_of(request), batch_id, fmt)
    if kind == "jsonl":
        return StreamResponse(streams, results.lines, "application/jsonl")
    answer = StreamResponse(streams, results.archive, "application/zip")
    answer.headers["content-disposition"] = f'attachment; filename="{batch.id}.zip"'
    return answer


@router.post("/v1/batches/{batch_id}/cancel", responses={200: {"model": BatchBody}}, response_class=Response)
async def cancel_batch(request: Request, batch_id: str) -> Response:
    """Stop every job of a batch that has not ended, and return the batch."""
    query_of(request)
    services = services_of(request)
    limit_s = services.limits.request_timeout_s
    batch = await services.runner.chore(lambda: services.jobs.batches.cancel(tenant_of(request), batch_id), limit_s)
    return json_answer(batch_body(batch))


@router.delete("/v1/batches/{batch_id}", status_code=204, response_class=Response)
async def delete_batch(request: Request, batch_id: str) -> Response:
    """Remove a batch and everything about its jobs."""
    query_of(request)
    services = services_of(request)
    limit_s = services.limits.request_timeout_s
    await services.runner.chore(lambda: services.jobs.batches.erase(tenant_of(request), batch_id), limit_s)
    return Response(status_code=204)


async def _find(request: Request, batch_id: str) -> Batch:
    services = services_of(request)
    return await services.runner.query(lambda: services.jobs.batches.get(tenant_of(request), batch_id))
