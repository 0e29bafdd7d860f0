"""The shipped nginx in front of three api processes: what clients see when a process dies, and of nginx itself."""

import http.client
import json
import signal
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.cluster.support import Cluster, Node, open_cluster
from tests.deploy.nginx_files import Ports, host_files, installed
from tests.media import tone, wav
from tests.servers import provision
from tests.servers.nginx import NginxServer
from tests.servers.postgres import Database, PostgresServer
from tests.servers.process import Keeper, free_port, wait_until
from tests.servers.rabbitmq import RabbitServer, VirtualHost
from tests.servers.s3 import KEYS, S3Bucket, S3Server

CLIP = wav(tone(2.0), 16_000)
CALLERS = 6
LOAD_S = 4.0


@dataclass(slots=True)
class Front:
    """nginx and the cluster behind it."""

    url: str
    tls_url: str
    folder: Path
    server: NginxServer
    cluster: Cluster
    apis: list[Node]

    def log(self) -> list[dict[str, object]]:
        """Return the lines of nginx's log."""
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]

    def ready(self) -> None:
        """Bring every api process back, whatever a test did to it, and empty the log."""
        for node in self.apis:
            node.signal(signal.SIGCONT)
            assert node.process is not None
            if node.process.poll() is not None:
                node.start()
        for node in self.apis:
            node.wait_ready()
        wait_until(self._all_asked, 15, lambda: f"nginx leaves some alone: {self.log()[-6:]}")
        (self.folder / "access.log").write_text("")

    def _all_asked(self) -> bool:
        """Return whether nginx hands requests to each process; one that was dead it leaves alone for a while."""
        for _ in self.apis:
            assert httpx.get(f"{self.url}/v1/models", timeout=10).status_code == 200
        return len({line["upstream"] for line in self.log()[-len(self.apis) :]}) == len(self.apis)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    rabbitmq_server: RabbitServer,
    s3_server: S3Server,
) -> Iterator[Cluster]:
    """Return a cluster without processes, for all tests here."""
    for server in (postgres_server, rabbitmq_server, s3_server):
        server.ensure()
    database, vhost = Database(postgres_server, "nginx"), VirtualHost(rabbitmq_server, "nginx")
    bucket = S3Bucket(s3_server, "nginx")
    settings = {"DATABASE_URL": database.url, "BROKER_URL": vhost.url, "STORAGE_URL": bucket.url()}
    with pytest.MonkeyPatch.context() as patch, ExitStack() as after:
        after.callback(database.drop)
        after.callback(vhost.drop)
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield after.enter_context(open_cluster(tmp_path_factory.mktemp("cluster"), settings))


