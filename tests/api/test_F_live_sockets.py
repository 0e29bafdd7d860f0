"""Live speech on sockets that flood, stall, vanish or lie: what they hold is bounded, and given back."""

import json
import os
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tests.api.live_sites import MakeSite, dialled, readable, said, tell
from tests.api.support import Site, wait_for
from tests.api.support import site as running
from tests.live_support import desk, joined, quiet, read, spoken, text_of
from tests.pipeline_support import WindowDesk
from tympan import telemetry
from tympan.access.gate import Asks, Gate
from tympan.access.limits import LimitBook, LimitDesk
from tympan.access.ring import KeyRing
from tympan.access.tenant_limits import TenantLimits
from tympan.access.tokens import mint
from tympan.access.usage import UsageMeter
from tympan.api.access.entrance import Doors
from tympan.api.deps import Limits
from tympan.api.doors.admission import Errand
from tympan.api.doors.live_bounds import LineLimits, LiveBounds
from tympan.api.wire.sockets import MAX_FRAMES, SLICE_BYTES, SocketProtocol
from tympan.domain import Samples, WindowResult, WindowTask
from tympan.live import LiveLimits
from tympan.pipeline import RequestContext
from tympan.storage.keys import KeyFact

PATH = "/v1/stream"
SECOND = spoken(1, 2)[:12_800].tobytes() + quiet(0.2).tobytes()


def bounded(
    make_site: MakeSite, service: WindowDesk | None = None, line: LineLimits | None = None, **knobs: Any
) -> Site:
    """Return a server with bounds of the test's choice."""
    return make_site(readable(service), live=LiveBounds(line=line or LineLimits(), **knobs))


def closed_with(socket: ClientConnection, limit_s: float = 60.0) -> int | None:
    """Read until the end; return the close code."""
    until_s = time.monotonic() + limit_s
    try:
        while time.monotonic() < until_s:
            socket.recv(timeout=limit_s)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None
    raise AssertionError("it was not closed")


def heard_s() -> float:
    """Return the audio that live sessions of this process have taken so far."""
    value: float = telemetry.LIVE_AUDIO._value.get()
    return value


class Deaf:
    """A client that sends and never reads."""

    def __init__(self, site: Site, path: str = PATH) -> None:
        """Open a WebSocket."""
        url = httpx.URL(site.url)
        self.raw = sockets.socket()
        self.raw.settimeout(30)
        for option in (sockets.SO_RCVBUF, sockets.SO_SNDBUF):
            self.raw.setsockopt(sockets.SOL_SOCKET, option, 8192)
        self.raw.connect((str(url.host), url.port or 80))
        self.talk = ClientProtocol(parse_uri(f"ws://{url.host}:{url.port}{path}"))
        self.talk.send_request(self.talk.connect())
        self._flush()
        self.talk.receive_data(self.raw.recv(65_536))
        self.talk.data_to_send()

    def send(self, data: bytes) -> None:
        """Send a message."""
        self.talk.send_binary(data)
        self._flush()

    def say(self, text: str) -> None:
        """Send a text message."""
        self.talk.send_text(text.encode())
        self._flush()

    def ping(self) -> None:
        """Send a ping."""
        self.talk.send_ping(b"x" * 100)
        self._flush()

    def _flush(self) -> None:
        for data in self.talk.data_to_send():
            self.raw.sendall(data)


# ------------------------------------------------------------------------------------------------ who sends too fast


@pytest.mark.alone
def test_F7_audio_faster_than_it_is_transcribed_waits_at_its_sender_and_none_is_lost(make_site: MakeSite) -> None:
    """A minute at 20 times its pace: the server never holds more than 30 s, and the text is whole."""
    words = [list(range(n * 10, n * 10 + 10)) for n in range(12)]
    audio = joined(*[joined(spoken(*group), quiet(1.0)) for group in words])
    with dialled(bounded(make_site, _Slow()), f"{PATH}?partials=false") as socket:

        def speak() -> None:
            for at in range(0, len(audio), 3200):
                socket.send(audio[at : at + 3200].tobytes())
            tell(socket, "finish")

        threading.Thread(target=speak).start()
        messages = said(socket, "ended", 90)
    assert messages[-1]["text"] == " ".join(text_of(group) for group in words)


