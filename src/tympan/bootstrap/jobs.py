"""From settings to everything about jobs: the database, audio storage, workers, webhooks, and who tidies up."""

import fcntl
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tympan import telemetry
from tympan.access.limits import LimitDesk
from tympan.api.access.entrance import Doors
from tympan.api.deps import Desks
from tympan.bootstrap.administration import make_administration
from tympan.bootstrap.hearing import introducing
from tympan.bootstrap.limits import apply_limits, counting, enforced, make_limits
from tympan.bootstrap.measuring import make_board, make_conductor, make_golden_desk, make_trial_desk
from tympan.bootstrap.pipeline import Services
from tympan.bootstrap.planning import planning
from tympan.bootstrap.results import make_cache, make_sealer, tidy_cache
from tympan.bootstrap.traffic import watch_drift
from tympan.bootstrap.watching import make_watches
from tympan.bootstrap.waveforms import drawing
from tympan.config import Settings
from tympan.disk import kept_free_bytes
from tympan.domain import SourceKind
from tympan.egress import Egress, EgressRules
from tympan.jobs.delivery import DeliveryLoop, Tools
from tympan.jobs.fetching import ObjectSource, SourceGuard, UrlFetcher
from tympan.jobs.janitor import Janitor, JanitorOptions
from tympan.jobs.local_runner import LocalRunner
from tympan.jobs.media import Fetcher, MediaDesk
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.resumable import ResumableUploads, UploadRules
from tympan.jobs.service import JobService
from tympan.jobs.steps import StepLimits, Steps
from tympan.jobs.webhooks import WebhookService
from tympan.jobs.workbench import BenchOptions, Workbench
from tympan.pipeline.voices import VoiceDesk
from tympan.storage import migrate
from tympan.storage.audit import AuditStore
from tympan.storage.blobs import BlobStore, open_blobs
from tympan.storage.database import Database, sqlite_url
from tympan.storage.deliveries import DeliveryStore
from tympan.storage.delivery_backlog import delivery_backlog
from tympan.storage.endings import Endings
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.jobs import JobStore
from tympan.storage.queue_bound import QueueBound, QueueLimits
from tympan.storage.upkeep import Upkeep
from tympan.storage.uploads import UploadStore
from tympan.storage.webhooks import WebhookStore
from tympan.storage.work import WorkStore

LOCK_FILE = "tympan.db.lock"
"""Held by every process that uses the embedded database."""

_WATCH_SHARE = 0.2
_PATIENCE_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept, and who may ask for it."""

    database: Database
    blobs: BlobStore
    jobs: JobStore
    work: WorkStore
    upkeep: Upkeep
    egress: Egress
    limits: LimitDesk
    cache: ResultCache


class WorkerPost:
    """Where this process's worker can be reached, once there is one."""

    def __init__(self, drain_s: float, ring: Callable[[], None] = lambda: None) -> None:
        """Give running steps ``drain_s`` to end once the worker is asked to stop; ``ring`` tells other processes."""
        self._drain_s, self._ring_others = drain_s, ring
        self._runner: LocalRunner | None = None
        self._stopped_at: float | None = None

    def take(self, runner: LocalRunner) -> None:
        """Let ``runner`` be reached from now on."""
        self._runner = runner
        if self._stopped_at is not None:
            runner.stop_taking()

    def ring(self) -> None:
        """Wake the worker; one that starts later looks by itself."""
        self._ring_others()
        if self._runner is not None:
            self._runner.ring()

    def stop_taking(self) -> None:
        """Let the worker take no more steps; its time to finish starts to run."""
        self._stopped_at = self._stopped_at or time.monotonic()
        if self._runner is not None:
            self._runner.stop_taking()

    @property
    def grace_s(self) -> float:
        """How much of the time to finish is left."""
        gone_s = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
        return max(0.0, self._drain_s - gone_s)


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Yield the database of this installation as it is. Raises ``ConfigError``."""
    url = settings.database_url.get_secret_value() if settings.database_url else None
    database = Database(url or sqlite_url(settings.data_dir / "tympan.db"))
    try:
        yield database
    finally:
        database.close()


def open_audio(settings: Settings) -> BlobStore:
    """Return where this installation keeps audio: object storage, or a folder."""
    url = settings.storage_url.get_secret_value() if settings.storage_url else None
    return open_blobs(url, settings.data_dir / "blobs")


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Yield the stores of this installation, the schema up to date (embedded) or not looked at yet (cluster).

    Raises ``ConfigError`` and ``StorageUnavailable``.
    """
    embedded = settings.mode == "embedded"
    with ExitStack() as stack:
        database = stack.enter_context(open_database(settings))
        if embedded:
            migrate.upgrade(database)
        endings = Endings(database, audio_days=settings.retain_audio_days, text_days=settings.retain_text_days)
        upkeep = Upkeep(database, endings, lease_s=settings.lease_s, rings=not embedded)
        if database.is_sqlite:
            stack.enter_context(_only_user(settings.data_dir / LOCK_FILE, upkeep))
        limits = make_limits(settings, database)
        cache = make_cache(settings, lambda tenant: limits.of(tenant).text_days)
        stack.callback(cache.close)
        stores = Stores(
            database,
            open_audio(settings),
            JobStore(database, endings, rings=not embedded, bound=QueueBound(database, _queue_limits(settings))),
            WorkStore(database, endings, lease_s=settings.lease_s, rings=not embedded),
            upkeep,
            Egress(EgressRules(allow=settings.egress_allow)),
            limits,
            cache,
        )
        apply_limits(stores.limits, stores.jobs)
        yield stores


