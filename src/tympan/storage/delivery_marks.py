"""What came of attempts, written down: deliveries, the log, and how their endpoints are doing.

Every function works in the caller's transaction. Endpoints are locked before deliveries.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from tympan.storage.database import Database
from tympan.storage.delivery_values import DeliveryClaim, Outcome
from tympan.storage.tables import deliveries, delivery_attempts, webhook_endpoints

KEPT_ATTEMPTS = 20
"""How many attempts of one delivery the log keeps, the newest."""

PENDING = deliveries.c.state == "pending"
"""Matches deliveries that wait or are being sent."""

_REFRESH_S = 60.0


class Marks:
    """Notes outcomes, many at a time."""

    def __init__(self, database: Database, disable_after_s: float) -> None:
        """Take the clock of ``database``; disable endpoints that have failed for ``disable_after_s``."""
        self._db, self._disable_after_s = database, disable_after_s

    def note(self, tx: Connection, outcomes: Sequence[Outcome]) -> Counter[str]:
        """Return how many deliveries were delivered, pending, failed, dropped, or not ours any more (lost)."""
        self._lock(tx, sorted({outcome.claim.endpoint_id for outcome in outcomes}))
        arrived = [outcome for outcome in outcomes if outcome.result == "delivered"]
        others = [outcome for outcome in outcomes if outcome.result != "delivered"]
        noted = self._arrived(tx, arrived) + [outcome for outcome in others if self._missed(tx, outcome)]
        self._log(tx, noted)
        counts = Counter(str(outcome.result) for outcome in noted)
        counts["lost"] = len(outcomes) - len(noted)
        self._endpoints_answer(tx, {outcome.claim.endpoint_id for outcome in noted if outcome.result == "delivered"})
        for outcome in noted:
            if outcome.result != "delivered":
                counts["dropped"] += self._endpoint_fails(tx, outcome)
        return +counts

    def _lock(self, tx: Connection, endpoint_ids: Sequence[str]) -> None:
        if not self._db.is_sqlite:
            table = webhook_endpoints.c
            query = select(table.id).where(table.id.in_(endpoint_ids)).order_by(table.id)
            tx.execute(query.with_for_update(key_share=True))

    def _arrived(self, tx: Connection, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Note deliveries that arrived, all at once; return those that were still ours."""
        if not outcomes:
            return []
        table = deliveries.c
        held = tuple_(table.id, table.fence).in_([(one.claim.delivery_id, one.claim.fence) for one in outcomes])
        statuses = {one.claim.delivery_id: one.status for one in outcomes}
        values = _released() | {
            "state": "delivered",
            "attempts": table.attempts + 1,
            "last_status": case(statuses, value=table.id),
            "last_error": None,
            "finished_at": self._db.now(),
        }
        query = update(deliveries).where(held, PENDING, table.lease_owner.is_not(None)).values(values)
        ours = set(tx.scalars(query.returning(table.id)))
        return [outcome for outcome in outcomes if outcome.claim.delivery_id in ours]

    def _missed(self, tx: Connection, outcome: Outcome) -> bool:
        """Note a delivery that did not arrive; return whether it was still ours."""
        now = self._db.now()
        values = _released() | {
            "state": outcome.result,
            "attempts": outcome.claim.attempt,
            "last_status": outcome.status,
            "last_error": outcome.error,
            "due_at": now + outcome.retry_in_s,
            "finished_at": None if outcome.result == "pending" else now,
        }
        return bool(tx.execute(update(deliveries).where(*mine(outcome.claim)).values(values)).rowcount)

    def _log(self, tx: Connection, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        table, ids = delivery_attempts.c, [outcome.claim.delivery_id for outcome in outcomes]
        last = select(table.delivery_id, func.max(table.number)).where(table.delivery_id.in_(ids))
        numbers = {row[0]: row[1] for row in tx.execute(last.group_by(table.delivery_id))}
        now = tx.scalar(select(self._db.now()))
        rows = [_attempt(outcome, numbers.get(outcome.claim.delivery_id, 0) + 1, now) for outcome in outcomes]
        tx.execute(insert(delivery_attempts), rows)
        for row in rows:
            if row["number"] > KEPT_ATTEMPTS:
                old = (table.delivery_id == row["delivery_id"], table.number <= row["number"] - KEPT_ATTEMPTS)
                tx.execute(delete(delivery_attempts).where(*old))

    def _endpoints_answer(self, tx: Connection, endpoint_ids: set[str]) -> None:
        if endpoint_ids:
            table, now = webhook_endpoints.c, self._db.now()
            stale = or_(table.failing_since.is_not(None), table.open_at < now - _REFRESH_S)
            these = (table.id.in_(sorted(endpoint_ids)), table.state == "active", stale)
            tx.execute(update(webhook_endpoints).where(*these).values(failing_since=None, open_at=now))

    def _endpoint_fails(self, tx: Connection, outcome: Outcome) -> int:
        """Let the endpoint rest, or disable it; return how many deliveries were dropped with it."""
        table, now = webhook_endpoints.c, self._db.now()
        this = (table.id == outcome.claim.endpoint_id, table.state == "active")
        rested = now + outcome.rest_s
        failing = {
            "failing_since": func.coalesce(table.failing_since, now),
            "open_at": case((table.open_at < rested, rested), else_=table.open_at),
        }
        too_long = table.failing_since < now - self._disable_after_s
        noted = update(webhook_endpoints).where(*this).values(failing).returning(too_long.label("late"))
        row = tx.execute(noted).first()
        if row is None or not (outcome.gone or row.late):
            return 0
        reason = "The receiver answered 410 Gone." if outcome.gone else "Nothing could be delivered for days."
        tx.execute(update(webhook_endpoints).where(*this).values(state="disabled", disabled_reason=reason))
        return drop_pending(tx, self._db, [outcome.claim.endpoint_id])


def drop_pending(tx: Connection, database: Database, endpoint_ids: Sequence[str]) -> int:
    """Drop what waits for those of these endpoints that are disabled, and return how many deliveries that were."""
    table = webhook_endpoints.c
    disabled = list(tx.scalars(select(table.id).where(table.id.in_(endpoint_ids), table.state == "disabled")))
    if not disabled:
        return 0
    values = {
        "state": "dropped",
        "finished_at": database.now(),
        "lease_owner": None,
        "lease_until": None,
        "last_error": "The endpoint is disabled or deleted.",
    }
    waiting = (deliveries.c.endpoint_id.in_(disabled), PENDING)
    return tx.execute(update(deliveries).where(*waiting).values(values)).rowcount


def deleted_values(database: Database) -> dict[str, Any]:
    """Return what is left of an endpoint that is deleted: a row that jobs can name, without address and secret."""
    gone = {"state": "disabled", "disabled_reason": "deleted", "url": "", "description": ""}
    return gone | {"secret": "", "old_secret": None, "created_at": database.now()}


def mine(claim: DeliveryClaim) -> tuple[ColumnElement[bool], ...]:
    """Match the delivery while the claim is good."""
    table = deliveries.c
    return (table.id == claim.delivery_id, PENDING, table.fence == claim.fence, table.lease_owner.is_not(None))


def _released() -> dict[str, Any]:
    return {"lease_owner": None, "lease_until": None}


def _attempt(outcome: Outcome, number: int, now: float | None) -> dict[str, Any]:
    return {
        "delivery_id": outcome.claim.delivery_id,
        "number": number,
        "at": now,
        "status": outcome.status,
        "error": outcome.error,
        "duration_ms": outcome.duration_ms,
        "excerpt": outcome.excerpt,
    }
