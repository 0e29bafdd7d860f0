"""The two errands that lead out: fetch audio that a request names, and deliver a message to a receiver."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpcore

from tympan.egress.addresses import AddressPolicy, EgressRules
from tympan.egress.exchange import CONNECT_S, TOLD_AFTER_S, TROUBLE, Ask, Dialer, told_alike
from tympan.egress.heads import EXCERPT_BYTES, Answer, Head, printable
from tympan.egress.resolver import Resolver, SystemResolver
from tympan.egress.urls import Target
from tympan.egress.wire import Broken, Meter, TooSlow
from tympan.errors import AddressRefused, Cancelled, FetchFailed, InsufficientStorage, InvalidRequest, TooLarge
from tympan.telemetry import get_logger

_PARAM = "audio_url"
_POLL_S = 0.25
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOG = get_logger(__name__)

# The library's own lines at this level would hold header values, and so addresses with signatures in them.
logging.getLogger("httpcore").setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class PostLimits:
    """What one delivery may cost: ``total_s`` from name lookup to the end of the answer, ``max_answer_bytes`` read.

    ``told_after_s`` is for the sender: earlier than that after its beginning nobody outside learns of a failure.
    """

    total_s: float = 20.0
    max_answer_bytes: int = 64 << 10
    told_after_s: float = TOLD_AFTER_S


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """What one download may cost, all hops together.

    The head of each answer has ``answer_s`` to come; after that each ``window_s`` must bring ``min_bytes_per_s`` on
    average. A hop that fails does so ``told_after_s`` after its beginning or later, so that its time does not tell why.
    """

    max_bytes: int
    total_s: float = 3600.0
    answer_s: float = 30.0
    min_bytes_per_s: float = 8192.0
    window_s: float = 10.0
    max_redirects: int = 3
    told_after_s: float = TOLD_AFTER_S


class Egress:
    """The only way out; safe to share between threads. Calls block: give each a thread."""

    def __init__(
        self, rules: EgressRules, resolver: Resolver | None = None, connect_timeout_s: float = CONNECT_S
    ) -> None:
        """Keep to ``rules``. Raises ``ConfigError`` for a rule that cannot be read.

        ``connect_timeout_s`` bounds name lookup, connection and handshake of one hop together.
        """
        self._dialer = Dialer(AddressPolicy(rules), resolver or SystemResolver(), connect_timeout_s)

    def check(self, url: str, param: str | None = None) -> None:
        """Raise what can be said against ``url`` at once; ``param`` is the request field it came in.

        Raises ``InvalidRequest`` and ``AddressRefused``. The DNS is not asked: what a name leads to is checked when it
        is used, because it can change until then.
        """
        self._dialer.target(url, param)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], limits: PostLimits) -> Answer:
        """Send ``body`` and return what came back, whatever its status; redirects are not followed.

        Raises ``InvalidRequest``, ``AddressRefused`` and, when no answer came, ``FetchFailed``. It does so at once, so
        that the thread is free again: to hide how long it took is up to the sender.
        """
        started = time.monotonic()
        target = self._dialer.target(url)
        meter = Meter(limits.total_s, limits.max_answer_bytes)
        ask = Ask("POST", tuple(headers.items()), body)
        with (
            told_alike(target, "The message could not be delivered to its address."),
            self._dialer.open(target, ask, meter, limits.total_s) as response,
        ):
            head = Head(response)
            excerpt = "" if head.is_encoded else printable(_beginning(response, target))
        return Answer(head.status, head.retry_after_s, excerpt, time.monotonic() - started)

    def download(self, url: str, target: Path, limits: DownloadLimits, cancelled: Callable[[], bool]) -> int:
        """Fetch ``url`` to the file ``target``, which is there, synced, if and only if this returns its size in bytes.

        Raises ``InvalidRequest`` and ``AddressRefused`` (no use to try again), ``TooLarge``, ``FetchFailed`` (may work
        later), ``InsufficientStorage`` and ``Cancelled``.
        """
        try:
            with contextlib.closing(_Fetch(self._dialer, limits, cancelled).pieces(url)) as pieces:
                return _save(pieces, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


class _Fetch:
    """One download on its way through its redirects."""

    def __init__(self, dialer: Dialer, limits: DownloadLimits, cancelled: Callable[[], bool]) -> None:
        self._dialer = dialer
        self._limits = limits
        self._cancelled = cancelled
        self._meter = Meter(limits.total_s, None, cancelled)

    def pieces(self, url: str) -> Generator[bytes, None, None]:
        """Yield the body at the end of the redirects."""
        target = self._dialer.target(url, _PARAM)
        for _ in range(self._limits.max_redirects + 1):
            with (
                told_alike(target, hold_back=self._hold_back),
                self._dialer.open(target, Ask("GET"), self._meter, self._limits.answer_s) as response,
            ):
                head = Head(response)
                if head.location is None:
                    yield from self._body(head, response)
                    return
            # A redirect that is refused looks like one to a host that does not answer.
            with told_alike(target, hold_back=self._hold_back):
                target = self._redirected(target, head.location)
        with told_alike(target, hold_back=self._hold_back):
            raise Broken("too many redirects")

    def _hold_back(self, began: float) -> None:
        """Wait until a failure of what began then may be told. Raises ``Cancelled``."""
        while (left_s := began + self._limits.told_after_s - time.monotonic()) > 0:
            if self._cancelled():
                raise Cancelled
            time.sleep(min(left_s, _POLL_S))

    def _redirected(self, target: Target, location: str) -> Target:
        """Return the next hop; a refusal is no more visible to the caller than any other trouble."""
        if not location:
            raise Broken("redirect to nowhere")
        try:
            following = self._dialer.redirected(target, location)
        except (InvalidRequest, AddressRefused) as error:
            raise Broken(f"redirect refused: {error.message}") from error
        if target.scheme == "https" and following.scheme != "https":
            raise Broken("redirect from https to http")
        return following

    def _body(self, head: Head, response: httpcore.Response) -> Generator[bytes, None, None]:
        self._check(head)
        n_bytes = 0
        self._meter.demand(self._limits.min_bytes_per_s, self._limits.window_s)
        try:
            for piece in response.iter_stream():
                n_bytes += len(piece)
                self._check_size(n_bytes)
                self._meter.use(len(piece))
                self._meter.left_s()
                yield piece
        except TooSlow as error:
            _LOG.warning("egress_slow", reason=str(error), n_bytes=n_bytes)
            raise FetchFailed("The audio came too slowly.", param=_PARAM, remedy="Upload the file instead.") from error

    def _check(self, head: Head) -> None:
        if head.is_passing_failure:
            raise FetchFailed(
                f"The address of the audio answered with status {head.status}.",
                param=_PARAM,
                remedy="Try again later.",
                retry_after_s=head.retry_after_s,
            )
        if head.status != 200:
            raise InvalidRequest(
                f"The address of the audio answered with status {head.status}.",
                param=_PARAM,
                remedy="Give an address that anyone can fetch, such as one with a signature that is still valid.",
            )
        if head.is_encoded:
            raise InvalidRequest(
                "The audio came with a Content-Encoding, although none was asked for.",
                param=_PARAM,
                remedy="Serve the file as it is; audio is compressed.",
            )
        self._check_size(head.length_bytes or 0)

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._limits.max_bytes:
            raise TooLarge(
                f"The audio is larger than {self._limits.max_bytes / 1e6:g} MB.",
                param=_PARAM,
                remedy="Offer a compressed format (opus, mp3, m4a) or cut the file; MAX_UPLOAD_MB sets the limit.",
            )


def _beginning(response: httpcore.Response, target: Target) -> bytes:
    """Return as much of the body as is kept; the status counts even if the body never comes."""
    data = b""
    try:
        for piece in response.iter_stream():
            data += piece
            if len(data) >= EXCERPT_BYTES:
                break
    except TROUBLE as error:
        _LOG.info("egress_answer_cut_short", host=target.host, port=target.port, cause=type(error).__name__)
    return data


def _save(pieces: Iterable[bytes], path: Path) -> int:
    n_bytes = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            n_bytes += len(piece)
            with _room():
                file.write(piece)
        with _room():
            file.flush()
            os.fsync(file.fileno())
    return n_bytes


@contextlib.contextmanager
def _room() -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage(remedy="Try again later; the operator has to free disk space.") from error
        raise
