"""What a tenant may still do: asked before any work is taken on, told what it came to afterwards."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from tympan import telemetry
from tympan.access.gcra import Charge, Reading
from tympan.access.ledger import Ledger, LocalLedger
from tympan.access.tenant_limits import (
    AUDIO_DAY,
    AUDIO_MINUTE,
    MB,
    REQUESTS,
    UNLIMITED,
    OwnLimits,
    TenantLimits,
    Work,
    reserved_s,
)
from tympan.background import Background
from tympan.errors import QuotaExceeded, RateLimited, TympanError
from tympan.storage.ids import MEASURING_TENANT

_LOG = telemetry.get_logger(__name__)
_LOOK_S = 2.0
_JOIN_S = 5.0
_AT_ONCE_RETRY_S = 5.0
_STORAGE_RETRY_S = 600.0
_REMEDY = "Wait for the time in Retry-After, or ask the operator for a higher limit."
_SAID = MappingProxyType(
    {REQUESTS: "requests a minute", AUDIO_MINUTE: "seconds of audio a minute", AUDIO_DAY: "seconds of audio a day"}
)
_KINDS = MappingProxyType({Work.SYNC: "requests", Work.LIVE: "live sessions"})


@dataclass(frozen=True, slots=True)
class Possessions:
    """What a tenant has here: jobs that have not ended, and bytes of uploads and audio."""

    n_jobs: int = 0
    n_bytes: int = 0


class LimitBook:
    """Every tenant's limits: the installation's, and its own over them, which are looked up every 2 s."""

    def __init__(self, defaults: TenantLimits, look_up: Callable[[], Mapping[str, OwnLimits]] = dict) -> None:
        """Begin with ``defaults`` for all; ``look_up`` returns the tenants that have limits of their own."""
        self._defaults, self._look_up = defaults, look_up
        self._own: Mapping[str, OwnLimits] = {}
        self._failed = False
        self._background = Background("limit-book", self._run, _JOIN_S)

    def of(self, tenant: str) -> TenantLimits:
        """Return a tenant's limits; what is measured with golden sets has none."""
        if tenant == MEASURING_TENANT:
            return UNLIMITED
        own = self._own.get(tenant)
        return own.over(self._defaults) if own else self._defaults

    def refresh(self) -> None:
        """Look the limits up; what was known stays when that fails."""
        try:
            self._own = self._look_up()
        except TympanError as error:
            self._complain(code=error.code)
        except Exception as error:  # noqa: BLE001 (the thread has to live on)
            self._complain(**telemetry.crash_report(error))
        else:
            self._failed = False

    def start(self) -> None:
        """Begin to look them up."""
        self._background.start()

    def stop(self) -> None:
        """Stop."""
        self._background.stop()

    def _complain(self, **why: object) -> None:
        """Log a failure, once for all that follow it."""
        if not self._failed:
            _LOG.warning("limits_not_looked_up", **why)
        self._failed = True

    def _run(self) -> None:
        while True:
            self.refresh()
            if self._background.over.wait(_LOOK_S):
                return


@dataclass(slots=True)
class Admission:
    """What one piece of work was let in with. It is settled once: with what it came to, or not at all."""

    ledger: Ledger
    tenant: str
    limits: TenantLimits
    readings: tuple[Reading, ...] = ()
    reserved_s: float = 0.0
    settled: bool = False

    def settle(self, audio_s: float, *, resumes: bool = False) -> None:
        """Charge the seconds of audio that it has really been, in place of those held back for it.

        What ``resumes`` an earlier request is no request of its own.
        """
        self._close(self.limits.charges(-1 if resumes else 0, audio_s - self.reserved_s))

    def forgive(self) -> None:
        """Give everything back: it came to nothing, and that was our fault."""
        self._close(self.limits.charges(-1, -self.reserved_s))

    def _close(self, charges: list[Charge]) -> None:
        if not self.settled:
            self.settled = True
            self.ledger.settle(self.tenant, [charge for charge in charges if charge.n])


