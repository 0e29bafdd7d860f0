"""The misbehaving proxy does what its toxics say, and nothing when it has none."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.servers.process import wait_until
from tests.servers.proxy import Proxy, Toxics

DATA = bytes(range(256)) * 400


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        """Listen and serve."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ended = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._ended = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(timeout=10)
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended:
            client, _ = self._listener.accept()
            threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    @staticmethod
    def _echo(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except OSError:
                return


@pytest.fixture
def proxy(proxy_to: Callable[[int], Proxy]) -> Iterator[Proxy]:
    """Return a proxy before a server that echoes."""
    echo = Echo()
    yield proxy_to(echo.port)
    echo.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """Return a connection through the proxy."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
        yield connection


def receive(client: socket.socket, n_bytes: int) -> bytes:
    """Return so many bytes, fewer when the connection ends."""
    data = b""
    while len(data) < n_bytes and (more := client.recv(n_bytes - len(data))):
        data += more
    return data


def round_trip_s(client: socket.socket, data: bytes = b"x") -> float:
    """Return how long ``data`` takes there and back."""
    started = time.monotonic()
    client.sendall(data)
    assert receive(client, len(data)) == data
    return time.monotonic() - started


def test_without_toxics_bytes_pass(proxy: Proxy, client: socket.socket) -> None:
    """All bytes come through in order, and the end of a stream is passed on."""
    assert round_trip_s(client, DATA) < 30
    client.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b""
    wait_until(lambda: proxy.connections == 0, 30)
    assert proxy.accepted == 1


def test_latency_delays_each_direction(proxy: Proxy, client: socket.socket) -> None:
    """A round trip through a delay of 0.4 s each way takes 0.8 s, half of it one way, and none when it is healed."""
    proxy.set(latency_s=0.4)
    assert 0.8 <= round_trip_s(client) < 30
    proxy.set("up", latency_s=0.0)
    assert 0.4 <= round_trip_s(client) < 30
    proxy.heal()
    assert min(round_trip_s(client) for _ in range(5)) < 0.4


def test_bandwidth_is_limited(proxy: Proxy, client: socket.socket) -> None:
    """20 kB at 40 kB/s take half a second."""
    proxy.set("down", bytes_per_s=40_000)
    assert 0.4 < round_trip_s(client, DATA[:20_000]) < 30


def test_slices_are_small(proxy: Proxy, client: socket.socket) -> None:
    """Bytes come in pieces with pauses between them, and none is lost."""
    proxy.set("down", slice_bytes=3)
    assert 0.5 <= round_trip_s(client, DATA[:300]) < 30
    assert Toxics(slice_bytes=3, limit_bytes=100, bytes_per_s=1_000).block_bytes == 3


def test_held_bytes_arrive_later(proxy: Proxy, client: socket.socket) -> None:
    """While the network is frozen nothing comes; afterwards everything does."""
    proxy.set(hold=True)
    client.sendall(b"hello")
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(10)
    proxy.heal()
    client.settimeout(5)
    assert receive(client, 5) == b"hello"


def test_swallowed_bytes_never_arrive(proxy: Proxy, client: socket.socket) -> None:
    """A half-open connection looks alive and says nothing; healing resets it, new ones work."""
    proxy.set(swallow=True)
    client.sendall(b"hello")
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(10)
    client.settimeout(5)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as second:
        round_trip_s(second)


def test_reset_answers_bytes_with_a_reset(proxy: Proxy, client: socket.socket) -> None:
    """A connection is fine until it is used."""
    proxy.set("up", reset=True)
    client.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        client.recv(10)


def test_a_limit_of_bytes_closes(proxy: Proxy, client: socket.socket) -> None:
    """Exactly so many bytes come, then an orderly end; also when the proxy waits for more than that already."""
    round_trip_s(client)
    proxy.set("down", limit_bytes=1_000)
    client.sendall(DATA[:5_000])
    assert receive(client, 5_000) == DATA[:1_000]


def test_down_means_refused(proxy: Proxy, client: socket.socket) -> None:
    """Old connections are reset and new ones refused until it heals, at the same port."""
    round_trip_s(client)
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    proxy.heal()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as second:
        round_trip_s(second)


def test_cut_resets_what_is_open(proxy: Proxy, client: socket.socket) -> None:
    """Open connections break at once, the next one works."""
    round_trip_s(client)
    assert proxy.connections == 1
    proxy.cut()
    assert proxy.connections == 0
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as second:
        round_trip_s(second)


def test_a_dead_server_is_a_reset(proxy_to: Callable[[int], Proxy]) -> None:
    """Where nobody listens behind the proxy the client gets a reset, not a hang."""
    proxy = proxy_to(1)

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
            return client.recv(10)

    with pytest.raises(ConnectionResetError):
        ask()


def test_a_slow_reader_does_not_block_the_others(proxy: Proxy, client: socket.socket) -> None:
    """A client that never reads fills its own connection alone, and the proxy still ends in time."""
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.sendall(DATA * 1_000)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as second:
        round_trip_s(second)
