"""``POST /v1/audio/transcriptions`` and ``/translations``: from a multipart body to an answer."""

from collections.abc import Awaitable
from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.fields.transcription import TranscriptionRequest, parse_form
from tympan.api.intake.uploads import FileRules
from tympan.api.intake.visits import Door, Visit
from tympan.api.speech.answers import OPENAPI, whole_answer
from tympan.api.speech.narration import narrated_answer
from tympan.api.wire.streaming import streams_of
from tympan.domain import Task, Transcript
from tympan.pipeline import RequestContext

router = APIRouter()


@router.post("/v1/audio/transcriptions", openapi_extra=OPENAPI, response_class=Response)
async def transcribe(request: Request) -> Response:
    """Return the text of an audio file in the language spoken."""
    return await _answer(request, Task.TRANSCRIBE)


@router.post("/v1/audio/translations", openapi_extra=OPENAPI, response_class=Response)
async def translate(request: Request) -> Response:
    """Return the text of an audio file in English."""
    return await _answer(request, Task.TRANSLATE)


async def _answer(request: Request, task: Task) -> Response:
    """Let the request in, keep its upload, run the pipeline, and render the result, as it comes if so asked."""
    door: Door[TranscriptionRequest] = Door(lambda upload: parse_form(upload.fields, task), FileRules(voices=True))
    visit = Visit(request, door)
    with visit.counted():
        guest = await visit.enter()
    if not guest.asked.stream:
        return await whole_answer(request, guest.asked, await visit.finish(guest))

    def work(context: RequestContext) -> Awaitable[Transcript]:
        return visit.finish(replace(guest, context=visit.telling(context)))

    return await narrated_answer(guest.asked, guest.context, work, streams_of(request))