@dataclass(frozen=True, slots=True)
class LimitDesk:
    """Lets work in, or says what is over the limit. Without arguments nobody has any.

    ``possessions`` returns what a tenant has here; it may ask the database.
    """

    book: LimitBook = field(default_factory=lambda: LimitBook(UNLIMITED))
    ledger: Ledger = field(default_factory=LocalLedger)
    possessions: Callable[[str], Possessions] = lambda _: Possessions()

    def of(self, tenant: str) -> TenantLimits:
        """Return a tenant's limits."""
        return self.book.of(tenant)

    def admit(self, tenant: str, audio_s: float) -> Admission:
        """Let one request in and hold ``audio_s`` seconds of audio back for it, no more than a whole burst.

        Raises ``RateLimited``, and ``QuotaExceeded`` for the limits of a day.
        """
        limits = self.book.of(tenant)
        charges = limits.charges(1, audio_s)
        least_s = min((charge.rate.units for charge in charges if charge.name != REQUESTS), default=audio_s)
        held_s = min(audio_s, least_s)
        taken = self.ledger.take(tenant, limits.charges(1, held_s))
        if taken.refused is not None:
            telemetry.LIMITS_REFUSED.labels(taken.refused.name).inc()
            raise _over(taken.refused)
        return Admission(self.ledger, tenant, limits, taken.readings, held_s)

    def spend(self, tenant: str, audio_s: float) -> None:
        """Charge ``audio_s`` seconds of a session that goes on. Raises ``RateLimited`` and ``QuotaExceeded``."""
        taken = self.ledger.take(tenant, self.book.of(tenant).charges(0, audio_s))
        if taken.refused is not None:
            telemetry.LIMITS_REFUSED.labels(taken.refused.name).inc()
            raise _over(taken.refused)

    def owe(self, tenant: str, audio_s: float) -> None:
        """Charge ``audio_s`` seconds that were taken already, whatever is left of the limits."""
        if charges := self.book.of(tenant).charges(0, audio_s):
            self.ledger.settle(tenant, charges)

    def standing(self, tenant: str) -> tuple[Reading, ...]:
        """Return how a tenant stands with each rate; nothing is taken."""
        return self.ledger.take(tenant, self.book.of(tenant).charges(0, 0)).readings

    def settle_job(self, tenant: str, n_bytes: int | None, audio_s: float) -> None:
        """Charge a job that has ended for ``audio_s``, in place of what its file of ``n_bytes`` was held back for."""
        self.owe(tenant, audio_s - reserved_s(n_bytes))

    def grasp(self, tenant: str, kind: Work) -> Callable[[], None]:
        """Count one more of ``kind``; call what is returned when it has ended. Raises ``RateLimited``."""
        most = self.book.of(tenant).at_once(kind)
        if not most:
            return lambda: None
        token = self.ledger.hold(tenant, kind.value, most)
        if token is None:
            telemetry.LIMITS_REFUSED.labels(f"{kind.value}-at-once").inc()
            raise RateLimited(
                f"You already have {most} {_KINDS[kind]} running, the most you may have at a time.",
                remedy="Wait until one has finished, or ask the operator for a higher limit.",
                retry_after_s=_AT_ONCE_RETRY_S,
            )
        return lambda: self.ledger.release(tenant, kind.value, token)

    @contextmanager
    def hold(self, tenant: str, kind: Work) -> Iterator[None]:
        """Count one more of ``kind`` inside the ``with`` block. Raises ``RateLimited``; may block for 50 ms."""
        release = self.grasp(tenant, kind)
        try:
            yield
        finally:
            release()

    def check_room(self, tenant: str, kind: Work, n_bytes: int) -> None:
        """Refuse early what storing it would refuse: one more job or upload, of ``n_bytes``.

        Raises ``RateLimited`` and ``QuotaExceeded``; may ask the database.
        """
        limits = self.book.of(tenant)
        if kind in (Work.JOB, Work.UPLOAD) and (limits.storage_mb or limits.jobs_at_once):
            had = self.possessions(tenant)
            n_jobs = 1 if kind is Work.JOB else 0
            check_possessions(limits, Possessions(had.n_jobs + n_jobs, had.n_bytes + n_bytes), added=n_jobs)

    def check_stored(self, tenant: str, count: Callable[[], Possessions], *, added: int) -> None:
        """Refuse what a tenant has by ``count`` when it is too much; ``added`` jobs of it are new.

        Raises ``RateLimited``, ``QuotaExceeded``, and what ``count`` raises, which is only asked when it matters.
        """
        limits = self.book.of(tenant)
        if limits.storage_mb or limits.jobs_at_once:
            check_possessions(limits, count(), added=added)


def check_possessions(limits: TenantLimits, would: Possessions, *, added: int = 1) -> None:
    """Raise ``RateLimited`` or ``QuotaExceeded`` when a tenant would have more than it may; ``added`` jobs are new."""
    if added and limits.jobs_at_once and would.n_jobs > limits.jobs_at_once:
        telemetry.LIMITS_REFUSED.labels("jobs-at-once").inc()
        raise RateLimited(
            f"You already have {limits.jobs_at_once} unfinished jobs, the most you may have at a time.",
            remedy="Wait until one has finished, or ask the operator for a higher limit.",
            retry_after_s=_AT_ONCE_RETRY_S,
        )
    if limits.storage_mb and would.n_bytes > limits.storage_mb * MB:
        telemetry.LIMITS_REFUSED.labels("storage").inc()
        raise QuotaExceeded(
            f"This would exceed your storage limit of {limits.storage_mb} MB of uploads and audio.",
            remedy="Delete jobs and uploads that you no longer need, or ask the operator for a higher limit.",
            retry_after_s=_STORAGE_RETRY_S,
        )


def _over(refused: Reading) -> RateLimited:
    kind = QuotaExceeded if refused.name == AUDIO_DAY else RateLimited
    return kind(
        f"You have used up your limit of {refused.charge.rate.units:g} {_SAID[refused.name]}.",
        remedy=_REMEDY,
        retry_after_s=float(math.ceil(refused.wait_s)),
    )
