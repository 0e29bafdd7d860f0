"""What every HTTP exchange gets: a request id, a time, a log line, a count, and a typed answer to the unexpected."""

import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tympan import telemetry, tracing
from tympan.api.access.callers import EVERYBODY
from tympan.api.errors import ErrorResponse
from tympan.errors import TympanError

_LOG = telemetry.get_logger(__name__)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_QUIET_ROUTES = ("/livez", "/readyz", "/health", "/metrics")
_UNMATCHED = "(none)"
_FIRST_FAULT = 500
_PIECE_BYTES = 64 << 10
_FOR_BROWSERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
"""What an answer says to browsers unless it says otherwise: it is no page, is not kept, and nothing in it runs."""


class Exchange:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one exchange; other protocols pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Recorder(scope, receive, send)
        token = telemetry.request_id.set(exchange.request_id)
        try:
            if scope["path"] in _QUIET_ROUTES:
                await self._recorded(scope, exchange)
            else:
                await self._traced(scope, exchange)
        finally:
            telemetry.request_id.reset(token)

    async def _traced(self, scope: Scope, exchange: "_Recorder") -> None:
        parent = Headers(scope=scope).get("traceparent", "")
        with tracing.span(scope["method"], parent=parent, kind="SERVER") as span:
            span.note({"tympan.request_id": exchange.request_id})
            try:
                await self._recorded(scope, exchange)
            finally:
                status = exchange.status or 0
                span.name(f"{scope['method']} {exchange.route}")
                span.note({"http.route": exchange.route, "http.response.status_code": status})
                span.fail(str(status) if status >= _FIRST_FAULT else "")

    async def _recorded(self, scope: Scope, exchange: "_Recorder") -> None:
        try:
            await self._guarded(scope, exchange)
        finally:
            exchange.record()

    async def _guarded(self, scope: Scope, exchange: "_Recorder") -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            _LOG.error("unexpected_error", **telemetry.crash_report(error))
            if exchange.status is not None:
                raise
            answer = TympanError(
                "Something went wrong inside Tympan.", remedy=f"Report it with the request id {exchange.request_id}."
            )
            await ErrorResponse(answer)(scope, exchange.receive, exchange.send)


class _Recorder:
    """Watches the messages of one exchange."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if _ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        self.status: int | None = None
        self._scope, self._receive, self._send = scope, receive, send
        self._started = time.perf_counter()
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id
        self._state["caller"] = EVERYBODY
        self._state["answer_headers"] = {}

    async def receive(self) -> Message:
        """Pass a message in, and note when the body is complete."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._state["body_complete"] = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a message out, with our headers on the first."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers["openai-processing-ms"] = str(round(self._elapsed_ms))
            for name, value in (*_FOR_BROWSERS.items(), *self._state["answer_headers"].items()):
                headers.setdefault(name, value)
        await self._pass(message)

    async def _pass(self, message: Message) -> None:
        """Pass a message out, a long body in pieces: each is waited for until the caller has taken those before it."""
        body = message.get("body", b"")
        last = max(0, (len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES)
        for start in range(0, last, _PIECE_BYTES):
            piece = body[start : start + _PIECE_BYTES]
            await self._send({"type": message["type"], "body": piece, "more_body": True})
        await self._send({**message, "body": body[last:]} if last else message)

    @property
    def route(self) -> str:
        """The pattern of the route that answers; known once it does."""
        return getattr(self._scope.get("route"), "path", _UNMATCHED)

    def record(self) -> None:
        """Count and log the exchange under its route's pattern, never its path."""
        route = self.route
        status = self.status or 0
        telemetry.HTTP_RESPONSES.labels(route, str(status)).inc()
        log = _LOG.debug if route in _QUIET_ROUTES else _LOG.info
        code = self._state.get("error_code")
        with telemetry.about(**({"code": code} if code else {})):
            log(
                "request",
                method=self._scope["method"],
                route=route,
                status=status,
                duration_ms=round(self._elapsed_ms, 1),
                tenant=self._state["caller"].tenant,
            )

    @property
    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000
