"""The three kinds of process of a cluster: ``api`` answers, ``worker`` transcribes, ``scheduler`` looks after all.

Each listens for HTTP: the api for everything, the others for health checks and metrics alone.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tympan import __version__, telemetry
from tympan.api.app import Application, create_app, create_ops_app
from tympan.api.deps import Backend, ModelCard, Services, make_services
from tympan.api.server import Address, HttpServer, ServerHooks
from tympan.api.staging import open_staging
from tympan.bootstrap.jobs import Stores, WorkerPost, make_bench, make_janitor, make_service, open_stores
from tympan.bootstrap.pipeline import make_data_dir, running
from tympan.bootstrap.web import exit_at_once, limits_of, open_address
from tympan.config import Settings
from tympan.domain import Lane
from tympan.engine import catalogue
from tympan.errors import ConfigError
from tympan.jobs.celery_app import BellPublisher, make_celery, run_consumer
from tympan.jobs.relay import Relay
from tympan.jobs.remote import RemoteTranscriber
from tympan.storage.outbox import Outbox

_LOG = telemetry.get_logger(__name__)
_STOP_S = 10.0


def serve_api(settings: Settings) -> None:
    """Serve the HTTP interface without an engine: synchronous calls and jobs are worked off by the workers."""
    with ExitStack() as started:
        node = _Node(settings, started)
        card = _card(settings)
        node.services.backend.arrive(
            RemoteTranscriber(node.services.jobs, card.id, node.stores.upkeep.has_workers), card
        )
        node.start_relay()
        node.serve(create_app(node.services), f"api for {card.id}")


def run_worker(settings: Settings) -> None:
    """Work on steps of jobs until a signal asks to stop; what is not done by then goes back to the others."""
    with ExitStack() as started:
        node = _Node(settings, started)
        pipeline = started.enter_context(running(settings))
        bench = make_bench(settings, node.stores, pipeline.transcriber, node.services.staging)
        bench.start()
        started.callback(bench.close)
        node.start_relay()
        node.services.backend.arrive(pipeline.transcriber, pipeline.model)
        started.enter_context(node.serving(create_ops_app(node.services), f"worker with {pipeline.model.id}"))

        def stop() -> None:
            node.services.house.draining = True
            bench.drain(settings.drain_s)

        def work(lane: Lane) -> None:
            # Interactive work goes first whatever the bell was for: a bell is only a reason to look.
            bench.work_once((Lane.INTERACTIVE, lane))
            node.relay.ring()

        run_consumer(node.celery, work, settings.job_slots, on_stop=stop)


def run_scheduler(settings: Settings) -> None:
    """Publish doorbells, take back lost work, remove old data, until a signal asks to stop. Two of them do no harm."""
    with ExitStack() as started:
        node = _Node(settings, started)
        post = WorkerPost(0.0, node.relay.ring)
        janitor = make_janitor(settings, node.stores, node.services.jobs, post)
        started.callback(janitor.stop)
        janitor.start()
        node.start_relay()
        node.serve(create_ops_app(node.services), "scheduler")


class _Node:
    """What the processes of a cluster have in common. Everything is stopped with the stack it is started on."""

    def __init__(self, settings: Settings, started: ExitStack) -> None:
        if settings.mode != "cluster":
            raise ConfigError("This command is for clusters.", remedy="Set MODE to 'cluster', or use `tympan serve`.")
        self._settings, self._started = settings, started
        self._address: Address = open_address(settings)
        make_data_dir(settings.data_dir)
        staging = started.enter_context(open_staging(settings.data_dir / "staging"))
        self.stores: Stores = started.enter_context(open_stores(settings))
        self.celery = make_celery(_secret(settings))
        publisher = BellPublisher(self.celery)
        started.callback(publisher.close)
        self.relay = Relay(Outbox(self.stores.database), publisher.ring, poll_s=settings.poll_s)
        jobs = make_service(settings, self.stores, WorkerPost(0.0, self.relay.ring))
        self.services: Services = make_services(staging, limits_of(settings), Backend(), __version__, jobs)
        started.callback(self.services.runner.close)

    def start_relay(self) -> None:
        self.relay.start()
        self._started.callback(self.relay.stop)

    def serve(self, app: Application, what: str) -> None:
        """Answer HTTP on the main thread until a signal asks to stop."""
        _LOG.info("ready", what=what)
        self._server(app).run()

    @contextmanager
    def serving(self, app: Application, what: str) -> Iterator[None]:
        """Answer HTTP in a thread, because the main one has something else to do."""
        server = self._server(app)
        thread = threading.Thread(target=server.run, name="http", daemon=True)
        thread.start()
        _LOG.info("ready", what=what)
        try:
            yield
        finally:
            server.stop()
            thread.join(_STOP_S)

    def _server(self, app: Application) -> HttpServer:
        hooks = ServerHooks(on_drain=lambda: None, on_force=exit_at_once)
        return HttpServer(app, self.services, self._address, hooks)


def _secret(settings: Settings) -> str:
    return settings.broker_url.get_secret_value() if settings.broker_url else ""


def _card(settings: Settings) -> ModelCard:
    """Return the model that the workers serve, by its settings: an api process does not need its files."""
    entry = catalogue.find(settings.model)
    if settings.engine == "fake" or entry is None:
        return ModelCard("fake" if settings.engine == "fake" else settings.model, created=int(time.time()))
    return ModelCard(entry.name, (entry.repo_id, *entry.aliases), int(time.time()), entry.repo_id.split("/", 1)[0])
