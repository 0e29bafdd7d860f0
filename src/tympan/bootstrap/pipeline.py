"""From settings to a running pipeline: data folder, decoder, model, engine.

Start-up is a list of steps; what a step started is stopped in reverse order, each within a deadline.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tympan import telemetry
from tympan.api.deps import ModelCard
from tympan.audio.decode import Decoder
from tympan.audio.vad import SpeechDetector
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.host import HostOptions
from tympan.batching.queue import BatchLimits
from tympan.config import Settings
from tympan.engine import hardware, models
from tympan.engine.base import EngineSpec
from tympan.engine.environment import engine_environment
from tympan.engine.factory import kind_for
from tympan.engine.machine import probe_machine
from tympan.engine.store import PullProgress
from tympan.errors import ConfigError, TympanError
from tympan.pipeline import Transcriber

ENGINE_START_S = 150.0
"""Longest wait for the engine to load its model."""

_STOP_S = 10.0
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
            batch=BatchLimits(max_ms=settings.max_batch_ms), host=HostOptions(environment=engine_environment())
        )
        batcher = Batcher(spec, options, telemetry.BatchMetrics())
        started.callback(_stop, "engine", lambda: batcher.close(0.0))
        batcher.start()
        # 5. The pipeline over them, once the engine answers.
        transcriber = Transcriber(decoder, SpeechDetector(), batcher)
        batcher.wait_ready(ENGINE_START_S)
        yield Services(settings, transcriber, decoder, batcher, model)


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
