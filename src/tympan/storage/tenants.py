"""What is known of tenants beside their jobs: how long to keep what is theirs, and how to forget them."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from tympan.domain import Lane
from tympan.errors import NotFound
from tympan.storage.database import Database
from tympan.storage.tables import batches, deliveries, events, idempotency, jobs, tenants, uploads, webhook_endpoints

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, how many jobs are kept of it, and its own days of retention; ``None`` for the installation's."""

    id: str
    n_jobs: int
    audio_days: float | None
    text_days: float | None


class TenantStore:
    """The tenants table; a tenant is in it from its first job on, or once it has days of its own."""

    def __init__(self, database: Database, *, audio_days: float, text_days: float) -> None:
        """Work on ``database``; who has no days of its own has these."""
        self._db, self._audio_days, self._text_days = database, audio_days, text_days

    def all(self) -> list[Tenant]:
        """Return every tenant, by name."""
        count = select(func.count()).where(jobs.c.tenant == tenants.c.id).scalar_subquery()
        query = select(tenants.c.id, count, tenants.c.audio_days, tenants.c.text_days).order_by(tenants.c.id)
        return self._db.read(lambda tx: [Tenant(*row) for row in tx.execute(query)])

    def retain(self, tenant: str, audio_days: float | None, text_days: float | None) -> int:
        """Give a tenant days of its own, or the installation's again; return how many ended jobs that changes.

        What has been kept too long by the new days is removed by the next sweep for old data.
        """

        def work(tx: Connection) -> int:
            self._db.patiently(tx)
            own = {"audio_days": audio_days, "text_days": text_days}
            mine = self._db.insert(tenants).values(id=tenant, **own)
            tx.execute(mine.on_conflict_do_update(index_elements=[tenants.c.id], set_=own))
            ended = (jobs.c.tenant == tenant, jobs.c.finished_at.is_not(None), jobs.c.lane == int(Lane.BATCH))
            audio_s = _DAY_S * (self._audio_days if audio_days is None else audio_days)
            text_s = _DAY_S * (self._text_days if text_days is None else text_days)
            # What has gone already has no date any more.
            kept = update(jobs).where(*ended, jobs.c.audio_until.is_not(None))
            tx.execute(kept.values(audio_until=jobs.c.finished_at + audio_s))
            return tx.execute(update(jobs).where(*ended).values(text_until=jobs.c.finished_at + text_s)).rowcount

        return self._db.write(work)

    def require(self, tenant: str) -> None:
        """Raise ``NotFound`` unless anything is kept of the tenant."""
        tables = (tenants.c.id, uploads.c.tenant, webhook_endpoints.c.tenant)

        def work(tx: Connection) -> bool:
            return any(tx.scalar(select(column).where(column == tenant).limit(1)) for column in tables)

        if not self._db.read(work):
            raise NotFound(f"There is no tenant {tenant!r}.", remedy="`tympan tenants list` names them.")


def forget_tenant(database: Database, tenant: str) -> list[str]:
    """Remove a tenant's batches, events, webhooks, keys, uploads and name; its jobs have to be gone.

    Return the ids of its uploads, whose blobs are the caller's to remove. Raises ``StorageUnavailable``.
    """

    def work(tx: Connection) -> list[str]:
        found = list(tx.scalars(select(uploads.c.id).where(uploads.c.tenant == tenant)))
        for table in (deliveries, events, webhook_endpoints, idempotency, batches, uploads):
            tx.execute(delete(table).where(table.c.tenant == tenant))
        tx.execute(delete(tenants).where(tenants.c.id == tenant))
        return found

    return database.write(work)
