"""Connections that last: WebSockets and streams of events end when the key that opened them does."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tympan.access.gate import Gate
from tympan.api.access.callers import Caller
from tympan.errors import TympanError

CHECK_S = 1.0
"""How often a key is looked at; the gate asks the database about many of them in one go."""

_POLICY_VIOLATION = 1008
_REASON = "The API key has expired or was revoked."


def lasts(scope: Scope) -> bool:
    """Return whether a connection may outlive its key by more than one request takes."""
    path: str = scope["path"]
    return scope["type"] == "websocket" or (path.startswith("/v1/jobs/") and path.endswith("/events"))


class Lasting:
    """One connection that ends with its key: the application is told that its caller has gone."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stand between the application and its caller."""
        self._receive, self._send = receive, send
        self._is_websocket = scope["type"] == "websocket"
        self._is_open = self._is_over = False
        self._ended = asyncio.Event()
        self._next: asyncio.Task[Message] | None = None

    async def run(self, app: ASGIApp, scope: Scope, gate: Gate, caller: Caller) -> None:
        """Run ``app`` until it has done, or until it has noticed that the key of ``caller`` has ended."""
        watch = asyncio.create_task(self._watch(gate, caller))
        try:
            await app(scope, self.receive, self.send)
            if self._ended.is_set():
                await self._close()
        finally:
            for task in (watch, self._next):
                if task is not None:
                    task.cancel()

    async def receive(self) -> Message:
        """Return the caller's next message, or that there will be none."""
        if self._next is None:
            self._next = asyncio.create_task(_taken(self._receive))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({self._next, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if self._ended.is_set():
            await self._close()
            return {
                "type": "websocket.disconnect" if self._is_websocket else "http.disconnect",
                "code": _POLICY_VIOLATION,
            }
        task, self._next = self._next, None
        return task.result()

    async def send(self, message: Message) -> None:
        """Pass a message on; after the end nobody is there."""
        if self._is_over:
            return
        kind = message["type"]
        self._is_open = self._is_open or kind in {"websocket.accept", "http.response.start"}
        is_last = kind == "http.response.body" and not message.get("more_body", False)
        self._is_over = is_last or kind == "websocket.close"
        await self._send(message)

    async def _watch(self, gate: Gate, caller: Caller) -> None:
        is_good = True
        while is_good:
            await asyncio.sleep(CHECK_S)
            with suppress(TympanError):  # Nothing is known while the database does not answer.
                is_good = await gate.is_still_good(caller)
        self._ended.set()

    async def _close(self) -> None:
        """End what has begun in the words of its protocol."""
        if self._is_over or not self._is_open:
            return
        self._is_over = True
        if self._is_websocket:
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": _REASON})
        else:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def _taken(receive: Receive) -> Message:
    return await receive()
