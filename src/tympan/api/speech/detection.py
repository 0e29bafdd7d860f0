"""``POST /v1/audio/detect-language``: which language is spoken in a file, without its text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from tympan.api.fields.forms import Form, Parameter, form_body, properties_of
from tympan.api.fields.queries import query_of
from tympan.api.fields.transcription import PARAMETERS, parse_options
from tympan.api.intake.uploads import Upload
from tympan.api.intake.visits import Door, Visit
from tympan.domain import Options, Task, Transcript
from tympan.formats import number
from tympan.languages import language_name

router = APIRouter()

_DIGITS = 4
_NAMES = ("model", "languages", "vad")

DETECTION_PARAMETERS: tuple[Parameter, ...] = tuple(p for p in PARAMETERS if p.name in ("file", *_NAMES))
"""Every field of the route; each means what it means for a transcription."""

_OPENAPI: dict[str, Any] = {"requestBody": form_body("file", properties_of(DETECTION_PARAMETERS))}


@dataclass(frozen=True, slots=True)
class DetectionRequest:
    """What is asked: of which model (``None`` for the default), among which languages, and how speech is found."""

    options: Options
    model: str | None = None


@router.post("/v1/audio/detect-language", openapi_extra=_OPENAPI)
async def detect_language(request: Request) -> JSONResponse:
    """Return the language of the first speech in a file, with its probability and the runners-up.

    Only as much is heard as it takes to be sure: up to three windows of speech. Without speech the language is null.
    """
    query_of(request)
    _, found = await detected(request, Door(_parse))
    return JSONResponse(_body(found))


async def detected(request: Request, door: Door[DetectionRequest]) -> tuple[DetectionRequest, Transcript]:
    """Let a request in and return what was asked and which languages were heard. Raises ``TympanError``."""
    visit = Visit(request, door)
    with visit.counted():
        guest = await visit.enter()
    return guest.asked, await visit.language(guest)


def _parse(upload: Upload) -> DetectionRequest:
    fields: Mapping[str, list[str]] = upload.fields
    form = Form(fields, frozenset(_NAMES), ("languages",))
    form.refuse_unknown()
    asked = parse_options(form, Task.TRANSCRIBE)
    return DetectionRequest(asked.options, asked.model)


def _body(found: Transcript) -> dict[str, Any]:
    return {
        "language": found.language,
        "language_name": language_name(found.language) if found.language else None,
        "probability": number(found.language_probability, _DIGITS) if found.language else None,
        "languages": [
            {"language": code, "language_name": language_name(code), "probability": number(p, _DIGITS)}
            for code, p in found.languages
        ],
        "model": found.model,
        "speech": {"heard_s": number(found.accounting.audio_s), "speech_s": number(found.accounting.speech_s)},
        "processing_time_ms": number(found.processing_s * 1000, 1),
    }
