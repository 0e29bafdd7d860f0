"""From settings to what is watched: the database and what waits in it, audio storage, the broker, Redis, limits."""

from collections.abc import Callable

from tympan.access.limits import LimitDesk
from tympan.api.watches import PartReport, PartReports, PartState, Sight, Watch, Watches
from tympan.config import Settings
from tympan.errors import InsufficientStorage, StorageUnavailable
from tympan.storage.blobs import BlobStore
from tympan.storage.database import Database
from tympan.storage.delivery_backlog import delivery_backlog
from tympan.storage.outbox import Outbox

LATE_S = 120.0
"""From when on what waits to be sent counts as late."""

_ASK_THE_DATABASE = "Check that the server of DATABASE_URL runs and can be reached, or that the disk of DATA_DIR works."
_DATABASE_IS_SILENT = PartReport(PartState.DOWN, "The database does not answer.", _ASK_THE_DATABASE)
_STORAGE_IS_AWAY = PartReport(
    PartState.DOWN,
    "The audio storage does not answer, or takes nothing.",
    "See that the server of STORAGE_URL runs, takes the credentials and has room; without one, that DATA_DIR does.",
)
_BROKER_IS_AWAY = PartReport(
    PartState.DEGRADED,
    "The broker does not answer. Jobs are taken, and workers find them by looking, but later.",
    "See that the server of BROKER_URL runs, and that its memory and disk are below its alarms.",
)
_REDIS_IS_AWAY = PartReport(
    PartState.DEGRADED,
    "Redis does not answer. Nothing is lost; progress comes later, and no results are kept for equal calls.",
    "See that the server of REDIS_URL runs and can be reached.",
)
_LIMITS_ARE_SPLIT = PartReport(
    PartState.DEGRADED,
    "Redis is away, so that every process keeps its share of the limits by itself.",
    "See that the server of REDIS_URL runs; until then tenants may get somewhat less or more than their limits.",
)


def make_watches(settings: Settings, database: Database, blobs: BlobStore, limits: LimitDesk) -> Watches:
    """Return eyes on everything that this installation depends on."""
    in_cluster = settings.mode == "cluster"
    # A folder is not written to every few seconds; whether its disk has room is looked at anyway.
    reach: Callable[[], object] = blobs.check if settings.storage_url is not None else blobs.free_bytes
    names = ("database", "webhooks", *(("outbox",) if in_cluster else ()))
    sights = [
        Sight(names, lambda: _database(database, in_cluster=in_cluster), _DATABASE_IS_SILENT),
        Sight(("object_storage",), lambda: _tried("object_storage", reach, _STORAGE_IS_AWAY), _STORAGE_IS_AWAY),
    ]
    if in_cluster and settings.broker_url is not None:
        from tympan.jobs.celery_app import BrokerProbe, make_celery  # noqa: PLC0415  (for clusters only)

        broker = BrokerProbe(make_celery(settings.broker_url.get_secret_value()))
        sights.append(Sight(("broker",), lambda: _tried("broker", broker.check, _BROKER_IS_AWAY), _BROKER_IS_AWAY))
    if settings.redis_url is not None:
        sights.append(_redis(settings.redis_url.get_secret_value(), limits))
    return Watches(Watch(sight, period_s=2 * settings.sweep_s) for sight in sights)


def _database(database: Database, *, in_cluster: bool) -> PartReports:
    try:
        database.check()
        deliveries, bells = delivery_backlog(database), Outbox(database).backlog() if in_cluster else None
    except (StorageUnavailable, InsufficientStorage) as error:
        return {"database": PartReport(PartState.DOWN, error.message, _ASK_THE_DATABASE)}
    found = {"database": PartReport(), "webhooks": _webhooks(deliveries.count, deliveries.lag_s)}
    return found if bells is None else {**found, "outbox": _outbox(bells.count, bells.lag_s)}


def _webhooks(waiting: int, lag_s: float) -> PartReport:
    facts = {"waiting": waiting, "lag_s": round(lag_s, 1)}
    if lag_s < LATE_S:
        return PartReport(facts=facts)
    reason = "Events for endpoints that answer are not sent in time."
    return PartReport(PartState.DEGRADED, reason, "See that a process that sends webhooks runs: the scheduler.", facts)


def _outbox(waiting: int, lag_s: float) -> PartReport:
    facts = {"waiting": waiting, "lag_s": round(lag_s, 1)}
    if lag_s < LATE_S:
        return PartReport(facts=facts)
    remedy = "Check that the broker takes messages. Until then workers find jobs by polling, a little later."
    return PartReport(PartState.DEGRADED, "Messages about new jobs wait to be published.", remedy, facts)


def _redis(url: str, limits: LimitDesk) -> Sight:
    from tympan.access.shared_ledger import SharedLedger  # noqa: PLC0415  (the client may not be installed)
    from tympan.storage.redis_link import RedisLink  # noqa: PLC0415

    link = RedisLink(url, open_s=0.0)

    def look() -> PartReports:
        shared = not isinstance(limits.ledger, SharedLedger) or limits.ledger.shares
        return {
            "redis": PartReport() if link.probe() else _REDIS_IS_AWAY,
            "limits": PartReport() if shared else _LIMITS_ARE_SPLIT,
        }

    return Sight(("redis", "limits"), look, _REDIS_IS_AWAY)


def _tried(name: str, check: Callable[[], object], away: PartReport) -> PartReports:
    try:
        check()
    except (StorageUnavailable, InsufficientStorage):
        return {name: away}
    return {name: PartReport()}