def test_F7_an_engine_that_stands_still_ends_the_session_with_1013(make_site: MakeSite) -> None:
    """No more than 30 s were taken by then, however much was sent, and memory stays where it was."""
    site = bounded(make_site, desk(hold=True), LineLimits(patience_s=1.0))
    with dialled(site, f"{PATH}?partials=false") as socket:
        for _ in range(5):
            socket.send(SECOND)
        before_s, before_bytes = heard_s(), _resident_bytes()
        flood = threading.Thread(target=_flood, args=(socket,))
        flood.start()
        assert closed_with(socket) == 1013
        flood.join(30)
    assert round(heard_s() - before_s, 6) <= LiveLimits().max_held_s
    assert _resident_bytes() - before_bytes < 20 << 20


def _flood(socket: ClientConnection) -> None:
    """Send twenty times as much audio as may be held."""
    try:
        for _ in range(20 * 30):
            socket.send(SECOND)
    except ConnectionClosed:
        return


class _Slow(WindowDesk):
    """Reads words, and takes a while for it."""

    def __init__(self) -> None:
        """Read at about sixty times the pace of speech."""
        super().__init__(reply=self._slowly)

    def _slowly(self, task: WindowTask) -> WindowResult:
        time.sleep(0.1)
        return read(task)


def _resident_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


@pytest.mark.parametrize(("frames", "size"), [(1, (1 << 20) + 1), (8, 200_000), (2000, 1)])
def test_F7_a_message_of_more_than_its_share_ends_the_session_with_1009(
    make_site: MakeSite, frames: int, size: int
) -> None:
    """Whether it is too long, too long in all, or of too many frames."""
    with dialled(bounded(make_site), PATH) as socket:
        said(socket, "ready")
        with suppress(ConnectionClosed):
            socket.send(b"x" * size if frames == 1 else iter([b"x" * size] * frames))
        assert closed_with(socket) == 1009


def test_F7_who_goes_on_sending_too_much_still_reads_why_it_ended(make_site: MakeSite) -> None:
    """The session is over at once, the connection is not: closed, it would be reset, and the reason lost with it."""
    site = bounded(make_site)
    client = Deaf(site)
    client.talk.send_binary(b"x", fin=False)
    for _ in range(MAX_FRAMES):
        client.talk.send_continuation(b"x", fin=False)
    client.raw.sendall(b"".join(client.talk.data_to_send()))
    wait_for(lambda: site.services.live.count == 0)
    for _ in range(5):
        time.sleep(0.05)
        client.talk.send_continuation(b"x", fin=False)
        client.raw.sendall(b"".join(client.talk.data_to_send()))
    while client.talk.close_rcvd is None:
        client.talk.receive_data(client.raw.recv(65_536))
    assert client.talk.close_rcvd.code == 1009
    client.raw.close()


