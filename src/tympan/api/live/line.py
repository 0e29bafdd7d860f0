"""One WebSocket with live speech on it: audio in, as fast as it can be taken; what is said out, as it is known."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from tympan import telemetry
from tympan.api.doors.live_bounds import LineLimits
from tympan.api.live.dialect import Act, Commit, Dialect, Finish, Hear, JsonObject, Reopen, Say, Wish
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import Overloaded, RequestTimeout, TympanError, Unavailable
from tympan.live import AudioStream, LiveSession

_LOG = telemetry.get_logger(__name__)
_POLL_S = 0.05
_PIECE_S = 0.5

GONE = 1005
"""No close code: the caller went without one."""

_NORMAL, _POLICY, _TOO_BIG, _INTERNAL, _RESTART, _TRY_LATER = 1000, 1008, 1009, 1011, 1012, 1013
_CLOSE_CODES = {
    "too_large": _TOO_BIG,
    "too_long": _TOO_BIG,
    "request_timeout": _POLICY,
    "internal_error": _INTERNAL,
    "engine_failed": _INTERNAL,
}
"""WebSocket close codes (RFC 6455 and its registry) by error code; else 1013 for what may pass, 1008 for the rest."""

_SETTLING = frozenset({"too_long", "rate_limit_exceeded", "insufficient_quota"})
"""Errors before which what was heard is told: the session was all right so far."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What a line needs from the server.

    ``open_session`` starts to hear; ``charge`` takes note of seconds of audio, and raises ``RateLimited`` when there is
    to be no more.
    """

    open_session: Callable[[Wish], LiveSession]
    charge: Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a line ends, and whether what was heard is told before."""

    code: int
    error: TympanError | None = None
    settles: bool = False


