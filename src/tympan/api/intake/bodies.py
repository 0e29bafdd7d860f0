"""The body of a request that may be a form with files, plain fields, or JSON: read whole, bounded, on disk if large."""

import shutil
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request

from tympan.api.access.callers import tenant_of
from tympan.api.deps import services_of
from tympan.api.doors.admission import Errand
from tympan.api.doors.forecast import Wish
from tympan.api.fields.jobs import check_text, fields_of, parse_object
from tympan.api.intake import uploads
from tympan.api.intake.incoming import UploadLimits, receive_text
from tympan.api.intake.metering import bounds_of
from tympan.api.intake.samples import Samples
from tympan.errors import InvalidRequest
from tympan.faultpoints import reach
from tympan.pipeline import RequestContext

_PARSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Body:
    """Fields, and files that lie in ``folder`` while the request lasts; a JSON body is in ``document`` instead.

    ``samples`` are files with voices, ``voices`` what was heard of them, both by the SHA-256 that stands for each.
    """

    folder: Path
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: tuple[uploads.UploadedFile, ...] = ()
    document: dict[str, Any] | None = None
    samples: Mapping[str, Path] = field(default_factory=dict)
    voices: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_fields(self) -> dict[str, list[str]]:
        """The fields, whichever way they came. Raises ``InvalidRequest``."""
        return self.fields if self.document is None else fields_of(self.document)


@asynccontextmanager
async def received(
    request: Request, rules: uploads.FileRules, max_text_bytes: int = uploads.FORM_BYTES, wish: Wish | None = None
) -> AsyncIterator[Body]:
    """Read the body of ``request`` and yield it; its files are removed at the end. ``wish`` is what it would bring.

    The request has a place in the house while its body comes in and voices in it are heard. Raises ``InvalidRequest``,
    ``TooLarge``, ``RequestTimeout``, ``Overloaded``, ``Unavailable``, ``InsufficientStorage``, ``Cancelled`` when the
    caller hangs up, and what hearing voices raises.
    """
    services = services_of(request)
    max_bytes = rules.total_bytes or bounds_of(request).max_upload_bytes
    n_bytes = uploads.announced_file_bytes(request, max_bytes, rules.field)
    deadline = time.monotonic() + services.limits.request_timeout_s
    context = RequestContext(request.state.request_id, tenant_of(request), deadline=deadline)
    place = services.house.admit(context, n_bytes, Errand(wish) if wish else None)
    folder = services.staging / uuid.uuid4().hex
    try:
        try:
            body = await _read(request, folder, rules, max_text_bytes, deadline)
            body = await _heard(request, body, context)
        finally:
            place.leave()
        reach("upload.written")
        yield body
    finally:
        await services.runner.to_disk(lambda: shutil.rmtree(folder, ignore_errors=True))


async def _read(request: Request, folder: Path, rules: uploads.FileRules, max_text_bytes: int, deadline: float) -> Body:
    services = services_of(request)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        bounds = UploadLimits(bounds_of(request).max_upload_bytes, services.limits.upload_idle_s, deadline)
        upload = await uploads.receive(request, folder, bounds, services.runner, rules)
        return Body(folder, upload.fields, upload.files, samples=upload.samples)
    if kind not in ("application/json", "application/x-www-form-urlencoded") or rules.least:
        other = "" if rules.least else ", or application/json without one"
        raise InvalidRequest(
            "This Content-Type is not accepted here.",
            param="Content-Type",
            remedy=f"Send multipart/form-data with audio in a file field named {rules.field!r}{other}.",
        )
    data = await receive_text(request, UploadLimits(max_text_bytes, services.limits.upload_idle_s, deadline))
    if kind == "application/json":
        body = Body(folder, document=await services.runner.chore(lambda: parse_object(data), _PARSE_S))
    else:
        body = Body(folder, _urlencoded(data))
    return await services.runner.chore(lambda: _taken_out(body), _PARSE_S) if rules.voices else body


def _taken_out(body: Body) -> Body:
    """Return the body, whose samples of voices lie on the disk."""
    samples = Samples(body.folder)
    if body.document is not None:
        return replace(body, document=samples.out_of(body.document), samples=samples.paths)
    return replace(body, fields=samples.out_of_fields(body.fields), samples=samples.paths)


async def _heard(request: Request, body: Body, context: RequestContext) -> Body:
    """Return the body with the voices of its samples; the caller is still in the house."""
    if not body.samples:
        return body
    services = services_of(request)
    voices = services.require_voices()
    heard = await services.runner.run(
        lambda: voices.heard(body.samples, context), context, request.receive, lambda: None
    )
    return replace(body, voices=heard)


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