@pytest.fixture(scope="module")
def running_front(cluster: Cluster, server_keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Return three api processes, a worker and a scheduler behind nginx, with and without TLS."""
    installation = provision.find("nginx")
    if installation is None:
        pytest.skip("nginx is not installed here")
    folder = tmp_path_factory.mktemp("front")
    apis = [cluster.add("api") for _ in range(3)]
    worker, _ = cluster.add("worker"), cluster.add("scheduler")
    worker.wait_ready()
    _make_certificate(folder / "tympan" / "certificates")
    door, tls = free_port(), free_port()
    ports = Ports(
        {8080: f"127.0.0.1:{door}", 8443: f"127.0.0.1:{tls}"},
        {f"127.0.0.1:{8001 + n}": f"127.0.0.1:{node.port}" for n, node in enumerate(apis)},
    )
    # Both kinds at once, the plain one without the redirection that comes with TLS.
    files = host_files("http") | {"conf.d/tympan-tls.conf": _without_redirection(host_files("tls"), folder)}
    server = NginxServer(server_keeper, installation, installed(files, folder, ports))
    server.start()
    yield Front(f"http://127.0.0.1:{door}", f"https://localhost:{tls}", folder, server, cluster, apis)
    server.close()


@pytest.fixture
def front(running_front: Front) -> Front:
    """Return nginx and what is behind it, all in order."""
    running_front.ready()
    return running_front


def _without_redirection(files: dict[str, Path], folder: Path) -> Path:
    text = files["conf.d/tympan-tls.conf"].read_text("utf-8")
    path = folder / "tls-only.conf"
    path.write_text(text[text.index("server {", text.index("server {") + 1) :])
    return path


def _make_certificate(folder: Path) -> None:
    folder.mkdir(parents=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", "privkey.pem", "-out", "fullchain.pem"],
        cwd=folder, check=True, capture_output=True, timeout=30,
    )  # fmt: skip


def _transcribe(client: httpx.Client, url: str) -> httpx.Response:
    return client.post(
        f"{url}/v1/audio/transcriptions", files={"file": ("a.wav", CLIP)}, data={"vad": "false"}, timeout=30
    )


@dataclass(slots=True)
class Load:
    """Callers that transcribe one clip after another, and what became of their calls.

    Each call has a connection of its own: when nginx is reloaded it closes idle ones, perhaps as a call begins on one.
    """

    url: str
    over: threading.Event = field(default_factory=threading.Event)
    answers: list[tuple[float, int, int]] = field(default_factory=list)
    """When a call began, who made it, and its status."""

    def run(self) -> None:
        """Call until it is over."""
        with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0)) as client:
            while not self.over.is_set():
                began = time.monotonic()
                status = _transcribe(client, self.url).status_code
                self.answers.append((began, threading.get_ident(), status))


def test_a_killed_process_costs_only_the_calls_that_it_held(front: Front) -> None:
    """SIGKILL under load: who was not connected to the dead process notices nothing; later calls all succeed."""
    load = Load(front.url)
    threads = [threading.Thread(target=load.run) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(load.answers) >= 2 * CALLERS, 30, front.cluster.logs)
    front.apis[0].kill()
    gone = time.monotonic()
    wait_until(lambda: time.monotonic() > gone + LOAD_S, LOAD_S + 5)
    load.over.set()
    for thread in threads:
        thread.join(40)
    failed = [answer for answer in load.answers if answer[2] != 200]
    after = [answer for answer in load.answers if answer[0] > gone]
    said = f"{len(load.answers)} calls, {len(failed)} failed: {Counter(status for *_, status in load.answers)}"
    assert len(after) > CALLERS, said
    assert all(status == 200 for *_, status in after), said
    # A process takes about a third of the calls that are under way; least_conn keeps it so. While it dies it may take
    # a caller's next call as well.
    assert len({caller for _, caller, _ in failed}) <= CALLERS // 3 + 1, said
    assert all(status == 503 for *_, status in failed), said
    # Calls that met a closed door were let in by the next one.
    moved = [line for line in _posts(front) if "," in str(line["upstream"])]
    assert all(line["upstream_status"] == "502, 200" for line in moved), moved
    print(f"{said}; {len(moved)} went to another process")  # noqa: T201 (shown with -rP)


@pytest.mark.long
def test_a_restart_that_nginx_is_told_of_is_noticed_by_nobody(front: Front) -> None:
    """Marked as down, drained, started again, marked as up: the way to upgrade, with callers all the time."""
    load, node = Load(front.url), front.apis[2]
    threads = [threading.Thread(target=load.run) for _ in range(3)]
    for thread in threads:
        thread.start()
    upstream = front.folder / "tympan" / "upstream.conf"
    shipped = upstream.read_text()
    upstream.write_text(shipped.replace(f"127.0.0.1:{node.port} ", f"127.0.0.1:{node.port} down "))
    front.server.reload()
    there = f"127.0.0.1:{node.port}"
    known = len(front.log())
    # The workers of nginx that know the old file end by themselves; then nothing new comes here.
    wait_until(
        lambda: len(front.log()) > known + 12 and all(line["upstream"] != there for line in front.log()[-6:]), 30
    )
    assert node.stop() == 0
    node.start()
    node.wait_ready()
    upstream.write_text(shipped)
    front.server.reload()
    known = len(load.answers)
    wait_until(lambda: len(load.answers) >= known + 6, 20)
    load.over.set()
    for thread in threads:
        thread.join(40)
    assert {status for *_, status in load.answers} == {200}


def test_no_call_is_sent_twice(front: Front) -> None:
    """A process that has had the first byte of a POST keeps it: when it dies nobody else is asked to do it too."""
    frozen = front.apis[1]
    frozen.signal(signal.SIGSTOP)
    calls = [threading.Thread(target=_quietly, args=(front.url,)) for _ in range(3)]
    for call in calls:
        call.start()
    wait_until(lambda: len(_posts(front)) == 2, 20, lambda: f"{front.log()}")
    frozen.kill()
    for call in calls:
        call.join(30)
    lines = _posts(front)
    assert [(line["status"], line["upstream_status"]) for line in lines] == [(200, "200"), (200, "200"), (503, "502")]
    assert lines[2]["upstream"] == f"127.0.0.1:{frozen.port}"


def _posts(front: Front) -> list[dict[str, object]]:
    return [line for line in front.log() if line["method"] == "POST"]


def _quietly(url: str) -> None:
    with httpx.Client() as client:
        _transcribe(client, url)


def test_a_refusal_has_the_same_shape_from_nginx_and_from_tympan(front: Front) -> None:
    """413 before the body is read, whoever says it, and 503 when nobody answers: OpenAI's envelope each time."""
    for n_bytes, is_ours in ((200_000_000, False), (100_000_000 + (2 << 20), True)):
        status, headers, body = _announce(front, n_bytes)
        assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
        assert headers["content-type"].startswith("application/json")
        assert headers["x-content-type-options"] == "nosniff"
        assert ("x-request-id" in headers) == is_ours
    # Resumable uploads may be longer; how long is for Tympan to say.
    opening = {"tus-resumable": "1.0.0", "upload-length": "5000000000"}
    assert httpx.post(f"{front.url}/v1/uploads", headers=opening, timeout=20).status_code == 201
    for node in front.apis:
        node.kill()
    gone = httpx.get(f"{front.url}/v1/models", timeout=20)
    assert (gone.status_code, gone.json()["error"]["code"]) == (503, "unavailable")
    assert gone.headers["retry-after"] == "2"


def _announce(front: Front, n_bytes: int) -> tuple[int, dict[str, str], str]:
    """Send the head of an upload of ``n_bytes`` and return the answer to it: status, headers, body."""
    connection = http.client.HTTPConnection(front.url.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", "/v1/audio/transcriptions")
    connection.putheader("Content-Length", str(n_bytes))
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.endheaders()
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    text = answer.read().decode()
    connection.close()
    return answer.status, headers, text


def test_events_arrive_as_they_happen(front: Front) -> None:
    """An event of a job is here while the job still waits, and the rest when it comes."""
    (worker,) = [node for node in front.cluster.nodes if node.kind == "worker"]
    worker.signal(signal.SIGSTOP)
    try:
        job = httpx.post(f"{front.url}/v1/jobs", files={"file": ("a.wav", CLIP)}, timeout=30).json()
        with httpx.stream("GET", f"{front.url}/v1/jobs/{job['id']}/events", timeout=10) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            lines = (line for line in events.iter_lines() if line.startswith("data:"))
            assert "queued" in next(lines)
            worker.signal(signal.SIGCONT)
            assert "succeeded" in list(lines)[-1]
    finally:
        worker.signal(signal.SIGCONT)


def test_an_upload_reaches_tympan_before_it_is_complete(front: Front) -> None:
    """No copy is kept by nginx: the first bytes of a body are counted by Tympan while the rest is still to come."""
    last = threading.Event()
    before = _uploaded(front)

    def body() -> Iterator[bytes]:
        yield b"--x\r\ncontent-disposition: form-data; name=file; filename=a\r\n\r\n" + bytes(300_000)
        assert last.wait(20)
        yield b"\r\n--x--\r\n"

    def send() -> None:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        httpx.post(f"{front.url}/v1/audio/transcriptions", headers=headers, content=body(), timeout=30)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_until(lambda: _uploaded(front) >= before + 200_000, 8)
    finally:
        last.set()
        sender.join(30)
    assert not list((front.server.folder / "body").glob("**/*.tmp"))


def _uploaded(front: Front) -> int:
    texts = [httpx.get(f"{node.url}/metrics", timeout=5).text for node in front.apis]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("tympan_uploaded_bytes_total ")]
    return int(sum(float(line.split()[-1]) for line in lines))


def test_tls_headers_ids_and_closed_doors(front: Front) -> None:
    """TLS 1.2 at least, security headers once each, the caller's id in both logs, no metrics for the outside."""
    trusted = ssl.create_default_context(cafile=str(front.folder / "tympan" / "certificates" / "fullchain.pem"))
    with httpx.Client(verify=trusted) as client:
        answer = client.get(f"{front.tls_url}/v1/models?note=secret-word", headers={"x-request-id": "mine-1"})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == "mine-1"
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        for name in ("x-content-type-options", "x-frame-options", "referrer-policy"):
            assert len(answer.headers.get_list(name)) == 1, name
        assert "nginx/" not in answer.headers["server"]
        assert _transcribe(client, front.tls_url).status_code == 200
        forged = client.get(f"{front.tls_url}/v1/models", headers={"x-request-id": 'a"b{}'})
        assert len(forged.headers["x-request-id"]) == 32
        assert [client.get(f"{front.tls_url}/{path}").status_code for path in ("metrics", "health")] == [404, 404]
        assert client.get(f"{front.tls_url}/readyz").status_code == 200
        page = client.get(f"{front.tls_url}/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert client.get(f"{front.tls_url}/ui/js/main.js").status_code == 200
    old = ssl.create_default_context(cafile=str(front.folder / "tympan" / "certificates" / "fullchain.pem"))
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    with httpx.Client(verify=old) as client:
        assert client.get(f"{front.tls_url}/livez").status_code == 200
    log = (front.folder / "access.log").read_text()
    assert '"request_id":"mine-1"' in log
    assert "secret-word" not in log


def test_keys_close_the_door_to_everybody_else(front: Front) -> None:
    """With a key in callers.conf a call without it gets 401 in OpenAI's envelope."""
    callers = front.folder / "tympan" / "callers.conf"
    shipped = callers.read_text()
    callers.write_text('default 0;\n"Bearer a-long-random-key" 1;\n')
    front.server.reload()
    try:
        wait_until(lambda: httpx.get(f"{front.url}/v1/models", timeout=5).status_code == 401, 10)
        refused = httpx.get(f"{front.url}/v1/jobs", timeout=5)
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"
        key = {"authorization": "Bearer a-long-random-key"}
        assert httpx.get(f"{front.url}/v1/models", headers=key, timeout=5).status_code == 200
        assert httpx.get(f"{front.url}/livez", timeout=5).status_code == 200
    finally:
        callers.write_text(shipped)
        front.server.reload()
    wait_until(lambda: httpx.get(f"{front.url}/v1/models", timeout=5).status_code == 200, 10)
