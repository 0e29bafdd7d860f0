"""What tenants have used, in one row for each tenant, day, kind of work and model; rows only ever grow."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import Connection, select

from tympan.storage.database import Database
from tympan.storage.tables import usage

_MODEL_CHARS = 255
MAX_ROWS = 100_000
"""Most rows of one answer."""


@dataclass(frozen=True, slots=True)
class Used:
    """Requests, how many of them failed, seconds of audio, and seconds of work on it."""

    requests: int = 0
    failures: int = 0
    audio_s: float = 0.0
    processing_s: float = 0.0

    def plus(self, other: "Used") -> "Used":
        """Return both together."""
        return Used(
            self.requests + other.requests,
            self.failures + other.failures,
            self.audio_s + other.audio_s,
            self.processing_s + other.processing_s,
        )


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a tenant has used on a day (UTC, ``2026-01-31``) in one kind of work by one model."""

    tenant: str
    day: str
    kind: str
    model: str
    used: Used


@dataclass(frozen=True, slots=True)
class Period:
    """Days from ``first`` to ``last``, both included."""

    first: date
    last: date


def day_of(unix_s: float) -> str:
    """Return the day of a time, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).date().isoformat()


def add_usage(database: Database, tx: Connection, row: UsageRow) -> None:
    """Add to what is on the books, in the caller's transaction."""
    key = {"tenant": row.tenant, "day": row.day, "kind": row.kind, "model": row.model[:_MODEL_CHARS]}
    used = row.used
    added = {
        "requests": used.requests,
        "failures": used.failures,
        "audio_s": used.audio_s,
        "processing_s": used.processing_s,
    }
    sums = {name: usage.c[name] + value for name, value in added.items()}
    new = database.insert(usage).values(**key, **added)
    tx.execute(new.on_conflict_do_update(index_elements=list(usage.primary_key), set_=sums))


class UsageStore:
    """The usage table."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def add(self, rows: Sequence[UsageRow]) -> None:
        """Add all of ``rows`` in one transaction. Raises ``StorageUnavailable``, ``InsufficientStorage``."""
        # In one order everywhere: two processes that add to the same rows cannot wait for each other.
        ordered = sorted(rows, key=lambda row: (row.tenant, row.day, row.kind, row.model))

        def work(tx: Connection) -> None:
            for row in ordered:
                add_usage(self._db, tx, row)

        self._db.write(work)

    def between(self, period: Period, tenant: str | None = None) -> list[UsageRow]:
        """Return what was used in a period, by one tenant or by all, oldest first, ``MAX_ROWS`` at most."""
        query = select(usage).where(usage.c.day.between(period.first.isoformat(), period.last.isoformat()))
        if tenant is not None:
            query = query.where(usage.c.tenant == tenant)
        query = query.order_by(usage.c.day, usage.c.tenant, usage.c.kind, usage.c.model).limit(MAX_ROWS)
        return self._db.read(lambda tx: [_row(*row) for row in tx.execute(query)])


def _row(tenant: str, day: str, kind: str, model: str, *used: float) -> UsageRow:
    requests, failures, audio_s, processing_s = used
    return UsageRow(tenant, day, kind, model, Used(int(requests), int(failures), audio_s, processing_s))
