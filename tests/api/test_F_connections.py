"""Connections whose other end is slow, silent, malformed or numerous: they end, and nobody else notices."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.api.support import Site, wait_for
from tests.api.test_uploads import form, head, raw
from tympan import telemetry
from tympan.api.jobs.results import spooled_answer
from tympan.api.wire import protocol
from tympan.api.wire.connections import Crowd, whom_to_end

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that shortens every patience, for when what a slow machine is slow to send has been sent."""

    def shorten() -> None:
        for name in ("HEADER_DEADLINE_S", "UNREAD_S", "CLOSING_S", "LEFTOVER_S", "LINGER_S"):
            monkeypatch.setattr(protocol, name, 0.3)

    return shorten


def ended(reason: str) -> float:
    """Return how many connections were ended for a reason so far."""
    return telemetry.REGISTRY.get_sample_value("tympan_connections_ended_total", {"reason": reason}) or 0.0


def everything(connection: socket.socket) -> bytes:
    """Return all that comes until the other end closes."""
    connection.settimeout(60)
    found = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            found += piece
    return found


def refusal(answer: bytes) -> tuple[int, str]:
    """Return status and code of a whole answer, which has to be one of ours."""
    top, body = answer.split(b"\r\n\r\n", 1)
    assert b"\r\nx-request-id: req_" in top
    assert b"\r\nconnection: close" in top
    assert f"\r\ncontent-length: {len(body)}\r\n".encode() in top
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(top.split()[1]), error["code"]


BAD = {
    "both lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "same length twice": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc",
    "huge length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
    "odd encoding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\nabc",
    "blank before colon": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "bare line ends": b"GET / HTTP/1.1\nHost: x\n\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
    "carriage return inside": b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nHost: x\r\nA\0: x\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two hosts of old": b"GET /livez HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    "a host that is none": b"GET /livez HTTP/1.1\r\nHost: x@y/z\r\n\r\n",
    "no such version": b"GET / HTTP/9.9\r\n\r\n",
    "no such method": b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n",
    "method of a megabyte": b"G" * 10**6 + b" / HTTP/1.1\r\n\r\n",
    "bytes in the path": b"GET \xff/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "chunk that is no number": b"POST /asr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc",
    "negative chunk": b"POST /asr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc",
    "huge chunk": b"POST /asr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_http_gets_the_error_envelope(server: Site, what: str) -> None:
    """Shapes that two parsers may read differently, and noise: 400 in OpenAI's form, and the connection ends."""
    before = ended("malformed")
    with raw(server, b"") as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(BAD[what])
        assert refusal(everything(connection)) == (400, "invalid_request")
    assert ended("malformed") == before + 1


@pytest.mark.parametrize(
    "data",
    [
        GET[:-2] + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        GET[:-2] + b"X: y\r\n" * 101 + b"\r\n",
        GET[:-2] + b"X" * 10**6,
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["long", "many", "endless", "path"],
)
def test_I13_a_head_beyond_all_measure_is_refused(server: Site, data: bytes) -> None:
    """Too long, too many headers, one that does not end, or a target of 70 kB: 431, in whatever pieces it comes."""
    with raw(server, b"") as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        assert refusal(everything(connection)) == (431, "head_too_large")


def test_a_head_below_the_limit_is_taken_in_pieces(server: Site) -> None:
    """Sixty kilobytes of headers are much and allowed, however they are cut."""
    data = (
        GET[:-2]
        + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 600) for number in range(90))
        + b"Connection: close\r\n\r\n"
    )
    with raw(server, data[:30_000]) as connection:
        time.sleep(0.05)
        connection.sendall(data[30_000:])
        assert everything(connection).startswith(b"HTTP/1.1 200")


def test_F1_F2_who_sends_no_head_is_ended(make_site: Callable[..., Site], hurry: Callable[[], None]) -> None:
    """Silent sockets are closed, half a head is told 408, bytes without a request do not keep a connection open."""
    site = make_site()
    with raw(site, b"") as silent, raw(site, GET[:20]) as half, raw(site, GET) as done:
        hurry()
        assert everything(silent) == b""
        assert refusal(everything(half)) == (408, "request_timeout")
        connection_lives_by_line_ends(done)


def connection_lives_by_line_ends(connection: socket.socket) -> None:
    """Fail if a connection stays open because line ends come now and then."""
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + 30
    with suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() < deadline:
            connection.sendall(b"\r\n")
            time.sleep(0.05)
    assert time.monotonic() < deadline


def test_a_body_that_goes_on_behind_its_answer_is_ended(
    make_site: Callable[..., Site], hurry: Callable[[], None]
) -> None:
    """A route that reads no body answers at once; whoever goes on sending one is not listened to for ever."""
    site = make_site()
    before = ended("leftover")
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw(site, request) as connection:
        answer = b""
        while b"alive" not in answer:
            answer += connection.recv(65_536)
        hurry()
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(0.02)
        assert everything(connection) == b""
    assert ended("leftover") == before + 1


