"""Answers that are sent in pieces while they are made: few at a time, and none for a caller who has gone."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tympan import telemetry
from tympan.errors import Overloaded, TympanError

MAX_STREAMS = 256
SEND_S = 60.0
"""Longest wait for a caller to take one piece."""

_RENDERINGS = 2
_LOG = telemetry.get_logger(__name__)


class Streams:
    """Counts the answers that are being sent in pieces, and limits how many are rendered at a time."""

    def __init__(self, limit: int = MAX_STREAMS) -> None:
        """Allow ``limit`` of them at a time."""
        self.limit, self.count = limit, 0
        self.rendering = asyncio.Semaphore(_RENDERINGS)
        self._lock = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count one, inside the ``with`` block. Raises ``Overloaded`` when there are too many."""
        with self._lock:
            if self.count >= self.limit:
                raise Overloaded(
                    f"{self.limit} answers are being streamed, the most at a time.",
                    remedy="Try again later.",
                    retry_after_s=5.0,
                )
            self.count += 1
        try:
            yield
        finally:
            with self._lock:
                self.count -= 1


class Departure:
    """Whether the caller has gone, and a way to wait for a while unless that happens."""

    def __init__(self, receive: Receive) -> None:
        """Watch the caller from now on; ``close`` it."""
        self._watch = asyncio.create_task(_gone(receive))

    @property
    def gone(self) -> bool:
        """Whether the caller has gone."""
        return self._watch.done()

    async def wait(self, timeout_s: float) -> None:
        """Return after ``timeout_s``, or at once when the caller goes."""
        await asyncio.wait({self._watch}, timeout=timeout_s)

    def close(self) -> None:
        """Stop watching."""
        self._watch.cancel()


Pieces: TypeAlias = Callable[[Departure], AsyncGenerator[bytes, None]]
"""What makes the pieces of an answer, for a caller who may go."""


class StreamResponse(Response):
    """An answer whose pieces are made by ``pieces`` one after another, as fast as the caller takes them."""

    def __init__(
        self, streams: Streams, pieces: Pieces, media_type: str, close: Callable[[], None] | None = None
    ) -> None:
        """Prepare to answer; no place is taken before the answer is sent, and ``close`` is called when it ends."""
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._streams, self._pieces, self._close = streams, pieces, close or (lambda: None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Raises ``Overloaded`` before the first byte; what breaks off behind it is logged."""
        with ExitStack() as held:
            held.callback(self._close)
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            if scope["method"] == "HEAD":
                await send(start)
                await _send_piece(send, b"", more=False)
                return
            held.enter_context(self._streams.place())
            departure = Departure(receive)
            held.callback(departure.close)
            try:
                await send(start)
                await self._send_all(departure, send)
            except TimeoutError:
                _LOG.info("stream_not_taken")
            except TympanError as error:
                _LOG.warning("stream_broke_off", error_code=error.code)

    async def _send_all(self, departure: Departure, send: Send) -> None:
        async with aclosing(self._pieces(departure)) as pieces:
            async for piece in pieces:
                if departure.gone:
                    return
                await _send_piece(send, piece, more=True)
        await _send_piece(send, b"", more=False)


def streams_of(request: Request) -> Streams:
    """Return the counter of the application that a request came to."""
    found: Streams = request.app.state.streams
    return found


async def _send_piece(send: Send, piece: bytes, *, more: bool) -> None:
    async with asyncio.timeout(SEND_S):
        await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