@contextmanager
def job_worker(
    settings: Settings, stores: Stores, pipeline: Services, scratch: Path, post: WorkerPost
) -> Iterator[LocalRunner]:
    """Yield threads that work off jobs; on leaving they finish what they can in ``DRAIN_S`` and give the rest back."""
    bench = make_bench(settings, stores, pipeline, scratch)
    runner = LocalRunner(
        bench, slots=settings.job_slots, poll_s=settings.poll_s, is_ready=lambda: pipeline.registry.ready
    )
    post.take(runner)
    runner.start()
    try:
        yield runner
    finally:
        runner.stop(post.grace_s)


def make_bench(settings: Settings, stores: Stores, pipeline: Services, scratch: Path) -> Workbench:
    """Return a workbench for this process."""
    fetchers: dict[SourceKind, Fetcher] = {
        SourceKind.URL: UrlFetcher(stores.egress),
        SourceKind.OBJECT: _objects(settings),
    }
    desk = MediaDesk(stores.blobs, scratch, fetchers, settings.max_resumable_mb * 1_000_000)
    limits = StepLimits(
        settings.max_audio_s,
        settings.result_ttl_s,
        patience_s=_PATIENCE_SHARE * settings.lease_s,
        narrowed=lambda tenant, max_audio_s: stores.limits.of(tenant).shorter_audio(max_audio_s),
        cache=stores.cache,
        observe=lambda tenant, seen: None if tenant == MEASURING_TENANT else pipeline.observer(seen),
    )
    steps = Steps(pipeline.registry.transcriber, stores.work, desk, stores.blobs, limits)
    options = BenchOptions(
        owner=_worker_name(),
        slots=settings.job_slots,
        heartbeat_s=settings.heartbeat_s,
        lease_s=settings.lease_s,
        watch_s=_WATCH_SHARE * settings.heartbeat_s,
        models=pipeline.registry.known_names if settings.mode == "cluster" else None,
    )
    return Workbench(steps, stores.work, stores.upkeep, scratch, options)


def _queue_limits(settings: Settings) -> QueueLimits:
    return QueueLimits(settings.max_queued_jobs, settings.max_queued_audio_s)


def make_service(settings: Settings, stores: Stores, post: WorkerPost) -> JobService:
    """Return what may be asked about jobs."""
    guard = SourceGuard(stores.egress, _objects(settings))
    return JobService(stores.jobs, stores.blobs, guard, ring=post.ring, cache=stores.cache)