@pytest.mark.alone
def test_F7_a_flood_of_tiny_messages_is_taken_apart_in_slices(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much arrives at a time, others get their turn after some hundred messages; none is lost."""
    most = 0
    take = SocketProtocol._take_slice

    def taken(self: SocketProtocol) -> None:
        nonlocal most
        before = self.queue.qsize()
        take(self)
        most = max(most, self.queue.qsize() - before)

    monkeypatch.setattr(SocketProtocol, "_take_slice", taken)
    client = Deaf(bounded(make_site))
    client.talk.send_binary(b"\0\0")
    frame = b"".join(client.talk.data_to_send())
    client.raw.sendall(frame * 20_000)
    client.say('{"type": "finish"}')
    received = b""
    while b'"ended"' not in received:
        received += client.raw.recv(65_536)
    assert b'"audio_duration":1.25' in received
    assert 0 < most <= SLICE_BYTES // len(frame) + 1
    client.raw.close()


# ------------------------------------------------------------------------------------------------ who does not read


def test_F8_a_reader_that_stalls_is_let_go(make_site: MakeSite) -> None:
    """It does not even read pings: closed once one was not answered, within 30 s as the server comes."""
    assert LiveBounds().ping_s + LiveBounds().pong_s <= 30.0
    assert LiveLimits().max_events <= 64
    site = bounded(make_site, ping_s=0.2, pong_s=0.4)
    client = Deaf(site)
    began = time.monotonic()
    with suppress(ConnectionError):  # It is gone before its place is free.
        while site.services.live.count:
            client.send(SECOND[:3200])
            assert time.monotonic() - began < 60
            time.sleep(0.05)
    wait_for(lambda: site.services.live.count == 0)
    client.raw.close()


def test_F8_messages_that_are_not_read_hold_the_session_up_and_then_end_it(make_site: MakeSite) -> None:
    """What waits is bounded by the kernel's buffers and the session's list: the sender of commits is held up."""
    site = bounded(make_site, line=LineLimits(send_s=1.0))
    client = Deaf(site)
    assert _sent_until_held_up(lambda: client.say('{"type": "commit"}')) < 30_000
    wait_for(lambda: site.services.live.count == 0)
    client.raw.close()


def _sent_until_held_up(send: Callable[[], None]) -> int:
    """Return how many messages could be sent until the connection took no more or was closed."""
    for sent in range(200_000):
        try:
            send()
        except OSError:
            return sent
    return 200_000


def test_F8_pings_whose_answers_are_not_read_end_the_connection(make_site: MakeSite) -> None:
    """Or the answers would pile up in memory."""
    site = bounded(make_site)
    client = Deaf(site)
    assert _sent_until_held_up(client.ping) < 30_000
    wait_for(lambda: site.services.live.count == 0)
    client.raw.close()


# ------------------------------------------------------------------------------------------------ who vanishes


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


_CROWD = """
import json, sys
from websockets.sync.client import connect
crowd = [connect(sys.argv[1]).__enter__() for _ in range(50)]
for one in crowd:
    one.send(b"\\0" * 3200)
print("here", flush=True)
sys.stdin.read()
"""


def test_F9_fifty_that_vanish_without_a_word_are_noticed_and_their_places_freed(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped processes: their connections stay open, and nobody answers. Threads and descriptors are given back."""
    ping, frozen = SocketProtocol.send_keepalive_ping, threading.Event()
    # Nobody is pinged before: on a busy machine, who has so short a time to answer would be let go while still there.
    monkeypatch.setattr(
        SocketProtocol, "send_keepalive_ping", lambda self: ping(self) if frozen.is_set() else self.schedule_ping()
    )
    site = bounded(make_site, max_sessions=50, ping_s=0.5, pong_s=1.0)
    threads, files = threading.active_count(), _open_files()
    url = site.url.replace("http", "ws", 1) + PATH
    with subprocess.Popen(
        [sys.executable, "-c", _CROWD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "here\n"
        try:
            assert site.services.live.count == 50
            with pytest.raises(InvalidStatus) as caught, dialled(site, PATH):
                pass
            assert caught.value.response.status_code == 503
            crowd.send_signal(signal.SIGSTOP)
            frozen.set()
            wait_for(lambda: site.services.live.count == 0)
            wait_for(lambda: threading.active_count() <= threads + 8)
            wait_for(lambda: _open_files() <= files + 5)
        finally:
            crowd.kill()


def test_a_caller_that_hangs_up_amid_a_session_leaves_nothing(make_site: MakeSite) -> None:
    """Its windows are withdrawn, its thread ends."""
    service = desk(hold=True)
    site = bounded(make_site, service)
    with dialled(site, PATH) as socket:
        socket.send(spoken(1, 2, 3).tobytes())
        wait_for(lambda: service.tasks)
    wait_for(lambda: all(future.done() for future in service.futures))
    wait_for(lambda: not [one for one in threading.enumerate() if one.name.startswith("live-")])


# ------------------------------------------------------------------------------------------------ who is let in


def test_there_are_only_so_many_places(make_site: MakeSite) -> None:
    """One more is refused before it is accepted, and told when to come again; a place that is free again is given."""
    site = bounded(make_site, max_sessions=1)
    with dialled(site, PATH) as first:
        said(first, "ready")
        with pytest.raises(InvalidStatus) as caught, dialled(site, "/v1/realtime"):
            pass
        response = caught.value.response
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert json.loads(response.body or b"")["error"]["code"] == "overloaded"
    with dialled(site, PATH) as second:
        said(second, "ready")


def test_a_house_that_is_nearly_full_takes_no_new_sessions(make_site: MakeSite) -> None:
    """Live speech is refused first, before it is accepted; when work has been done it is taken again."""
    site = bounded(make_site)
    house = site.services.house
    house.max_wait_s = 10.0
    place = house.admit(RequestContext("r"), 0, Errand())
    place.audio_s = 10_000.0
    others = [house.admit(RequestContext("r"), 0) for _ in range(3)]
    for other in others:
        other.audio_s = 10_000.0
    with pytest.raises(InvalidStatus) as caught, dialled(site, PATH):
        pass
    assert caught.value.response.status_code == 503
    assert "live sessions" in json.loads(caught.value.response.body or b"")["error"]["message"]
    for each in (place, *others):
        each.leave()
    with dialled(site, PATH) as socket:
        said(socket, "ready")


def test_J7_pages_of_other_sites_are_refused(tmp_path: Path) -> None:
    """Unless the operator allows them; the server's own pages and programs are let in."""
    desks = {"doors": Doors(origins=("https://app.example",))}
    with running(tmp_path, Limits(), readable(), desks) as site:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "evil"):
            with pytest.raises(InvalidStatus) as caught, dialled(site, PATH, origin=origin):
                pass
            assert caught.value.response.status_code == 403
            assert json.loads(caught.value.response.body or b"")["error"]["code"] == "foreign_origin"
        for own in (site.url, "https://app.example"):
            with dialled(site, PATH, origin=own) as socket:
                said(socket, "ready")


def test_a_server_that_starts_refuses(make_site: MakeSite) -> None:
    """As it refuses files."""
    site = bounded(make_site)
    site.services.backend._registry = None
    with pytest.raises(InvalidStatus) as caught, dialled(site, PATH):
        pass
    assert caught.value.response.status_code == 503


def test_a_process_without_a_model_says_where_to_go(make_site: MakeSite) -> None:
    """Live speech cannot be handed to another process."""
    with pytest.raises(InvalidStatus) as caught, dialled(make_site(), PATH):
        pass
    assert caught.value.response.status_code == 400
    assert "tympan serve" in json.loads(caught.value.response.body or b"")["error"]["message"]


@pytest.mark.parametrize("path", [PATH, "/v1/realtime"])
def test_a_request_without_a_websocket_is_told_to_upgrade(make_site: MakeSite, path: str) -> None:
    """With the status and the header that HTTP has for it."""
    answer = httpx.get(bounded(make_site).url + path)
    assert answer.status_code == 426
    assert answer.headers["upgrade"] == "websocket"
    assert answer.json()["error"]["code"] == "upgrade_required"


def test_a_websocket_elsewhere_is_404(make_site: MakeSite) -> None:
    """Also where there is a route for other requests."""
    for path in ("/", "/v1/models", "/livez"):
        with pytest.raises(InvalidStatus) as caught, dialled(bounded(make_site), path):
            pass
        assert caught.value.response.status_code == 404


def test_keys_are_asked_for_and_a_session_ends_with_its_key(tmp_path: Path) -> None:
    """In a header, or where browsers can put one; nobody else is let in, and who was revoked does not stay."""
    facts: dict[str, KeyFact] = {}
    ring = KeyRing(lambda ids: {each: facts[each] for each in ids if each in facts}, lambda _: None)
    token = mint()
    facts[token.id] = KeyFact("acme", token.secret_sha256, frozenset({"transcribe"}), False, None)
    try:
        with running(tmp_path, Limits(), readable(), {"doors": Doors(gate=Gate(Asks.ALWAYS, ring))}) as site:
            with pytest.raises(InvalidStatus) as caught, dialled(site, PATH):
                pass
            assert caught.value.response.status_code == 401
            offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{token.text}")]
            with dialled(site, "/v1/realtime", subprotocols=offered) as socket:
                assert socket.subprotocol == "realtime"
                said(socket, "session.created")
            with dialled(site, PATH, additional_headers={"Authorization": f"Bearer {token.text}"}) as socket:
                said(socket, "ready")
                facts[token.id] = replace(facts[token.id], revoked=True)
                assert closed_with(socket) == 1008
    finally:
        ring.close()


# ------------------------------------------------------------------------------------------------ how it ends


def test_a_server_that_stops_tells_what_it_has_heard(make_site: MakeSite) -> None:
    """The utterance that goes on is settled, then the connection is closed as for a restart."""
    site = bounded(make_site)
    with dialled(site, PATH) as socket:
        socket.send(spoken(1, 2, 3).tobytes())
        said(socket, "speech_started")
        site.stop()
        messages = said(socket, "error")
        assert next(one["text"] for one in messages if one["type"] == "final") == "w1 w2 w3"
        assert messages[-1]["error"]["code"] == "unavailable"
        assert closed_with(socket) == 1012


@pytest.mark.parametrize("audio", [None, quiet(0.2)])
def test_a_session_without_audio_ends(make_site: MakeSite, audio: Samples | None) -> None:
    """Whether none has come or no more comes; pings and answers do not count."""
    with dialled(bounded(make_site, line=LineLimits(idle_s=0.5)), PATH) as socket:
        if audio is not None:
            socket.send(audio.tobytes())
        assert said(socket, "error")[-1]["error"]["code"] == "request_timeout"
        assert closed_with(socket) == 1008


def test_a_session_lasts_only_so_long(make_site: MakeSite) -> None:
    """By the audio and by the clock; what was heard until then is told."""
    site = make_site(readable(), max_audio_s=2.0)
    with dialled(site, PATH) as socket:
        socket.send(joined(spoken(1, 2, 3), quiet(2.0)).tobytes())
        messages = said(socket, "error")
        assert next(one["text"] for one in messages if one["type"] == "final") == "w1 w2 w3"
        assert messages[-1]["error"]["code"] == "too_long"
        assert closed_with(socket) == 1009
    with dialled(site, PATH) as socket:
        socket.send(spoken(4).tobytes())
        messages = said(socket, "error")
        assert next(one["text"] for one in messages if one["type"] == "final") == "w4"
        assert closed_with(socket) == 1008


def test_what_is_no_websocket_message_ends_the_connection(make_site: MakeSite) -> None:
    """A frame without a mask, bytes that are no UTF-8: closed by the rules of the protocol, and the server lives."""
    site = bounded(make_site)
    client = Deaf(site)
    client.raw.sendall(bytes([0x82, 0x01, 0x00]))
    wait_for(lambda: site.services.live.count == 0)
    client.raw.close()
    with dialled(site, PATH) as socket:
        socket.send(b"\xff\xfe", text=True)
        assert closed_with(socket) == 1007
    with dialled(site, PATH) as socket:
        said(socket, "ready")


# ------------------------------------------------------------------------------------------------ whose it is


def test_a_tenant_has_only_so_many_sessions_and_so_much_audio(tmp_path: Path) -> None:
    """One session too many is 429; audio over the limit ends a session, and what was heard is told before."""
    mine = TenantLimits(live_at_once=1, audio_minutes_per_min=0.5)
    meter = UsageMeter()
    desks = {"limits": LimitDesk(LimitBook(mine)), "meter": meter}
    with running(tmp_path, Limits(), readable(), desks) as site, dialled(site, PATH) as socket:
        with pytest.raises(InvalidStatus) as caught, dialled(site, PATH):
            pass
        assert caught.value.response.status_code == 429
        assert socket.response is not None
        assert '"audio-minute";q=30' in socket.response.headers["ratelimit-policy"]
        for number in range(60):
            socket.send(joined(spoken(number), quiet(1.0)).tobytes())
        messages = said(socket, "error", 20)
        assert messages[-1]["error"]["code"] == "rate_limit_exceeded"
        finals = [one["text"] for one in messages if one["type"] == "final"]
        assert finals == [f"w{number}" for number in range(len(finals))]
        assert 20 <= len(finals) <= 35
    (key, used), *_ = meter._tally._amounts.items()
    assert (key[0], key[2:], used.requests, used.failures) == ("default", ("live", "base"), 1, 1)
    assert 28 <= used.audio_s <= 50
