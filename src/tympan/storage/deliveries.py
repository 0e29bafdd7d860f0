"""Deliveries as the senders see them: claim what is due, hold it, note what came of it.

An endpoint that has not answered well of late is on trial: one attempt at a time, and after a failure none before
``open_at``; what else waits for it stays unclaimed. Endpoints that answer get a few attempts at a time. So a dead
receiver costs one place whatever waits for it. A claim moves ``due_at`` to the end of its lease, which makes the
delivery due again when its sender has died.

Locks are taken in one order, endpoints before deliveries; who only looks for work passes over what is locked.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Row,
    RowMapping,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    not_,
    select,
    update,
)

from tympan.faultpoints import reach
from tympan.storage.database import Database
from tympan.storage.delivery_marks import PENDING, Marks, deleted_values, drop_pending, mine
from tympan.storage.delivery_values import DeliveryClaim, Event, Outcome
from tympan.storage.tables import batches, deliveries, events, jobs, webhook_endpoints

MAX_PARALLEL = 4
"""Attempts at a time for an endpoint that answers; one that is on trial gets one."""

UNUSED_S = 900.0
"""How long an endpoint made for a job's address is kept after it was asked for, whether or not the job comes."""

_PROVEN_S = 600.0
_PAGE = 500
_DAY_S = 86_400.0
_WALK = 500
_MAX_WALKS = 20


def _walk_on() -> Select[Any]:
    """Return the query for the next endpoints beyond ``:after`` for which something waits, in order."""
    table = deliveries.c
    first = select(func.min(table.endpoint_id)).where(PENDING, table.endpoint_id > bindparam("after"))
    walk = select(first.scalar_subquery().label("id"), literal(1).label("n")).cte("walk", recursive=True)
    following = select(func.min(table.endpoint_id)).where(PENDING, table.endpoint_id > walk.c.id)
    step = select(following.scalar_subquery(), walk.c.n + 1).where(walk.c.id.is_not(None), walk.c.n < _WALK)
    whole = walk.union_all(step)
    return select(whole.c.id).where(whole.c.id.is_not(None))


_WALK_ON = _walk_on()


