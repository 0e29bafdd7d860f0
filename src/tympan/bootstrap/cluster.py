"""The three kinds of process of a cluster: ``api`` answers, ``worker`` transcribes, ``scheduler`` looks after all.

Each listens for HTTP: the api for everything, the others for health checks and metrics alone. Each answers from its
first moment, and waits for the database and the object storage, which may be started later.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from tympan import __version__, telemetry
from tympan.api.app import Application, create_app, create_ops_app
from tympan.api.deps import Backend, Services, make_services
from tympan.api.intake.staging import open_staging
from tympan.api.registry import FixedRegistry, ModelRegistry
from tympan.api.server import Address, HttpServer, ServerHooks
from tympan.bootstrap.access import open_doors
from tympan.bootstrap.hearing import hearing
from tympan.bootstrap.jobs import Stores, WorkerPost, make_bench, open_desks, open_stores, upkeep_of
from tympan.bootstrap.measuring import make_watch
from tympan.bootstrap.pipeline import StepLog, make_data_dir, running
from tympan.bootstrap.registry import configured_models, names
from tympan.bootstrap.rollouts import make_rollout_watch, promoted_model
from tympan.bootstrap.traffic import counting_traffic
from tympan.bootstrap.waiting import wait_for
from tympan.bootstrap.web import exit_at_once, limits_of, open_address, traced
from tympan.config import Settings
from tympan.domain import Lane
from tympan.errors import ConfigError
from tympan.jobs.celery_app import BellPublisher, Hands, make_celery, run_consumer
from tympan.jobs.relay import Relay
from tympan.jobs.remote import Lookout, RemoteTranscriber
from tympan.jobs.signals import LocalSignals, Signals
from tympan.storage import migrate
from tympan.storage.outbox import Outbox

_LOG = telemetry.get_logger(__name__)
_STOP_S = 10.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve_api(settings: Settings) -> None:
    """Serve the HTTP interface without an engine: synchronous calls and jobs are worked off by the workers."""
    with ExitStack() as started:
        node = _Node(settings, started, "api", has_doors=True)
        over = threading.Event()

        def begin() -> None:
            if node.wait_for_stores(over):
                node.watch.start()
                node.begin(registry)
                rollouts.start()

        workers = Lookout(node.stores.upkeep.has_workers)
        registry = _elsewhere(node, workers)
        rollouts = make_rollout_watch(node.stores.database, registry, registry.default)
        started.callback(rollouts.stop)
        started.callback(workers.stop)
        keeper = threading.Thread(target=begin, name="keeper", daemon=True)
        started.callback(keeper.join, _STOP_S)
        started.callback(over.set)
        workers.start()
        keeper.start()
        node.serve(create_app(node.services), f"api for {settings.model}")


def run_worker(settings: Settings) -> None:
    """Work on steps of jobs until a signal asks to stop; what is not done by then goes back to the others."""
    with ExitStack() as started:
        node = _Node(settings, started, "worker")
        started.enter_context(node.serving(create_ops_app(node.services)))
        _leave_when_asked()
        meter = started.enter_context(counting_traffic(settings, node.stores.database))
        node.wait_for_stores(threading.Event())
        default = promoted_model(node.stores.database)
        pipeline = started.enter_context(running(settings, meter.add if meter else None, meter, default))
        rollouts = make_rollout_watch(node.stores.database, pipeline.registry, pipeline.home)
        started.callback(rollouts.stop)
        rollouts.start()
        bench = make_bench(settings, node.stores, pipeline, node.services.staging)
        bench.tell(node.signals.announce)
        bench.start()
        started.callback(bench.close)
        node.begin(pipeline.registry)
        pipeline.preload()

        def stop() -> None:
            node.services.house.draining = True
            bench.drain(settings.drain_s)

        def work() -> None:
            # A bell is only a reason to look: what is most urgent goes first whatever it was for. And who has done
            # one step looks for more, since the next bell may take its time.
            while pipeline.registry.ready and bench.work_once(tuple(Lane)):
                node.relay.ring()

        hands = Hands(work, settings.job_slots)
        run_consumer(node.celery, hands, settings.job_slots, look_s=settings.lease_s, on_stop=stop)


def run_scheduler(settings: Settings) -> None:
    """Publish doorbells, take back lost work, remove old data, until a signal asks to stop. Two of them do no harm."""
    with ExitStack() as started:
        node = _Node(settings, started, "scheduler")
        started.enter_context(node.serving(create_ops_app(node.services)))
        _leave_when_asked()
        node.wait_for_stores(threading.Event())
        started.enter_context(upkeep_of(settings, node.stores, node.services.desks, node.post))
        node.watch.start()
        database = Lookout(node.database_answers)
        started.callback(database.stop)
        database.start()
        node.begin(_elsewhere(node, database))
        threading.Event().wait()


def _leave_when_asked() -> None:
    """Let SIGTERM and SIGINT end this process orderly, and a second one at once."""

    def leave(*_: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, lambda *_: exit_at_once())
        raise SystemExit

    for number in _SIGNALS:
        signal.signal(number, leave)


class _Node:
    """What the processes of a cluster have in common. Everything is stopped with the stack it is started on."""

    def __init__(self, settings: Settings, started: ExitStack, role: str, *, has_doors: bool = False) -> None:
        if settings.mode != "cluster":
            raise ConfigError("This command is for clusters.", remedy="Set MODE to 'cluster', or use `tympan serve`.")
        self.settings, self._started = settings, started
        self._address: Address = open_address(settings)
        started.enter_context(traced(settings, role))
        make_data_dir(settings.data_dir)
        staging = started.enter_context(open_staging(settings.data_dir / "staging"))
        self.stores: Stores = started.enter_context(open_stores(settings))
        self.celery = make_celery(_secret(settings))
        publisher = BellPublisher(self.celery)
        started.callback(publisher.close)
        self.relay = Relay(Outbox(self.stores.database), publisher.ring, poll_s=settings.poll_s)
        self.post = WorkerPost(0.0, self.relay.ring)
        doors = started.enter_context(open_doors(settings, self.stores.database)) if has_doors else None
        voices = started.enter_context(hearing(settings, StepLog("diarization"))) if has_doors else None
        desks = started.enter_context(open_desks(settings, self.stores, self.post, doors, voices))
        # Callers who may come back are known to all processes, not to this one alone.
        limits = replace(limits_of(settings), reattach_s=0.0, shares_calls=settings.reattach_s > 0)
        self.services: Services = make_services(staging, limits, Backend(), __version__, desks)
        started.callback(self.services.runner.close)
        started.callback(self.relay.stop)
        self.watch = make_watch(settings, self.stores.database)
        started.callback(self.watch.stop)
        self.signals: Signals = started.enter_context(_signals(settings))

    def wait_for_stores(self, over: threading.Event) -> bool:
        """Return whether database, schema and object storage were there before ``over`` was set."""
        needs = {"database": lambda: migrate.check(self.stores.database), "object storage": self.stores.blobs.check}
        return wait_for(needs, over)

    def database_answers(self) -> bool:
        """Return True. Raises ``StorageUnavailable``."""
        self.stores.database.check()
        return True

    def begin(self, registry: ModelRegistry) -> None:
        """Say that this process is ready, and publish doorbells."""
        self.relay.start()
        self.services.backend.arrive_all(registry)
        _LOG.info("ready", model=registry.pick(None)[1].id)

    def serve(self, app: Application, what: str) -> None:
        """Answer HTTP on the main thread until a signal asks to stop."""
        _LOG.info("listening", what=what)
        self._server(app).run()

    @contextmanager
    def serving(self, app: Application) -> Iterator[None]:
        """Answer HTTP in a thread, because the main one has something else to do."""
        server = self._server(app)
        thread = threading.Thread(target=server.run, name="http", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.stop()
            thread.join(_STOP_S)

    def _server(self, app: Application) -> HttpServer:
        hooks = ServerHooks(on_drain=lambda: None, on_force=exit_at_once)
        return HttpServer(app, self.services, self._address, hooks)


@contextmanager
def _signals(settings: Settings) -> Iterator[Signals]:
    """Yield signals between processes where there is a Redis, else within this one."""
    if settings.redis_url is None:
        yield LocalSignals()
        return
    from tympan.jobs.redis_signals import RedisSignals  # noqa: PLC0415  (the client may not be installed)

    signals = RedisSignals(settings.redis_url.get_secret_value())
    signals.start()
    try:
        yield signals
    finally:
        signals.stop()


def _secret(settings: Settings) -> str:
    return settings.broker_url.get_secret_value() if settings.broker_url else ""


def _elsewhere(node: _Node, lookout: Lookout) -> FixedRegistry:
    """Return the models that the workers serve, by the settings: an api process does not need their files.

    The settings' own has no name in what is handed in while it is the default, so that each worker may have its own.
    """
    jobs, cards = node.services.jobs, [each.card for each in configured_models(node.settings)]
    remote = partial(RemoteTranscriber, signals=node.signals, reattach_s=node.settings.reattach_s)
    home = cards[0].id

    def name_of(model: str) -> str | None:
        return None if model == home == registry.default else model

    found = [(remote(jobs, card.id, lookout, job_model=partial(name_of, card.id)), card) for card in cards]
    registry = FixedRegistry(found, names(node.settings, cards))
    return registry
