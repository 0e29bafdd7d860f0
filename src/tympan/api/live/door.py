"""Who is let in to speak: everything that is checked before a WebSocket is accepted, and what is counted after it."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from tympan import telemetry, tracing
from tympan.api.access.callers import EVERYBODY, tenant_of
from tympan.api.deps import Services
from tympan.api.doors import forecast
from tympan.api.errors import STATUS, ErrorResponse
from tympan.api.fields.forms import Form
from tympan.api.fields.queries import query_of
from tympan.api.intake.metering import speaking, standing_headers
from tympan.api.live.bill import LiveBill
from tympan.api.live.dialect import Dialect, Wish
from tympan.api.live.line import Backing, Ending, Line
from tympan.api.picking import pick
from tympan.domain import Lane
from tympan.errors import NotFound, TympanError, Unavailable, UnsupportedOption
from tympan.live import LiveLimits, LiveSession
from tympan.pipeline import RequestContext, Transcriber

MAX_NAME_CHARS = 200
PROTOCOLS = ("realtime", "tympan")
"""Names that a client may offer as ``Sec-WebSocket-Protocol``; browsers want one of theirs back."""

_LOG = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Visit:
    """A WebSocket that has not been accepted yet, and what its conversation needs from the server."""

    socket: WebSocket
    services: Services

    @property
    def session_s(self) -> float:
        """Longest session, in seconds of audio and of the clock."""
        own = self.services.desks.limits.of(tenant_of(self.socket))
        return own.shorter_audio(self.services.limits.max_audio_s)

    def query(self, *known: str) -> Form:
        """Return the parameters in the address. Raises ``InvalidRequest`` for others than those ``known``."""
        return query_of(self.socket, *known)

    def check(self, wish: Wish) -> str:
        """Return the id of the model that hears ``wish``. Raises ``TympanError`` when it cannot be fulfilled."""
        return self._pick(wish)[1]

    def open(self, wish: Wish) -> LiveSession:
        """Return a session that hears from now on. Raises as ``check``."""
        limits = LiveLimits(idle_s=self.services.limits.live.line.idle_s)
        context = RequestContext(
            request_id=self.socket.state.request_id,
            tenant=tenant_of(self.socket),
            lane=Lane.LIVE,
            max_audio_s=self.session_s,
            weight=self.services.weight_of(tenant_of(self.socket)),
            trace=tracing.current(),
        )
        return LiveSession(self._pick(wish)[0], wish.options, context, wish.live, limits)

    def _pick(self, wish: Wish) -> tuple[Transcriber, str]:
        registry, key = self.services.backend.require(), self.socket.state.request_id
        transcriber, card = pick(registry, wish.model, key, wish.options)
        if not isinstance(transcriber, Transcriber):
            raise UnsupportedOption(
                "This process runs no model, so it cannot transcribe live speech.",
                remedy="Connect to a server started with `tympan serve`.",
            )
        return transcriber, card.id


async def serve(socket: WebSocket, begin: Callable[[Visit], Dialect], route: str) -> None:
    """Let a caller in and talk in the dialect that ``begin`` returns, or answer why not, as HTTP does.

    ``route`` is the path under which the session is counted and logged.
    """
    state = socket.scope.setdefault("state", {})
    state.setdefault("request_id", f"req_{uuid.uuid4().hex}")
    state.setdefault("caller", EVERYBODY)
    token = telemetry.request_id.set(state["request_id"])
    try:
        parent = socket.headers.get("traceparent", "")
        with tracing.span(f"GET {route}", parent=parent, kind="SERVER") as span:
            span.note({"tympan.request_id": state["request_id"]})
            await _serve(socket, begin, route, span)
    except TympanError as error:
        await _refuse(socket, error, route)
    finally:
        telemetry.request_id.reset(token)


async def _serve(socket: WebSocket, begin: Callable[[Visit], Dialect], route: str, span: tracing.Span) -> None:
    services: Services = socket.app.state.services
    bounds = services.limits.live
    if services.house.draining:
        raise Unavailable("The server is stopping.", remedy="Try again in a few seconds.", retry_after_s=5.0)
    services.backend.require()
    tenant = tenant_of(socket)
    who = RequestContext(socket.state.request_id, tenant, Lane.LIVE, weight=services.weight_of(tenant))
    services.house.check(who, forecast.Wish.LIVE)
    visit = Visit(socket, services)
    dialect = begin(visit)
    started = time.monotonic()
    async with speaking(socket, services) as bill:
        paid = LiveBill(bill, services.desks.limits)
        backing = Backing(visit.open, paid.hear)
        line = Line(socket, dialect, backing, replace(bounds.line, session_s=visit.session_s))
        with services.live.taken(line.hang_up):
            await _accept(socket, route)
            ending = await line.serve()
        bill.note_speech(paid.audio_s)
        bill.model = dialect.model
        if ending.error is not None:
            bill.fail(STATUS[ending.error.code], dialect.model)
            span.fail(ending.error.code)
    _record(route, line, paid, ending, time.monotonic() - started)


async def _accept(socket: WebSocket, route: str) -> None:
    offered = socket.scope.get("subprotocols", ())
    told = {"x-request-id": socket.state.request_id, **standing_headers(socket.state.readings)}
    headers = [(name.encode(), value.encode()) for name, value in told.items()]
    await socket.accept(next((name for name in PROTOCOLS if name in offered), None), headers)
    telemetry.HTTP_RESPONSES.labels(route, "101").inc()


async def _refuse(socket: WebSocket, error: TympanError, route: str) -> None:
    response = ErrorResponse(error, {"x-request-id": socket.state.request_id})
    telemetry.HTTP_RESPONSES.labels(route, str(response.status_code)).inc()
    _LOG.info("live_session_refused", route=route, status=response.status_code, code=error.code)
    await socket.send_denial_response(response)


def _record(route: str, line: Line, bill: LiveBill, ending: Ending, took_s: float) -> None:
    telemetry.LIVE_AUDIO.inc(bill.audio_s)
    telemetry.LIVE_DROPPED.inc(line.dropped_partials)
    telemetry.LIVE_ENDS.labels(str(ending.code)).inc()
    _LOG.info(
        "live_session",
        route=route,
        closed=ending.code,
        error=ending.error.code if ending.error else None,
        audio_s=round(bill.audio_s, 1),
        duration_s=round(took_s, 1),
    )


def elsewhere(otherwise: ASGIApp) -> ASGIApp:
    """Return what answers where there is no route: 404 to a WebSocket, what ``otherwise`` answers to others."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await otherwise(scope, receive, send)
            return
        error = NotFound("There is no WebSocket here.", remedy="Connect to /v1/realtime or /v1/stream.")
        await ErrorResponse(error)(scope, receive, send)

    return answer
