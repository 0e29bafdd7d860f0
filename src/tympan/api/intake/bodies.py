"""The body of a request that may be a form with files, plain fields, or JSON: read whole, bounded, on disk if large."""

import shutil
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request

from tympan.api.access.callers import tenant_of
from tympan.api.deps import Services, services_of
from tympan.api.doors.admission import Errand
from tympan.api.doors.forecast import Wish
from tympan.api.fields.jobs import check_text, fields_of, parse_object
from tympan.api.intake import uploads
from tympan.api.intake.incoming import UploadLimits, receive_text
from tympan.api.intake.metering import bounds_of
from tympan.errors import InvalidRequest
from tympan.faultpoints import reach
from tympan.pipeline import RequestContext

_PARSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Body:
    """Fields, and files that lie in ``folder`` while the request lasts; a JSON body is in ``document`` instead."""

    folder: Path
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: tuple[uploads.UploadedFile, ...] = ()
    document: dict[str, Any] | None = None

    @property
    def all_fields(self) -> dict[str, list[str]]:
        """The fields, whichever way they came. Raises ``InvalidRequest``."""
        return self.fields if self.document is None else fields_of(self.document)


@asynccontextmanager
async def received(
    request: Request, rules: uploads.FileRules, max_text_bytes: int = uploads.FORM_BYTES, wish: Wish | None = None
) -> AsyncIterator[Body]:
    """Read the body of ``request`` and yield it; its files are removed at the end. ``wish`` is what it would bring.

    The request has a place in the house while its body comes in. Raises ``InvalidRequest``, ``TooLarge``,
    ``RequestTimeout``, ``Overloaded``, ``Unavailable``, ``InsufficientStorage``, and ``Cancelled`` when the caller
    hangs up.
    """
    services = services_of(request)
    max_bytes = rules.total_bytes or bounds_of(request).max_upload_bytes
    n_bytes = uploads.announced_file_bytes(request, max_bytes, rules.field)
    context = RequestContext(request.state.request_id, tenant_of(request))
    place = services.house.admit(context, n_bytes, Errand(wish) if wish else None)
    folder = services.staging / uuid.uuid4().hex
    try:
        try:
            body = await _read(request, services, folder, rules, max_text_bytes)
        finally:
            place.leave()
        reach("upload.written")
        yield body
    finally:
        await services.runner.to_disk(lambda: shutil.rmtree(folder, ignore_errors=True))


async def _read(
    request: Request, services: Services, folder: Path, rules: uploads.FileRules, max_text_bytes: int
) -> Body:
    deadline = time.monotonic() + services.limits.request_timeout_s
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        bounds = UploadLimits(bounds_of(request).max_upload_bytes, services.limits.upload_idle_s, deadline)
        upload = await uploads.receive(request, folder, bounds, services.runner, rules)
        return Body(folder, upload.fields, upload.files)
    if kind not in ("application/json", "application/x-www-form-urlencoded") or rules.least:
        other = "" if rules.least else ", or application/json without one"
        raise InvalidRequest(
            "This Content-Type is not accepted here.",
            param="Content-Type",
            remedy=f"Send multipart/form-data with audio in a file field named {rules.field!r}{other}.",
        )
    data = await receive_text(request, UploadLimits(max_text_bytes, services.limits.upload_idle_s, deadline))
    if kind == "application/json":
        document = await services.runner.chore(lambda: parse_object(data), _PARSE_S)
        return Body(folder, document=document)
    return Body(folder, _urlencoded(data))


def _urlencoded(data: bytes) -> dict[str, list[str]]:
    try:
        text = data.decode("ascii")
        fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=uploads.MAX_FIELDS)
    except ValueError as error:
        raise InvalidRequest("The body is not a form.", remedy="Send at most 64 fields, in UTF-8.") from error
    for name, values in fields.items():
        for part in (name, *values):
            check_text(part, name)
    return fields
