"""What is known of tenants beside their jobs: how long to keep what is theirs, their limits, how to forget them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, update

from tympan.domain import Lane, SourceKind
from tympan.errors import Conflict, NotFound
from tympan.storage.audit import AuditEntry, add_entry, forget_addresses
from tympan.storage.database import Database
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.tables import (
    api_keys,
    batches,
    deliveries,
    events,
    idempotency,
    jobs,
    tenants,
    uploads,
    usage,
    webhook_endpoints,
)

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, how many jobs are kept of it, and what it has of its own: days of retention, limits, its weight.

    ``None``, and a limit that is not there, is the installation's; a limit of 0 is none.
    """

    id: str
    n_jobs: int
    audio_days: float | None
    text_days: float | None
    limits: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TenantChange:
    """What to change of a tenant; what is not in it stays.

    ``limits`` by name and ``days`` (``audio_days``, ``text_days``) may be ``None``: as the installation has it.
    """

    limits: Mapping[str, float | None] = field(default_factory=dict)
    weight: float | None = None
    days: Mapping[str, float | None] = field(default_factory=dict)


class TenantStore:
    """The tenants table; a tenant is in it from its first job on, or once it has something of its own."""

    def __init__(self, database: Database, *, audio_days: float, text_days: float) -> None:
        """Work on ``database``; who has no days of its own has these."""
        self._db, self._audio_days, self._text_days = database, audio_days, text_days

    def all(self) -> list[Tenant]:
        """Return every tenant, by name; whose jobs the clips of golden sets are is none."""
        return self._db.read(lambda tx: [_tenant(*row) for row in tx.execute(self._query())])

    def page(self, limit: int, after: str | None = None) -> list[Tenant]:
        """Return up to ``limit`` tenants by name, those behind the name ``after``."""
        query = self._query().limit(limit)
        query = query if after is None else query.where(tenants.c.id > after)
        return self._db.read(lambda tx: [_tenant(*row) for row in tx.execute(query)])

    def get(self, tenant: str) -> Tenant:
        """Return a tenant. Raises ``NotFound``."""
        return self._db.read(lambda tx: self._one(tx, tenant))

    def create(self, tenant: str, change: "TenantChange", entry: AuditEntry) -> Tenant:
        """Make a tenant that has what ``change`` says of its own. Raises ``Conflict`` when it is there already."""

        def work(tx: Connection) -> Tenant:
            new = self._db.insert(tenants).values(id=tenant).on_conflict_do_nothing()
            if tx.execute(new.returning(tenants.c.id)).first() is None:
                raise Conflict(f"There is a tenant {tenant!r} already.", remedy="Change it instead.")
            return self._changed(tx, tenant, change, entry)

        return self._db.write(work)

    def change(self, tenant: str, change: "TenantChange", entry: AuditEntry) -> Tenant:
        """Change what a tenant has of its own, and return it. Raises ``NotFound``."""

        def work(tx: Connection) -> Tenant:
            self._one(tx, tenant)
            return self._changed(tx, tenant, change, entry)

        return self._db.write(work)

    def limit(self, tenant: str, changes: Mapping[str, float | None], weight: float | None = None) -> None:
        """Change limits of a tenant's own, ``None`` for the installation's again; and its weight, if that is given."""

        def work(tx: Connection) -> None:
            tx.execute(self._db.insert(tenants).values(id=tenant).on_conflict_do_nothing())
            self._limit(tx, tenant, changes, weight)

        self._db.write(work)

    def own_limits(self) -> dict[str, tuple[dict[str, float], float, float | None]]:
        """Return the limits, the weight and the days of text of every tenant that has some of its own."""
        query = select(tenants.c.id, tenants.c.limits, tenants.c.weight, tenants.c.text_days)
        own = tenants.c.limits.is_not(None) | (tenants.c.weight != 1.0) | tenants.c.text_days.is_not(None)
        found = self._db.read(lambda tx: tx.execute(query.where(own)).all())
        return {row.id: (_limits(row.limits), row.weight, row.text_days) for row in found}

    def possessions(self, tenant: str) -> tuple[int, int]:
        """Return what a tenant has here; see ``possessions``."""
        return self._db.read(lambda tx: possessions(tx, tenant))

    def retain(self, tenant: str, audio_days: float | None, text_days: float | None) -> int:
        """Give a tenant days of its own, or the installation's again; return how many ended jobs that changes.

        What has been kept too long by the new days is removed by the next sweep for old data.
        """

        def work(tx: Connection) -> int:
            tx.execute(self._db.insert(tenants).values(id=tenant).on_conflict_do_nothing())
            return self._retain(tx, tenant, audio_days, text_days)

        return self._db.write(work)

    def _changed(self, tx: Connection, tenant: str, change: "TenantChange", entry: AuditEntry) -> Tenant:
        """Do what ``change`` says and write it down, in one transaction; return the tenant as it is then."""
        self._limit(tx, tenant, change.limits, change.weight)
        if change.days:
            old = self._one(tx, tenant)
            days = {"audio_days": old.audio_days, "text_days": old.text_days, **change.days}
            self._retain(tx, tenant, days["audio_days"], days["text_days"])
        add_entry(tx, self._db, entry.about(tenant, tenant))
        return self._one(tx, tenant)

    def _limit(self, tx: Connection, tenant: str, changes: Mapping[str, float | None], weight: float | None) -> None:
        mine = tenants.c.id == tenant
        text = tx.scalar(select(tenants.c.limits).where(mine).with_for_update())
        limits = {**_limits(text), **changes}
        kept = {name: value for name, value in limits.items() if value is not None}
        values = {"limits": json.dumps(kept, sort_keys=True) if kept else None}
        tx.execute(update(tenants).where(mine).values(values | ({} if weight is None else {"weight": weight})))

    def _retain(self, tx: Connection, tenant: str, audio_days: float | None, text_days: float | None) -> int:
        self._db.patiently(tx)
        own = {"audio_days": audio_days, "text_days": text_days}
        tx.execute(update(tenants).where(tenants.c.id == tenant).values(own))
        ended = (jobs.c.tenant == tenant, jobs.c.finished_at.is_not(None), jobs.c.lane == int(Lane.BATCH))
        audio_s = _DAY_S * (self._audio_days if audio_days is None else audio_days)
        text_s = _DAY_S * (self._text_days if text_days is None else text_days)
        # What has gone already has no date any more.
        kept = update(jobs).where(*ended, jobs.c.audio_until.is_not(None))
        tx.execute(kept.values(audio_until=jobs.c.finished_at + audio_s))
        return tx.execute(update(jobs).where(*ended).values(text_until=jobs.c.finished_at + text_s)).rowcount

    def _one(self, tx: Connection, tenant: str) -> Tenant:
        row = tx.execute(self._query().where(tenants.c.id == tenant)).first()
        if row is None:
            raise NotFound(f"There is no tenant {tenant[:80]!r}.", remedy="`tympan tenants list` shows them.")
        return _tenant(*row)

    def _query(self) -> Select[*tuple[Any, ...]]:
        count = select(func.count()).where(jobs.c.tenant == tenants.c.id).scalar_subquery()
        columns = (tenants.c.id, count, tenants.c.audio_days, tenants.c.text_days, tenants.c.limits, tenants.c.weight)
        return select(*columns).where(tenants.c.id != MEASURING_TENANT).order_by(tenants.c.id)

    def require(self, tenant: str) -> None:
        """Raise ``NotFound`` unless anything is kept of the tenant."""
        tables = (tenants.c.id, uploads.c.tenant, webhook_endpoints.c.tenant, api_keys.c.tenant)

        def work(tx: Connection) -> bool:
            return any(tx.scalar(select(column).where(column == tenant).limit(1)) for column in tables)

        if not self._db.read(work):
            raise NotFound(f"There is no tenant {tenant!r}.", remedy="`tympan tenants list` shows them.")


