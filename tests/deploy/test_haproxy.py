"""The shipped HAProxy in front of Tympan: what callers see when a server dies, drains or streams."""

import http.client
import json
import re
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.api.live_sites import dialled, readable, said, tell
from tests.api.support import ScriptedTranscriber, Site, site
from tests.deploy.files import DEPLOY
from tests.live_support import joined, quiet, spoken
from tests.operations.support import Server, recording, serving
from tests.servers import provision
from tests.servers.haproxy import HaproxyServer
from tests.servers.process import Keeper, free_port, wait_until
from tympan.api.deps import Limits

SHIPPED = DEPLOY / "haproxy" / "haproxy.cfg"
SERVERS = ("one", "two", "three")
CALLERS = 6
Front = Callable[..., HaproxyServer]


@pytest.fixture(scope="module")
def front(server_keeper: Keeper) -> Iterator[Front]:
    """Return a function that starts the shipped HAProxy before the servers at three addresses."""
    installation = provision.find("haproxy")
    if installation is None:
        pytest.skip("haproxy is not installed here")
    with ExitStack() as stack:

        def start(*addresses: str, text: str = "") -> HaproxyServer:
            moved = _moved(text or SHIPPED.read_text("utf-8"), dict(zip(SERVERS, addresses, strict=True)))
            server = HaproxyServer(server_keeper, installation, moved)
            stack.callback(server.close)
            server.start()
            wait_until(lambda: server.up("tympan") == set(SERVERS), 20, server.log_tail)
            return server

        yield start


def _moved(text: str, addresses: Mapping[str, str]) -> str:
    """Return the configuration with other ports and folders, and nothing else."""
    text = text.replace("bind 127.0.0.1:8080", "bind 127.0.0.1:@PORT@").replace("/run/haproxy/", "@FOLDER@/")
    for name, address in addresses.items():
        text, count = re.subn(rf"(server {name}) \S+", rf"\1 {address.removeprefix('http://')}", text)
        assert count == 1, name
    return text


