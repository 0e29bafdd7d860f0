"""``/v1/jobs/{id}/audio``, and what a player needs beside it: a link that takes no header, a picture of the sound."""

import hashlib
import json
import threading
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.access.entrance import TICKET
from tympan.api.deps import Services, services_of
from tympan.api.errors import ErrorResponse, RangeNotThere
from tympan.api.fields.queries import query_of
from tympan.api.wire.ranges import Nowhere, Part, has_it, part_of
from tympan.api.wire.streaming import Departure, StreamResponse, streams_of
from tympan.errors import MediaChanged, Unavailable
from tympan.jobs.peaks import Waveform
from tympan.jobs.recordings import Recording

router = APIRouter()

PIECE_BYTES = 256 << 10
READ_S = 30.0
"""Longest wait for the storage to give one piece."""

LEAST_POINTS, USUAL_POINTS, MOST_POINTS = 100, 2_000, 20_000

_HEADERS = {
    "accept-ranges": "bytes",
    "content-disposition": "inline",
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
"""What a file of somebody's may do in a browser: sound. It is no page, whatever its bytes say."""

_BYTES = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}
_AUDIO: dict[str, Any] = {
    "parameters": [
        {
            "name": TICKET,
            "in": "query",
            "schema": {"type": "string"},
            "description": "What `audio-link` gave; takes the place of a key.",
        },
        {"name": "Range", "in": "header", "schema": {"type": "string"}, "description": "One range of bytes."},
    ],
    "responses": {
        "200": {"description": "The file.", "content": _BYTES},
        "206": {"description": "A part of it.", "content": _BYTES},
        "304": {"description": "The caller has it."},
    },
}
_POINTS: dict[str, Any] = {
    "parameters": [
        {
            "name": "points",
            "in": "query",
            "schema": {
                "type": "integer",
                "minimum": LEAST_POINTS,
                "maximum": MOST_POINTS,
                "default": USUAL_POINTS,
            },
            "description": "Most peaks.",
        }
    ]
}


@router.get("/v1/jobs/{job_id}/audio", openapi_extra=_AUDIO, response_class=Response)
async def get_audio(request: Request, job_id: str) -> Response:
    """Return a job's audio as it is stored, or a part of it."""
    query_of(request, TICKET)
    services = services_of(request)
    find = partial(services.jobs.recordings.find, tenant_of(request), job_id)
    found = await services.runner.chore(find, READ_S)
    etag = f'"{hashlib.sha256(found.file.tag.encode()).hexdigest()[:32]}"'
    headers = {**_HEADERS, "etag": etag}
    if has_it(request.headers, etag):
        return Response(status_code=304, headers=headers)
    # HEAD tells of the whole: the RFC knows no range of anything but GET.
    part = part_of(request.headers, found.file.n_bytes, etag) if request.method == "GET" else None
    if isinstance(part, Nowhere):
        error = RangeNotThere(f"The audio has {part.whole} bytes.", param="Range", remedy="Ask for a part of it.")
        return ErrorResponse(error, {**headers, "content-range": part.header})
    return _answer(request, found, part, headers)


@router.post("/v1/jobs/{job_id}/audio-link", response_class=Response)
async def make_audio_link(request: Request, job_id: str) -> Response:
    """Return an address at which a player that can send no key finds the audio, for an hour."""
    query_of(request)
    services, tenant = services_of(request), tenant_of(request)
    await services.runner.chore(partial(services.jobs.recordings.find, tenant, job_id), READ_S)
    ticket, until = services.desks.doors.tickets.issue(tenant, job_id)
    url = f"/v1/jobs/{quote(job_id, safe='')}/audio?{TICKET}={quote(ticket, safe='')}"
    return _json({"object": "audio_link", "url": url, "expires_at": until})


@router.get("/v1/jobs/{job_id}/waveform", openapi_extra=_POINTS, response_class=Response)
async def get_waveform(request: Request, job_id: str) -> Response:
    """Return how loud a job's audio is from moment to moment: peaks from 0 to 255, ``step_s`` apart."""
    points = query_of(request, "points").integer("points", LEAST_POINTS, MOST_POINTS) or USUAL_POINTS
    shown = (await _waveform(request, services_of(request), job_id)).reduced(points)
    duration_s = round(shown.duration_s, 3)
    return _json({"object": "waveform", "duration_s": duration_s, "step_s": shown.step_s, "peaks": list(shown.peaks)})


async def _waveform(request: Request, services: Services, job_id: str) -> Waveform:
    """Return what is kept, or is made now unless the caller goes. Raises ``TympanError``."""
    desk, tenant = services.desks.waveforms, tenant_of(request)
    if desk is None:
        raise Unavailable("Waveforms are not set up on this server.", remedy="Play the audio without one.")
    kept = await services.runner.chore(partial(desk.kept, tenant, job_id), READ_S)
    if kept is not None:
        return kept
    cancel = threading.Event()
    making = desk.make(tenant, job_id, cancel)
    try:
        return await services.runner.wait(making, time.monotonic() + services.limits.request_timeout_s, request.receive)
    finally:
        cancel.set()
        making.cancel()


def _answer(request: Request, found: Recording, part: Part | None, headers: dict[str, str]) -> Response:
    whole = part or Part(0, found.file.n_bytes, found.file.n_bytes)
    sending = _Sending(services_of(request), found, whole)
    answer = StreamResponse(streams_of(request), sending.pieces, found.media_type)
    answer.status_code = 200 if part is None else 206
    answer.headers.update(headers)
    answer.headers["content-length"] = str(whole.n_bytes)
    if part is not None:
        answer.headers["content-range"] = part.header
    return answer


class _Sending:
    """The pieces of one answer, each read when the one before it has been taken."""

    def __init__(self, services: Services, found: Recording, part: Part) -> None:
        self._services, self._found, self._part = services, found, part

    async def pieces(self, departure: Departure) -> AsyncGenerator[bytes, None]:
        at = self._part.start
        while at < self._part.end and not departure.gone:
            read = partial(self._found.file.read, at, min(PIECE_BYTES, self._part.end - at))
            piece = await self._services.runner.chore(read, READ_S)
            if not piece:
                raise MediaChanged
            at += len(piece)
            yield piece


def _json(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body).encode(), media_type="application/json")