def possessions(tx: Connection, tenant: str) -> tuple[int, int]:
    """Return how many jobs of a tenant have not ended, and the bytes of its uploads and of the audio it handed in.

    An upload counts for the length that was announced. Audio that was fetched from elsewhere does not count.
    """
    alive = (jobs.c.tenant == tenant, jobs.c.lane == int(Lane.BATCH), jobs.c.finished_at.is_(None))
    kept = jobs.c.finished_at.is_(None) | jobs.c.audio_until.is_not(None)
    stored = (jobs.c.tenant == tenant, jobs.c.source_kind == SourceKind.STORED.value, kept)
    length = func.coalesce(uploads.c.n_bytes, uploads.c.offset_bytes)
    loose = (uploads.c.tenant == tenant, uploads.c.job_id.is_(None))
    n_jobs = tx.scalar(select(func.count()).select_from(jobs).where(*alive))
    of_jobs = tx.scalar(select(func.sum(jobs.c.source_bytes)).where(*stored))
    of_uploads = tx.scalar(select(func.sum(length)).where(*loose))
    return int(n_jobs or 0), int(of_jobs or 0) + int(of_uploads or 0)


def _tenant(
    name: str, n_jobs: int, audio_days: float | None, text_days: float | None, limits: str | None, weight: float
) -> Tenant:
    return Tenant(name, n_jobs, audio_days, text_days, _limits(limits), weight)


def _limits(text: str | None) -> dict[str, float]:
    found: dict[str, float] = json.loads(text) if text else {}
    return found


def forget_tenant(database: Database, tenant: str) -> list[str]:
    """Remove a tenant's batches, events, webhooks, keys, uploads, usage and name; its jobs have to be gone.

    Return the ids of its uploads, whose blobs are the caller's to remove. Raises ``StorageUnavailable``.
    """

    def work(tx: Connection) -> list[str]:
        found = list(tx.scalars(select(uploads.c.id).where(uploads.c.tenant == tenant)))
        for table in (deliveries, events, webhook_endpoints, idempotency, batches, uploads, api_keys, usage):
            tx.execute(delete(table).where(table.c.tenant == tenant))
        tx.execute(delete(tenants).where(tenants.c.id == tenant))
        forget_addresses(tx, tenant)
        return found

    return database.write(work)
