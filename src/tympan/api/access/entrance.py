"""The way in: nothing reaches a route but what may, over HTTP as over WebSocket."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tympan import telemetry
from tympan.access.callers import Scope as Allowed
from tympan.access.gate import Gate
from tympan.access.trail import Deed, Trail
from tympan.api.access.callers import EVERYBODY, NOBODY, Caller
from tympan.api.access.cors import is_preflight, preflight_headers, sharing
from tympan.api.access.deeds import deed_of
from tympan.api.access.keys_in import Network, address_of, has_key_parameter, key_of
from tympan.api.access.lasting import Lasting, lasts
from tympan.api.access.permissions import check_scope, is_open, scope_for
from tympan.api.errors import ErrorResponse
from tympan.api.wire.origins import check_origin
from tympan.errors import InsufficientScope, NotFound, TympanError, Unauthenticated
from tympan.jobs.tickets import Tickets

Query: TypeAlias = Callable[[Callable[[], None]], Awaitable[None]]
"""Does a short piece of work on the database in a thread, within bounds."""

_LOG = telemetry.get_logger(__name__)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
TICKET = "ticket"
"""The parameter that takes a ticket in the place of a key, on one path alone."""

_FOR_TICKETS = re.compile(r"/v1/jobs/(?P<id>[^/]+)/audio")
_TICKET_REMEDY = "The ticket has expired or is for something else: get a new one from the job's audio-link."
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_BAD = 400


@dataclass(frozen=True, slots=True)
class Doors:
    """Who is let in: everybody without a ``gate``. Deeds are not written down without a ``trail``.

    Pages of ``origins`` may ask as well as the server's own; ``proxies`` are believed about where a request came from.
    ``more_open`` are paths that need no key beside those that never do. ``web_ui`` says whether the web UI is there.
    ``tickets`` open the audio of one job each.
    """

    gate: Gate | None = None
    trail: Trail | None = None
    origins: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()
    more_open: frozenset[str] = frozenset()
    web_ui: bool = True
    tickets: Tickets = field(default_factory=Tickets)


class Entrance:
    """ASGI middleware that finds out who calls, whether they may, and writes down what is to be written down."""

    def __init__(self, app: ASGIApp, doors: Doors, query: Query, routes: Sequence[BaseRoute]) -> None:
        """Stand before ``app`` and its ``routes``."""
        self._app, self._doors, self._query, self._routes = app, doors, query, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may pass, answer the rest."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["type"] == "http":
            send = sharing(send, headers, self._doors.origins)
        scope.setdefault("state", {})["caller"] = EVERYBODY if self._doors.gate is None else NOBODY
        try:
            answer = await self._let_in(scope, headers)
        except TympanError as error:
            answer = ErrorResponse(error)
        if answer is not None:
            await answer(scope, receive, send)
            return
        gate = self._doors.gate
        if gate is not None and lasts(scope):
            await Lasting(scope, receive, send).run(self._app, scope, gate, scope["state"]["caller"])
        else:
            await self._passed(scope, receive, send)

    async def _let_in(self, scope: Scope, headers: Headers) -> Response | None:
        """Return ``None`` for what may pass, else the answer to it. Raises ``TympanError``."""
        method, path = scope.get("method", ""), scope["path"]
        if method not in _SAFE or is_preflight(method, headers):
            check_origin(headers, self._doors.origins)
        if is_preflight(method, headers):
            return Response(status_code=204, headers=preflight_headers(headers))
        if is_open(path) or path in self._doors.more_open:
            return None
        caller = scope["state"]["caller"] = await self._caller(scope)
        if _CONTROLS.search(path):
            # The router overlooks a line end behind a path, so that what is decided by paths would not hold for it.
            raise NotFound("The path contains a line break or another control character.", remedy="Remove it.")
        wanted = scope_for(method or "GET", path)
        if wanted is not None:
            check_scope(caller, wanted)
        elif any(route.matches(scope)[0] is not Match.NONE for route in self._routes):
            raise InsufficientScope("No key allows this route.", remedy="Report this: the route has no access rule.")
        return None

    async def _caller(self, scope: Scope) -> Caller:
        key, gate = key_of(scope), self._doors.gate
        if gate is None:
            return EVERYBODY
        job_id, ticket = _ticket_in(scope) if key is None else ("", "")
        if ticket and await gate.asks_for_keys():
            tenant = self._doors.tickets.holder(ticket, job_id)
            if tenant is not None:
                return Caller(tenant, scopes=frozenset({Allowed.JOBS_READ}))
        try:
            return await gate.admit(key, address_of(scope, self._doors.proxies))
        except Unauthenticated as error:
            if ticket:
                error.remedy = _TICKET_REMEDY
            elif key is None and has_key_parameter(scope):
                error.remedy = "A key in the address is ignored: send it as Authorization: Bearer tym_..."
            raise

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        trail = self._doors.trail
        deed = deed_of(scope, address_of(scope, self._doors.proxies)) if trail and scope["type"] == "http" else None
        if trail is None or deed is None:
            await self._app(scope, receive, send)
            return
        caller, seen = scope["state"]["caller"], _Seen(send)
        try:
            await self._query(lambda: trail.begin(caller, deed))
        except TympanError as error:
            await ErrorResponse(error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, seen.send)
        finally:
            if seen.status >= _BAD:
                await self._note_failure(lambda: trail.fail(caller, deed, str(seen.status)), deed)

    async def _note_failure(self, note: Callable[[], None], deed: Deed) -> None:
        try:
            await self._query(note)
        except TympanError as error:
            _LOG.warning("audit_row_is_lost", action=deed.action, error_code=error.code)


def _ticket_in(scope: Scope) -> tuple[str, str]:
    """Return the job whose audio a request reads and the ticket that it sends; nothing where it does not."""
    path = _FOR_TICKETS.fullmatch(scope["path"])
    if path is None or scope.get("method") not in {"GET", "HEAD"}:
        return "", ""
    given = parse_qs(scope["query_string"].decode("latin-1")).get(TICKET, [])
    return (path["id"], given[0]) if len(given) == 1 else ("", "")


class _Seen:
    """Remembers the status of an answer that passes by; until there is one it is that of a crash."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