class Line:
    """Carries one conversation from its greeting to its end."""

    def __init__(self, socket: WebSocket, dialect: Dialect, backing: Backing, limits: LineLimits) -> None:
        """Prepare to serve ``socket`` once it is accepted."""
        self._socket, self._dialect, self._backing, self._limits = socket, dialect, backing, limits
        self._loop = asyncio.get_running_loop()
        self._session: LiveSession | None = None
        self._audio: AudioStream | None = None
        self._greeted, self._news, self._settled, self._over = (asyncio.Event() for _ in range(4))
        self._ending: Ending | None = None
        self._finished = False
        self.dropped_partials = 0

    def hang_up(self) -> None:
        """End soon, because the server stops: what was heard is told before."""
        error = Unavailable("The server is stopping.", remedy="Connect again.", retry_after_s=5.0)
        self._end(Ending(_RESTART, error, settles=True))

    async def serve(self) -> Ending:
        """Talk until either side has enough; return why it ended. The session is closed by then."""
        listening = asyncio.create_task(self._guarded(self._listen()))
        telling = asyncio.create_task(self._guarded(self._tell()))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.session_s):
                    await self._over.wait()
            ending = self._ending or Ending(_POLICY, _expired(self._limits.session_s), settles=True)
            if ending.settles:
                await self._settle(ending, listening, telling)
        finally:
            for task in (listening, telling):
                task.cancel()
            await self._close_session()
        ending = self._ending or ending
        with suppress(WebSocketDisconnect, TimeoutError):
            await self._part(ending)
        return ending

    async def _settle(self, ending: Ending, listening: "asyncio.Task[None]", telling: "asyncio.Task[None]") -> None:
        """Tell what is left of what was heard; something worse that happens meanwhile is the reason of the end."""
        self._ending = ending
        listening.cancel()
        await asyncio.wait([listening])
        self._finished = True
        if self._session is not None:
            with suppress(TympanError):  # Whatever the session failed with is told by whoever reads its events.
                self._session.finish()
            await asyncio.wait([telling], timeout=self._limits.settle_s)

    async def _part(self, ending: Ending) -> None:
        if ending.code == GONE:
            return
        if ending.error is not None:
            await self._send(self._dialect.tell_error(ending.error))
        reason = ending.error.code if ending.error else ""
        async with asyncio.timeout(self._limits.send_s):
            await self._socket.close(ending.code, reason)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do one half of the conversation; what it fails with ends the whole."""
        try:
            await work
        except WebSocketDisconnect:
            self._end(Ending(GONE))
        except TimeoutError:
            _LOG.info("live_messages_not_read")
            self._end(Ending(GONE))
        except TympanError as error:
            self._end(Ending(_close_code(error), error, settles=error.code in _SETTLING))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller has to hear of it
            _LOG.error("live_line_failed", **telemetry.crash_report(error))
            self._end(Ending(_INTERNAL, TympanError()))

    def _end(self, ending: Ending) -> None:
        got_worse = self._ending is not None and self._ending.settles and ending.code not in (_NORMAL, _RESTART)
        if self._ending is None or got_worse:
            self._ending = ending
        self._over.set()

    # From the caller.

    async def _listen(self) -> None:
        await self._greeted.wait()
        while True:
            for act in await self._next():
                await self._do(act)
            await asyncio.sleep(0)  # However much has arrived, others get their turn.

    async def _next(self) -> "list[Act]":
        limit_s = self._limits.idle_s if self._session is None else None
        try:
            async with asyncio.timeout(limit_s):
                message = await self._socket.receive()
        except TimeoutError:
            raise RequestTimeout(f"No audio has come for {self._limits.idle_s:g} s.", remedy="Connect again.") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", GONE))
        text = message.get("text")
        return list(self._dialect.take_text(text) if text is not None else self._dialect.take_bytes(message["bytes"]))

    async def _do(self, act: Act) -> None:
        if isinstance(act, Say):
            await self._send(act.message)
        elif isinstance(act, Hear):
            await self._hear(act.data)
        elif isinstance(act, Commit):
            await self._patiently(self._opened().commit)
        elif isinstance(act, Finish):
            await self._finish()
        elif isinstance(act, Reopen):
            await self._reopen()

    async def _hear(self, data: bytes) -> None:
        session = self._opened()
        audio = self._audio_stream()
        step = audio.bytes_of(_PIECE_S)
        for at in range(0, len(data), step):
            await self._feed(session, audio.push(data[at : at + step]))
            await asyncio.sleep(0)

    async def _feed(self, session: LiveSession, samples: Samples) -> None:
        await self._patiently(lambda: session.feed(samples))
        await self._backing.charge(len(samples) / SAMPLE_RATE_HZ)

    async def _patiently(self, hand_on: Callable[[], None]) -> None:
        """Hand something on; while there is no room nothing is read from the caller, whose network then holds it up."""
        until_s = time.monotonic() + self._limits.patience_s
        while True:
            try:
                hand_on()
            except Overloaded:
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                return

    async def _finish(self) -> None:
        session = self._opened()
        await self._feed(session, self._audio_stream().finish())
        self._finished = True
        session.finish()

    async def _reopen(self) -> None:
        session, after_s = self._session, 0.0
        if session is not None:
            await self._feed(session, self._audio_stream().finish())
            session.finish()
            await self._settled.wait()
            after_s = session.fed_s
            await self._close_session()
        self._audio = None
        self._dialect.reopened(after_s)

    def _opened(self) -> LiveSession:
        """Return the session, which begins with what is heard first."""
        if self._session is None:
            self._settled.clear()
            self._session = self._backing.open_session(self._dialect.wish)
            self._session.subscribe(self._wake)
        return self._session

    def _audio_stream(self) -> AudioStream:
        if self._audio is None:
            wish = self._dialect.wish
            self._audio = AudioStream(wish.encoding, wish.rate_hz)
        return self._audio

    # To the caller.

    def _wake(self) -> None:
        """Let events be told; runs on the session's thread, perhaps when the loop has gone."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._news.set)

    async def _tell(self) -> None:
        for message in self._dialect.greet():
            await self._send(message)
        self._greeted.set()
        while not (self._finished and self._settled.is_set()):
            await self._news.wait()
            self._news.clear()
            session = self._session
            if session is not None:
                await self._tell_events(session)
        self._end(Ending(_NORMAL))

    async def _tell_events(self, session: LiveSession) -> None:
        while (event := session.next_event(0.0)) is not None:
            for message in self._dialect.tell(event):
                await self._send(message)
        if session.over:
            self._settled.set()

    async def _send(self, message: JsonObject) -> None:
        text = json.dumps(message, separators=(",", ":"))
        async with asyncio.timeout(self._limits.send_s):
            await self._socket.send_text(text)

    async def _close_session(self) -> None:
        """End the session and wait until its thread has gone; its place may be taken only then."""
        session, self._session = self._session, None
        if session is not None:
            self.dropped_partials += session.dropped_partials
            await asyncio.shield(asyncio.to_thread(session.close))


def _close_code(error: TympanError) -> int:
    known = _CLOSE_CODES.get(error.code)
    return known or (_TRY_LATER if error.retryable else _POLICY)


def _expired(session_s: float) -> TympanError:
    return RequestTimeout(f"A session lasts at most {session_s:g} s.", remedy="Connect again.")