def test_what_is_around_a_body_is_bounded(server: Site) -> None:
    """Chunk extensions and trailers that never end are no way to send without being counted."""
    start = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for data in (b"5;" + b"x" * 200_000, b"0\r\nX: " + b"y" * 200_000):
        with raw(server, start) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            everything(connection)


def test_trailers_are_no_headers(server: Site) -> None:
    """What comes behind a body does not change what was decided by the head."""
    kind = "multipart/form-data; boundary=frontier"
    body = form(("file", b"sound"))
    request = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nConnection: close\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n"
    ).encode()
    with raw(server, request + body + b"\r\n0\r\nX-Request-Id: forged\r\n\r\n") as connection:
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"forged" not in answer


def test_requests_in_a_row_are_answered_in_order_and_not_without_end(server: Site) -> None:
    """A few requests sent at once are answered one after another; hundreds end the connection."""
    few = [GET.replace(b"\r\n\r\n", b"\r\nX-Request-Id: r%d\r\n\r\n" % number) for number in range(5)]
    few[-1] = few[-1].replace(b"Host: x", b"Host: x\r\nConnection: close")
    with raw(server, b"".join(few)) as connection:
        answers = everything(connection)
    places = [answers.index(b"x-request-id: r%d" % number) for number in range(5)]
    assert places == sorted(places)
    with raw(server, GET * 2_000) as connection:
        assert everything(connection).count(b"HTTP/1.1 200") < 20


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", b"200"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"40"),
        (b"TRACE /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
        (b"CONNECT evil:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"40"),
        (b"GET http://evil/livez HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", b"200"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: nonsense\r\n\r\n", b"200"),
    ],
    ids=["1.0", "options", "trace", "connect", "absolute", "h2c", "upgrade"],
)
def test_odd_requests_get_an_answer_and_an_end(server: Site, request_head: bytes, status: bytes) -> None:
    """Old versions, methods of proxies and upgrades that are not offered leave nobody waiting."""
    with raw(server, request_head) as connection:
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_who_half_closes_is_gone(server: Site) -> None:
    """The end of what a caller sends is taken for the end of the caller; nothing is left behind."""
    with raw(server, head(10_000) + form(("file", b"sound"), end=False)) as connection:
        connection.shutdown(socket.SHUT_WR)
        everything(connection)
    wait_for(lambda: not server.services.house.count and not server.staged)


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/jobs"])
def test_O1_who_still_uploads_when_the_server_waits_no_longer_is_told(
    make_site: Callable[..., Site], path: str
) -> None:
    """503 and when to come back, not a connection that is cut."""
    site = make_site()
    start = head(10_000).replace(b"/v1/audio/transcriptions", path.encode())
    with raw(site, start + form(("file", b"sound"), end=False)) as connection:
        wait_for(lambda: site.services.house.count == 1)
        site.services.house.evict()
        assert everything(connection).startswith(b"HTTP/1.1 503")
    wait_for(lambda: not site.services.house.count and not site.staged)


def test_limits_are_checked_before_the_body_is_asked_for(make_site: Callable[..., Site]) -> None:
    """With `Expect: 100-continue` a refusal comes instead of 100, and 100 comes where the body is wanted."""
    site = make_site(max_upload_bytes=100_000)
    body = form(("file", b"sound"))
    for length, start in ((50_000_000, b"HTTP/1.1 413"), (len(body), b"HTTP/1.1 100 Continue\r\n\r\n")):
        with raw(site, head(length)[:-2] + b"Expect: 100-continue\r\nConnection: close\r\n\r\n") as connection:
            first = connection.recv(65_536)
            assert first.startswith(start)
            if b" 100 " in first:
                connection.sendall(body)
                assert everything(connection).startswith(b"HTTP/1.1 200")


def test_F4_an_upload_aborted_at_the_last_percent_leaves_nothing(make_site: Callable[..., Site]) -> None:
    """A reset instead of the last bytes frees the place and the disk; the pipeline never starts."""
    site = make_site()
    body = form(("file", bytes(3_000_000)))
    connection = raw(site, head(len(body)) + body[: len(body) * 99 // 100])
    wait_for(lambda: site.staged)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    wait_for(lambda: not site.services.house.count and not site.staged)
    assert not site.transcriber.calls


RESULT = "/v1/jobs/job_1/result"


def instead_of_results(site: Site, answer: Callable[..., Any]) -> None:
    """Let a server answer with this where it would look for the result of a job."""
    site.app.add_api_route(RESULT, answer, response_class=Response)
    routes = site.app.router.routes
    routes.insert(0, routes.pop())


def slow_reader(site: Site) -> socket.socket:
    """Ask for a result with a small window and read nothing of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = site.url.removeprefix("http://").split(":")
    connection.connect((host, int(port)))
    connection.sendall(f"GET {RESULT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection


def test_F5_who_reads_nothing_is_ended(make_site: Callable[..., Site], hurry: Callable[[], None]) -> None:
    """A long answer that nobody takes is given up, whether it is made in one piece or in many; others are served."""
    site = make_site()

    async def long() -> Response:
        return Response(bytes(30_000_000))

    instead_of_results(site, long)
    before = ended("unread")
    with ExitStack() as stack:
        readers = [stack.enter_context(closing(slow_reader(site))) for _ in range(3)]
        assert httpx.get(f"{site.url}/livez").status_code == 200
        hurry()
        wait_for(lambda: ended("unread") == before + len(readers))


def test_F5_a_long_result_that_is_not_read_costs_a_buffer(
    make_site: Callable[..., Site], hurry: Callable[[], None]
) -> None:
    """Results of 16 MB that nobody reads lie on the disk: each connection adds less than a megabyte of memory."""
    site = make_site()

    async def spooled(request: Request) -> Response:
        return await spooled_answer(request, lambda: (iter(["x" * 65_536] * 256), "text/plain"))

    instead_of_results(site, spooled)
    with ExitStack() as stack:
        first = stack.enter_context(closing(slow_reader(site)))
        assert first.recv(12) == b"HTTP/1.1 200"
        before = memory_bytes()
        readers = [stack.enter_context(closing(slow_reader(site))) for _ in range(12)]
        for reader in readers:
            assert reader.recv(12) == b"HTTP/1.1 200"
        added = memory_bytes() - before
        hurry()
    assert added / len(readers) < 1 << 20


def memory_bytes() -> int:
    """Return the resident memory of this process, server and test."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@dataclass(eq=False)
class Fake:
    """A connection on paper."""

    address: str
    idle_since: float | None
    ends: list[str | None] = field(default_factory=list)

    def end(self, reason: str | None) -> None:
        """Note the reason."""
        self.ends.append(reason)

    def check(self, now: float) -> None:
        """Do nothing."""


def test_those_end_first_who_hold_most_and_use_it_least() -> None:
    """The longest idle connections of the address with most idle ones; busy ones never."""
    crowd = [Fake("many", float(number)) for number in range(10)] + [Fake("few", 0.0), Fake("many", None)]
    assert whom_to_end(crowd, 3) == crowd[:3]
    assert whom_to_end([Fake("a", None)], 3) == ()


def test_a_full_house_makes_room_by_idle_ones_and_refuses_only_without_any() -> None:
    """A newcomer costs idle connections of the fullest address; when all are busy, the newcomer is refused."""
    crowd = Crowd(40)
    greedy = [Fake("greedy", float(number)) for number in range(30)]
    busy = [Fake("busy", None) for _ in range(10)]
    assert all(crowd.enter(guest) for guest in (*greedy, *busy))
    assert crowd.enter(Fake("new", None))
    assert [guest.ends for guest in greedy[:3]] == [["crowded"], ["crowded"], []]
    assert not any(guest.ends for guest in busy)
    full = Crowd(1)
    assert full.enter(busy[0])
    assert not full.enter(Fake("new", None))


@pytest.fixture
def small(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a server with room for twenty connections."""
    from tympan.api import server  # noqa: PLC0415

    monkeypatch.setattr(server, "Crowd", lambda _: Crowd(20))
    return make_site()


def test_F2_idle_sockets_never_shut_others_out(small: Site) -> None:
    """Many more silent sockets than there is room for, and every request of somebody else is still answered."""
    with ExitStack() as stack:
        for _ in range(5):
            for _ in range(30):
                stack.enter_context(closing(raw(small, b"")))
            assert httpx.get(f"{small.url}/livez").status_code == 200
        assert small.post().status_code == 200
    assert ended("crowded") >= 100


HANDSHAKE = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

NO_HANDSHAKE = {
    "a body": HANDSHAKE + KEY + b"Content-Length: 5\r\n\r\nhello",
    "a body to come": HANDSHAKE + KEY + b"Content-Length: 5\r\n\r\n",
    "chunks": HANDSHAKE + KEY + b"Transfer-Encoding: chunked\r\n\r\n",
    "a long header": HANDSHAKE + KEY + b"X: %s\r\n\r\n" % (b"y" * 20_000),
    "a long target": HANDSHAKE.replace(b"stream", b"y" * 20_000) + KEY + b"\r\n",
    "no key": HANDSHAKE + b"\r\n",
    "an old version": HANDSHAKE + KEY.replace(b"13", b"8") + b"\r\n",
    "two origins": HANDSHAKE + KEY + b"Origin: a\r\nOrigin: b\r\n\r\n",
    "another method": HANDSHAKE.replace(b"GET", b"POST") + KEY + b"\r\n",
}


@pytest.mark.parametrize("what", NO_HANDSHAKE)
def test_F2_what_is_no_websocket_handshake_is_answered_and_ended(server: Site, what: str) -> None:
    """Also what the library behind it says nothing about: such a connection would stay for ever, and be in no count."""
    with raw(server, NO_HANDSHAKE[what]) as connection:
        assert refusal(everything(connection)) == (400, "invalid_request")
