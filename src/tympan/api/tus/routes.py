"""``/v1/uploads``: uploads that survive a broken connection, by the tus protocol 1.0.

Offered beside the core: creation (also with the first bytes, also with the length told later), expiration, checksums
and termination. Concatenation is not.
"""

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.deps import services_of
from tympan.api.errors import ErrorResponse
from tympan.api.intake.incoming import announced_bytes
from tympan.api.tus import headers as tus_headers
from tympan.api.tus.body import Body, resumable_of, run_slow
from tympan.errors import InvalidRequest, ProtocolVersion, TympanError, Unavailable
from tympan.jobs.resumable import Append, StoredUpload

router = APIRouter()

_ROOT = "/v1/uploads"
_ONE = "/v1/uploads/{upload_id}"
_EXTENSIONS = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination"
_BYTES: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 10**tus_headers.MAX_DIGITS - 1}
_BODY: dict[str, Any] = {"content": {tus_headers.OFFSET_TYPE: {"schema": {"type": "string", "format": "binary"}}}}


def _header(name: str, schema: dict[str, Any], description: str = "", *, required: bool = False) -> dict[str, Any]:
    found = {"name": name, "in": "header", "required": required, "schema": schema}
    return {**found, "description": description} if description else found


_VERSION = _header("Tus-Resumable", {"const": tus_headers.VERSION}, required=True)
_CHECKSUM = _header("Upload-Checksum", {"type": "string"}, "Algorithm, space, digest of the body in base64.")
_LENGTH = _header("Upload-Length", _BYTES, "Bytes of the whole upload.")
_SPEAKS: dict[str, Any] = {"parameters": [_VERSION]}
_CREATES: dict[str, Any] = {
    "parameters": [
        _VERSION,
        _LENGTH,
        _header("Upload-Defer-Length", {"const": "1"}, "Instead of Upload-Length: it is told later."),
        _header("Upload-Metadata", {"type": "string"}, "Names and values in base64, as the protocol has them."),
        _CHECKSUM,
    ],
    "requestBody": {"description": "The first bytes, if any.", **_BODY},
}
_APPENDS: dict[str, Any] = {
    "parameters": [
        _VERSION,
        _header("Upload-Offset", _BYTES, "Where the body belongs.", required=True),
        _LENGTH,
        _CHECKSUM,
    ],
    "requestBody": {"required": True, **_BODY},
}


@router.options(_ROOT, status_code=204, response_class=Response)
@router.options(_ROOT + "/", status_code=204, response_class=Response, include_in_schema=False)
@router.options(_ONE, status_code=204, response_class=Response)
async def describe_uploads(request: Request) -> Response:
    """Return what this server offers of the protocol, in headers."""
    offer = {
        "tus-resumable": tus_headers.VERSION,
        "tus-version": tus_headers.VERSION,
        "tus-extension": _EXTENSIONS,
        "tus-max-size": str(resumable_of(request).rules.max_bytes),
        "tus-checksum-algorithm": ",".join(tus_headers.CHECKSUMS),
    }
    return Response(status_code=204, headers=offer)


@router.post(_ROOT, status_code=201, response_class=Response, openapi_extra=_CREATES)
@router.post(_ROOT + "/", status_code=201, response_class=Response, include_in_schema=False)
async def create_upload(request: Request) -> Response:
    """Begin an upload; its address is in the Location header."""
    return await _spoken(request, _create)


@router.head(_ONE, response_class=Response, openapi_extra=_SPEAKS)
async def upload_offset(request: Request) -> Response:
    """Tell how many bytes have arrived, in the Upload-Offset header."""
    return await _spoken(request, _tell)


@router.patch(_ONE, status_code=204, response_class=Response, openapi_extra=_APPENDS)
async def append_to_upload(request: Request) -> Response:
    """Append the body to the upload."""
    return await _spoken(request, _append)


@router.post(_ONE, response_class=Response, include_in_schema=False)
async def overridden(request: Request) -> Response:
    """Do what the X-HTTP-Method-Override header says, for callers whose network lets only GET and POST through."""
    return await _spoken(request, _OVERRIDES.get(request.headers.get("x-http-method-override", "").upper(), _refuse))


