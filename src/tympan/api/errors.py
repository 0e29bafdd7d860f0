"""The one table from error codes to HTTP statuses, and OpenAI's error envelope."""

import asyncio
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from tympan import telemetry
from tympan.api.error_dialects import spelled
from tympan.errors import InvalidRequest, NotFound, Overloaded, TympanError

STATUS = MappingProxyType(
    {
        "invalid_request": 400,
        "input_audio_buffer_commit_empty": 400,
        "unsupported_option": 400,
        "unsupported_language": 400,
        "unsupported_media": 400,
        "not_stereo": 400,
        "empty_audio": 400,
        "no_audio_stream": 400,
        "corrupt_media": 400,
        "media_crash": 400,
        "media_timeout": 400,
        "address_refused": 400,
        "media_changed": 400,
        "invalid_api_key": 401,
        "insufficient_scope": 403,
        "foreign_origin": 403,
        "media_missing": 404,
        "model_not_found": 404,
        "not_found": 404,
        "method_not_allowed": 405,
        "request_timeout": 408,
        "conflict": 409,
        "job_not_finished": 409,
        "job_not_retryable": 409,
        "idempotency_mismatch": 409,
        "model_in_use": 409,
        "upload_offset_mismatch": 409,
        "upload_expired": 410,
        "protocol_version": 412,
        "too_large": 413,
        "too_long": 413,
        "upload_locked": 423,
        "range_not_satisfiable": 416,
        "head_too_large": 431,
        "rate_limit_exceeded": 429,
        "too_many_failures": 429,
        "insufficient_quota": 429,
        "upgrade_required": 426,
        "checksum_mismatch": 460,
        "cancelled": 499,
        "internal_error": 500,
        "config_error": 500,
        "engine_failed": 500,
        "audio_quarantined": 500,
        "quarantined": 500,
        "fetch_failed": 502,
        "storage_unavailable": 503,
        "model_error": 503,
        "model_unavailable": 503,
        "model_unpinned": 503,
        "model_digest_mismatch": 503,
        "overloaded": 503,
        "unavailable": 503,
        "decoder_unavailable": 503,
        "engine_out_of_memory": 503,
        "engine_device_lost": 503,
        "engine_hang": 503,
        "deadline_passed": 504,
        "insufficient_storage": 507,
    }
)
"""Error code to HTTP status; 499 means that the caller had gone and is only seen in logs and metrics."""

_OPENAI_TYPES = MappingProxyType({"rate_limit_exceeded": "requests", "insufficient_quota": "insufficient_quota"})
"""What OpenAI calls the type of some errors; it has fewer words for the others."""

_DEFAULT_RETRY_S = 2.0
_RETRY_STATUSES = (429, 503)
_NO_CONTENT = (b"", b"0")
_SERVER_ERROR = 500
_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20


class MethodNotAllowed(InvalidRequest):
    """This path does not support that method."""

    code = "method_not_allowed"


class HeadTooLarge(InvalidRequest):
    """The request line and headers are too long."""

    code = "head_too_large"


class RangeNotThere(InvalidRequest):
    """The stored file has nothing in this range."""

    code = "range_not_satisfiable"


class UpgradeRequired(InvalidRequest):
    """This path is for WebSockets."""

    code = "upgrade_required"