def _url(server: HaproxyServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def _log(server: HaproxyServer) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


# ------------------------------------------------------------------------------------------- three real servers


@dataclass(slots=True)
class Load:
    """Callers that transcribe one clip after another, and what became of their calls."""

    url: str
    over: threading.Event = field(default_factory=threading.Event)
    answers: list[tuple[float, int]] = field(default_factory=list)
    """When a call began, and its status; 0 when the connection was closed instead."""

    def __enter__(self) -> Self:
        """Let them call until the block ends."""
        self._threads = [threading.Thread(target=self._run) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for their last calls."""
        self.over.set()
        for thread in self._threads:
            thread.join(60)

    _threads: list[threading.Thread] = field(default_factory=list)

    def _run(self) -> None:
        with httpx.Client() as client:
            while not self.over.is_set():
                began = time.monotonic()
                try:
                    self.answers.append((began, _transcribe(client, self.url).status_code))
                except httpx.RemoteProtocolError:
                    self.answers.append((began, 0))


def _transcribe(client: httpx.Client, url: str) -> httpx.Response:
    return client.post(
        f"{url}/v1/audio/transcriptions",
        files={"file": ("a.wav", recording(2.0))},
        data={"vad": "false"},
        timeout=30,
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Return three servers with a slow fake engine."""
    with ExitStack() as stack:
        knobs = {"ENGINE_OPTIONS": '{"ms_per_window": "150"}', "TRUSTED_PROXIES": '["127.0.0.1"]'}
        folders = [tmp_path_factory.mktemp(name) for name in SERVERS]
        yield [stack.enter_context(serving(folder, **knobs)) for folder in folders]


@pytest.fixture(scope="module")
def balanced(front: Front, servers: list[Server]) -> HaproxyServer:
    """Return HAProxy before the three."""
    return front(*(server.url for server in servers))


def _all_up(balanced: HaproxyServer, servers: list[Server]) -> None:
    for server in servers:
        if server.child.poll() is not None:
            server.start()
    wait_until(lambda: balanced.up("tympan") == set(SERVERS), 20, lambda: balanced.ask("show stat"))


@pytest.mark.long
def test_a_server_that_is_drained_is_missed_by_nobody(balanced: HaproxyServer, servers: list[Server]) -> None:
    """Taken out on the admin socket, stopped, started, put back, with callers all the time: the way to upgrade."""
    _all_up(balanced, servers)
    with Load(_url(balanced)) as load:
        wait_until(lambda: len(load.answers) >= CALLERS, 30)
        balanced.ask("set server tympan/one state drain")
        wait_until(lambda: _busy(balanced, "one") == 0, 30, lambda: balanced.ask("show stat"))
        servers[0].ask_to_stop()
        assert servers[0].exit_s()[0] == 0
        servers[0].start()
        balanced.ask("set server tympan/one state ready")
        known = len(_log(balanced))
        wait_until(lambda: any(line["upstream"] == "one" for line in _log(balanced)[known:]), 30)
    assert {status for _, status in load.answers} == {200}


def _busy(balanced: HaproxyServer, name: str) -> int:
    (row,) = [line.split(",") for line in balanced.ask("show stat").splitlines() if line.startswith(f"tympan,{name},")]
    return int(row[4])


def test_a_killed_server_costs_only_the_calls_that_it_held(balanced: HaproxyServer, servers: list[Server]) -> None:
    """SIGKILL under load: calls that find its door closed go elsewhere, and no POST is sent twice.

    HAProxy closes a connection on which a caller has asked before, in the place of an answer.
    """
    _all_up(balanced, servers)
    with Load(_url(balanced)) as load:
        wait_until(lambda: len(load.answers) >= 2 * CALLERS, 30)
        servers[1].kill()
        gone = time.monotonic()
        wait_until(lambda: sum(began > gone for began, _ in load.answers) > 2 * CALLERS, 30)
    statuses = Counter(status for _, status in load.answers)
    print(f"{len(load.answers)} calls: {statuses}")  # noqa: T201 (shown with -rP)
    assert set(statuses) <= {0, 200, 502}
    assert statuses[0] + statuses[502] <= CALLERS // len(SERVERS) + 1
    assert {status for began, status in load.answers if began > gone} == {200}
    wait_until(lambda: balanced.up("tympan") == {"one", "three"}, 10)


def test_a_resumable_upload_may_be_larger(balanced: HaproxyServer, servers: list[Server]) -> None:
    """How large is for Tympan to say: a piece of 150 MB passes where a form of it would not."""
    _all_up(balanced, servers)
    opening = {"tus-resumable": "1.0.0", "upload-length": "5000000000"}
    assert httpx.post(f"{_url(balanced)}/v1/uploads", headers=opening, timeout=20).status_code == 201
    assert _announce(balanced, "/v1/uploads/upl_none", 150_000_000)[0] != 413


def test_without_any_server_callers_hear_when_to_come_again(balanced: HaproxyServer, servers: list[Server]) -> None:
    """503 with Retry-After in OpenAI's envelope, at once."""
    for server in servers:
        server.kill()
    wait_until(lambda: balanced.up("tympan") == set(), 20)
    began = time.monotonic()
    refused = httpx.get(f"{_url(balanced)}/v1/models", timeout=20)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert time.monotonic() - began < 12


# -------------------------------------------------------------------------------------------- one scripted server


@pytest.fixture
def scripted(front: Front, tmp_path: Path) -> Iterator[tuple[Site, HaproxyServer]]:
    """Return a server that does what a test says, and HAProxy before it."""
    with site(tmp_path, Limits(), ScriptedTranscriber()) as behind:
        yield behind, front(*[behind.url] * 3)


def test_events_pass_as_they_happen(scripted: tuple[Site, HaproxyServer]) -> None:
    """The first text of a stream is here while the second is still made."""
    behind, proxy = scripted
    behind.transcriber.tells, behind.transcriber.pace_s = 2, 1.0
    times = []
    with httpx.stream(
        "POST",
        f"{_url(proxy)}/v1/audio/transcriptions",
        files={"file": ("clip.wav", b"RIFF")},
        data={"stream": "true"},
        timeout=20,
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        times = [time.monotonic() for line in answer.iter_lines() if "transcript.text.delta" in line]
    assert times[-1] - times[0] > 0.7


def test_an_upload_reaches_tympan_before_it_is_complete(scripted: tuple[Site, HaproxyServer]) -> None:
    """Nothing is collected: the first bytes of a body are counted by Tympan while the rest is still to come."""
    behind, proxy = scripted
    last = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"--x\r\ncontent-disposition: form-data; name=file; filename=a\r\n\r\n" + bytes(300_000)
        assert last.wait(60)
        yield b"\r\n--x--\r\n"

    def send() -> None:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        httpx.post(f"{_url(proxy)}/v1/audio/transcriptions", headers=headers, content=body(), timeout=60)

    before = _uploaded(behind)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_until(lambda: _uploaded(behind) >= before + 200_000, 8)
    finally:
        last.set()
        sender.join(60)


def _uploaded(behind: Site) -> float:
    lines = httpx.get(f"{behind.url}/metrics", timeout=5).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("tympan_uploaded_bytes_total "))


def test_the_work_of_a_caller_who_has_gone_is_dropped(scripted: tuple[Site, HaproxyServer]) -> None:
    """HAProxy does not wait for an answer that nobody wants."""
    behind, proxy = scripted
    behind.transcriber.seconds = 60.0
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{_url(proxy)}/v1/audio/transcriptions",
            files={"file": ("clip.wav", b"RIFF")},
            data={"stream": "true"},
            timeout=2,
        )
    assert behind.transcriber.cancelled.wait(30)


def test_sizes_closed_doors_ids_and_headers(scripted: tuple[Site, HaproxyServer]) -> None:
    """413 by the announced length, more for resumable uploads; no metrics for the outside; one id in both logs."""
    _, proxy = scripted
    url = _url(proxy)
    for path, n_bytes, status in (
        ("/v1/audio/transcriptions", 200_000_000, 413),
        ("/v1/batches", 20_000_000_000, 413),
    ):
        found, text = _announce(proxy, path, n_bytes)
        assert (found, json.loads(text)["error"]["code"]) == (status, "too_large")
    for path in ("/metrics", "/health"):
        closed = httpx.get(url + path, timeout=20)
        assert (closed.status_code, closed.json()["error"]["code"]) == (404, "not_found")
    mine = httpx.get(f"{url}/v1/models?note=secret-word", headers={"x-request-id": "mine-1"}, timeout=20)
    assert mine.headers["x-request-id"] == "mine-1"
    assert mine.headers.get_list("x-content-type-options") == ["nosniff"]
    assert mine.headers["x-frame-options"] == "DENY"
    other = httpx.get(f"{url}/v1/models", headers={"x-request-id": "bad id!"}, timeout=20).headers["x-request-id"]
    wait_until(lambda: {"mine-1", other} <= {str(line["request_id"]) for line in _log(proxy)}, 10, proxy.log_tail)
    assert "secret-word" not in proxy.log.read_text()


def _announce(proxy: HaproxyServer, path: str, n_bytes: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(n_bytes))
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


# -------------------------------------------------------------------------------------------------- live speech


@pytest.fixture(scope="module")
def live(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that reads words off live audio, as it is reached through HAProxy."""
    with site(tmp_path_factory.mktemp("staging"), Limits(), readable()) as behind:
        yield replace(behind, url=_url(front(*[behind.url] * 3)))


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/realtime?intent=transcription"])
def test_the_upgrade_passes(live: Site, path: str) -> None:
    """Both paths, from a page of the server's own address."""
    with dialled(live, path, origin=live.url) as socket:
        assert said(socket, "ready" if "stream" in path else "session.created")


def test_audio_and_text_pass_while_somebody_speaks(live: Site) -> None:
    """A partial arrives before the end of the audio, the rest after it, and a normal end."""
    with dialled(live, "/v1/stream") as socket:
        for number in range(1, 9):
            socket.send(spoken(number).tobytes())
        assert said(socket, "partial")[-1]["tail"]
        socket.send(joined(quiet(1.0)).tobytes())
        tell(socket, "finish")
        assert said(socket, "ended")[-1]["text"].endswith("w8")


def test_pages_of_other_sites_are_refused(live: Site) -> None:
    """HAProxy passes the host that callers know."""
    with pytest.raises(InvalidStatus) as caught, dialled(live, "/v1/stream", origin="https://evil.example"):
        pass
    assert caught.value.response.status_code == 403


# ------------------------------------------------------------------------------------------------ TLS, and callers


class _Echo(BaseHTTPRequestHandler):
    """Answers with the headers of the request."""

    def do_GET(self) -> None:
        """Answer."""
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name that it has there)
        """Be silent."""


def test_the_caller_is_who_the_connection_says(front: Front) -> None:
    """What callers write into the headers that tell of proxies is replaced; their key and the host pass."""
    behind = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=behind.serve_forever)
    thread.start()
    try:
        proxy = front(*[f"127.0.0.1:{behind.server_port}"] * 3)
        lies = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "authorization": "Bearer k"}
        heard = httpx.get(f"{_url(proxy)}/v1/models", headers=lies, timeout=20).json()
    finally:
        behind.shutdown()
        behind.server_close()
        thread.join(20)
    assert (heard["x-forwarded-for"], heard["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert (heard["authorization"], heard["host"]) == ("Bearer k", f"127.0.0.1:{proxy.port}")


def test_with_tls_plain_calls_are_sent_on(front: Front, tmp_path: Path) -> None:
    """The lines for TLS, as the page says: 308 on the plain port, TLS 1.2 at least, HSTS."""
    certificates, tls = tmp_path / "certificates", free_port()
    certificates.mkdir()
    _make_certificate(certificates)
    text = SHIPPED.read_text("utf-8").replace("# TLS: ", "").replace("bind :8443", f"bind 127.0.0.1:{tls}")
    text = text.replace("/etc/haproxy/certificates", str(certificates))
    with site(tmp_path / "behind", Limits()) as behind:
        proxy = front(*[behind.url] * 3, text=text)
        assert "valid" in proxy.check()
        sent_on = httpx.get(f"{_url(proxy)}/v1/models", timeout=20)
        assert (sent_on.status_code, sent_on.headers["location"][:8]) == (308, "https://")
        trusted = ssl.create_default_context(cafile=str(certificates / "fullchain.pem"))
        with httpx.Client(verify=trusted) as client:
            answer = client.get(f"https://localhost:{tls}/v1/models")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(str(certificates / "fullchain.pem"))
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        with httpx.Client(verify=old) as client:
            assert client.get(f"https://localhost:{tls}/livez").status_code == 200


def _make_certificate(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", "privkey.pem", "-out", "fullchain.pem"],
        cwd=folder, check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    both = (folder / "fullchain.pem").read_text() + (folder / "privkey.pem").read_text()
    (folder / "tympan.pem").write_text(both)