@router.delete(_ONE, status_code=204, response_class=Response, openapi_extra=_SPEAKS)
async def terminate_upload(request: Request) -> Response:
    """Remove the upload and its bytes."""
    return await _spoken(request, _terminate)


async def _spoken(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """Return what ``handle`` answers, errors too, with the headers that the protocol asks for."""
    headers = {"tus-resumable": tus_headers.VERSION}
    try:
        tus_headers.require_version(request.headers)
        response = await handle(request)
    except TympanError as error:
        if isinstance(error, ProtocolVersion):
            headers["tus-version"] = tus_headers.VERSION
        return ErrorResponse(error, headers)
    response.headers.update(headers)
    return response


async def _create(request: Request) -> Response:
    services, uploads = services_of(request), resumable_of(request)
    length, metadata = tus_headers.creation_length(request.headers), tus_headers.metadata(request.headers)
    with_bytes = _carries_bytes(request)
    if services.house.draining:
        raise Unavailable("The server is stopping.", remedy="Try again in a few seconds.", retry_after_s=5.0)
    upload = await services.runner.query(lambda: uploads.create(tenant_of(request), length, metadata))
    headers = {"location": _location(request, upload), "upload-expires": _date(upload.expires_at)}
    if with_bytes:
        try:
            headers["upload-offset"] = str(
                (await Body(request, tenant_of(request), upload.id).send(Append(0))).offset_bytes
            )
        except TympanError:
            # The caller will not learn this upload's address, so nobody could go on with it.
            await run_slow(uploads, lambda: uploads.terminate(tenant_of(request), upload.id))
            raise
    return Response(status_code=201, headers=headers)


async def _tell(request: Request) -> Response:
    upload_id: str = request.path_params["upload_id"]
    upload = await services_of(request).runner.query(lambda: resumable_of(request).get(tenant_of(request), upload_id))
    headers = {"upload-offset": str(upload.offset_bytes), "upload-expires": _date(upload.expires_at)}
    if upload.n_bytes is None:
        headers["upload-defer-length"] = "1"
    else:
        headers["upload-length"] = str(upload.n_bytes)
    if upload.metadata:
        headers["upload-metadata"] = tus_headers.metadata_text(upload.metadata)
    return Response(status_code=200, headers={**headers, "cache-control": "no-store"})


async def _append(request: Request) -> Response:
    tus_headers.require_offset_type(request.headers)
    offset = tus_headers.number(request.headers, "Upload-Offset")
    if offset is None:
        raise InvalidRequest(
            "The Upload-Offset header is missing.",
            param="Upload-Offset",
            remedy="Send the position in the file where the body belongs.",
        )
    wanted = Append(offset, tus_headers.number(request.headers, "Upload-Length"))
    done = await Body(request, tenant_of(request), request.path_params["upload_id"]).send(wanted)
    headers = {"upload-offset": str(done.offset_bytes), "upload-expires": _date(done.expires_at)}
    return Response(status_code=204, headers=headers)


async def _terminate(request: Request) -> Response:
    uploads, upload_id = resumable_of(request), request.path_params["upload_id"]
    await run_slow(uploads, lambda: uploads.terminate(tenant_of(request), upload_id))
    return Response(status_code=204)


async def _refuse(_request: Request) -> Response:
    raise InvalidRequest(
        "A POST to an upload needs the header X-HTTP-Method-Override.",
        param="X-HTTP-Method-Override",
        remedy="Send PATCH, or 'X-HTTP-Method-Override: PATCH' with the POST.",
    )


_OVERRIDES = {"PATCH": _append, "DELETE": _terminate, "HEAD": _tell}


def _carries_bytes(request: Request) -> bool:
    """Return whether a creation brings the first bytes along. Raises ``InvalidRequest`` for a body of another kind."""
    if not announced_bytes(request) and "transfer-encoding" not in request.headers:
        return False
    tus_headers.require_offset_type(request.headers)
    return True


def _location(request: Request, upload: StoredUpload) -> str:
    """Return the upload's address as seen from the address that was asked.

    A proxy may have changed scheme, host and the beginning of the path; a relative address is right all the same.
    """
    return upload.id if request.url.path.endswith("/") else f"uploads/{upload.id}"


def _date(unix_s: float) -> str:
    return formatdate(unix_s, usegmt=True)
