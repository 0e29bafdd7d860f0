"""``tympan serve``: everything in one process tree."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tympan import __version__
from tympan.api.app import create_app
from tympan.api.deps import Backend, make_services
from tympan.api.deps import Services as ApiServices
from tympan.api.intake.staging import open_staging
from tympan.api.server import HttpServer, ServerHooks
from tympan.bootstrap.access import open_doors
from tympan.bootstrap.hearing import hearing
from tympan.bootstrap.jobs import Stores, WorkerPost, job_worker, open_desks, open_stores, upkeep_of
from tympan.bootstrap.measuring import make_watch
from tympan.bootstrap.pipeline import Services, StepLog, make_data_dir, running
from tympan.bootstrap.rollouts import make_rollout_watch, promoted_model
from tympan.bootstrap.traffic import counting_traffic
from tympan.bootstrap.web import announce, exit_at_once, limits_of, open_address, traced
from tympan.config import Settings
from tympan.errors import Cancelled

_STOP_S = 30.0


def serve(settings: Settings) -> None:
    """Serve HTTP until a signal asks to stop; answers from the first moment, while the model is still being loaded.

    Raises what ``running`` raises, and ``ConfigError`` when the address is taken.
    """
    with ExitStack() as started:
        # 1. The port and the folders.
        address = open_address(settings)
        started.enter_context(traced(settings, "serve"))
        make_data_dir(settings.data_dir)
        staging = started.enter_context(open_staging(settings.data_dir / "staging"))
        # 2. What is kept: the database and the audio, and who tidies them up.
        stores = started.enter_context(open_stores(settings))
        post = WorkerPost(settings.drain_s)
        doors = started.enter_context(open_doors(settings, stores.database))
        voices = started.enter_context(hearing(settings, StepLog("diarization")))
        desks = started.enter_context(open_desks(settings, stores, post, doors, voices))
        started.enter_context(upkeep_of(settings, stores, desks, post))
        watch = make_watch(settings, stores.database)
        started.callback(watch.stop)
        watch.start()
        # 3. The HTTP application, which takes jobs at once and transcribes when step 4 is done.
        services = make_services(staging, limits_of(settings), Backend(), __version__, desks)
        started.callback(services.runner.close)
        hooks = ServerHooks(on_drain=post.stop_taking, on_force=exit_at_once)
        server = HttpServer(create_app(services), services, address, hooks)
        # 4. The pipeline and the worker over it, in a thread that owns them from start to stop.
        meter = started.enter_context(counting_traffic(settings, stores.database))
        keeper = _Keeper(
            settings,
            services,
            server,
            partial(running, settings, meter.add if meter else None, meter, promoted_model(stores.database), voices),
            lambda pipeline: _work(settings, stores, pipeline, staging, post),
        )
        started.callback(keeper.stop)
        keeper.start()
        # 5. Serve on the main thread, which gets the signals.
        server.run()
    keeper.raise_failure()


@contextmanager
def _work(settings: Settings, stores: Stores, pipeline: Services, staging: Path, post: WorkerPost) -> Iterator[None]:
    """Work off jobs, by the models that were decided on."""
    watch = make_rollout_watch(stores.database, pipeline.registry, pipeline.home)
    with job_worker(settings, stores, pipeline, staging, post):
        watch.start()
        try:
            yield
        finally:
            watch.stop()


class _Keeper:
    """The thread that brings the pipeline up behind a server that already answers, and takes it down at the end."""

    def __init__(
        self,
        settings: Settings,
        services: ApiServices,
        server: HttpServer,
        pipeline: Callable[[], AbstractContextManager[Services]],
        worker: Callable[[Services], AbstractContextManager[object]],
    ) -> None:
        self._settings, self._services, self._server = settings, services, server
        self._pipeline, self._worker = pipeline, worker
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Take the pipeline down; waits for it."""
        self._over.set()
        self._thread.join(_STOP_S + self._settings.drain_s)

    def raise_failure(self) -> None:
        """Raise what kept the pipeline from coming up, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        started = time.monotonic()
        try:
            with self._pipeline() as services, self._worker(services):
                self._services.backend.arrive_all(services.registry)
                services.preload()
                self._wait_for_socket()
                announce(self._settings, services, self._server.url, time.monotonic() - started)
                self._over.wait()
        except Cancelled:
            return
        except BaseException as error:  # noqa: BLE001 (raised again in the main thread)
            self._failure = error
            self._server.stop()

    def _wait_for_socket(self) -> None:
        while not self._server.started:
            if self._over.wait(0.01):
                raise Cancelled
