"""Everything of one tenant that does not hang on a job, removed at once."""

from sqlalchemy import Connection, delete, select

from tympan.storage.database import Database
from tympan.storage.tables import batches, deliveries, events, idempotency, tenants, uploads, webhook_endpoints


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
