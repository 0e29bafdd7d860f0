"""Small bodies of JSON with known fields, and answers that are one page of a list."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.requests import ClientDisconnect, Request

from tympan.errors import Cancelled, InvalidRequest, RequestTimeout, TooLarge

MAX_BYTES = 64 << 10
"""Largest body, unless a route says something else."""

_BODY_S = 10.0


class JsonBody(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


Body = TypeVar("Body", bound=JsonBody)


class Page(BaseModel):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[Any]
    has_more: bool
    next: str | None = Field(description="What to send as ``after`` for the next page.")

    @classmethod
    def of(cls, found: Sequence[Any], limit: int) -> Self:
        """Return the first ``limit`` of what was found; what is beyond them says that there is more."""
        data, more = found[:limit], len(found) > limit
        return cls(data=list(data), has_more=more, next=data[-1].id if more else None)


def without_nul(text: str) -> str:
    """Return ``text``. Raises for a NUL in it: pydantic makes an error of the field of that."""
    if "\0" in text:
        raise PydanticCustomError("nul", "contains a NUL character, which cannot be stored")
    return text


def takes(model: type[JsonBody], *, required: bool = True) -> dict[str, Any]:
    """Return a body as /openapi.json describes it."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _inlined(value: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema in which parts stand where they are named: a document has no place for them."""
    if isinstance(value, list):
        return [_inlined(each, definitions) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: _inlined(each, definitions) for name, each in value.items() if name != "$ref"}
    named = value.get("$ref", "").rpartition("/")[2]
    return {**_inlined(definitions[named], definitions), **found} if named else found


async def json_body(request: Request, model: type[Body], *, max_bytes: int = MAX_BYTES) -> Body:
    """Return the body as ``model``.

    Raises ``InvalidRequest`` naming the field, ``TooLarge``, ``RequestTimeout``.
    """
    raw = await _read(request, max_bytes)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])[:64]
        known = ", ".join(model.model_fields)
        raise InvalidRequest(
            f"{name or 'The body'}: {first['msg']}.", param=name or None, remedy=f"Send a JSON object with {known}."
        ) from error


async def _read(request: Request, max_bytes: int) -> bytes:
    data = b""
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.stream():
                data += piece
                if len(data) > max_bytes:
                    raise TooLarge(f"The body is larger than {max_bytes >> 10} kB.", remedy="Send less.")
    except TimeoutError as error:
        raise RequestTimeout("The body did not arrive in time.") from error
    except ClientDisconnect as error:
        raise Cancelled from error
    return data
