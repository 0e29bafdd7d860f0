"""The doorbells that wait to be published: written with the step they are for, removed once the broker has them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select

from tympan.domain import Lane
from tympan.faultpoints import reach
from tympan.storage.database import Database
from tympan.storage.tables import bells


@dataclass(frozen=True, slots=True)
class Waiting:
    """What has not been published: how many doorbells, and the age of the oldest in seconds."""

    count: int
    lag_s: float


class Outbox:
    """The table of doorbells."""

    def __init__(self, database: Database) -> None:
        """Read from ``database``."""
        self._db = database

    def publish(self, send: Callable[[Sequence[Lane]], None], limit: int = 100) -> int:
        """Give up to ``limit`` doorbells to ``send`` and remove them when it returns; return how many.

        Several processes may do so at once: each takes others. When ``send`` raises, they stay.
        """

        def work(tx: Connection) -> int:
            query = select(bells.c.id, bells.c.lane).order_by(bells.c.id).limit(limit).with_for_update(skip_locked=True)
            rows = tx.execute(query).all()
            if rows:
                reach("bell.publish")
                send([Lane(row.lane) for row in rows])
                reach("bell.mark")
                tx.execute(delete(bells).where(bells.c.id.in_([row.id for row in rows])))
            return len(rows)

        return self._db.write(work)

    def waiting(self) -> int:
        """Return how many doorbells wait."""
        return self.backlog().count

    def backlog(self) -> Waiting:
        """Return how many doorbells wait, and for how long the oldest has."""
        query = select(func.count(), func.coalesce(self._db.now() - func.min(bells.c.created_at), 0.0))
        count, lag_s = self._db.read(lambda tx: tx.execute(query.select_from(bells)).one())
        return Waiting(count, max(0.0, lag_s))
