"""From settings to limits per tenant and usage: where they are kept, who enforces them, who counts."""

from collections.abc import Iterator
from contextlib import contextmanager

from tympan import telemetry
from tympan.access.ledger import Ledger, LocalLedger
from tympan.access.limits import LimitBook, LimitDesk, Possessions
from tympan.access.tenant_limits import OwnLimits
from tympan.access.usage import UsageMeter
from tympan.config import Settings
from tympan.domain import Lane
from tympan.storage.database import Database
from tympan.storage.endings import Ended
from tympan.storage.jobs import JobStore
from tympan.storage.tenants import TenantStore
from tympan.storage.usage import UsageStore


def make_limits(settings: Settings, database: Database) -> LimitDesk:
    """Return what lets work in: with Redis where there is one, else for this process alone."""
    tenants = TenantStore(database, audio_days=settings.retain_audio_days, text_days=settings.retain_text_days)

    def own() -> dict[str, OwnLimits]:
        return {tenant: OwnLimits(*own) for tenant, own in tenants.own_limits().items()}

    book = LimitBook(settings.tenant_limits, own)
    return LimitDesk(book, _ledger(settings), lambda tenant: Possessions(*tenants.possessions(tenant)))


def apply_limits(desk: LimitDesk, jobs: JobStore) -> None:
    """Let ``desk`` refuse jobs where they are stored, and hear of their length when they have ended; count them."""

    def ended(job: Ended) -> None:
        if job.lane is Lane.BATCH:
            telemetry.JOBS_ENDED.labels(job.state.value).inc()
            desk.settle_job(job.tenant, job.n_bytes, job.audio_s)

    jobs.check_possessions = lambda tenant, count, added: desk.check_stored(
        tenant, lambda: Possessions(*count()), added=added
    )
    jobs.endings.on_ended = ended


@contextmanager
def enforced(desk: LimitDesk) -> Iterator[None]:
    """Keep limits up to date inside the ``with`` block."""
    desk.book.start()
    desk.ledger.start()
    try:
        yield
    finally:
        desk.ledger.stop()
        desk.book.stop()


@contextmanager
def counting(database: Database) -> Iterator[UsageMeter]:
    """Yield what counts usage; what it has counted is on the books at the end."""
    meter = UsageMeter(UsageStore(database))
    meter.start()
    try:
        yield meter
    finally:
        meter.stop()


def _ledger(settings: Settings) -> Ledger:
    if settings.redis_url is None:
        return LocalLedger()
    from tympan.access.shared_ledger import SharedLedger  # noqa: PLC0415  (the client may not be installed)

    return SharedLedger(settings.redis_url.get_secret_value())
