"""``/v1/jobs/{id}/edited``: the transcript as somebody has corrected it, beside the original, which stays.

Whoever saves says which revision the changes were made to (``If-Match``), so that nobody overwrites unseen what another
has saved meanwhile.
"""

import json
import re
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.deps import services_of
from tympan.api.fields.edits import MAX_BODY_BYTES, SCHEMA, edit_of
from tympan.api.fields.queries import query_of
from tympan.api.intake.bodies import received
from tympan.api.intake.uploads import FileRules
from tympan.api.wire.ranges import has_it
from tympan.errors import InvalidRequest, TooLarge
from tympan.jobs.edits import Edit

router = APIRouter()

_REVISION = re.compile(r'(?:W/)?"(\d{1,9})"', re.ASCII)
_NO_FILE = FileRules(least=0)
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The ETag of the version that was changed.",
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "`*` for the first version.",
}
_SAVE: dict[str, Any] = {
    "parameters": [_IF_MATCH, _IF_NONE_MATCH],
    "requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}},
}


@router.get("/v1/jobs/{job_id}/edited", responses={304: {}}, response_class=Response)
async def get_edited(request: Request, job_id: str) -> Response:
    """Return the edited version of a transcript, with its revision as ETag."""
    query_of(request)
    services, tenant = services_of(request), tenant_of(request)
    limit_s = services.limits.request_timeout_s

    def look() -> tuple[Edit, bytes]:
        found = services.jobs.edits.find(tenant, job_id)
        return found, _body(job_id, found)

    found, body = await services.runner.chore(look, limit_s)
    tag = _tag(found)
    if has_it(request.headers, tag["etag"]):
        return Response(status_code=304, headers=tag)
    return Response(body, headers=tag, media_type="application/json")


@router.put("/v1/jobs/{job_id}/edited", openapi_extra=_SAVE, response_class=Response)
async def put_edited(request: Request, job_id: str) -> Response:
    """Save an edited version whole, and return it with its new revision; the original stays."""
    query_of(request)
    services, tenant = services_of(request), tenant_of(request)
    await services.runner.query(lambda: services.jobs.get(tenant, job_id))  # Before the body is read.
    expected = _expected(request)
    document = await _document(request)

    def save() -> tuple[Edit, bytes]:
        saved = services.jobs.edits.save(tenant, job_id, edit_of(document), expected)
        return saved, _body(job_id, saved)

    saved, body = await services.runner.chore(save, services.limits.request_timeout_s)
    return Response(body, headers=_tag(saved), media_type="application/json")


@router.delete(
    "/v1/jobs/{job_id}/edited", status_code=204, openapi_extra={"parameters": [_IF_MATCH]}, response_class=Response
)
async def delete_edited(request: Request, job_id: str) -> Response:
    """Erase the edited version; the original stays."""
    query_of(request)
    services, tenant = services_of(request), tenant_of(request)
    given = request.headers.get("if-match")
    expected = None if given is None else _revision(given)
    await services.runner.query(partial(services.jobs.edits.drop, tenant, job_id, expected))
    return Response(status_code=204)


async def _document(request: Request) -> dict[str, Any]:
    """Return the body. Raises ``InvalidRequest``, ``TooLarge``, and what ``received`` raises."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise InvalidRequest("The body is not JSON.", param="Content-Type", remedy="Send application/json.")
    try:
        async with received(request, _NO_FILE, MAX_BODY_BYTES) as body:
            return body.document or {}
    except TooLarge as error:
        error.remedy = "Join short segments, or shorten the texts."
        raise


def _expected(request: Request) -> int | None:
    """Return which revision a save replaces, ``None`` for none yet. Raises ``InvalidRequest``."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if (match is None) == (none_match is None):
        raise InvalidRequest(
            "Send exactly one of If-Match and If-None-Match.",
            param="If-Match",
            remedy="If-Match takes the ETag of the version that you changed; If-None-Match: * makes the first version.",
        )
    if none_match is None:
        return _revision(match or "")
    if none_match.strip() != "*":
        raise InvalidRequest("If-None-Match is not *.", param="If-None-Match", remedy="Send If-None-Match: *.")
    return None


def _revision(text: str) -> int:
    found = _REVISION.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest("If-Match is not a revision.", param="If-Match", remedy='Send an ETag, such as "3".')
    return int(found[1])


def _tag(found: Edit) -> dict[str, str]:
    return {"etag": f'"{found.revision}"'}


def _body(job_id: str, found: Edit) -> bytes:
    """Return a version as its owner sees it."""
    segments = [
        {"id": one.id, "start": one.start_s, "end": one.end_s, "text": one.text, "speaker": one.speaker}
        for one in found.segments
    ]
    body = {
        "object": "transcript.edited",
        "job_id": job_id,
        "revision": found.revision,
        "edited_at": round(found.edited_at, 3),
        "speakers": dict(found.speakers),
        "segments": segments,
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
