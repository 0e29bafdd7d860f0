"""From settings to running services, and back: the only place that knows which classes do the work.

Start-up is a list of steps; what a step started is stopped in reverse order, each within a deadline.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tympan import __version__, config, telemetry
from tympan.api.app import create_app
from tympan.api.deps import Backend, Limits, ModelCard, make_services
from tympan.api.deps import Services as ApiServices
from tympan.api.server import Address, HttpServer, ServerHooks, check_free
from tympan.api.staging import open_staging
from tympan.audio.decode import Decoder
from tympan.audio.vad import SpeechDetector
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.host import HostOptions
from tympan.batching.queue import BatchLimits
from tympan.bootstrap.jobs import WorkerPost, job_worker, make_janitor, make_service, open_stores
from tympan.config import Settings
from tympan.engine import hardware, models
from tympan.engine.base import EngineSpec
from tympan.engine.factory import kind_for
from tympan.engine.machine import probe_machine
from tympan.engine.store import PullProgress
from tympan.errors import Cancelled, ConfigError, TympanError
from tympan.pipeline import Transcriber

ENGINE_START_S = 150.0
"""Longest wait for the engine to load its model."""

_STOP_S = 10.0
_FORCED_EXIT = 130
_LOG = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What runs: the pipeline, its parts, and the model it serves."""

    settings: Settings
    transcriber: Transcriber
    decoder: Decoder
    batcher: Batcher
    model: ModelCard


@contextmanager
def running(settings: Settings) -> Iterator[Services]:
    """Yield services that are ready for work; stop them afterwards.

    Raises ``ModelError`` when the model cannot be had, ``EngineError`` or ``Unavailable`` when it cannot be loaded,
    ``DecoderUnavailable`` and ``ConfigError``.
    """
    with ExitStack() as started:
        # 1. The folder for everything that is kept.
        make_data_dir(settings.data_dir)
        # 2. The media decoder, which warms up while the rest goes on.
        decoder = Decoder()
        started.callback(_stop, "decoder", decoder.close)
        decoder.start()
        # 3. The model's files, verified.
        spec, model = _model(settings)
        # 4. The engine in its process, behind the batcher.
        options = BatcherOptions(
            batch=BatchLimits(max_ms=settings.max_batch_ms), host=HostOptions(environment=_engine_environment())
        )
        batcher = Batcher(spec, options, telemetry.BatchMetrics())
        started.callback(_stop, "engine", lambda: batcher.close(0.0))
        batcher.start()
        # 5. The pipeline over them, once the engine answers.
        transcriber = Transcriber(decoder, SpeechDetector(), batcher)
        batcher.wait_ready(ENGINE_START_S)
        yield Services(settings, transcriber, decoder, batcher, model)


def serve(settings: Settings) -> None:
    """Serve HTTP until a signal asks to stop; answers from the first moment, while the model is still being loaded.

    Raises what ``running`` raises, and ``ConfigError`` when the address is taken.
    """
    telemetry.configure_logging(settings.log_level, settings.log_format)
    for note in config.notes(settings):
        _LOG.warning("settings", note=note)
    address = Address(settings.host, settings.port, settings.drain_s)
    with ExitStack() as started:
        # 1. The port and the folders.
        check_free(address)
        make_data_dir(settings.data_dir)
        staging = started.enter_context(open_staging(settings.data_dir / "staging"))
        # 2. What is kept: the database and the audio, and who tidies them up.
        stores = started.enter_context(open_stores(settings))
        post = WorkerPost(settings.drain_s)
        jobs = make_service(settings, stores, post)
        janitor = make_janitor(settings, stores, jobs, post)
        started.callback(janitor.stop)
        janitor.start()
        # 3. The HTTP application, which takes jobs at once and transcribes when step 4 is done.
        services = make_services(staging, _limits(settings), Backend(), __version__, jobs)
        started.callback(services.runner.close)
        hooks = ServerHooks(on_drain=post.stop_taking, on_force=_exit_at_once)
        server = HttpServer(create_app(services), services, address, hooks)
        # 4. The pipeline and the worker over it, in a thread that owns them from start to stop.
        keeper = _Keeper(
            settings, services, server, lambda pipeline: job_worker(settings, stores, pipeline, staging, post)
        )
        started.callback(keeper.stop)
        keeper.start()
        # 5. Serve on the main thread, which gets the signals.
        server.run()
    keeper.raise_failure()


