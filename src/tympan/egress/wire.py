"""Connections that go to checked addresses only and never wait, read or hold on for longer than they may.

The HTTP library asks for a connection by name; it gets one to an address that was checked beforehand. Limits are kept
here, at the socket, because here they hold in every phase: handshake, head and body.
"""

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence

import httpcore

from tympan.egress.urls import Address
from tympan.errors import Cancelled

_POLL_S = 0.25
_MAX_ATTEMPTS = 4
_READ_BYTES = 32 << 10
_SLACK_BYTES = 128 << 10
_WIRE_BYTES_PER_BODY_BYTE = 2


class Broken(Exception):
    """An exchange did not work out; the text is for the operator alone."""


class TooSlow(Broken):
    """The other side sent less than it has to, or took longer than it may."""


def never() -> bool:
    """Return that nothing was cancelled."""
    return False


class Meter:
    """Says how long one exchange may still wait and how much it may still read.

    Raises ``Cancelled`` when the caller has lost interest, and ``Broken`` at a limit.
    """

    def __init__(self, total_s: float, max_bytes: int | None = None, cancelled: Callable[[], bool] = never) -> None:
        """Begin now. ``max_bytes`` bounds what is read; without it, what is read beside the body is bounded."""
        self._deadline = self._phase_end = time.monotonic() + total_s
        self._max_bytes = max_bytes
        self._cancelled = cancelled
        self._min_bytes_per_s = self._window_s = 0.0
        self._window_start = self._window_bytes = 0.0
        self._read_bytes = self._body_bytes = 0

    @property
    def read_bytes(self) -> int:
        """What has come off the wire."""
        return self._read_bytes

    def begin(self, limit_s: float) -> None:
        """Begin a phase that may take ``limit_s``, within the limit of the whole."""
        self._phase_end = min(self._deadline, time.monotonic() + limit_s)

    def demand(self, min_bytes_per_s: float, window_s: float) -> None:
        """Demand a rate from now on, measured over windows of ``window_s``."""
        self._phase_end = self._deadline
        self._min_bytes_per_s, self._window_s = min_bytes_per_s, window_s
        self._window_start, self._window_bytes = time.monotonic(), self._read_bytes

    def left_s(self) -> float:
        """Return how long the phase may still take."""
        now = time.monotonic()
        if self._cancelled():
            raise Cancelled
        if now >= self._phase_end:
            raise TooSlow("out of time")
        if self._window_s and now - self._window_start >= self._window_s:
            self._close_window(now)
        return self._phase_end - now

    def room_bytes(self) -> int:
        """Return how much may still be read."""
        limit = self._max_bytes
        if limit is None:
            limit = _SLACK_BYTES + _WIRE_BYTES_PER_BODY_BYTE * self._body_bytes
        if self._read_bytes >= limit:
            raise Broken("too many bytes")
        return limit - self._read_bytes

    def read(self, n_bytes: int) -> None:
        """Count what came off the wire."""
        self._read_bytes += n_bytes

    def use(self, n_bytes: int) -> None:
        """Count what of it was body."""
        self._body_bytes += n_bytes

    def _close_window(self, now: float) -> None:
        if self._read_bytes - self._window_bytes < self._min_bytes_per_s * (now - self._window_start):
            raise TooSlow("too slow")
        self._window_start, self._window_bytes = now, self._read_bytes


class MeteredStream(httpcore.NetworkStream):
    """One connection whose every wait is measured; the time limits of the HTTP library are not used."""

    def __init__(self, connection: socket.socket, meter: Meter, answer_s: float) -> None:
        """Take over an open connection; from the first byte of the request on, the answer's head has ``answer_s``."""
        self._socket = connection
        self._meter = meter
        self._answer_s = answer_s
        self._asked = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come, at most ``max_bytes``; nothing at the end."""
        while True:
            self._socket.settimeout(min(_POLL_S, self._meter.left_s()))
            with contextlib.suppress(TimeoutError):
                data = self._socket.recv(min(max_bytes, _READ_BYTES, self._meter.room_bytes()))
                self._meter.read(len(data))
                return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of ``buffer``."""
        if not self._asked:
            self._asked = True
            self._meter.begin(self._answer_s)
        try:
            while buffer:
                self._socket.settimeout(self._meter.left_s())
                buffer = buffer[self._socket.send(buffer) :]
        except TimeoutError as error:
            raise TooSlow("the request is not taken") from error
        except OSError as error:
            # The answer may have come before the request was taken whole; the library looks for it after this error.
            raise httpcore.WriteError(str(error)) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the stream, encrypted, once the other side has proved its name."""
        self._socket.settimeout(self._meter.left_s())
        # An end without TLS's own goodbye is an error: else a cut connection would pass for a whole file.
        self._socket = ssl_context.wrap_socket(
            self._socket, server_hostname=server_hostname, suppress_ragged_eofs=False
        )
        return self

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class PinnedBackend(httpcore.NetworkBackend):
    """Gives out connections to one list of checked addresses, whatever it is asked for."""

    def __init__(self, addresses: Sequence[Address], port: int, meter: Meter, answer_s: float) -> None:
        """Connect to the first of ``addresses`` that answers; ``answer_s`` is for ``MeteredStream``."""
        self._addresses = addresses[:_MAX_ATTEMPTS]
        self._port = port
        self._meter = meter
        self._answer_s = answer_s
        self._stream: MeteredStream | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Return a new connection. Raises ``Broken`` when no address answers."""
        failure: OSError | None = None
        for done, address in enumerate(self._addresses):
            share_s = self._meter.left_s() / (len(self._addresses) - done)
            try:
                connection = _connect(address, self._port, share_s)
            except OSError as error:
                failure = error
            else:
                self._stream = MeteredStream(connection, self._meter, self._answer_s)
                return self._stream
        raise Broken("no address answers") from failure

    def close(self) -> None:
        """Close the connection, in whatever state it is."""
        if self._stream is not None:
            self._stream.close()


def _connect(address: Address, port: int, timeout_s: float) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect((str(address), port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _check_peer(connection, address, port)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_peer(connection: socket.socket, address: Address, port: int) -> None:
    peer = connection.getpeername()
    if (ipaddress.ip_address(peer[0]), peer[1]) != (address, port):
        raise Broken("connected to another address")
