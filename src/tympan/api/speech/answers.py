"""What a transcription is answered with, and how /openapi.json describes asking for it."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tympan.api.deps import services_of
from tympan.api.fields.forms import form_body, properties_of
from tympan.api.fields.transcription import PARAMETERS, TranscriptionRequest
from tympan.api.jobs.results import spooled_answer
from tympan.api.wire.streaming import streams_of
from tympan.domain import Transcript
from tympan.formats import MEDIA_TYPES, held_pieces, media_type, rendered

OPENAPI: dict[str, Any] = {
    "requestBody": form_body("file", properties_of(PARAMETERS)),
    "responses": {
        "200": {
            "description": "The transcript, in the format asked for.",
            "content": {kind.split(";")[0]: {} for kind in MEDIA_TYPES.values()},
        }
    },
}
"""The form of a transcription and its answers, as /openapi.json describes them."""


LONG = 2_000
"""Segments and words in all, beyond which a transcript is rendered in a thread, since health checks would notice."""


async def whole_answer(request: Request, asked: TranscriptionRequest, transcript: Transcript) -> Response:
    """Return a transcript as one answer, in the format asked for.

    A long one is rendered beside the event loop and leaves from a file when it is large. Raises
    ``InsufficientStorage``, and ``StorageUnavailable`` when that takes too long.
    """
    kind = media_type(asked.response_format)
    if is_long(transcript):
        return await spooled_answer(request, lambda: (held_pieces(transcript, asked.output), kind))
    return Response(rendered(transcript, asked.output).encode("utf-8", "replace"), media_type=kind)


async def rendered_aside(request: Request, transcript: Transcript, render: Callable[[], bytes]) -> bytes:
    """Return what ``render`` makes of a transcript, in a thread where it is long. Raises what it raises."""
    if not is_long(transcript):
        return render()
    services = services_of(request)
    async with streams_of(request).rendering:
        return await services.runner.chore(render, services.limits.request_timeout_s)


def is_long(transcript: Transcript) -> bool:
    """Return whether rendering a transcript would keep the event loop from others."""
    return len(transcript.segments) + sum(len(segment.words) for segment in transcript.segments) > LONG