class ErrorResponse(Response):
    """OpenAI's error envelope, or what the clients of another server expect on the routes that imitate it.

    A body that the caller is still sending is taken and dropped for a moment after the answer, because closing at once
    would make the network drop the answer as well; then the connection ends.
    """

    media_type = "application/json"

    def __init__(self, error: TympanError, headers: Mapping[str, str] | None = None) -> None:
        """Build the answer to ``error``; ``headers`` are added to those it needs itself."""
        self.code, self._error = error.code, error
        status = STATUS[error.code]
        body = json.dumps(envelope(error), ensure_ascii=False).encode("utf-8", "replace")
        ours = {**_retry_after(error, status), **_standing(error), **_challenge(error)}
        super().__init__(body, status, {**ours, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then let the caller finish or hang up."""
        telemetry.ERROR_CODES.labels(self.code).inc()
        self._respell(scope["path"])
        state = scope.setdefault("state", {})
        state["error_code"] = self.code
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        if scope["method"] in ("GET", "HEAD") or state.get("body_complete") or not _has_body(scope):
            await super().__call__(scope, receive, send)
            return
        self.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await _linger(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _respell(self, path: str) -> None:
        if dialect := spelled(path, self._error):
            self.body = json.dumps(dialect, ensure_ascii=False).encode("utf-8", "replace")
            self.headers["content-length"] = str(len(self.body))


def on_error(_request: Request, error: Exception) -> Response:
    """Answer a typed error."""
    return ErrorResponse(error if isinstance(error, TympanError) else TympanError())


def on_http_error(request: Request, error: Exception) -> Response:
    """Answer the framework's own refusals (no such path, wrong method) like any other error."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (400, None)
    if status == STATUS["not_found"]:
        typed: TympanError = NotFound(
            f"There is no {_quote(request.url.path)} here.", remedy="The routes are listed in /openapi.json."
        )
    elif status == STATUS["method_not_allowed"]:
        allowed = ", ".join(_methods(request))
        headers = {"allow": allowed}
        typed = MethodNotAllowed(
            f"{_quote(request.url.path)} does not answer {_quote(request.method)}.", remedy=f"Use {allowed}."
        )
    else:
        typed = InvalidRequest()
    return ErrorResponse(typed, headers)


@contextmanager
def blaming(param: str) -> Iterator[None]:
    """Name ``param`` as the field at fault in a caller's error that the block raises; our own failures name none."""
    try:
        yield
    except TympanError as error:
        if STATUS[error.code] < _SERVER_ERROR:
            error.param = param
        raise


def retry_after_s(error: TympanError) -> int:
    """Return whole seconds, at least one, after which the call is worth repeating."""
    return max(1, math.ceil(error.retry_after_s if error.retry_after_s is not None else _DEFAULT_RETRY_S))


def envelope(error: TympanError) -> dict[str, dict[str, str | None]]:
    """Return an error in the shape that OpenAI gives it."""
    kind = "server_error" if STATUS[error.code] >= _SERVER_ERROR else "invalid_request_error"
    kind = _OPENAI_TYPES.get(error.code, kind)
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def _retry_after(error: TympanError, status: int) -> dict[str, str]:
    wanted = status in _RETRY_STATUSES or error.retry_after_s is not None
    return {"retry-after": str(retry_after_s(error))} if wanted else {}


def _standing(error: TympanError) -> dict[str, str]:
    if not isinstance(error, Overloaded) or error.position is None or error.eta_s is None:
        return {}
    return queue_headers(error.position, error.eta_s)


def queue_headers(position: int, eta_s: float) -> dict[str, str]:
    """Return what tells a caller where it stands: its place among its tenant's requests, seconds to its end."""
    return {"tympan-queue-position": str(position), "tympan-queue-eta-s": str(math.ceil(eta_s))}


def _challenge(error: TympanError) -> dict[str, str]:
    """Return what HTTP wants to be said with a refusal that another key would not get."""
    said = {"invalid_api_key": "", "insufficient_scope": ', error="insufficient_scope"'}.get(error.code)
    return {} if said is None else {"www-authenticate": f'Bearer realm="tympan"{said}'}


def _methods(request: Request) -> list[str]:
    """Return the methods that the path of ``request`` answers, on whichever route: the framework names those of one."""
    routes: tuple[Route, ...] = request.app.state.routes
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in route.methods or ()})


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"") not in _NO_CONTENT


def _quote(text: str) -> str:
    return repr(text[:80])


async def _linger(receive: Receive) -> None:
    taken = 0
    try:
        async with asyncio.timeout(_LINGER_S):
            while taken < _LINGER_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
