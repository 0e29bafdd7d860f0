"""``POST /v1/audio/transcriptions`` and ``/translations``: from a multipart body to an answer."""

import shutil
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan import telemetry
from tympan.api import uploads
from tympan.api.admission import Place
from tympan.api.deps import ModelCard, Services, Transcriber, services_of
from tympan.api.incoming import UploadLimits
from tympan.api.schemas import PARAMETERS, TranscriptionRequest, parse_form, require_language
from tympan.domain import Task, Transcript
from tympan.errors import Cancelled, TympanError, Unavailable
from tympan.formats import MEDIA_TYPES, media_type, render
from tympan.pipeline import RequestContext, check_options

router = APIRouter()

_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {p.name: {**p.schema, "description": p.description} for p in PARAMETERS},
            }
        }
    },
}
_OPENAPI: dict[str, Any] = {
    "requestBody": _REQUEST_BODY,
    "responses": {
        "200": {
            "description": "The transcript, in the format asked for.",
            "content": {kind.split(";")[0]: {} for kind in MEDIA_TYPES.values()},
        }
    },
}


@router.post("/v1/audio/transcriptions", openapi_extra=_OPENAPI, response_class=Response)
async def transcribe(request: Request) -> Response:
    """Return the text of an audio file in the language spoken."""
    return await _Visit(request, Task.TRANSCRIBE).answer()


@router.post("/v1/audio/translations", openapi_extra=_OPENAPI, response_class=Response)
async def translate(request: Request) -> Response:
    """Return the text of an audio file in English."""
    return await _Visit(request, Task.TRANSLATE).answer()


@dataclass(slots=True)
class _Stay:
    """What a request holds while it is in the house: its place and its folder. Given up once, by whoever ends last."""

    place: Place
    folder: Path

    def end(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.place.leave()


class _Visit:
    """One request on its way through the house."""

    def __init__(self, request: Request, task: Task) -> None:
        self._request, self._task = request, task
        self._services: Services = services_of(request)
        self._started = time.monotonic()
        self._language: str | None = None
        self._card: ModelCard | None = None

    async def answer(self) -> Response:
        """Let the request in, keep its upload, run the pipeline, and render the result."""
        try:
            asked, transcript = await self._serve()
        except TympanError as error:
            if not isinstance(error, Cancelled):
                telemetry.record_failure(self._model_label, self._language)
            raise
        except Exception:
            telemetry.record_failure(self._model_label, self._language)
            raise
        elapsed_s = time.monotonic() - self._started
        self._services.house.record_stay(elapsed_s)
        telemetry.record_success(transcript, elapsed_s)
        text = render(transcript, asked.response_format, words=asked.words, segments=asked.segments, shape=asked.shape)
        return Response(text.encode("utf-8", "replace"), media_type=media_type(asked.response_format))

    async def _serve(self) -> tuple[TranscriptionRequest, Transcript]:
        services = self._services
        n_bytes = uploads.announced_file_bytes(self._request, services.limits.max_upload_bytes)
        services.backend.require()  # Before the body is read.
        context = self._context()
        stay = _Stay(services.house.admit(context, n_bytes), services.staging / uuid.uuid4().hex)
        try:
            upload, asked = await self._read(stay.folder)
            transcriber = self._pick(asked)
            work = partial(transcriber.transcribe, upload.path, asked.options, context)
        except BaseException:
            stay.end()
            raise
        try:
            transcript = await services.runner.run(work, context, self._request.receive, stay.end)
        except Cancelled:
            if stay.place.evicted:
                raise Unavailable("The server is stopping.", remedy="Try again.", retry_after_s=5.0) from None
            raise
        return asked, transcript

    async def _read(self, folder: Path) -> tuple[uploads.Upload, TranscriptionRequest]:
        limits = self._services.limits
        bounds = UploadLimits(limits.max_upload_bytes, limits.upload_idle_s, self._deadline)
        upload = await uploads.receive(self._request, folder, bounds, self._services.runner)
        asked = parse_form(upload.fields, self._task)
        self._language = asked.options.language
        return upload, asked

    def _pick(self, asked: TranscriptionRequest) -> Transcriber:
        transcriber, self._card = self._services.backend.require().pick(asked.model)
        info = transcriber.info
        require_language(asked.options.language, info.languages if info else ())
        check_options(asked.options, info)
        return transcriber

    def _context(self) -> RequestContext:
        return RequestContext(
            request_id=self._request.state.request_id,
            max_audio_s=self._services.limits.max_audio_s,
            deadline=self._deadline,
        )

    @property
    def _deadline(self) -> float:
        return self._started + self._services.limits.request_timeout_s

    @property
    def _model_label(self) -> str:
        card = self._card or self._services.backend.card
        return card.id if card else telemetry.UNKNOWN
