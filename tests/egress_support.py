"""Hosts that behave and misbehave, names that lead astray, and every odd way to write an address."""

import contextlib
import ipaddress
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tympan.egress import Address, DownloadLimits, Egress, EgressRules, LookupFailed, PostLimits
from tympan.egress.wire import Meter, never
from tympan.errors import TympanError

# Hosts as they can stand in a web address. Each must be refused; none may be looked up or connected to.
REFUSED_HOSTS = (
    # IPv4 as it is written
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.127.255.255", "169.254.169.254"),  # noqa: S104
    *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    # IPv4 in other spellings
    *("2130706433", "017700000001", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "0x7f.1", "127.1", "127.0.1", "0", "0x"),
    *("127.0.0.01", "127.0.0.1.", "127.0.0.256", "1.2.3.4.5", "0X7F.0X0.0X0.0X1", "08.0.0.1", "4294967297", "00"),
    *("127.0.0.1..", "10.0x1", "a.127", "1.1.1.1.1", "3232235777", "010.010.010.010", "0300.0250.1.1"),
    # the same with other digits, dots and letters
    *("１２７.0.0.1", "127。0。0。1", "127．0．0．1", "①②⑦.⓪.⓪.①", "localhost", "LOCALHOST", "LocalHost."),  # noqa: RUF001
    *("ⓛocalhost", "a.localhost", "ｌｏｃａｌｈｏｓｔ", "loca\u212ahost.localhost", "𝟏𝟐𝟕.𝟎.𝟎.𝟏"),  # noqa: RUF001
    # escapes
    *("127%2e0%2e0%2e1", "%31%32%37.0.0.1", "localhost%00", "127.0.0.1%00.example.com", "%6cocalhost"),
    # IPv6 of this machine or network
    *(
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[fec0::1]",
        "[fc00::1]",
    ),
    *("[fd00:ec2::254]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]", "[FE80::1]"),
    # IPv4 in IPv6
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:10.0.0.1]", "[::127.0.0.1]", "[::7f00:1]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]"),
    *("[2001:0:7f00:1::1]", "[2001:10::1]", "[::ffff:0:127.0.0.1]", "[::ffff:8.8.8.8]", "[64:ff9b::8.8.8.8]"),
    # brackets that are not right
    *("[127.0.0.1]", "[::1", "::1", "[::1]]", "[[::1]]", "[v1.127.0.0.1]", "[]", "[::1%25]", "[::1].example.com"),
    # user names
    *("user@127.0.0.1", "example.com@127.0.0.1", "user:pass@example.com", "@example.com", "127.0.0.1:80@example.com"),
    # ports
    *("example.com:22", "example.com:0", "example.com:65536", "example.com:080", "example.com:", "example.com:8080"),
    *("8.8.8.8:25", "example.com:80:80", "example.com:-80", "example.com:８０", "example.com:80 "),  # noqa: RUF001
    # names that are none
    *(
        "",
        ".",
        "..",
        "-a.example",
        "a-.example",
        "a..example",
        "a" * 64 + ".example",
        "a." * 130 + "example",
        "exa mple",
    ),
    *("example.com\\@127.0.0.1", "example.com\t", "example\x00.com", "example.com\r\nHost: x", "ex<ample", "*.example"),
)
REFUSED_URLS = (
    *(f"http://{host}/a" for host in REFUSED_HOSTS),
    *(
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "//example.com/",
        "example.com",
        "",
        "http:",
    ),
    *("http:example.com", "http:/example.com", "http:///example.com", "javascript:alert(1)", "data:,x", "unix:/a"),
    *("http://example.com#@127.0.0.1/", "https://example.com/#a", "http://example.com\\.evil/", " http://example.com/"),
    *(
        "http://example.com/a b",
        "http://example.com/\n",
        "http://" + "a" * 9000,
        "blob:http://example.com/",
        "ws://a.b/",
    ),
)

# Failures are told at once, except where the test is about their time.
LIMITS = DownloadLimits(max_bytes=1 << 20, total_s=10.0, answer_s=2.0, told_after_s=0.0)
POST = PostLimits(total_s=2.0)

PUBLIC = ipaddress.ip_address("93.184.216.34")
PUBLIC_V6 = ipaddress.ip_address("2606:2800:220:1::1")


class ScriptedResolver:
    """Gives out the lists of answers it was given, one a question, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        """Take the answers; without any, a question is a failure."""
        self._answers = [[ipaddress.ip_address(text) for text in texts] for texts in answers]
        self.questions: list[str] = []

    def resolve(self, host: str, timeout_s: float) -> Sequence[Address]:
        """Return the next answer."""
        self.questions.append(host)
        if not self._answers:
            raise LookupFailed("no such name")
        return self._answers[min(len(self.questions), len(self._answers)) - 1]


@dataclass
class Visit:
    """One connection to a host: what was asked, and the means to answer."""

    connection: socket.socket
    request: bytes
    stopped: threading.Event

    @property
    def path(self) -> str:
        """The path that was asked for."""
        return self.request.split(b" ")[1].decode()

    def send(self, data: bytes) -> bool:
        """Send ``data``; return whether the other side still takes it."""
        try:
            self.connection.sendall(data)
        except OSError:
            return False
        return not self.stopped.is_set()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer; underscores in names of headers stand for hyphens."""
        lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