@contextmanager
def open_desks(
    settings: Settings, stores: Stores, post: WorkerPost, doors: Doors | None = None, desk: VoiceDesk | None = None
) -> Iterator[Desks]:
    """Yield whom to ask about jobs, uploads, webhooks and limits, who counts usage, and who gets to ask.

    That is everybody without ``doors``; then nobody sees waveforms either. Samples of voices are heard at ``desk``.
    """
    kept_bytes = kept_free_bytes(shutil.disk_usage(settings.data_dir).total, settings.disk_reserve_bytes)
    rules = UploadRules(settings.max_resumable_mb * 1_000_000, kept_free_bytes=kept_bytes)
    upload_store = UploadStore(stores.database, ttl_s=settings.upload_ttl_s)
    upload_store.check_possessions = stores.jobs.check_possessions
    uploads = ResumableUploads(upload_store, stores.blobs, rules)
    webhooks = WebhookService(WebhookStore(stores.database), webhook_egress(settings), make_sealer(settings))
    watches = make_watches(settings, stores.database, stores.blobs, stores.limits)
    service = make_service(settings, stores, post)
    seen = drawing(settings, stores.blobs, service) if doors else nullcontext()
    introduced = introducing(desk) if desk else nullcontext()
    with (
        enforced(stores.limits),
        watches,
        counting(stores.database) as meter,
        seen as waveforms,
        introduced as voices,
        planning(settings, stores.database, stores.blobs) as plans,
    ):
        try:
            # In a cluster it is the workers who look for equal calls: they know which model they have.
            results = stores.cache if settings.mode == "embedded" else ResultCache()
            yield Desks(
                service, uploads, webhooks, stores.limits, meter, doors or Doors(), results, watches, waveforms, voices,
                administration=make_administration(settings, stores.database),
                quality=make_board(settings, stores.database, stores.blobs, service), plans=plans,
            )  # fmt: skip
        finally:
            uploads.close()


@contextmanager
def upkeep_of(settings: Settings, stores: Stores, desks: Desks, post: WorkerPost) -> Iterator[None]:
    """Tidy up and send webhooks in the background."""
    options = JanitorOptions(sweep_s=settings.sweep_s, rings=settings.mode == "cluster")
    janitor = Janitor(stores.upkeep, desks.jobs, stores.blobs, options, post.ring)
    if isinstance(desks.uploads, ResumableUploads):
        janitor.also(desks.uploads.sweep_expired)
    janitor.also(lambda: AuditStore(stores.database).forget(settings.audit_days))
    janitor.also(lambda: tidy_cache(stores.cache, AuditStore(stores.database)))
    janitor.measuring(lambda: _show_webhooks(stores.database))
    watch_drift(settings, stores.database, janitor)
    golden = make_golden_desk(settings, stores.database, stores.blobs, desks.jobs)
    janitor.also(make_trial_desk(settings, golden).tend)
    tools = Tools(observer=lambda outcome, count: telemetry.WEBHOOK_DELIVERIES.labels(outcome).inc(count))
    delivery = DeliveryLoop(
        DeliveryStore(stores.database), webhook_egress(settings), make_sealer(settings), tools=tools
    )
    conductor = make_conductor(settings, stores.database, stores.blobs, desks.jobs)
    janitor.start()
    delivery.start()
    conductor.start()
    try:
        yield
    finally:
        conductor.stop()
        delivery.stop()
        janitor.stop()


def _show_webhooks(database: Database) -> None:
    backlog = delivery_backlog(database)
    telemetry.WEBHOOKS_WAITING.set(backlog.count)
    telemetry.WEBHOOK_LAG.set(backlog.lag_s)


def webhook_egress(settings: Settings) -> Egress:
    """Return the way out for webhooks: https alone, but for what the operator allows by name."""
    return Egress(EgressRules(allow=settings.egress_allow, https_only=True))


def _objects(settings: Settings) -> ObjectSource:
    """Split what ``audio_object`` may name into folders and places in object storage."""
    roots = tuple(Path(root) for root in settings.audio_roots if "://" not in root)
    return ObjectSource(roots, tuple(root for root in settings.audio_roots if "://" in root))


def _worker_name() -> str:
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextmanager
def _only_user(path: Path, upkeep: Upkeep) -> Iterator[None]:
    """Hold a lock that says that the database is in use; whoever finds it in no use knows that no lease is alive.

    So after a crash the work goes on at once instead of after the lease.
    """
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            upkeep.disown()
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
