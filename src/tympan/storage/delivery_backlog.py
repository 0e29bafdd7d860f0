"""What waits to be delivered, for operators."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from tympan.storage.database import Database
from tympan.storage.delivery_marks import PENDING
from tympan.storage.tables import deliveries, webhook_endpoints

_MOST = 100_000


@dataclass(frozen=True, slots=True)
class DeliveryBacklog:
    """Deliveries that are not over, counted up to 100,000, and how long the oldest has been due, in seconds.

    What waits for an endpoint that fails is its owner's affair, and does not count as late.
    """

    count: int
    lag_s: float


def delivery_backlog(database: Database) -> DeliveryBacklog:
    """Return what waits. Raises ``StorageUnavailable``."""

    def work(tx: Connection) -> DeliveryBacklog:
        some = select(deliveries.c.id).where(PENDING).limit(_MOST).subquery()
        table = webhook_endpoints.c
        oldest = select(func.min(deliveries.c.due_at)).where(deliveries.c.endpoint_id == table.id, PENDING)
        answering = (table.state == "active", table.failing_since.is_(None))
        each = select(oldest.scalar_subquery().label("due_at")).where(*answering).subquery()
        lag_s = tx.scalar(select(database.now() - func.min(each.c.due_at)))
        return DeliveryBacklog(tx.scalar(select(func.count()).select_from(some)) or 0, max(0.0, lag_s or 0.0))

    return database.read(work)
