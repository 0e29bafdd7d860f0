"""Callers' keys for requests that may be sent twice but must be done once."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from tympan.errors import IdempotencyMismatch
from tympan.storage.database import Database
from tympan.storage.tables import idempotency

WAITS, LEFT = "call waits", "call left"
"""Routes of rows that are no keys: who waits for a job, and who left one that nobody waits for and may come back."""

_KEY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key for one request on one route, with a digest of everything that was asked for."""

    route: str
    key: str
    fingerprint: str


def claim_key(database: Database, tx: Connection, tenant: str, key: IdempotencyKey, subject_id: str) -> str | None:
    """Give the key to ``subject_id`` in the caller's transaction; return the id of the subject that had it before.

    Raises ``IdempotencyMismatch`` when that one was asked for otherwise.
    """
    table, now = idempotency.c, database.now()
    mine = (table.tenant == tenant, table.route == key.route, table.key == key.key)
    tx.execute(delete(idempotency).where(*mine, table.expires_at < now))
    taken = tx.execute(
        database.insert(idempotency)
        .values(
            tenant=tenant,
            route=key.route,
            key=key.key,
            fingerprint=key.fingerprint,
            subject_id=subject_id,
            expires_at=now + _KEY_S,
        )
        .on_conflict_do_nothing()
        .returning(table.key)  # Not every driver counts the rows of an insert.
    ).first()
    return None if taken is not None else find_key(database, tx, tenant, key)


def find_key(database: Database, tx: Connection, tenant: str, key: IdempotencyKey) -> str | None:
    """Return the id of the subject that has the key. Raises ``IdempotencyMismatch`` as ``claim_key``."""
    table = idempotency.c
    mine = (table.tenant == tenant, table.route == key.route, table.key == key.key)
    alive = table.expires_at >= database.now()
    row = tx.execute(select(table.fingerprint, table.subject_id).where(*mine, alive)).first()
    if row is not None and row.fingerprint != key.fingerprint:
        raise IdempotencyMismatch(param="Idempotency-Key", remedy="Use a new key for a new request.")
    return None if row is None else str(row.subject_id)
