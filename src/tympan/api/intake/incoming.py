"""The bytes of a request as they come in, whatever they are: announced, at a pace, within bounds, to the disk."""

import asyncio
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection, Request
from starlette.types import Message

from tympan import telemetry
from tympan.api.deps import services_of
from tympan.api.runner import Runner
from tympan.errors import Cancelled, InsufficientStorage, InvalidRequest, RequestTimeout, TooLarge, Unavailable

_FLOOR_BYTES_PER_S = 500.0
_LOOK_S = 0.25
"""How often to see whether the server still waits, while nothing comes."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bounds of one upload: bytes of the file, pause between two pieces, and when it has to be there (monotonic)."""

    max_bytes: int
    idle_s: float
    deadline: float


@dataclass(slots=True)
class Pace:
    """Whether an upload comes fast enough to be worth a place in the house."""

    limits: UploadLimits
    started: float = field(default_factory=time.monotonic)
    n_bytes: int = 0

    def add(self, n_bytes: int) -> None:
        """Count bytes that have come. Raises ``RequestTimeout`` when there are too few of them by now."""
        self.n_bytes += n_bytes
        elapsed_s = time.monotonic() - self.started
        if elapsed_s > self.limits.idle_s and self.n_bytes < elapsed_s * _FLOOR_BYTES_PER_S:
            raise RequestTimeout("The upload is too slow.", remedy=f"Send at least {_FLOOR_BYTES_PER_S:g} bytes/s.")

    @property
    def patience_s(self) -> float:
        """How long to wait for the next piece."""
        return min(self.limits.idle_s, max(0.0, self.limits.deadline - time.monotonic()))


async def check_encoding(request: HTTPConnection) -> None:
    """Raise ``InvalidRequest`` for a body that says it is compressed, whatever the route: none is ever inflated."""
    told = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    if any(coding.strip() not in ("", "identity") for coding in told):
        raise InvalidRequest(
            "Compressed request bodies are not accepted.",
            param="Content-Encoding",
            remedy="Send the body uncompressed; audio formats are compressed already.",
        )


def announced_bytes(request: Request) -> int:
    """Return the announced length of the body, 0 when it is not announced.

    Raises ``InvalidRequest`` for a length that is none.
    """
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest("The Content-Length header is not a number.", remedy="Let the HTTP client set it.")
    return int(text)


async def next_chunk(request: Request, pace: Pace) -> bytes | None:
    """Return the next piece of the body, ``None`` at its end.

    Raises ``RequestTimeout`` for a body that stops or comes too slowly, ``Cancelled`` when the caller hangs up, and
    ``Unavailable`` when the server stops and waits no longer.
    """
    if request.scope["state"].get("body_complete"):
        return None
    message = await _next_message(request, pace)
    if message["type"] == "http.disconnect":
        raise Cancelled
    chunk: bytes = message.get("body", b"")
    pace.add(len(chunk))
    telemetry.UPLOADED.inc(len(chunk))
    return chunk


async def _next_message(request: Request, pace: Pace) -> Message:
    house, patience_s = services_of(request).house, pace.patience_s
    until = time.monotonic() + patience_s
    while not house.evicting:
        try:
            async with asyncio.timeout(min(patience_s, _LOOK_S)):
                return await request.receive()
        except TimeoutError:
            patience_s = until - time.monotonic()
            if patience_s <= 0:
                raise RequestTimeout("The upload stopped.", remedy="Send the body without long pauses.") from None
    raise Unavailable("The server is stopping.", remedy="Try again.", retry_after_s=5.0)


async def receive_text(request: Request, limits: UploadLimits) -> bytes:
    """Return a body that is no form with files: JSON, or fields in a URL's spelling.

    Raises ``TooLarge``, and what ``next_chunk`` raises.
    """
    pace, body = Pace(limits), bytearray()
    while (chunk := await next_chunk(request, pace)) is not None:
        body += chunk
        if len(body) > limits.max_bytes:
            raise TooLarge(f"The body is larger than {limits.max_bytes >> 10} kB.", remedy="Send audio as a file.")
    return bytes(body)


async def to_disk(runner: Runner, write: Callable[[], None]) -> None:
    """Do one write in a thread. Raises ``InsufficientStorage`` when the disk is full, else what ``write`` raises."""
    try:
        await runner.to_disk(write)
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage(remedy="Try again later; the operator has to free disk space.") from error
        raise
