"""What traffic was like, in one row for each day, way of asking, model, feature and bin; rows only ever grow.

Nothing is known of single requests or tenants: there are counts over all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, delete, not_, select

from tympan.storage.audit import AuditEntry, note
from tympan.storage.database import Database
from tympan.storage.tables import traffic, traffic_baseline

_MODEL_CHARS = 255
MAX_ROWS = 200_000
"""Most rows of one answer."""

_ONLY = 1


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """How many transcriptions of a day (UTC, ``2026-01-31``) had a feature in a bin."""

    day: str
    kind: str
    model: str
    feature: str
    bin: str
    count: int


class TrafficStore:
    """The tables of traffic."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def add(self, rows: Sequence[TrafficRow]) -> None:
        """Add all of ``rows`` in one transaction. Raises ``StorageUnavailable``, ``InsufficientStorage``."""
        # In one order everywhere: two processes that add to the same rows cannot wait for each other.
        ordered = sorted(rows, key=lambda row: (row.day, row.kind, row.model, row.feature, row.bin))

        def work(tx: Connection) -> None:
            for row in ordered:
                _add(self._db, tx, row)

        self._db.write(work)

    def between(self, first: date, last: date) -> list[TrafficRow]:
        """Return the counts from ``first`` to ``last``, both included, all models of a kind together."""
        query = select(traffic).where(traffic.c.day.between(first.isoformat(), last.isoformat()))
        query = query.order_by(*traffic.primary_key.columns).limit(MAX_ROWS)
        return self._db.read(lambda tx: [TrafficRow(*row) for row in tx.execute(query)])

    def forget(self, before: date) -> int:
        """Remove what is older than ``before``, but for a baseline that is kept; return how many rows."""
        kept = self.baseline()

        def work(tx: Connection) -> int:
            old = delete(traffic).where(traffic.c.day < before.isoformat())
            if kept is not None:
                old = old.where(not_(traffic.c.day.between(kept[0].isoformat(), kept[1].isoformat())))
            return tx.execute(old).rowcount

        return self._db.write(work)

    def baseline(self) -> tuple[date, date] | None:
        """Return the first and the last day that traffic is compared with; ``None`` while that moves on with time."""
        query = select(traffic_baseline.c.first, traffic_baseline.c.last)
        found = self._db.read(lambda tx: tx.execute(query).first())
        return None if found is None else (date.fromisoformat(found[0]), date.fromisoformat(found[1]))

    def keep_baseline(self, days: tuple[date, date] | None, entry: AuditEntry | None = None) -> None:
        """Compare traffic with these days from now on; ``None`` lets the baseline move on.

        With ``entry`` in the audit log.
        """
        row = None if days is None else {"first": days[0].isoformat(), "last": days[1].isoformat()}

        def work(tx: Connection) -> None:
            tx.execute(delete(traffic_baseline))
            if row is not None:
                tx.execute(traffic_baseline.insert().values(id=_ONLY, **row))
            note(tx, self._db, entry, "traffic", **(row or {}))

        self._db.write(work)


def _add(database: Database, tx: Connection, row: TrafficRow) -> None:
    key = {"day": row.day, "kind": row.kind, "model": row.model[:_MODEL_CHARS], "feature": row.feature, "bin": row.bin}
    new = database.insert(traffic).values(**key, count=row.count)
    tx.execute(
        new.on_conflict_do_update(
            index_elements=list(traffic.primary_key), set_={"count": traffic.c["count"] + row.count}
        )
    )
