"""Deliveries as the senders see them: claim what is due, hold it, note what came of it.

An endpoint that has not answered well of late is on trial: one attempt at a time, and after a failure none before
``open_at``; what else waits for it stays unclaimed. Endpoints that answer get a few attempts at a time. So a dead
receiver costs one place whatever waits for it. A claim moves ``due_at`` to the end of its lease, which makes the
delivery due again when its sender has died.

Locks are taken in one order, endpoints before deliveries; who only looks for work passes over what is locked.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    not_,
    or_,
    select,
    update,
)

from tympan.faultpoints import reach
from tympan.storage.database import Database
from tympan.storage.tables import batches, deliveries, delivery_attempts, events, jobs, webhook_endpoints

MAX_PARALLEL = 4
"""Attempts at a time for an endpoint that answers; one that is on trial gets one."""

KEPT_ATTEMPTS = 20
"""How many attempts of one delivery the log keeps, the newest."""

Result: TypeAlias = Literal["delivered", "pending", "failed"]

_PROVEN_S = 600.0
_REFRESH_S = 60.0
_WALK = 500
_MAX_WALKS = 20
# Written out and not bound, because only so do databases see that the indexes of pending deliveries will do.
_PENDING = deliveries.c.state == literal_column("'pending'")
_PAGE = 500
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: ``data`` is a JSON object, ``seq`` grows with each event about the same subject."""

    id: str
    type: str
    seq: int
    created_at: float
    data: str


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """A delivery that is ours until the lease runs out; ``fence`` proves it.

    ``secrets`` are sealed, the newest first; ``attempt`` counts from 1; ``failing_s`` is how long its endpoint has
    not taken anything.
    """

    delivery_id: int
    fence: int
    attempt: int
    endpoint_id: str
    url: str
    secrets: tuple[str, ...]
    on_trial: bool
    failing_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. ``pending`` is tried again in ``retry_in_s``; its endpoint rests for ``rest_s``.

    ``gone`` disables the endpoint; ``status`` is ``None`` when no answer came.
    """

    claim: DeliveryClaim
    result: Result
    status: int | None = None
    error: str | None = None
    excerpt: str = ""
    duration_ms: int = 0
    retry_in_s: float = 0.0
    rest_s: float = 0.0
    gone: bool = False


def _walk_on() -> Select[Any]:
    """Return the query for the next endpoints beyond ``:after`` for which something waits, in order."""
    table = deliveries.c
    first = select(func.min(table.endpoint_id)).where(_PENDING, table.endpoint_id > bindparam("after"))
    walk = select(first.scalar_subquery().label("id"), literal(1).label("n")).cte("walk", recursive=True)
    following = select(func.min(table.endpoint_id)).where(_PENDING, table.endpoint_id > walk.c.id)
    step = select(following.scalar_subquery(), walk.c.n + 1).where(walk.c.id.is_not(None), walk.c.n < _WALK)
    whole = walk.union_all(step)
    return select(whole.c.id).where(whole.c.id.is_not(None))


_WALK_ON = _walk_on()


class DeliveryStore:
    """The deliveries table, for any number of senders."""

    def __init__(self, database: Database, *, lease_s: float = 60.0, disable_after_s: float = 5 * _DAY_S) -> None:
        """Work on ``database``; a claim lasts ``lease_s``, an endpoint may fail for ``disable_after_s``."""
        self._db, self._lease_s, self._disable_after_s = database, lease_s, disable_after_s
        self._walked_to = ""

    def claim(self, owner: str, room: int, trial_room: int) -> list[DeliveryClaim]:
        """Return up to ``room`` deliveries that are due, at most ``trial_room`` of them for endpoints on trial."""
        if room <= 0 or not self._db.read(self._any_due):
            return []
        return self._db.write(lambda tx: self._claim(tx, owner, room, trial_room))

    def holds(self, claim: DeliveryClaim) -> bool:
        """Return whether the delivery is still to be sent by us; not when its endpoint has gone meanwhile."""
        query = select(deliveries.c.id).where(*_mine(claim), deliveries.c.lease_until > self._db.now())
        return self._db.read(lambda tx: tx.scalar(query)) is not None

    def mark(self, outcomes: Sequence[Outcome]) -> Counter[str]:
        """Note what came of attempts, and return how many were delivered, pending, failed, dropped or lost."""
        ordered = sorted(outcomes, key=lambda outcome: (outcome.claim.endpoint_id, outcome.claim.delivery_id))
        return self._db.write(lambda tx: self._mark_all(tx, ordered))

    def forget(self, keep_s: float) -> int:
        """Remove events older than ``keep_s`` that wait for nothing, and endpoints nobody can want; return how many."""
        old = self._db.now() - keep_s
        waiting = exists().where(deliveries.c.event_id == events.c.id, _PENDING)
        page = select(events.c.id).where(events.c.created_at < old, not_(waiting)).limit(_PAGE)

        def work(tx: Connection) -> int:
            removed = tx.execute(delete(events).where(events.c.id.in_(page))).rowcount
            return removed + tx.execute(delete(webhook_endpoints).where(*_abandoned(old))).rowcount

        return self._db.write(work)

    def _now(self, tx: Connection) -> float:
        # As a number, because an index cannot be searched for what changes while one looks.
        return float(tx.scalar(select(self._db.now())) or 0.0)

    def _any_due(self, tx: Connection) -> bool:
        due = (_PENDING, deliveries.c.due_at <= self._now(tx))
        return tx.scalar(select(deliveries.c.id).where(*due).limit(1)) is not None

    def _claim(self, tx: Connection, owner: str, room: int, trial_room: int) -> list[DeliveryClaim]:
        claims: list[DeliveryClaim] = []
        for _ in range(_MAX_WALKS):
            claims = self._claim_among(tx, owner, self._walk(tx), (room, trial_room))
            if claims or not self._walked_to:
                break
        reach("webhook.claim")
        return claims

    def _claim_among(
        self, tx: Connection, owner: str, waiting: list[str], places: tuple[int, int]
    ) -> list[DeliveryClaim]:
        drop_pending(tx, self._db, waiting)
        now = self._now(tx)
        claims: list[DeliveryClaim] = []
        room, trial_room = places
        for on_trial, most in ((True, trial_room), (False, room)):
            left = min(most, room - len(claims))
            if left > 0:
                found = tx.execute(_ready(waiting, now, on_trial=on_trial).limit(left)).mappings().all()
                for endpoint, count in _shares(
                    found, _in_flight(tx, found, now), 1 if on_trial else MAX_PARALLEL, left
                ):
                    claims += self._take(tx, owner, endpoint, count, now)
        return claims

    def _walk(self, tx: Connection) -> list[str]:
        """Return endpoints for which something waits, going on where the last walk ended.

        Each step is one look into an index, however much waits for the endpoint that is passed.
        """
        found = list(tx.scalars(_WALK_ON, {"after": self._walked_to}))
        self._walked_to = max(found) if len(found) >= _WALK else ""
        return found

    def _take(self, tx: Connection, owner: str, endpoint: RowMapping, count: int, now: float) -> list[DeliveryClaim]:
        turn = (
            select(deliveries.c.id)
            .where(deliveries.c.endpoint_id == endpoint["id"], _PENDING)
            .where(deliveries.c.due_at <= now)
            .order_by(deliveries.c.due_at, deliveries.c.id)
            .limit(count)
            .with_for_update(skip_locked=True)
        )
        until = now + self._lease_s
        taken = (
            update(deliveries)
            .where(deliveries.c.id.in_(list(tx.scalars(turn))))
            .values(lease_owner=owner, lease_until=until, due_at=until, fence=deliveries.c.fence + 1)
            .returning(deliveries.c.id, deliveries.c.event_id, deliveries.c.fence, deliveries.c.attempts)
        )
        rows = tx.execute(taken).all()
        wanted = select(events).where(events.c.id.in_([row.event_id for row in rows]))
        named = {event["id"]: event for event in tx.execute(wanted).mappings()}
        return [_claimed(row, endpoint, named[row.event_id], now) for row in rows]

    def _mark_all(self, tx: Connection, outcomes: Sequence[Outcome]) -> Counter[str]:
        ids = [outcome.claim.endpoint_id for outcome in outcomes]
        lock = select(webhook_endpoints.c.id).where(webhook_endpoints.c.id.in_(ids)).order_by(webhook_endpoints.c.id)
        if not self._db.is_sqlite:
            tx.execute(lock.with_for_update(key_share=True))
        counts: Counter[str] = Counter()
        for outcome in outcomes:
            if self._mark(tx, outcome):
                counts[outcome.result] += 1
                counts["dropped"] += self._judge_endpoint(tx, outcome)
            else:
                counts["lost"] += 1
        return counts

    def _mark(self, tx: Connection, outcome: Outcome) -> bool:
        claim, now = outcome.claim, self._db.now()
        again = outcome.result == "pending"
        values = {
            "state": outcome.result,
            "attempts": claim.attempt,
            "lease_owner": None,
            "lease_until": None,
            "last_status": outcome.status,
            "last_error": outcome.error,
            "due_at": now + outcome.retry_in_s,
            "finished_at": None if again else now,
        }
        if not tx.execute(update(deliveries).where(*_mine(claim)).values(values)).rowcount:
            return False
        of_delivery = delivery_attempts.c.delivery_id == claim.delivery_id
        number = select(func.coalesce(func.max(delivery_attempts.c.number), 0) + 1).where(of_delivery)
        added = insert(delivery_attempts).values(
            delivery_id=claim.delivery_id,
            number=number.scalar_subquery(),
            at=now,
            status=outcome.status,
            error=outcome.error,
            duration_ms=outcome.duration_ms,
            excerpt=outcome.excerpt,
        )
        newest = tx.scalar(added.returning(delivery_attempts.c.number)) or 0
        if newest > KEPT_ATTEMPTS:
            old = delivery_attempts.c.number <= newest - KEPT_ATTEMPTS
            tx.execute(delete(delivery_attempts).where(of_delivery, old))
        return True

    def _judge_endpoint(self, tx: Connection, outcome: Outcome) -> int:
        """Note how the endpoint is doing; return how many deliveries were dropped because it was disabled."""
        table, now = webhook_endpoints.c, self._db.now()
        this = (table.id == outcome.claim.endpoint_id, table.state == "active")
        if outcome.result == "delivered":
            stale = or_(table.failing_since.is_not(None), table.open_at < now - _REFRESH_S)
            tx.execute(update(webhook_endpoints).where(*this, stale).values(failing_since=None, open_at=now))
            return 0
        rested = now + outcome.rest_s
        failing = {
            "failing_since": func.coalesce(table.failing_since, now),
            "open_at": case((table.open_at < rested, rested), else_=table.open_at),
        }
        too_long = table.failing_since < now - self._disable_after_s
        row = tx.execute(
            update(webhook_endpoints).where(*this).values(failing).returning(too_long.label("late"))
        ).first()
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
    waiting = (deliveries.c.endpoint_id.in_(disabled), _PENDING)
    return tx.execute(update(deliveries).where(*waiting).values(values)).rowcount


def _mine(claim: DeliveryClaim) -> tuple[ColumnElement[bool], ...]:
    return (
        deliveries.c.id == claim.delivery_id,
        _PENDING,
        deliveries.c.fence == claim.fence,
        deliveries.c.lease_owner.is_not(None),
    )


def _ready(endpoint_ids: Sequence[str], now: float, *, on_trial: bool) -> Select[Any]:
    """Return those of these endpoints that may be sent something now: new ones before failing ones, oldest first."""
    table = webhook_endpoints.c
    waiting = (deliveries.c.endpoint_id == table.id, _PENDING)
    oldest = select(func.min(deliveries.c.due_at)).where(*waiting).scalar_subquery()
    # ``open_at`` of an endpoint that answers is when it last did.
    proven = and_(table.failing_since.is_(None), table.open_at > now - _PROVEN_S)
    return (
        select(webhook_endpoints)
        .where(table.id.in_(endpoint_ids), table.state == "active", table.open_at <= now, oldest <= now)
        .where(not_(proven) if on_trial else proven)
        .where(_leased(table.id, now).scalar_subquery() < (1 if on_trial else MAX_PARALLEL))
        .order_by(table.failing_since.is_not(None), oldest)
        .with_for_update(of=webhook_endpoints, skip_locked=True, key_share=True)
    )


def _leased(endpoint_id: ColumnElement[str], now: float) -> Select[Any]:
    # A lease's end is in ``due_at`` too, where an index finds it.
    held = (_PENDING, deliveries.c.due_at > now, deliveries.c.lease_until > now)
    return select(func.count()).select_from(deliveries).where(deliveries.c.endpoint_id == endpoint_id, *held)


def _in_flight(tx: Connection, endpoints: Sequence[RowMapping], now: float) -> dict[str, int]:
    """Count what others hold, once more: they may have claimed between our look and our lock."""
    return {row["id"]: tx.scalar(_leased(literal(row["id"]), now)) or 0 for row in endpoints}


def _shares(
    endpoints: Sequence[RowMapping], in_flight: dict[str, int], limit: int, room: int
) -> list[tuple[RowMapping, int]]:
    """Deal ``room`` places out among endpoints, one after the other, none getting more than ``limit`` in all."""
    shares = dict.fromkeys(in_flight, 0)
    for _ in range(limit):
        for endpoint_id, held in in_flight.items():
            if room > 0 and held + shares[endpoint_id] < limit:
                shares[endpoint_id] += 1
                room -= 1
    return [(endpoint, shares[endpoint["id"]]) for endpoint in endpoints if shares[endpoint["id"]]]


def _claimed(row: Row[Any], endpoint: RowMapping, event: RowMapping, now: float) -> DeliveryClaim:
    since, until = endpoint["failing_since"], endpoint["old_secret_until"]
    old = (endpoint["old_secret"],) if until is not None and until > now else ()
    return DeliveryClaim(
        delivery_id=row.id,
        fence=row.fence,
        attempt=row.attempts + 1,
        endpoint_id=endpoint["id"],
        url=endpoint["url"],
        secrets=(endpoint["secret"], *old),
        on_trial=since is not None or endpoint["open_at"] <= now - _PROVEN_S,
        failing_s=0.0 if since is None else max(0.0, now - since),
        event=Event(event["id"], event["type"], event["seq"], event["created_at"], event["body"]),
    )


def _abandoned(old: ColumnElement[float]) -> tuple[ColumnElement[bool], ...]:
    """Match endpoints that were deleted, or made for a job's address, and that nothing refers to any more."""
    table = webhook_endpoints.c
    return (
        or_(table.implicit, table.secret == ""),
        table.created_at < old,
        not_(exists().where(deliveries.c.endpoint_id == table.id)),
        table.id.not_in(select(jobs.c.webhook_endpoint).where(jobs.c.webhook_endpoint.is_not(None))),
        table.id.not_in(select(batches.c.webhook_endpoint).where(batches.c.webhook_endpoint.is_not(None))),
    )
