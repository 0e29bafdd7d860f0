"""The audit log: who did what, when, to what and from where. Ids alone: never a secret, a name or a text.

Rows are only added. Triggers in the database refuse everything else, but that addresses of an erased tenant go, and
rows that are older than ``MIN_DAYS``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from tympan.storage.database import Database
from tympan.storage.tables import audit

MIN_DAYS = 30
"""A younger row is kept, whoever asks."""

ASKED = "asked"
"""The outcome of an operation as it begins; when it fails, a second row says how."""

DONE = "done"
"""The outcome of an operation that is in the log because it was done: both are in one transaction."""

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One operation: ``actor`` is a key's id or a user of this machine, ``target`` the id of what it is about."""

    actor: str
    action: str
    tenant: str = ""
    target: str | None = None
    outcome: str = DONE
    address: str | None = None
    request_id: str | None = None
    detail: Mapping[str, Any] | None = None

    def about(self, tenant: str, target: str) -> "AuditEntry":
        """Return the entry with whom and what it is about."""
        return replace(self, tenant=tenant, target=target)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the log; ``at`` is in Unix seconds by the database's clock."""

    id: int
    at: float
    tenant: str
    actor: str
    action: str
    target: str | None
    outcome: str
    address: str | None
    request_id: str | None
    detail: Mapping[str, Any] | None


class AuditStore:
    """The log, to add to and to read."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def record(self, entry: AuditEntry) -> None:
        """Add a row. Raises ``StorageUnavailable``."""
        self._db.write(lambda tx: add_entry(tx, self._db, entry))

    def page(self, tenant: str | None = None, after: int = 0, limit: int = 1_000) -> list[AuditRow]:
        """Return up to ``limit`` rows behind the id ``after``, oldest first: those about ``tenant``, or all."""
        query = select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(limit)
        if tenant is not None:
            query = query.where(audit.c.tenant == tenant)

        def work(tx: Connection) -> list[AuditRow]:
            found = (dict(row) for row in tx.execute(query).mappings())
            return [AuditRow(**row | {"detail": json.loads(row["detail"] or "null")}) for row in found]

        return self._db.read(work)

    def tenants_of(self, action: str, within_s: float) -> list[str]:
        """Return the tenants that ``action`` was done to in the last ``within_s``."""
        query = select(audit.c.tenant).distinct()
        query = query.where(audit.c.action == action, audit.c.at > self._db.now() - within_s)
        return self._db.read(lambda tx: list(tx.scalars(query)))

    def forget(self, days: float) -> int:
        """Remove rows older than ``days``, ``MIN_DAYS`` at least; return how many."""
        old = audit.c.at < self._db.now() - max(days, MIN_DAYS) * _DAY_S
        return self._db.write(lambda tx: tx.execute(delete(audit).where(old)).rowcount)


def add_entry(tx: Connection, database: Database, entry: AuditEntry) -> None:
    """Add a row within somebody else's transaction."""
    detail = None if entry.detail is None else json.dumps(entry.detail, sort_keys=True)
    values = {name: getattr(entry, name) for name in entry.__slots__} | {"detail": detail}
    tx.execute(insert(audit).values(at=database.now(), **values))


def note(tx: Connection, database: Database, entry: AuditEntry | None, target: str, **detail: object) -> None:
    """Add ``entry`` with what it is about and more details; nothing where nobody has asked for what is done."""
    if entry is not None:
        whole = {**(entry.detail or {}), **detail}
        add_entry(tx, database, replace(entry, target=target, detail=whole or None))


def forget_addresses(tx: Connection, tenant: str) -> None:
    """Let ids alone remain of an erased tenant."""
    tx.execute(update(audit).where(audit.c.tenant == tenant, audit.c.address.is_not(None)).values(address=None))
