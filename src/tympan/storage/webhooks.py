"""Webhook endpoints and the log of what was sent to them, as their owners see them. Every query names its tenant.

A deleted endpoint stays as a row without address and secret until its last delivery is forgotten: jobs that name it can
still end, and what was dropped can still be seen. One that was made for a job's address goes with the last such job;
``created_at`` is then when it was last asked for.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, case, func, insert, or_, select, update

from tympan.errors import Conflict, NotFound
from tympan.storage.database import Database
from tympan.storage.deliveries import UNUSED_S
from tympan.storage.delivery_marks import deleted_values, drop_pending
from tympan.storage.ids import new_id
from tympan.storage.tables import deliveries, delivery_attempts, events, webhook_endpoints

MAX_ENDPOINTS = 1_000
"""Most endpoints that a tenant can make; those made for a job's address do not count."""

DELIVERY_STATES = ("pending", "delivered", "failed", "dropped")

TEST_EVENT = "test.ping"
"""The type of the event that is sent on request to try an endpoint."""

_MAX_REPLAYED = 10_000
_DAY_S = 86_400.0
_RENEW_S = UNUSED_S / 3
_RECOVERED = {"failing_since": None, "open_at": 0.0}
_ENDPOINT, _DELIVERY = webhook_endpoints.c, deliveries.c


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go. ``implicit`` ones were made for a job's ``webhook_url``. Times are Unix seconds."""

    id: str
    url: str
    description: str
    enabled: bool
    disabled_reason: str | None
    failing_since: float | None
    implicit: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class EndpointSecrets:
    """The sealed secret of an endpoint, and until when the one before it signs too."""

    secret: str
    old_until: float | None


@dataclass(frozen=True, slots=True)
class EndpointChange:
    """What to change of an endpoint; ``None`` leaves it."""

    url: str | None = None
    description: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver; ``status`` is ``None`` when no answer came."""

    number: int
    at: float
    status: int | None
    error: str | None
    duration_ms: int
    excerpt: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to one endpoint; ``due_at`` is when it is tried next, while it is pending."""

    event_id: str
    type: str
    subject_id: str
    seq: int
    state: str
    attempts: int
    created_at: float
    due_at: float
    finished_at: float | None
    last_status: int | None
    last_error: str | None
    log: tuple[Attempt, ...]


