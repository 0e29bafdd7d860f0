"""The life of a listening server: start, drain on the first signal, leave at once on the second."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tympan import telemetry
from tympan.api.deps import Services
from tympan.api.doors.admission import House
from tympan.api.doors.live_places import LivePlaces
from tympan.api.health import parts_of
from tympan.api.wire.connections import Crowd
from tympan.api.wire.protocol import DeadlineProtocol
from tympan.api.wire.sockets import SocketProtocol
from tympan.errors import ConfigError

_LOG = telemetry.get_logger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_S = 0.05
_LAST_ANSWERS_S = 2
_KEEP_ALIVE_S = 30
_TICK_S = 0.1
_TICKS_A_SWEEP = 5
_TICKS_A_LOOK = 50
_STANDSTILL_S = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, and how long running requests may take to finish, in seconds.

    With ``reuse_port`` several processes listen there and the kernel deals new connections out among them.
    ``max_connections`` are open at a time in this process.
    """

    host: str
    port: int
    drain_s: float = 30.0
    reuse_port: bool = False
    max_connections: int = 2_000


@dataclass(frozen=True, slots=True)
class ServerHooks:
    """What to do when the server begins to drain, and in the signal handler when a second signal comes."""

    on_drain: Callable[[], None]
    on_force: Callable[[], None]


class HttpServer(uvicorn.Server):
    """A uvicorn server that drains: refuses what is new, finishes what is running, then ends.

    Where it shares its port it listens only while it serves: the kernel would deal it callers whom another process can
    help, before it is ready as after it has been asked to stop.
    """

    def __init__(self, app: FastAPI, services: Services, address: Address, hooks: ServerHooks) -> None:
        """Prepare to serve ``app``."""
        crowd = Crowd(address.max_connections)
        super().__init__(
            uvicorn.Config(
                _Farewell(app, services.house),
                host=address.host,
                port=address.port,
                http=cast("type[asyncio.Protocol]", partial(DeadlineProtocol, crowd=crowd)),
                ws=SocketProtocol,
                ws_max_size=services.limits.live.max_message_bytes,
                ws_ping_interval=services.limits.live.ping_s,
                ws_ping_timeout=services.limits.live.pong_s,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_LAST_ANSWERS_S,
            )
        )
        self._services = services
        self._house: House = services.house
        self._retries = services.retries
        self._live: LivePlaces = services.live
        self._backend = services.backend
        self._address, self._hooks = address, hooks
        self._stop_asked = threading.Event()
        self._crowd = crowd
        self._ticked_at: float | None = None

    @property
    def url(self) -> str:
        """Where the server listens; valid once ``started``."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        return f"http://{host}:{port}"

    def stop(self) -> None:
        """Begin to drain; may be called from any thread and from signal handlers."""
        # Where the port is shared, callers are refused only once the next call cannot come here again.
        self._house.draining = not self._address.reuse_port
        self._stop_asked.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen: at once, or where the port is shared, when there is something to serve."""
        asyncio.get_running_loop().set_exception_handler(_log_lost)
        if self._address.reuse_port:
            while self._backend.loading and not self._stop_asked.is_set():  # noqa: ASYNC110 (threads change it)
                await asyncio.sleep(_POLL_S)
            if self._stop_asked.is_set():
                self.should_exit = True
                return
            sockets = [_bound(self._address)]
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections, and at how late the event loop is."""
        now, before = asyncio.get_running_loop().time(), self._ticked_at
        self._ticked_at = now
        if before is not None:
            telemetry.LOOP_LAG.observe(max(0.0, now - before - _TICK_S))
        # After a standstill of ours, what came meanwhile is still to be read: nobody is to be blamed for it.
        stood_still = before is not None and now - before > _STANDSTILL_S
        if counter % _TICKS_A_SWEEP == 0 and not stood_still:
            self._crowd.sweep(now)
        if counter % _TICKS_A_LOOK == 0:
            parts_of(self._services)  # So that it is known since when a part has not been well.
        return await super().on_tick(counter)

    async def main_loop(self) -> None:
        """Serve until asked to stop, then until the last request is answered or its time is up."""
        ticks = asyncio.create_task(super().main_loop())
        while not self._stop_asked.is_set() and not ticks.done():  # noqa: ASYNC110 (a signal handler sets it)
            await asyncio.sleep(_POLL_S)
        await self._drain()
        self.should_exit = True
        await ticks

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the stop signals while serving, and give them back afterwards; the exit code is ours to choose."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _drain(self) -> None:
        if self._address.reuse_port:
            for server in self.servers:
                server.close()
        self._house.draining = True
        self._retries.drop_idle()
        self._hooks.on_drain()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._address.drain_s
        _LOG.info("draining", requests=self._house.count, live=self._live.count, drain_s=self._address.drain_s)
        self._live.drain()
        while (self._house.count or self._live.count) and loop.time() < deadline:  # noqa: ASYNC110 (threads change it)
            await asyncio.sleep(_POLL_S)
        if self._house.count or self._live.count:
            _LOG.warning("drain_time_is_up", requests=self._house.count, live=self._live.count)
            self._house.evict()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_asked.is_set():
            self._hooks.on_force()
        self.stop()


class _Farewell:
    """ASGI middleware that ends each connection with its answer once the house drains: its next call goes elsewhere."""

    def __init__(self, app: ASGIApp, house: House) -> None:
        self._app, self._house = app, house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._house.draining:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_and_close)


def _log_lost(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task took; asyncio itself would quote it."""
    error = context.get("exception")
    report = telemetry.crash_report(error) if isinstance(error, BaseException) else {}
    # What follows "in callback" are arguments, perhaps what somebody sent.
    _LOG.error("error_lost", about=str(context.get("message", "")).split(" in callback")[0], **report)


def check_free(address: Address) -> None:
    """Raise ``ConfigError`` when nothing can listen on the address; say what to do about it."""
    try:
        _bound(address).close()
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {address.host}:{address.port}: {error.strerror}.",
            remedy="Choose another HOST or PORT, or stop the program that listens there.",
        ) from error


def _bound(address: Address) -> socket.socket:
    family, kind, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound
