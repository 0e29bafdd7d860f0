"""One request to one checked address, and what the outside is told when it fails.

For the caller every failure before an answer reads the same: a closed port, one that stays silent, a name that leads
to a refused address, a certificate that does not fit. And each is to be told at the same time after it began. Else
requests could be used to look around in the network that the server stands in. The operator's log says which it was,
without path and query, because those can be secrets.
"""

import contextlib
import functools
import os
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpcore
import httpx

import tympan
from tympan.egress import urls
from tympan.egress.addresses import AddressPolicy
from tympan.egress.resolver import LookupFailed, Resolver
from tympan.egress.urls import Address, Target
from tympan.egress.wire import Broken, Meter, PinnedBackend
from tympan.errors import FetchFailed
from tympan.telemetry import get_logger

_LOG = get_logger(__name__)

TROUBLE = (Broken, OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
"""What an exchange that does not work out ends with."""

CONNECT_S = 5.0
"""How long name lookup, connection and handshake of one hop may take together."""

TOLD_AFTER_S = CONNECT_S + 0.5
"""How long after a hop began its failure is told, unless it took longer: no connection takes so long to fail."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is sent, apart from where to."""

    method: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Dialer:
    """Checks where a request goes, looks the name up once, and talks to what was checked; safe to share."""

    def __init__(self, policy: AddressPolicy, resolver: Resolver, connect_timeout_s: float) -> None:
        """Trust the usual authorities, or those that ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` name."""
        self._policy = policy
        self._resolver = resolver
        self._connect_timeout_s = connect_timeout_s
        self._tls = _authorities(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))

    def target(self, url: str, param: str | None = None) -> Target:
        """Return what ``url`` means. Raises ``InvalidRequest`` and ``AddressRefused``; does not ask the DNS."""
        target = urls.parse(url, param)
        self._policy.check(target, param)
        return target

    def redirected(self, base: Target, location: str) -> Target:
        """Return where a redirect leads, checked like a first address, and raise what ``target`` does."""
        target = urls.follow(base, location)
        self._policy.check(target)
        return target

    @contextlib.contextmanager
    def open(self, target: Target, ask: Ask, meter: Meter, answer_s: float) -> Iterator[httpcore.Response]:
        """Send ``ask`` and give the answer, whose head has ``answer_s`` to come; the connection ends with the block.

        No proxy, password file or cookie has a part in it. Raises ``Broken`` and the errors of the HTTP library.
        """
        meter.begin(self._connect_timeout_s)
        backend = PinnedBackend(self._addresses(target, meter), target.port, meter, answer_s)
        connection = httpcore.HTTPConnection(
            httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port),
            ssl_context=self._tls,
            network_backend=backend,
        )
        try:
            yield connection.handle_request(_request(target, ask))
        finally:
            backend.close()

    def _addresses(self, target: Target, meter: Meter) -> Sequence[Address]:
        if target.literal is not None:
            return [target.literal]
        try:
            answers = self._resolver.resolve(target.host, meter.left_s())
        except LookupFailed as error:
            raise Broken(f"lookup: {error}") from error
        if refused := self._policy.refused(answers, target.port):
            raise Broken(f"the name leads to {refused[0]}")
        return answers


@functools.cache
def _authorities(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Return what certificates are checked with; reading them takes 0.1 s of processor time, so once for each value."""
    return httpx.create_ssl_context()


def at_once(_began: float) -> None:
    """Let a failure be told when it happens, because its time is hidden elsewhere."""


@contextlib.contextmanager
def told_alike(
    target: Target, message: str | None = None, hold_back: Callable[[float], None] = at_once
) -> Iterator[None]:
    """Turn every trouble on the way into one ``FetchFailed`` with ``message``; the log gets the cause.

    ``hold_back`` returns when a failure may be told of what began then (monotonic seconds).
    """
    began = time.monotonic()
    try:
        yield
    except TROUBLE as error:
        cause = error.__cause__ or error
        _LOG.warning(
            "egress_failed",
            host=target.host,
            port=target.port,
            reason=str(error) if isinstance(error, Broken) else type(error).__name__,
            cause=type(cause).__name__,
            after_ms=round((time.monotonic() - began) * 1000),
        )
        hold_back(began)
        raise FetchFailed(message, remedy="Check that the address can be reached from the internet.") from error


def _request(target: Target, ask: Ask) -> httpcore.Request:
    own = {
        "Host": target.host_header,
        "User-Agent": f"tympan/{tympan.__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if ask.method == "POST":
        own["Content-Length"] = str(len(ask.body))
    ours = {name.lower() for name in own} | {"content-length", "transfer-encoding"}
    headers = [*own.items(), *((name, value) for name, value in ask.headers if name.lower() not in ours)]
    return httpcore.Request(
        ask.method,
        httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
        headers=headers,
        content=ask.body,
    )