class WebhookStore:
    """The endpoints table and the log of deliveries."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def create(self, tenant: str, url: str, description: str, secret: str) -> Endpoint:
        """Return a new endpoint with a sealed ``secret``. Raises ``Conflict`` when the tenant has too many."""
        endpoint_id = new_id("whe")

        def work(tx: Connection) -> Endpoint:
            mine = (_ENDPOINT.tenant == tenant, _ENDPOINT.implicit.is_(False), _ENDPOINT.secret != "")
            if (tx.scalar(select(func.count()).select_from(webhook_endpoints).where(*mine)) or 0) >= MAX_ENDPOINTS:
                raise Conflict(f"There are {MAX_ENDPOINTS} endpoints already.", remedy="Delete those no longer used.")
            values = self._new(tenant, url, secret) | {"id": endpoint_id, "description": description}
            added = insert(webhook_endpoints).values(implicit=False, **values).returning(*_ENDPOINT)
            return _endpoint(tx.execute(added).mappings().one())

        return self._db.write(work)

    def ensure(self, tenant: str, url: str, secret: str) -> Endpoint:
        """Return the tenant's one endpoint for a job's ``url``; ``secret`` is for the case that it is new.

        It then stays for ten minutes at least, in which a job that names it has to be stored.
        """
        endpoint_id = implicit_id(tenant, url)
        lately = _ENDPOINT.created_at > self._db.now() - _RENEW_S
        fresh = (_ENDPOINT.id == endpoint_id, _ENDPOINT.tenant == tenant, _ENDPOINT.secret != "", lately)
        known = self._db.read(lambda tx: tx.execute(select(*_ENDPOINT).where(*fresh)).mappings().first())
        return (
            _endpoint(known) if known is not None else self._db.write(lambda tx: self._ensure(tx, tenant, url, secret))
        )

    def get(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Return an endpoint. Raises ``NotFound``, for another tenant's as for none."""
        return _endpoint(self._db.read(lambda tx: _alive(tx, tenant, endpoint_id)))

    def page(self, tenant: str, limit: int, after: str | None = None) -> list[Endpoint]:
        """Return endpoints, newest first, from beyond the id ``after``, which may have gone.

        Those made for a job's address stand among them in the order of their ids.
        """
        query = select(webhook_endpoints).where(_ENDPOINT.tenant == tenant, _ENDPOINT.secret != "")
        if after is not None:
            query = query.where(_ENDPOINT.id < after)
        ordered = query.order_by(_ENDPOINT.id.desc()).limit(limit)
        return self._db.read(lambda tx: [_endpoint(row) for row in tx.execute(ordered).mappings()])

    def change(self, tenant: str, endpoint_id: str, change: EndpointChange) -> Endpoint:
        """Return the endpoint, changed; disabling drops what waits. Raises ``NotFound``, ``Conflict``."""

        def work(tx: Connection) -> Endpoint:
            row = _alive(tx, tenant, endpoint_id)
            if row["implicit"] and change.url not in (None, row["url"]):
                raise Conflict(
                    "This endpoint was made for a job's webhook_url and keeps its address.",
                    param="url",
                    remedy="Create an endpoint for the other address.",
                )
            self._update(tx, endpoint_id, _changed(row, change))
            drop_pending(tx, self._db, [endpoint_id])
            return _endpoint(_alive(tx, tenant, endpoint_id))

        return self._db.write(work)

    def delete(self, tenant: str, endpoint_id: str) -> None:
        """Delete an endpoint, its address and its secrets; what waits for it is dropped. Raises ``NotFound``."""

        def work(tx: Connection) -> None:
            _alive(tx, tenant, endpoint_id)
            self._update(tx, endpoint_id, deleted_values(self._db))
            drop_pending(tx, self._db, [endpoint_id])

        self._db.write(work)

    def secrets(self, tenant: str, endpoint_id: str) -> EndpointSecrets:
        """Return the endpoint's sealed secrets. Raises ``NotFound``."""
        return self._db.read(lambda tx: self._secrets(tx, tenant, endpoint_id))

    def rotate(self, tenant: str, endpoint_id: str, secret: str, overlap_s: float) -> EndpointSecrets:
        """Put a sealed ``secret`` in the place of the present one, which signs too for ``overlap_s``.

        Raises ``NotFound``.
        """

        def work(tx: Connection) -> EndpointSecrets:
            row = _alive(tx, tenant, endpoint_id)
            until = self._db.now() + overlap_s
            self._update(tx, endpoint_id, {"secret": secret, "old_secret": row["secret"], "old_secret_until": until})
            return self._secrets(tx, tenant, endpoint_id)

        return self._db.write(work)

    def deliveries(
        self, tenant: str, endpoint_id: str, limit: int, *, states: Sequence[str] = (), after: str | None = None
    ) -> list[Delivery]:
        """Return deliveries to an endpoint, also to one that was deleted, newest first, with their attempts.

        ``after`` is the event's id that the page before ended with. Raises ``NotFound``.
        """
        query = _log_of(tenant, endpoint_id)
        if states:
            query = query.where(_DELIVERY.state.in_(states))

        def work(tx: Connection) -> list[Delivery]:
            wanted = query
            if after is not None:
                wanted = query.where(_DELIVERY.id < _one_delivery(tx, tenant, endpoint_id, after)["id"])
            elif tx.scalar(select(_ENDPOINT.id).where(_ENDPOINT.id == endpoint_id, _ENDPOINT.tenant == tenant)) is None:
                raise _no_endpoint()
            rows = tx.execute(wanted.order_by(_DELIVERY.id.desc()).limit(limit)).mappings().all()
            attempts = _attempts(tx, [row["id"] for row in rows])
            return [_delivery(row, attempts.get(row["id"], [])) for row in rows]

        return self._db.read(work)

    def replay(self, tenant: str, endpoint_id: str, event_id: str) -> Delivery:
        """Return one delivery, due again at once with a schedule of its own. Raises ``NotFound``, ``Conflict``."""

        def work(tx: Connection) -> Delivery:
            _check_active(tx, tenant, endpoint_id)
            row = _one_delivery(tx, tenant, endpoint_id, event_id)
            self._requeue(tx, endpoint_id, _DELIVERY.id == row["id"])
            attempts = _attempts(tx, [row["id"]])
            return _delivery(_one_delivery(tx, tenant, endpoint_id, event_id), attempts.get(row["id"], []))

        return self._db.write(work)

    def replay_failed(self, tenant: str, endpoint_id: str, since: float) -> int:
        """Make failed and dropped deliveries of events since then due again, oldest first, 10,000 at most a call.

        Returns how many. Raises ``NotFound``, ``Conflict``.
        """
        lost = (_DELIVERY.endpoint_id == endpoint_id, _DELIVERY.state.in_(("failed", "dropped")))
        page = select(_DELIVERY.id).where(*lost, _DELIVERY.created_at >= since).order_by(_DELIVERY.id)

        def work(tx: Connection) -> int:
            _check_active(tx, tenant, endpoint_id)
            return self._requeue(tx, endpoint_id, _DELIVERY.id.in_(page.limit(_MAX_REPLAYED)))

        return self._db.write(work)

    def ping(self, tenant: str, endpoint_id: str) -> Delivery:
        """Return the delivery of a new event that only tries the endpoint. Raises ``NotFound``, ``Conflict``."""
        event_id = new_id("evt")
        data: dict[str, Any] = {"id": endpoint_id, "state": "active", "metadata": {}, "error": None}

        def work(tx: Connection) -> Delivery:
            _check_active(tx, tenant, endpoint_id)
            now = self._db.now()
            row = {"id": event_id, "subject_id": event_id, "type": TEST_EVENT, "seq": 1, "body": json.dumps(data)}
            tx.execute(insert(events).values(tenant=tenant, created_at=now, **row))
            due = {"event_id": event_id, "endpoint_id": endpoint_id, "tenant": tenant, "state": "pending"}
            tx.execute(insert(deliveries).values(due_at=now, created_at=now, **due))
            return _delivery(_one_delivery(tx, tenant, endpoint_id, event_id), [])

        return self._db.write(work)

    def _new(self, tenant: str, url: str, secret: str) -> dict[str, Any]:
        now = self._db.now()
        return {"tenant": tenant, "url": url, "state": "active", "secret": secret, "open_at": 0.0, "created_at": now}

    def _ensure(self, tx: Connection, tenant: str, url: str, secret: str) -> Endpoint:
        values = self._new(tenant, url, secret) | {"id": implicit_id(tenant, url), "description": "", "implicit": True}
        was_deleted = _ENDPOINT.secret == ""
        renewed = {
            "created_at": self._db.now(),  # Young enough not to be forgotten before its job is there.
            "url": url,
            "secret": case((was_deleted, secret), else_=_ENDPOINT.secret),
            "state": case((was_deleted, "active"), else_=_ENDPOINT.state),
            "failing_since": case((was_deleted, None), else_=_ENDPOINT.failing_since),
            "disabled_reason": case((was_deleted, None), else_=_ENDPOINT.disabled_reason),
        }
        added = self._db.insert(webhook_endpoints).values(values)
        added = added.on_conflict_do_update(index_elements=[_ENDPOINT.id], set_=renewed)
        tx.execute(added)
        return _endpoint(_alive(tx, tenant, values["id"]))

    @staticmethod
    def _update(tx: Connection, endpoint_id: str, values: dict[str, Any]) -> None:
        if values:
            tx.execute(update(webhook_endpoints).where(_ENDPOINT.id == endpoint_id).values(values))

    def _secrets(self, tx: Connection, tenant: str, endpoint_id: str) -> EndpointSecrets:
        row = _alive(tx, tenant, endpoint_id)
        return EndpointSecrets(row["secret"], row["old_secret_until"])

    def _requeue(self, tx: Connection, endpoint_id: str, which: ColumnElement[bool]) -> int:
        now = self._db.now()
        # Somebody has mended the receiver: it need not rest any longer.
        self._update(
            tx, endpoint_id, {"open_at": case((_ENDPOINT.open_at > now, now - _DAY_S), else_=_ENDPOINT.open_at)}
        )
        free = or_(_DELIVERY.lease_until.is_(None), _DELIVERY.lease_until < now)
        values = {"state": "pending", "attempts": 0, "due_at": now, "finished_at": None, "fence": _DELIVERY.fence + 1}
        return tx.execute(update(deliveries).where(which, free).values(values)).rowcount


