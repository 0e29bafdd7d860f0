"""WebSockets with a bound on everything: what waits in the kernel, frames of a message, answers that are not read.

The protocol itself is the `websockets` library's, as uvicorn drives it; uvicorn reads no further from a socket while a
message waits for the application.
"""

import socket
from asyncio.transports import BaseTransport
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame
from websockets.http11 import Request

from tympan import telemetry
from tympan.api.errors import ErrorResponse
from tympan.api.wire.protocol import whole
from tympan.errors import InvalidRequest

KERNEL_BYTES = 64 << 10
"""What the kernel may hold of one connection in each direction, about; more audio than that waits at its sender."""

SLICE_BYTES = 4 << 10
"""What is taken apart at a time before others get their turn: that may be hundreds of empty messages."""

MAX_FRAMES = 1024
_TOO_BIG, _POLICY = 1009, 1008
_LAST_WORDS_S = 2.0


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what uvicorn gives every protocol."""
        super().__init__(*args, **kwargs)
        self._was_held_up = False
        self._backlog = b""
        self._parting = False

    def connection_made(self, transport: BaseTransport) -> None:
        """Keep the kernel's buffers small: what waits there is not counted, and hides a peer that does not read."""
        super().connection_made(transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                raw.setsockopt(socket.SOL_SOCKET, option, KERNEL_BYTES)

    def data_received(self, data: bytes) -> None:
        """Take what has come, a slice at a time; meanwhile nothing more is read."""
        if self._parting:
            return
        self._backlog += data
        self._take_slice()

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message; more is taken in once the application has had all there were."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if self._backlog:
                self.loop.call_soon(self._take_slice)
            else:
                self.transport.resume_reading()
        return message

    def _take_slice(self) -> None:
        if not self._backlog:
            return
        part, self._backlog = self._backlog[:SLICE_BYTES], self._backlog[SLICE_BYTES:]
        super().data_received(part)
        if self._parting or self.transport.is_closing():
            self._backlog = b""
        elif self._backlog:
            self.transport.pause_reading()
            if not self.read_paused:
                self.loop.call_soon(self._take_slice)
        elif not self.handshake_initiated:  # The head came whole, and yet it was not understood.
            self._refuse_handshake()
        elif not self.read_paused:
            self.transport.resume_reading()

    def handle_connect(self, event: Request) -> None:
        """Begin a session, unless what came is no handshake."""
        try:
            self.conn.process_request(event)
        except InvalidHandshake:
            self._refuse_handshake()
        else:
            super().handle_connect(event)

    def handle_cont(self, event: Frame) -> None:
        """Add a frame to a message, which may have only so many: empty ones cost memory as well."""
        if len(self.frames) >= MAX_FRAMES:
            self.conn.fail(_TOO_BIG, "too many frames")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, unless the peer has not read the answers to earlier ones."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.fail(_POLICY, "answers are not read")
            super().handle_parser_exception()
            self._abort()

    def send_keepalive_ping(self) -> None:
        """Ask whether the peer is there."""
        self._was_held_up = self.read_paused
        super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """End the connection, unless the answer may wait behind audio that was not taken."""
        if self._was_held_up or self.read_paused:
            self._was_held_up = self.read_paused
            self.pong_timer = self.loop.call_later(self.ping_timeout or 0.0, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self._abort()

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the application; an answer of HTTP, once it is whole, ends the handshake as well."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True
        if message["type"] == "websocket.close":  # The peer's own close may wait behind what nobody will look at.
            self.loop.call_soon(self._take_slice)

    async def run_asgi(self) -> None:
        """Run the application; what it said last has a moment to be read."""
        await super().run_asgi()
        if not self.disconnected:
            self.loop.call_later(_LAST_WORDS_S if self.close_timer is None else self.close_timeout, self._abort)

    def handle_parser_exception(self) -> None:
        """End a connection on which something came that cannot be taken.

        What follows is read for a moment and not looked at: closed before, the connection would be reset, and its peer,
        still sending, would never read why it ended.
        """
        ending = self.conn.close_sent
        if ending is None:  # It came before the connection was accepted.
            self.transport.abort()
        elif not self._parting:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": ending.code, "reason": ending.reason})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = self._parting = True
            self.transport.resume_reading()
            # While a timer stands, the end of the application, which may come at once, does not close the connection.
            self.close_timer = self.loop.call_later(_LAST_WORDS_S, self._abort)

    def _refuse_handshake(self) -> None:
        """Answer what asked for a WebSocket without being a handshake, and end the connection."""
        self.handshake_complete = self.close_sent = self._parting = True
        remedy = "Let a WebSocket client build it: a GET without a body, version 13, no header above 8 kB."
        answer = ErrorResponse(
            InvalidRequest("This is not a valid WebSocket handshake.", remedy=remedy), {"sec-websocket-version": "13"}
        )
        telemetry.ERROR_CODES.labels(answer.code).inc()
        telemetry.HTTP_RESPONSES.labels("(none)", str(answer.status_code)).inc()
        self.transport.write(whole(answer))
        self.transport.close()
        self.close_timer = self.loop.call_later(_LAST_WORDS_S, self._abort)

    def _abort(self) -> None:
        """Let go of the connection, although not everything was read that was sent."""
        if not self.disconnected:
            self.transport.abort()