def make_data_dir(folder: Path) -> None:
    """Create the data folder. Raises ``ConfigError`` when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        if os.access(folder, os.W_OK):
            return
        reason = "Permission denied"
    raise ConfigError(
        f"The folder {folder} cannot be used: {reason}.", remedy="Set DATA_DIR to a folder that can be written."
    )


class _Keeper:
    """The thread that brings the pipeline up behind a server that already answers, and takes it down at the end."""

    def __init__(
        self,
        settings: Settings,
        services: ApiServices,
        server: HttpServer,
        worker: Callable[[Transcriber], AbstractContextManager[object]],
    ) -> None:
        self._settings, self._services, self._server, self._worker = settings, services, server, worker
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Take the pipeline down; waits for it."""
        self._over.set()
        self._thread.join(3 * _STOP_S + self._settings.drain_s)

    def raise_failure(self) -> None:
        """Raise what kept the pipeline from coming up, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        started = time.monotonic()
        try:
            with running(self._settings) as services, self._worker(services.transcriber):
                self._wait_for_socket()
                self._services.backend.arrive(services.transcriber, services.model)
                _announce(services, self._server.url, time.monotonic() - started)
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


def _model(settings: Settings) -> tuple[EngineSpec, ModelCard]:
    """Find the model and the hardware for it, and say what was chosen."""
    options = tuple(sorted(settings.engine_options.items()))
    now = int(time.time())
    if settings.engine == "fake":
        return EngineSpec("fake", "fake", threads=settings.threads or 1, options=options), ModelCard(
            "fake", created=now
        )
    choice = chosen_hardware(settings)
    found = models.resolve(choice.model, settings.data_dir, _access(settings), _StepLog(choice.model))
    _LOG.info("model", name=found.name, revision=found.revision, source=found.source)
    spec = EngineSpec(
        kind=kind_for(settings.engine, choice.device, choice.compute_type, found.path),
        model=found.name,
        revision=found.revision,
        path=str(found.path),
        device=choice.device,
        compute_type=choice.compute_type,
        threads=choice.threads,
        options=options,
    )
    names = (found.entry.repo_id, *found.entry.aliases) if found.entry else ()
    owner = found.entry.repo_id.split("/", 1)[0] if found.entry else "local"
    return spec, ModelCard(found.name, names, created=now, owner=owner)


def chosen_hardware(settings: Settings) -> hardware.Choice:
    """Choose what was left open: model, device, number format, threads."""
    usable = models.usable(settings.data_dir, _access(settings))
    machine = probe_machine()
    choice = hardware.choose_hardware(
        settings.model, settings.device, settings.compute_type, settings.threads or 0, machine, usable
    )
    _LOG.info("hardware", device=choice.device, compute_type=choice.compute_type, reasons=list(choice.reasons))
    return choice


def _access(settings: Settings) -> models.Access:
    return models.Access(offline=settings.offline, trust_first_use=settings.trust_first_use)


class _StepLog:
    """Logs each new step of fetching a model once, so that a first start is not silent for minutes."""

    def __init__(self, model: str) -> None:
        self._model, self._step = model, ""

    def __call__(self, progress: PullProgress) -> None:
        """Take note of ``progress``."""
        if progress.step != self._step:
            self._step = progress.step
            _LOG.info("fetching_model", name=self._model, step=progress.step, total_mb=progress.total_bytes // 10**6)


def _engine_environment() -> dict[str, str]:
    """Return what the engine's process finds in its environment beside this one's.

    NumPy's OpenBLAS would keep threads of its own spinning beside the engine's, which doubled the time of an encoder
    call. Its huge pages would make arrays that are used in part, such as the past of a text, take up all of their
    memory: 100 MB more at five beams. CTranslate2 keeps to AVX2 unless told otherwise; with AVX-512 its encoder took
    7-13 % less time on a Zen 5 core.
    """
    wide = "avx512_vnni" in probe_machine().cpu_flags and "CT2_FORCE_CPU_ISA" not in os.environ
    numpy = {"OPENBLAS_NUM_THREADS": "1", "NUMPY_MADVISE_HUGEPAGE": "0"}
    return numpy | ({"CT2_FORCE_CPU_ISA": "AVX512"} if wide else {})


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_upload_bytes=settings.max_upload_mb * 1_000_000,
        max_audio_s=settings.max_audio_s,
        request_timeout_s=settings.request_timeout_s,
        upload_idle_s=settings.upload_idle_s,
        max_requests=settings.max_requests,
        max_concurrent=settings.max_concurrent,
    )


def _announce(services: Services, url: str, took_s: float) -> None:
    info = services.batcher.info
    what = f"{info.engine}, {info.device}, {info.compute_type}" if info else ""
    sys.stdout.write(f"Tympan {__version__} serves {services.model.id} ({what}) at {url}\n")
    sys.stdout.flush()
    report = services.decoder.sandbox
    _LOG.info("ready", took_s=round(took_s, 2), sandbox=list(report.lines))
    if report.missing:
        _LOG.warning("decoder_sandbox_is_incomplete", missing=list(report.missing))


def _stop(what: str, close: Callable[[], None]) -> None:
    """Stop one service, but wait no longer than its deadline for it."""
    failures: list[BaseException] = []

    def close_and_tell() -> None:
        try:
            close()
        except TympanError as error:
            failures.append(error)

    closer = threading.Thread(target=close_and_tell, name=f"stop-{what}", daemon=True)
    closer.start()
    closer.join(_STOP_S)
    if closer.is_alive() or failures:
        _LOG.error(
            "stop_failed", service=what, in_time=not closer.is_alive(), errors=[type(e).__name__ for e in failures]
        )


def _exit_at_once() -> NoReturn:
    """End the process now; its children notice, and what lies in staging is swept at the next start."""
    os._exit(_FORCED_EXIT)