def implicit_id(tenant: str, url: str) -> str:
    """Return the id of the endpoint that a tenant's jobs with this ``webhook_url`` share."""
    return "whe_" + hashlib.sha256(f"{tenant}\n{url}".encode()).hexdigest()[:32]


def _alive(tx: Connection, tenant: str, endpoint_id: str) -> RowMapping:
    mine = (_ENDPOINT.id == endpoint_id, _ENDPOINT.tenant == tenant, _ENDPOINT.secret != "")
    row = tx.execute(select(webhook_endpoints).where(*mine)).mappings().first()
    if row is None:
        raise _no_endpoint()
    return row


def _check_active(tx: Connection, tenant: str, endpoint_id: str) -> None:
    if _alive(tx, tenant, endpoint_id)["state"] != "active":
        raise Conflict("The endpoint is disabled.", remedy="Enable it first.")


def _no_endpoint() -> NotFound:
    return NotFound("There is no such webhook endpoint.", remedy="Check the id; GET /v1/webhook-endpoints lists all.")


def _changed(row: RowMapping, change: EndpointChange) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if change.description is not None:
        values |= {"description": change.description}
    if change.url not in (None, row["url"]):
        values |= {"url": change.url} | _RECOVERED  # What failed was the address before.
    if change.enabled is True and row["state"] != "active":
        values |= {"state": "active", "disabled_reason": None} | _RECOVERED
    if change.enabled is False and row["state"] == "active":
        values |= {"state": "disabled", "disabled_reason": "Disabled by its owner."}
    return values