@dataclass
class Host:
    """A host on loopback that answers every connection as it is told."""

    behave: Callable[[Visit], None]
    address: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    visits: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Open the port and begin to answer."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._listener.bind((self.address, self.port))
        self._listener.listen(64)
        self._listener.settimeout(0.5)
        self.port = int(self._listener.getsockname()[1])
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up on everyone."""
        self._stopped.set()
        for connection in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    @property
    def rule(self) -> str:
        """The exception that lets a request through to this host."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def url(self, path: str = "/a", name: str | None = None) -> str:
        """Return an address on this host."""
        return f"{'https' if self.tls else 'http'}://{name or self.address}:{self.port}{path}"

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        self.visits.append(connection.getsockname()[0])
        self._open.append(connection)
        try:
            connection.settimeout(10)
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            request = _read_request(connection)
            if request:
                self.requests.append(request)
                self.behave(Visit(connection, request, self._stopped))
                _say_goodbye(connection)
        except OSError:
            return  # The other side has hung up, which is what most of these tests are about.
        finally:
            connection.close()


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def _say_goodbye(connection: socket.socket) -> None:
    """End the connection without a reset, as far as the other side has read everything."""
    with contextlib.suppress(OSError, ValueError):  # The test itself may have ended it already.
        if isinstance(connection, ssl.SSLSocket):
            connection = connection.unwrap()
        connection.shutdown(socket.SHUT_WR)


def reset(visit: Visit) -> None:
    """Hang up with a reset."""
    visit.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    visit.connection.close()


def hang(visit: Visit) -> None:
    """Say nothing until the test is over."""
    visit.stopped.wait(60)


def closed_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def silent_port(address: str = "127.0.0.1") -> Iterator[int]:
    """Give a port that does not answer new connections: its queue is full and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        queue = (_is_taken(stack.enter_context(socket.socket()), port) for _ in range(8))
        assert not all(queue), "the queue does not fill up"
        yield port


def _is_taken(connection: socket.socket, port: int) -> bool:
    """Return whether a new connection is taken; on loopback that needs no time."""
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    return bool(select.select([], [connection], [], 0.2)[1])


def certify(folder: Path, *names: str, days: int = 1) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS for ``names`` from an authority of its own, and the authority's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = folder / "authority.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both = folder / "server.pem"
    both.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + public.read_bytes()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, public


def egress_for(host: Host, resolver: ScriptedResolver | None = None) -> Egress:
    """Return a way out that may reach ``host`` beside the internet."""
    return Egress(EgressRules(allow=(host.rule,)), resolver or ScriptedResolver(), connect_timeout_s=2.0)


def fetch(egress: Egress, url: str, folder: Path, limits: DownloadLimits = LIMITS) -> bytes:
    """Return what a download of ``url`` brings."""
    path = folder / "fetched"
    n_bytes = egress.download(url, path, limits, never)
    data = path.read_bytes()
    assert n_bytes == len(data)
    return data


def both_ways(egress: Egress, url: str, folder: Path) -> Iterator[Callable[[], object]]:
    """Yield the two errands to ``url``."""
    yield lambda: egress.post(url, b"{}", {}, POST)
    yield lambda: egress.download(url, folder / "fetched", LIMITS, never)


def endless(visit: Visit) -> None:
    """Send without end."""
    visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while visit.send(b"x" * 65536):
        pass


def endless_chunks(visit: Visit) -> None:
    """Send without end, in chunks."""
    visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while visit.send(b"10000\r\n" + b"x" * 65536 + b"\r\n"):
        pass


def watch_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list that the size of everything read off the wire goes to."""
    sizes: list[int] = []
    count = Meter.read

    def record(self: Meter, n_bytes: int) -> None:
        sizes.append(n_bytes)
        count(self, n_bytes)

    monkeypatch.setattr(Meter, "read", record)
    return sizes


def drip_head(visit: Visit) -> None:
    """Send the head a byte at a time."""
    while visit.send(b"H") and not visit.stopped.wait(0.05):
        pass


def stall(visit: Visit) -> None:
    """Stop in the middle of the body."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
    hang(visit)


def endless_head(visit: Visit) -> None:
    """Send headers without end."""
    visit.send(b"HTTP/1.1 200 OK\r\n")
    while visit.send(b"X-A: b\r\n" * 1000):
        pass


def endless_preludes(visit: Visit) -> None:
    """Send provisional answers without end."""
    while visit.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000):
        pass


def short_body(visit: Visit) -> None:
    """Send less than announced."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")


def no_http(visit: Visit) -> None:
    """Speak another protocol."""
    visit.send(b"SSH-2.0-OpenSSH_9.2\r\n")


def reset_midway(visit: Visit) -> None:
    """Hang up in the middle of the body."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
    reset(visit)


def failure(errand: Callable[[], object]) -> tuple[type[TympanError], str, str, str | None, float | None]:
    """Return everything that the outside learns from an errand that fails, its time apart."""
    with pytest.raises(TympanError) as caught:
        errand()
    error = caught.value
    return type(error), error.code, str(error), error.param, error.retry_after_s
