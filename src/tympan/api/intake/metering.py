"""Every request that brings work is let in by its tenant's limits, is told how the tenant stands, and is counted.

A route need not think of it: whatever is asked for with POST, PUT or PATCH brings work unless it is listed here.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tympan import telemetry
from tympan.access.gcra import Reading
from tympan.access.limits import Admission, LimitDesk
from tympan.access.tenant_limits import MB, REQUESTS, TenantLimits, Work, reserved_s
from tympan.access.usage import UsageMeter, Used
from tympan.api.access.callers import tenant_of
from tympan.api.deps import Limits, Services, services_of
from tympan.api.intake.incoming import announced_bytes
from tympan.domain import Transcript
from tympan.errors import RateLimited, TooLarge

Result = TypeVar("Result")

KINDS = MappingProxyType(
    {
        "/v1/jobs": Work.JOB,
        "/v1/jobs/{job_id}/retry": Work.JOB,
        "/v1/batches": Work.JOB,
        "/transcribe/async": Work.JOB,
        "/v1/uploads": Work.UPLOAD,
        "/v1/uploads/": Work.UPLOAD,
        "/v1/uploads/{upload_id}": Work.UPLOAD,
    }
)
"""Work that is not answered while the caller waits; what is not here is ``SYNC``."""

FREE = frozenset(
    {
        "/v1/jobs/{job_id}/audio-link",
        "/v1/jobs/{job_id}/cancel",
        "/v1/jobs/{job_id}/edited",
        "/v1/batches/{batch_id}/cancel",
        "/v1/models/{model_id:path}",
        "/load",
    }
)
"""Routes that bring no work."""

_FREE_FAMILIES = ("/v1/webhook-endpoints", "/v1/admin/", "/v1/capacity/")
_APPENDING = "/v1/uploads/{upload_id}"
"""Its requests are parts of one upload, which was let in when it was created."""

_WORKING_METHODS = ("POST", "PUT", "PATCH")
_OK, _CLIENT_ERROR, _GONE, _SERVER_ERROR = 200, 400, 499, 500
_FORM_BYTES = 1 << 20


def work_of(path: str, method: str) -> Work | None:
    """Return what kind of work the route ``path`` brings when it is asked with ``method``; ``None`` for none."""
    if method not in _WORKING_METHODS or path in FREE or path.startswith(_FREE_FAMILIES):
        return None
    return KINDS.get(path, Work.SYNC)


@dataclass(slots=True)
class Bill:
    """What one request is let in with and comes to; closed when its answer has been sent."""

    tenant: str
    kind: Work
    admission: Admission
    release: Callable[[], None] = lambda: None
    model: str = telemetry.UNKNOWN
    used: Used = field(default_factory=Used)
    settled_s: float | None = None
    spent_s: float = 0.0
    told_s: float = 0.0  # How far into the audio the text has been told before the end.
    resumes: bool = False
    is_paid: bool = False  # By another request for the same work.
    failure: int | None = None

    def note(self, transcript: Transcript) -> None:
        """Charge a transcript, unless somebody else has paid for it."""
        self.model, self.settled_s = transcript.model, 0.0
        if not self.is_paid:
            worked_s = 0.0 if transcript.is_cached else transcript.processing_s
            self.used = Used(audio_s=transcript.duration_s, processing_s=worked_s)
            self.settled_s = transcript.duration_s

    def note_jobs(self, n_bytes: Sequence[int | None]) -> None:
        """Charge jobs whose files have these sizes with what is held back for them until they have ended."""
        self.settled_s = sum(map(reserved_s, n_bytes))

    def resume(self) -> None:
        """Charge no further request: this one goes on with what an earlier one has begun and paid for."""
        self.resumes = True

    def note_speech(self, audio_s: float) -> None:
        """Charge what was heard of somebody who spoke, as far as it was not charged while it was spoken."""
        self.used, self.settled_s = Used(audio_s=audio_s), audio_s - self.spent_s

    def fail(self, status: int, model: str) -> None:
        """Note a failure with this status, which may come too late for the head of the answer."""
        self.failure, self.model = status, model

    def close(self, status: int, meter: UsageMeter) -> None:
        """Settle and count; ``status`` is what was answered, 499 when nobody was there to hear it."""
        self.release()
        status = self.failure or status
        if self.settled_s is None and self.told_s and status < _SERVER_ERROR:
            # Who leaves before the end has what was told.
            self.used, self.settled_s = Used(audio_s=self.told_s), self.told_s
        if status >= _SERVER_ERROR:
            self.admission.forgive()
        elif self.settled_s is not None or status >= _CLIENT_ERROR:
            self.admission.settle(self.settled_s or 0.0, resumes=self.resumes)
        if self.kind in (Work.SYNC, Work.LIVE) and (status != _GONE or self.told_s):
            one = Used(requests=1, failures=int(status >= _CLIENT_ERROR))
            meter.add(self.tenant, self.kind, self.model, self.used.plus(one))


async def let_in(connection: HTTPConnection) -> None:
    """Let a request in by the limits of its tenant, before its body is read.

    Raises ``RateLimited``, ``QuotaExceeded``, ``TooLarge``, and what asking the database raises.
    """
    if not isinstance(connection, Request):
        return
    kind = work_of(connection.scope["route"].path, connection.method)
    if kind is None:
        return
    services, tenant = services_of(connection), tenant_of(connection)
    desk = services.desks.limits
    limits, n_bytes = desk.of(tenant), announced_bytes(connection)
    connection.state.limits = limits
    _check_size(connection, limits, n_bytes)
    if connection.scope["route"].path == _APPENDING:
        await _check_room(services, tenant, kind, 0)
        return
    await _admit(connection, services, kind, n_bytes)


@asynccontextmanager
async def speaking(socket: HTTPConnection, services: Services) -> AsyncIterator[Bill]:
    """Let a live session in for the length of the block, by the limits of its tenant. Raises as ``let_in``."""
    bill = await _bill(socket, services, Work.LIVE, reserved_s(0))
    try:
        yield bill
    finally:
        desks = services.desks
        await _ask(desks.limits, lambda: bill.close(_OK, desks.meter))


async def _bill(connection: HTTPConnection, services: Services, kind: Work, audio_s: float) -> Bill:
    desk, tenant = services.desks.limits, tenant_of(connection)
    release = await _ask(desk, lambda: desk.grasp(tenant, kind))
    try:
        admission = await _ask(desk, lambda: desk.admit(tenant, audio_s))
    except BaseException as error:
        await _ask(desk, release)
        if isinstance(error, RateLimited):
            connection.state.readings = await _ask(desk, lambda: desk.standing(tenant))
        raise
    connection.state.readings = admission.readings
    return Bill(tenant, kind, admission, release)


async def _admit(request: Request, services: Services, kind: Work, n_bytes: int) -> None:
    audio_s = 0.0 if kind is Work.UPLOAD else reserved_s(n_bytes)
    bill = request.state.bill = await _bill(request, services, kind, audio_s)
    await _check_room(services, bill.tenant, kind, max(n_bytes, _length(request)))


async def _check_room(services: Services, tenant: str, kind: Work, n_bytes: int) -> None:
    desk = services.desks.limits
    limits = desk.of(tenant)
    if kind is not Work.SYNC and (limits.storage_mb or limits.jobs_at_once):
        await services.runner.query(lambda: desk.check_room(tenant, kind, n_bytes))


def limits_of(request: Request) -> TenantLimits:
    """Return the limits that a request was let in by."""
    found: TenantLimits | None = getattr(request.state, "limits", None)
    return found or services_of(request).desks.limits.of(tenant_of(request))


def bounds_of(request: Request) -> Limits:
    """Return what ``request`` may take: the server's limits, or its tenant's where they are narrower."""
    own, limits = limits_of(request), services_of(request).limits
    return replace(
        limits,
        max_upload_bytes=own.smaller_upload(limits.max_upload_bytes),
        max_audio_s=own.shorter_audio(limits.max_audio_s),
    )


def bill_of(request: Request) -> Bill | None:
    """Return what a request is charged on; ``None`` when it brings no work."""
    found: Bill | None = getattr(request.state, "bill", None)
    return found


def charge_jobs(request: Request, n_bytes: Sequence[int | None]) -> None:
    """Charge ``request`` with new jobs whose files have these sizes; with none, it has made none."""
    if (bill := bill_of(request)) is not None:
        bill.note_jobs(n_bytes)


class Metering:
    """ASGI middleware: tells callers how they stand, and closes the bill when the answer has been sent."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        """Wrap ``app``."""
        self._app, self._desks = app, services.desks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one exchange; other protocols pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        status = _GONE

        async def send_with_standing(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(standing_headers(state.get("readings", ())))
            await send(message)

        try:
            await self._app(scope, receive, send_with_standing)
        except Exception:
            status = _SERVER_ERROR
            raise
        finally:
            if (bill := state.get("bill")) is not None:
                await _ask(self._desks.limits, lambda: bill.close(status, self._desks.meter))


def standing_headers(readings: Sequence[Reading]) -> dict[str, str]:
    """Return how a tenant stands as headers: the IETF's draft (ratelimit-headers-10) and, for requests, OpenAI's."""
    if not readings:
        return {}
    found = {
        "ratelimit-policy": ", ".join(map(_policy, readings)),
        "ratelimit": ", ".join(f'"{each.name}";r={each.remaining};t={math.ceil(each.full_in_s)}' for each in readings),
    }
    for each in readings:
        if each.name == REQUESTS:
            found["x-ratelimit-limit-requests"] = str(int(each.charge.rate.units))
            found["x-ratelimit-remaining-requests"] = str(each.remaining)
            found["x-ratelimit-reset-requests"] = f"{math.ceil(each.full_in_s)}s"
    return found


def _policy(reading: Reading) -> str:
    rate, unit = reading.charge.rate, "" if reading.name == REQUESTS else ';qu="audio-seconds"'
    return f'"{reading.name}";q={int(rate.units)};w={int(rate.period_s)}{unit}'


def _check_size(request: Request, limits: TenantLimits, n_bytes: int) -> None:
    most = limits.upload_mb * MB
    if most and max(n_bytes - _FORM_BYTES, _length(request)) > most:
        raise TooLarge(
            f"The body is larger than {limits.upload_mb} MB, the most you may send.",
            remedy="Send a compressed format (opus, mp3, m4a) or cut the file.",
        )


def _length(request: Request) -> int:
    """Return the length that a resumable upload announces; what is none is refused where it is read."""
    text = request.headers.get("upload-length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(1 << 63)) else 0


async def _ask(desk: LimitDesk, work: Callable[[], Result]) -> Result:
    """Return what ``work`` returns, which may wait for another process for 50 ms."""
    return await asyncio.to_thread(work) if desk.ledger.blocks else work()