def _log_of(tenant: str, endpoint_id: str) -> Any:
    mine = (_DELIVERY.endpoint_id == endpoint_id, _DELIVERY.tenant == tenant)
    named = (events.c.type, events.c.subject_id, events.c.seq)
    return select(deliveries, *named).join(events, events.c.id == _DELIVERY.event_id).where(*mine)


def _one_delivery(tx: Connection, tenant: str, endpoint_id: str, event_id: str) -> RowMapping:
    row: RowMapping | None = (
        tx.execute(_log_of(tenant, endpoint_id).where(_DELIVERY.event_id == event_id)).mappings().first()
    )
    if row is None:
        raise NotFound("There is no such delivery.", remedy="Check the id; deliveries are forgotten after some weeks.")
    return row


def _attempts(tx: Connection, delivery_ids: Sequence[int]) -> dict[int, list[Attempt]]:
    table = delivery_attempts.c
    query = select(delivery_attempts).where(table.delivery_id.in_(delivery_ids)).order_by(table.number)
    found: dict[int, list[Attempt]] = {}
    for row in tx.execute(query):
        attempt = Attempt(row.number, row.at, row.status, row.error, row.duration_ms, row.excerpt or "")
        found.setdefault(row.delivery_id, []).append(attempt)
    return found


def _endpoint(row: RowMapping) -> Endpoint:
    return Endpoint(
        id=row["id"],
        url=row["url"],
        description=row["description"],
        enabled=row["state"] == "active",
        disabled_reason=row["disabled_reason"],
        failing_since=row["failing_since"],
        implicit=row["implicit"],
        created_at=row["created_at"],
    )


def _delivery(row: RowMapping, log: Sequence[Attempt]) -> Delivery:
    return Delivery(
        event_id=row["event_id"],
        type=row["type"],
        subject_id=row["subject_id"],
        seq=row["seq"],
        state=row["state"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        finished_at=row["finished_at"],
        last_status=row["last_status"],
        last_error=row["last_error"],
        log=tuple(log),
    )