class DeliveryStore:
    """The deliveries table, for any number of senders."""

    def __init__(self, database: Database, *, lease_s: float = 60.0, disable_after_s: float = 5 * _DAY_S) -> None:
        """Work on ``database``; a claim lasts ``lease_s``, an endpoint may fail for ``disable_after_s``."""
        self._db, self._lease_s = database, lease_s
        self._marks = Marks(database, disable_after_s)
        self._walked_to = ""
        self._busy = False

    def claim(self, owner: str, room: int, trial_room: int) -> list[DeliveryClaim]:
        """Return up to ``room`` deliveries that are due, at most ``trial_room`` of them for endpoints on trial."""
        # Where there was something, there is more; else a look comes first, which does not keep writers waiting.
        if room <= 0 or not (self._busy or self._db.read(self._any_due)):
            return []
        claims = self._db.write(lambda tx: self._claim(tx, owner, room, trial_room))
        self._busy = bool(claims)
        return claims

    def holds(self, claim: DeliveryClaim) -> bool:
        """Return whether the delivery is still to be sent by us; not when its endpoint has gone meanwhile."""
        query = select(deliveries.c.id).where(*mine(claim), deliveries.c.lease_until > self._db.now())
        return self._db.read(lambda tx: tx.scalar(query)) is not None

    def mark(self, outcomes: Sequence[Outcome]) -> Counter[str]:
        """Note what came of attempts, and return how many were delivered, pending, failed, dropped or lost."""
        return self._db.write(lambda tx: self._marks.note(tx, outcomes))

    def forget(self, keep_s: float) -> int:
        """Remove events older than ``keep_s`` that wait for nothing; return how many."""
        old = self._db.now() - keep_s
        waiting = exists().where(deliveries.c.event_id == events.c.id, PENDING)
        page = select(events.c.id).where(events.c.created_at < old, not_(waiting)).limit(_PAGE)
        return self._db.write(lambda tx: tx.execute(delete(events).where(events.c.id.in_(page))).rowcount)

    def forget_endpoints(self) -> int:
        """Delete endpoints made for a job's address that no job, no batch and no waiting delivery needs any more.

        Of those that were deleted earlier, remove the last trace. Returns how many rows were changed.
        """
        now, table = self._db.now(), webhook_endpoints.c
        implicit = and_(table.implicit, table.secret != "", table.created_at < now - UNUSED_S)
        idle = _unnamed(implicit, not_(exists().where(deliveries.c.endpoint_id == table.id, PENDING)))
        deleted = and_(table.secret == "", table.created_at < now - _DAY_S)
        traces = _unnamed(deleted, not_(exists().where(deliveries.c.endpoint_id == table.id)))
        return self._forget(idle, implicit, self._delete) + self._forget(traces, deleted, _remove)

    def _forget(
        self,
        wanted: CompoundSelect[Any],
        still: ColumnElement[bool],
        work: Callable[[Connection, Sequence[str]], object],
    ) -> int:
        """Do ``work`` on some of the endpoints that are wanted; they are locked, and are looked at again, for it."""
        found = self._db.read(lambda tx: list(tx.scalars(wanted.limit(_PAGE))))
        if not found:
            return 0
        table = webhook_endpoints.c
        locked = select(table.id).where(table.id.in_(found), still).order_by(table.id).with_for_update()

        def look_again(tx: Connection) -> int:
            sure = set(tx.scalars(locked)) & set(tx.scalars(wanted))
            work(tx, sorted(sure))
            return len(sure)

        return self._db.write(look_again)

    def _delete(self, tx: Connection, endpoint_ids: Sequence[str]) -> None:
        """Delete endpoints with what is still known of deliveries to them."""
        table = webhook_endpoints.c
        sent = select(deliveries.c.event_id).where(deliveries.c.endpoint_id.in_(endpoint_ids))
        tx.execute(delete(events).where(events.c.id.in_(sent)))
        tx.execute(update(webhook_endpoints).where(table.id.in_(endpoint_ids)).values(deleted_values(self._db)))

    def _now(self, tx: Connection) -> float:
        # As a number, because an index cannot be searched for what changes while one looks.
        return float(tx.scalar(select(self._db.now())) or 0.0)

    def _any_due(self, tx: Connection) -> bool:
        due = (PENDING, deliveries.c.due_at <= self._now(tx))
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
            .where(deliveries.c.endpoint_id == endpoint["id"], PENDING)
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
        trace = select(jobs.c.trace).where(jobs.c.id == events.c.subject_id).scalar_subquery().label("trace")
        wanted = select(events, trace).where(events.c.id.in_([row.event_id for row in rows]))
        named = {event["id"]: event for event in tx.execute(wanted).mappings()}
        return [_claimed(row, endpoint, named[row.event_id], now) for row in rows]


def _ready(endpoint_ids: Sequence[str], now: float, *, on_trial: bool) -> Select[Any]:
    """Return those of these endpoints that may be sent something now: new ones before failing ones, oldest first."""
    table = webhook_endpoints.c
    waiting = (deliveries.c.endpoint_id == table.id, PENDING)
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
    held = (PENDING, deliveries.c.due_at > now, deliveries.c.lease_until > now)
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
        event=Event(event["id"], event["type"], event["seq"], event["created_at"], event["body"], event["trace"] or ""),
    )


def _unnamed(*wanted: ColumnElement[bool]) -> CompoundSelect[Any]:
    """Return the query for those of the wanted endpoints that no job and no batch names."""
    named = (select(owner.c.webhook_endpoint).where(owner.c.webhook_endpoint.is_not(None)) for owner in (jobs, batches))
    return select(webhook_endpoints.c.id).where(*wanted).except_(*named)


def _remove(tx: Connection, endpoint_ids: Sequence[str]) -> None:
    tx.execute(delete(webhook_endpoints).where(webhook_endpoints.c.id.in_(endpoint_ids)))
