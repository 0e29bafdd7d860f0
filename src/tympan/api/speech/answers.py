"""What a transcription is answered with, and how /openapi.json describes asking for it."""

from typing import Any

from starlette.responses import Response

from tympan.api.fields.forms import form_body, properties_of
from tympan.api.fields.transcription import PARAMETERS, TranscriptionRequest
from tympan.domain import Transcript
from tympan.formats import MEDIA_TYPES, media_type, rendered

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


def whole_answer(asked: TranscriptionRequest, transcript: Transcript) -> Response:
    """Return a transcript as one answer, in the format asked for."""
    text = rendered(transcript, asked.output)
    return Response(text.encode("utf-8", "replace"), media_type=media_type(asked.response_format))
