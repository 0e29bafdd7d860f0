"""A TCP proxy that misbehaves on demand: slow, silent, cutting, gone; switched while connections are open."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from tests.servers.process import free_port, wait_until

_BLOCK_BYTES = 64 << 10
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Toxics:
    """What happens to bytes in one direction.

    ``latency_s`` delays each block; ``bytes_per_s`` limits the rate; ``slice_bytes`` passes blocks of this length with
    pauses of 5 ms; ``limit_bytes`` closes a connection after that many; ``hold`` passes nothing and loses nothing;
    ``swallow`` reads bytes and loses them; ``reset`` answers any byte with a reset (RST).
    """

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    limit_bytes: int | None = None
    hold: bool = False
    swallow: bool = False
    reset: bool = False

    @property
    def block_bytes(self) -> int:
        """The most bytes to take at once."""
        of_rate = max(1, int(self.bytes_per_s / 20)) if self.bytes_per_s else None
        return min(size for size in (_BLOCK_BYTES, self.slice_bytes, self.limit_bytes, of_rate) if size)

    def pause_s(self, n_bytes: int) -> float:
        """Return how long a block has to wait."""
        return self.latency_s + (0.005 if self.slice_bytes else 0.0) + n_bytes / (self.bytes_per_s or float("inf"))


class Proxy:
    """Passes connections to ``127.0.0.1:target`` through its own ``port``; use it in a ``with`` block."""

    def __init__(self, target: int) -> None:
        """Listen on a free port; nothing is toxic at first."""
        self.accepted = 0
        self._target = target
        self._toxics = {"up": Toxics(), "down": Toxics()}
        self._closing = self._refusing = False
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        # Not one of those that the kernel gives to outgoing connections: while the proxy is down it could do so.
        self.port = free_port()
        self._listener: socket.socket | None = _listen(self.port)

    def __enter__(self) -> Self:
        """Start to accept connections."""
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything and end the threads."""
        self.refuse()
        self._closing = True
        for thread in self._threads:
            thread.join(timeout=10)
        assert not any(thread.is_alive() for thread in self._threads), "a thread of the proxy hangs"

    def set(self, direction: str = "both", **toxics: float | None) -> None:
        """Switch toxics on or off: ``up`` is towards the server, ``down`` towards the client, ``both`` is usual."""
        for name in ("up", "down") if direction == "both" else (direction,):
            self._toxics[name] = replace(self._toxics[name], **toxics)  # type: ignore[arg-type]

    def heal(self) -> None:
        """Behave well again; connections that lost bytes are reset, as they can never be right again."""
        self._toxics = {"up": Toxics(), "down": Toxics()}
        self._reset([link for link in self._open() if link.spoiled])
        self._refusing = False
        wait_until(lambda: self._listener is not None, 5)

    def refuse(self) -> None:
        """Be down: reset every connection and refuse new ones until ``heal``."""
        self._refusing = True
        wait_until(lambda: self._listener is None, 5)
        self.cut()

    def cut(self) -> None:
        """Reset every open connection once."""
        self._reset(self._open())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open())

    def _open(self) -> "list[_Link]":
        with self._lock:
            self._links = {link for link in self._links if not link.closed}
            return list(self._links)

    def _reset(self, links: "list[_Link]") -> None:
        for link in links:
            link.end(reset=True)
        wait_until(lambda: all(link.closed for link in links), 5)

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        # Only this thread opens and closes the listener: its number could else be another socket's in the meantime.
        while not self._closing:
            if self._refusing and self._listener:
                listener, self._listener = self._listener, None
                listener.close()
            elif self._listener:
                with contextlib.suppress(TimeoutError):
                    self._connect(self._listener.accept()[0])
            elif not self._refusing:
                self._listener = _listen(self.port)
            else:
                time.sleep(_POLL_S)

    def _connect(self, client: socket.socket) -> None:
        self.accepted += 1
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            _close(client, reset=True)
            return
        link = _Link(client, server)
        with self._lock:
            self._links.add(link)
        self._run(self._pump, link, "up")
        self._run(self._pump, link, "down")

    def _pump(self, link: "_Link", direction: str) -> None:
        source, sink = (link.client, link.server) if direction == "up" else (link.server, link.client)
        left = None
        with link:
            while data := self._receive(link, source, direction):
                toxics = self._toxics[direction]
                if toxics.reset:
                    link.end(reset=True)
                elif toxics.swallow:
                    link.spoiled = True
                else:
                    # In blocks of now: the bytes may have been taken before the toxics were switched on.
                    for start in range(0, len(data), toxics.block_bytes):
                        block = data[start : start + toxics.block_bytes]
                        if toxics.limit_bytes is not None:
                            left = left or toxics.limit_bytes
                            block = block[:left]
                            left -= len(block)
                        self._pass(link, sink, block, direction)
                        if left == 0:
                            link.end(reset=False)
            if not link.spoiled:
                sink.shutdown(socket.SHUT_WR)

    def _receive(self, link: "_Link", source: socket.socket, direction: str) -> bytes:
        """Return the next bytes, none at the end."""
        while True:
            link.check()
            toxics = self._toxics[direction]
            if toxics.hold:
                time.sleep(_POLL_S)
                continue
            with contextlib.suppress(TimeoutError):
                return source.recv(toxics.block_bytes)

    def _pass(self, link: "_Link", sink: socket.socket, data: bytes, direction: str) -> None:
        end = time.monotonic() + self._toxics[direction].pause_s(len(data))
        while (left := end - time.monotonic()) > 0 or self._toxics[direction].hold:
            link.check()
            time.sleep(min(max(left, 0.001), _POLL_S))
        view = memoryview(data)
        while view:
            link.check()
            with contextlib.suppress(TimeoutError):
                view = view[sink.send(view) :]


class _Ended(Exception):
    """The connection is to be closed."""


class _Link:
    """A client's connection and the one to the server; each of two threads enters it once, the last one closes it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.spoiled = self.closed = False
        self._ending = self._resetting = False
        self._threads = 2
        self._lock = threading.Lock()
        for side in (client, server):
            side.settimeout(_POLL_S)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> None:
        """Begin to pass bytes in one direction."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, OSError):
            self.end(reset=True)
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                _close(self.client, reset=self._resetting)
                _close(self.server, reset=self._resetting)
                self.closed = True
        return isinstance(error, OSError | _Ended)

    def end(self, *, reset: bool) -> None:
        """Ask both threads to finish."""
        self._resetting |= reset
        self._ending = True

    def check(self) -> None:
        """Raise ``_Ended`` when the connection is to be closed."""
        if self._ending:
            raise _Ended


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    listener.settimeout(_POLL_S)
    return listener


def _close(side: socket.socket, *, reset: bool) -> None:
    if reset:
        with contextlib.suppress(OSError):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.close()
