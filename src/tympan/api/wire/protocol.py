"""HTTP/1.1 with limits on what a connection may send, and deadlines on every wait for the other end.

The server underneath waits for ever: for the end of a head, for bytes between two requests, for a reader. Each of these
holds a file descriptor and memory, and whoever opens a few hundred of them would have shut everybody else out. What is
no HTTP gets OpenAI's error envelope, like everything else that is refused.
"""

import asyncio
import re
import uuid
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tympan import telemetry
from tympan.api.errors import ErrorResponse, HeadTooLarge
from tympan.api.wire.connections import Crowd
from tympan.errors import InvalidRequest, Overloaded, RequestTimeout, TympanError

MAX_HEADER_BYTES = 64 << 10
"""Length of a request's line and headers together; also what may come in a body that is none of its content."""

MAX_HEADERS = 100
MAX_PIPELINED = 8
"""Requests that may wait on one connection while another is answered."""

HEADER_DEADLINE_S = 9.0
"""Time to send a whole head: from the connection's beginning, or from the first byte after an answer."""

UNREAD_S = 45.0
"""How long a caller may take to read about 50 kB of an answer."""

CLOSING_S = 30.0
"""Time for the last bytes of an answer, behind which the connection is closed."""

LEFTOVER_S = 5.0
"""Time to end a body that nobody reads, because its request is answered."""

LINGER_S = 2.0
"""How long what comes is taken and dropped behind a refusal: closing at once would make the network drop that too."""

_HOST = re.compile(rb"[^\x00-\x20/\\@?#\x7f-\xff]*")
_LOG = telemetry.get_logger(__name__)


