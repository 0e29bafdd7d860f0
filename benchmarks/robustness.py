"""What damaged and malicious input does to a running server: ``python -m benchmarks.robustness``.

The server is a process of its own with the fake engine; all goes through HTTP. Files are cut short and have bits
flipped, files and addresses try to make the server read or reach what they name, an upload is far larger than memory.
What counts: answers that blame the server, processes that end, visits to a canary, memory, and how late the event loop
turns. The files are drawn with a fixed seed, so that everybody sends the same ones.
"""

import argparse
import http.client
import http.server
import json
import random
import re
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from benchmarks.facts import provenance
from benchmarks.server import Server
from tests import media
from tests.egress_support import REFUSED_URLS
from tympan.bench.pages import provenance_line, table

FORMATS = ("wav", "aiff", "caf", "flac", "mp3", "opus", "m4a", "mov", "webm", "mkv", "aac", "wv")
"""The formats that are damaged."""

FLIPS = 10_000
CUTS = 2_052
UPLOAD_BYTES = 5_000_000_000
CLIENTS = 4
STALLED = 200
ASKED = 200
CLIP_S = 0.5
SEED = 20
COMMAND = "python -m benchmarks.robustness"

_HEAD_BYTES = 256
_MOST_BITS = 64
_SERVER_ERROR = 500
_CUT = 599
"""Stands for a connection that ended without an answer, which is the server's fault too."""

_ANSWER_S = 120.0
_MIB = 1 << 20
_HTTP_PORT = 80

Answer = tuple[int, str, float]
"""Status, error code, and seconds."""


