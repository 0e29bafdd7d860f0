"""An edited version as it is sent: its fields, and what is wrong with them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError
from pydantic_core import PydanticCustomError

from tympan.errors import InvalidRequest
from tympan.jobs.edits import EditedSegment, EditText

MAX_BODY_BYTES = 8 << 20
MAX_SEGMENTS = 50_000
MAX_TEXT_CHARS = 10_000
MAX_SPEAKERS = 100
MAX_NAME_CHARS = 64
_MAX_S = 1e7
_SHOWN_CHARS = 64


def _plain(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise PydanticCustomError("plain", "is not plain text without spaces around it")
    return text


_Name = Annotated[StrictStr, Field(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_plain)]
_Seconds = Annotated[float, Field(strict=True, ge=0, le=_MAX_S, allow_inf_nan=False)]


class SegmentIn(BaseModel):
    """A stretch of text, times in seconds; an ``id`` that is left out is its place in the list."""

    model_config = ConfigDict(extra="forbid")

    id: StrictInt | None = Field(None, ge=0, le=1_000_000_000, description="Left out: its place in the list.")
    start: _Seconds
    end: _Seconds
    text: Annotated[StrictStr, Field(max_length=MAX_TEXT_CHARS)]
    speaker: _Name | None = Field(None, description="A label: one of `speakers`, or of the original.")


class EditIn(BaseModel):
    """An edited version. What a GET tells beside it may be sent along, and means nothing."""

    model_config = ConfigDict(extra="forbid")

    speakers: dict[_Name, _Name] = Field(
        default_factory=dict, max_length=MAX_SPEAKERS, description="Names of speakers by label."
    )
    segments: list[SegmentIn] = Field(max_length=MAX_SEGMENTS, description="The whole text, in order of time.")
    object: Any = Field(None, description="Ignored, as are the next three.")
    job_id: Any = None
    revision: Any = None
    edited_at: Any = None


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["segments"],
    "properties": {
        "speakers": {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": MAX_NAME_CHARS},
            "description": "Names of speakers by label.",
        },
        "segments": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/EditedSegment"},
            "description": "The whole text, in order of time.",
        },
    },
}
"""The body as /openapi.json describes it."""


def edit_of(document: dict[str, Any]) -> EditText:
    """Return what a JSON object says. Raises ``InvalidRequest`` that names the field."""
    try:
        found = EditIn.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])[:_SHOWN_CHARS]
        shown = "".join(char if char.isprintable() else "?" for char in name)
        raise InvalidRequest(
            f"{shown or 'The body'}: {first['msg']}.",
            param=shown or None,
            remedy="Send speakers, an object of names by label, and segments with start, end, text and speaker.",
        ) from error
    segments = (
        EditedSegment(place if one.id is None else one.id, one.start, one.end, one.text, one.speaker)
        for place, one in enumerate(found.segments)
    )
    return EditText(found.speakers, tuple(segments))