class DeadlineProtocol(HttpToolsProtocol):
    """One connection. ``check`` has to be called about twice a second."""

    def __init__(self, *args: Any, crowd: Crowd, **kwargs: Any) -> None:
        """Take what uvicorn gives every protocol, and the connections that this one is to be among."""
        super().__init__(*args, **kwargs)
        self._crowd = crowd
        self._head_since: float | None = None
        self._head_bytes = self._header_bytes = self._headers = 0
        self._in_head = True
        self._body_came = False
        self._framing_bytes = 0
        self._message_ended = True
        self._answered_at: float | None = None
        self._blocked_since: float | None = None
        self._leave_by: float | None = None
        self._leaving: str | None = None
        self._fault: TympanError | None = None

    @property
    def address(self) -> str:
        """The address at the other end."""
        return self.client[0] if self.client else ""

    @property
    def idle_since(self) -> float | None:
        """Since when nothing is asked or answered; ``None`` while something is."""
        if self._is_busy or self._leave_by is not None:
            return None
        return self._answered_at if self._head_since is None else self._head_since

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered, or waits for that."""
        cycle: RequestResponseCycle | None = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request, if there is room."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if not self._crowd.enter(self):
            self._refuse(Overloaded("There are too many connections.", remedy="Try again.", retry_after_s=2.0), "full")
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._crowd.leave(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to another protocol."""
        self._crowd.leave(self)
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Take what has come; refuse it when it is no HTTP, or too much of what is not a body."""
        if self._leave_by is not None:
            return
        self._unset_keepalive_if_required()
        self._body_came = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
            return
        except httptools.HttpParserError:
            reason = "large" if isinstance(self._fault, HeadTooLarge) else "malformed"
            self._refuse(self._fault or _no_http(), reason)
            return
        self._count(len(data))
        if not self._is_busy and self._message_ended and self._head_since is None:
            self._head_since = self.loop.time()  # Line ends before a request begin none, and would last for ever.

    def eof_received(self) -> None:
        """Close: who has nothing more to ask is taken to be gone, as the work for them is dropped."""

    def pause_writing(self) -> None:
        """Start waiting for the caller to read."""
        super().pause_writing()
        self._blocked_since = self.loop.time()

    def resume_writing(self) -> None:
        """Stop waiting: the caller reads."""
        super().resume_writing()
        self._blocked_since = None

    def on_message_begin(self) -> None:
        """Start waiting for the rest of a head. Raises when too many requests wait already."""
        super().on_message_begin()
        self._in_head, self._message_ended = True, False
        self._head_bytes = self._header_bytes = self._headers = 0
        if self._head_since is None:
            self._head_since = self.loop.time()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._fail(InvalidRequest("Too many requests wait on this connection.", remedy="Wait for the answers."))

    def on_url(self, url: bytes) -> None:
        """Take a piece of a request's target."""
        self._take(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of a head; those behind a body are dropped: what was decided by headers would change."""
        if not self._in_head:
            return
        self._headers += 1
        self._take(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop waiting: the head is here. Raises when it does not say, once, which host it is for."""
        if not _is_for_one_host(self.headers, self.parser.get_http_version()):
            self._fail(InvalidRequest("The request needs one Host header.", remedy="Let an HTTP client build it."))
        super().on_headers_complete()
        self._in_head, self._head_since, self._framing_bytes = False, None, 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._body_came = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a body."""
        self._message_ended = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start waiting for the next request."""
        self._answered_at = self.loop.time()
        super().on_response_complete()

    def check(self, now: float) -> None:
        """End the connection if the other end has kept it waiting for too long by ``now``."""
        if self._leave_by is None and self.transport.is_closing():
            self._leave_by, self._leaving = now + CLOSING_S, "unread"
        if self._leave_by is not None:
            if now > self._leave_by:
                self.end(self._leaving)
        elif _passed(self._blocked_since, UNREAD_S, now):
            self.end("unread")
        elif self._is_busy:
            self._head_since = None if self._head_since is None else now
        elif not self._message_ended and not self._in_head:
            if _passed(self._answered_at, LEFTOVER_S, now):
                self.end("leftover")
        elif _passed(self._head_since, HEADER_DEADLINE_S, now):
            self._end_of_patience()

    def end(self, reason: str | None) -> None:
        """Close the connection at once, and count why unless that has been done."""
        if reason:
            self._tell(reason)
        self._leave_by, self._leaving = self.loop.time(), None
        self.transport.abort()

    def _end_of_patience(self) -> None:
        if self._message_ended:
            self.end("silent")
        else:
            self._refuse(RequestTimeout("The request's headers did not arrive in time.", remedy="Try again."), "slow")

    def _upgrade(self) -> None:
        """Hand the connection over, or answer as if that had not been asked for, and close it then."""
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        elif self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _take(self, n_bytes: int) -> None:
        """Count a part of a head that came in one piece with all before it."""
        self._header_bytes += n_bytes
        if self._headers > MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            self._fail(_head_too_large())

    def _count(self, n_bytes: int) -> None:
        """Refuse a head that does not end, and a body that is nothing but what is around its content."""
        if self._in_head:
            self._head_bytes += 0 if self._message_ended else n_bytes
            if self._head_bytes > MAX_HEADER_BYTES:
                self._refuse(_head_too_large(), "large")
        elif not self._message_ended:
            self._framing_bytes = 0 if self._body_came else self._framing_bytes + n_bytes
            if self._framing_bytes > MAX_HEADER_BYTES:
                self._refuse(_no_http(), "malformed")

    def _fail(self, fault: TympanError) -> None:
        """End the parsing of what has come, for this reason."""
        self._fault = fault
        raise ValueError

    def _refuse(self, error: TympanError, reason: str) -> None:
        """Answer with an error and leave; in the middle of another answer, leave without."""
        if self.pipeline or self.transport.is_closing() or (self._is_busy and self.cycle.response_started):
            self.end(reason)
            return
        if self._is_busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._tell(reason)
        answer = ErrorResponse(error)
        telemetry.ERROR_CODES.labels(error.code).inc()
        telemetry.HTTP_RESPONSES.labels("(none)", str(answer.status_code)).inc()
        self.transport.write(whole(answer))
        self._leave_by = self.loop.time() + LINGER_S
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _tell(self, reason: str) -> None:
        telemetry.CONNECTIONS_ENDED.labels(reason).inc()
        _LOG.debug("connection_ended", reason=reason)


def whole(answer: ErrorResponse) -> bytes:
    """Return all that is sent of an answer, behind which the connection ends."""
    headers = [*answer.raw_headers, (b"connection", b"close"), (b"x-request-id", f"req_{uuid.uuid4().hex}".encode())]
    try:
        phrase = HTTPStatus(answer.status_code).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {answer.status_code} {phrase}".encode(), *(b"%s: %s" % pair for pair in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body)


def _is_for_one_host(headers: list[tuple[bytes, bytes]], version: str) -> bool:
    """Return whether two readers find the same host in a head: one is needed since HTTP/1.1, two are never allowed."""
    hosts = [value for name, value in headers if name == b"host"]
    return len(hosts) in ((0, 1) if version == "1.0" else (1,)) and all(map(_HOST.fullmatch, hosts))


def _passed(since: float | None, limit_s: float, now: float) -> bool:
    return since is not None and now - since > limit_s


def _no_http() -> TympanError:
    return InvalidRequest("This is not HTTP/1.1, or not well formed.", remedy="Let an HTTP client build the request.")


def _head_too_large() -> TympanError:
    most = f"{MAX_HEADER_BYTES >> 10} kB and {MAX_HEADERS} headers"
    return HeadTooLarge(f"The head of the request is larger than {most}.", remedy="Send fewer or shorter headers.")