@dataclass(slots=True)
class Tally:
    """How a server answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        status, code, took_s = answer
        self.statuses[status] += 1
        self.codes[code] += 1
        self.slowest_s = max(self.slowest_s, took_s)

    @property
    def row(self) -> dict[str, Any]:
        """The counts as they are written down."""
        return {
            "sent": self.statuses.total(),
            "server_errors": sum(n for status, n in self.statuses.items() if status >= _SERVER_ERROR),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "codes": dict(self.codes.most_common()),
            "slowest_s": round(self.slowest_s, 2),
        }


def flipped(count: int) -> Iterator[bytes]:
    """Yield good files with 1 to 64 bits flipped: in every second one among its first bytes, where headers are."""
    dice = random.Random(SEED)
    good = [media.sample(name, CLIP_S) for name in FORMATS]
    for number in range(count):
        data = bytearray(good[number % len(good)])
        reach = len(data) if number // len(good) % 2 else min(_HEAD_BYTES, len(data))
        for _ in range(dice.randint(1, _MOST_BITS)):
            data[dice.randrange(reach)] ^= 1 << dice.randrange(8)
        yield bytes(data)


def truncated(count: int) -> Iterator[bytes]:
    """Yield good files cut short, each format at equal distances."""
    good = [media.sample(name, CLIP_S) for name in FORMATS]
    cuts = max(1, count // len(good))
    for number in range(cuts * len(good)):
        data = good[number % len(good)]
        yield data[: max(1, len(data) * (number // len(good)) // cuts)]


def playlists(target: str, port: int) -> Iterator[bytes]:
    """Yield files that name other files: relative, below, absolute and by address, as scripts and as playlists."""
    for where in ("secret.wav", "sub/secret.wav", target, f"http://127.0.0.1:{port}/secret.wav"):
        for head in ("", "stream\nexact_stream_id 0x1\n"):
            yield f"ffconcat version 1.0\n{head}file '{where}'\n".encode()
        for tag in ("", "#EXT-X-VERSION:3\n"):
            yield f"#EXTM3U\n{tag}#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{where}\n#EXT-X-ENDLIST\n".encode()
        yield f"[playlist]\nFile1={where}\n".encode()
        yield f'<?xml version="1.0"?><MPD><BaseURL>{where}</BaseURL></MPD>'.encode()


def send_all(url: str, bodies: Iterable[tuple[str, str, bytes]]) -> Tally:
    """Send requests (path, content type, body) from a few clients at once and count the answers."""
    tally, lock, waiting = Tally(), threading.Lock(), iter(bodies)

    def client() -> None:
        while True:
            with lock:
                request = next(waiting, None)
            if request is None:
                return
            answer = send(url, *request)
            with lock:
                tally.add(answer)

    with ThreadPoolExecutor(CLIENTS) as clients:
        for ended in [clients.submit(client) for _ in range(CLIENTS)]:
            ended.result()
    return tally


def send(url: str, path: str, kind: str, body: bytes) -> Answer:
    """Send one request and return how it was answered; an answer that is no JSON has its first words for a code."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_ANSWER_S)
    try:
        connection.request("POST", path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return _CUT, type(error).__name__, time.perf_counter() - started
    finally:
        connection.close()
    code = "" if status < HTTPStatus.BAD_REQUEST else _code(text)
    return status, code, time.perf_counter() - started


def _code(text: bytes) -> str:
    try:
        return str(json.loads(text)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return repr(text[:40])


def upload(data: bytes, name: str = "clip", **fields: str) -> tuple[str, str, bytes]:
    """Return a request for the transcript of a file."""
    return "/v1/audio/transcriptions", "multipart/form-data; boundary=x", form(data, name, {"vad": "false", **fields})


def form(data: bytes | None, name: str, fields: dict[str, str]) -> bytes:
    """Return a multipart body with fields and, unless it is ``None``, a file."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    body = "".join(parts).encode()
    if data is not None:
        body += (
            f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        )
    return body + b"--x--\r\n"


def addresses() -> Iterator[tuple[str, str, bytes]]:
    """Yield requests that name each of the refused addresses: for a job's audio, and for its webhook."""
    for url in REFUSED_URLS:
        yield "/v1/jobs", "application/json", json.dumps({"audio_url": url}).encode()
        yield "/v1/webhook-endpoints", "application/json", json.dumps({"url": url}).encode()


@contextmanager
def canary(*places: tuple[str, int]) -> Iterator[tuple[list[int], list[str]]]:
    """Serve audio at the places where that is allowed; give the ports that are served and the visits there."""
    visits: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visits.append(self.path)
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            self.wfile.write(media.wav(media.tone(1.0), 16_000))

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    ports = []
    with ExitStack() as stack:
        for place in places:
            try:
                server = stack.enter_context(http.server.ThreadingHTTPServer(place, Handler))
            except OSError:
                continue
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            ports.append(server.server_port)
        yield ports, visits


def metric(text: str, pattern: str) -> float:
    """Return the sum of the samples in a scrape whose line matches."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(pattern, line))


def scrape(url: str) -> str:
    """Return a server's metrics."""
    return httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text


def late_share(url: str, before: tuple[float, float]) -> float:
    """Return the share of the event loop's turns since ``before`` that were more than 50 ms late."""
    turns, prompt = lag(url)
    return round(1 - (prompt - before[1]) / max(1.0, turns - before[0]), 4)


def lag(url: str) -> tuple[float, float]:
    """Return how often the event loop's lateness was looked at, and how often it was at most 50 ms."""
    text, name = scrape(url), "tympan_loop_lag_seconds"
    return metric(text, f"{name}_count"), metric(text, rf'{name}_bucket{{le="0.05"}}')


def resident_bytes(pid: int) -> int:
    """Return the memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def large_upload(server: Server, n_bytes: int) -> dict[str, Any]:
    """Send one file of zeros that no memory holds, and watch the process that takes it."""
    start, piece = form(b"", "zeros", {}).removesuffix(b"\r\n--x--\r\n"), bytes(_MIB)
    end = b"\r\n--x--\r\n"

    def body() -> Iterator[bytes]:
        yield start
        left = n_bytes
        while left:
            size = min(left, len(piece))
            yield piece[:size]
            left -= size
        yield end

    before, turns = resident_bytes(server.pid), lag(server.base_url)
    most, over = [before], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            most.append(resident_bytes(server.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    connection = http.client.HTTPConnection(server.base_url.removeprefix("http://"), timeout=_ANSWER_S)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(n_bytes + len(start + end))}
    started = time.perf_counter()
    connection.request("POST", "/v1/audio/transcriptions", body(), headers)
    answer = connection.getresponse()
    code = _code(answer.read())
    took_s = time.perf_counter() - started
    connection.close()
    over.set()
    watching.join()
    return {
        "bytes": n_bytes,
        "status": answer.status,
        "code": code,
        "took_s": round(took_s, 1),
        "memory_added_mib": round((max(most) - before) / _MIB, 1),
        "late_share": late_share(server.base_url, turns),
    }


def stalled(url: str, count: int) -> dict[str, Any]:
    """Open sockets that say nothing, or half a head, and ask for other things beside them until all are closed."""
    host, port = url.removeprefix("http://").split(":")
    alone = [_asked_s(url) for _ in range(ASKED)]
    started = time.perf_counter()
    sockets = [socket.create_connection((host, int(port)), timeout=_ANSWER_S) for _ in range(count)]
    for connection in sockets[::2]:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost:")
    beside = [_asked_s(url) for _ in range(ASKED)]
    for connection in sockets:
        while connection.recv(4096):
            pass
        connection.close()
    closed_s = time.perf_counter() - started
    alone += [_asked_s(url) for _ in range(ASKED)]
    return {
        "sockets": count,
        "closed_s": round(closed_s, 1),
        "refused": sum(took_s is None for took_s in (*alone, *beside)),
        "p99_alone_ms": _p99_ms(alone),
        "p99_beside_ms": _p99_ms(beside),
    }


def _asked_s(url: str) -> float | None:
    """Return how long a small answer on a new connection took, ``None`` when it was refused."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_ANSWER_S)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    return time.perf_counter() - started if answer.status == HTTPStatus.OK else None


def _p99_ms(times: list[float | None]) -> float:
    ordered = sorted(took_s for took_s in times if took_s is not None)
    return round(ordered[int(0.99 * (len(ordered) - 1))] * 1000, 1)


def measure(
    flips: int = FLIPS, cuts: int = CUTS, upload_bytes: int = UPLOAD_BYTES, stalls: int = STALLED
) -> dict[str, Any]:
    """Return all figures, from one server that has to live through all of it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        canary(("127.0.0.1", 0), ("127.0.0.1", _HTTP_PORT)) as (
            ports,
            visits,
        ),
    ):
        work = Path(folder)
        secret = work / "secret.wav"
        secret.write_bytes(media.wav(media.tone(1.0), 16_000))
        settings = {"ENGINE": "fake", "DATA_DIR": str(work / "data"), "MAX_UPLOAD_MB": "6000", "MAX_AUDIO_S": "600",
                    "API_KEYS": "open"}  # fmt: skip
        environment = {f"TYMPAN_{name}": value for name, value in settings.items()}
        with Server(environment, work / "server.log") as server:
            url, pid = server.base_url, server.pid
            turns = lag(url)
            rows: dict[str, Callable[[], dict[str, Any]]] = {
                "good": lambda: send_all(url, (upload(media.sample(name, CLIP_S)) for name in FORMATS)).row,
                "truncated": lambda: send_all(url, (upload(data) for data in truncated(cuts))).row,
                "flipped": lambda: send_all(url, (upload(data) for data in flipped(flips))).row,
                "playlists": lambda: (
                    send_all(
                        url,
                        (upload(data, name) for name in ("a", "a.wav") for data in playlists(str(secret), ports[0])),
                    ).row
                ),
                "addresses": lambda: send_all(url, addresses()).row,
            }
            figures = {name: made() for name, made in rows.items()}
            late = late_share(url, turns)
            if stalls:
                figures["stalled"] = stalled(url, stalls)
            figures["upload"] = large_upload(server, upload_bytes)
            health = server.health()
            return {
                **figures,
                "late_share": late,
                "connections_ended": {
                    line.split('"')[1]: float(line.rsplit(" ", 1)[1])
                    for line in scrape(url).splitlines()
                    if line.startswith("tympan_connections_ended_total{")
                },
                "engine_restarts": metric(scrape(url), "tympan_engine_restarts_total"),
                "same_process": server.pid == pid and Path(f"/proc/{pid}").exists(),
                "status_after": health["status"],
                "canary_on_port_80": _HTTP_PORT in ports,
                "canary_visits": len(visits),
                "log_lines_of_crashes": (work / "server.log").read_text().count("unexpected_error"),
            }


def page(document: dict[str, Any]) -> str:
    """Return the page about these figures."""
    kinds = {
        "truncated": "files cut short",
        "flipped": "files with 1 to 64 bits flipped",
        "playlists": "files that name other files and addresses",
        "addresses": "addresses that lead inside, as audio and as webhook",
    }
    rows = [
        (
            what,
            f"{document[kind]['sent']:,}",
            document[kind]["server_errors"],
            ", ".join(f"{n:,} x {status}" for status, n in document[kind]["statuses"].items()),
            f"{document[kind]['slowest_s']:.2f} s",
        )
        for kind, what in kinds.items()
    ]
    sent = document["upload"]
    figures = [
        ("restarts of the server", 0 if document["same_process"] else 1, 0),
        ("restarts of the engine", round(document["engine_restarts"]), 0),
        ("unexpected errors in the log", document["log_lines_of_crashes"], 0),
        ("visits to canaries", document["canary_visits"], 0),
        ("turns of the event loop more than 50 ms late, meanwhile", f"{document['late_share']:.1%}", "1 %"),
        *_stalled_rows(document.get("stalled")),
        (f"memory that an upload of {sent['bytes'] / 1e9:g} GB adds", f"{sent['memory_added_mib']} MiB", "16 MiB"),
        ("turns more than 50 ms late during it", f"{sent['late_share']:.1%}", "1 %"),
    ]
    return "\n".join(
        [
            "# Robustness",
            "",
            f"What damaged and malicious input does to a running server with the fake engine. Written by `{COMMAND}`.",
            "",
            provenance_line(document),
            "",
            table(("sent over HTTP", "requests", "server errors", "answers", "slowest"), rows),
            "",
            f"The formats are {', '.join(FORMATS)}.",
            "A damaged file is answered with the text of what is left of it, or refused; one that kills or stalls its",
            "decoder is refused too, and costs nobody else anything.",
            "",
            table(("figure", "value", "goal"), figures),
            "",
        ]
    )


def _stalled_rows(waiting: dict[str, Any] | None) -> list[tuple[object, ...]]:
    """Return the rows about sockets that stall; results from before they were measured have none."""
    if waiting is None:
        return []
    return [
        (
            f"{waiting['sockets']} sockets that send nothing, or half a head, are closed",
            f"{waiting['closed_s']} s",
            "10 s",
        ),
        ("refusals of others meanwhile", waiting["refused"], 0),
        (
            "`/livez` on a new connection, 99th percentile: beside them, alone",
            f"{waiting['p99_beside_ms']} ms, {waiting['p99_alone_ms']} ms",
            "twice",
        ),
    ]


def main() -> None:
    """Measure, and write ``robustness.json`` and its page."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks/results"))
    given = parser.parse_args()
    document = {"name": "robustness", **provenance(), "command": COMMAND, **measure()}
    (given.results / "robustness.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (given.results.parent / "robustness.md").write_text(page(document), encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
