"""From settings to a running pipeline: data folder, decoder, model, engine.

Start-up is a list of steps; what a step started is stopped in reverse order, each within a deadline.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tympan import telemetry
from tympan.api.model_names import ModelCard
from tympan.audio.decode import Decoder
from tympan.audio.vad import SpeechDetector
from tympan.audio.versions import FFMPEG_FLOOR, is_old
from tympan.batching.batcher import BatcherOptions
from tympan.batching.fleet import Fleet
from tympan.batching.host import HostOptions
from tympan.batching.queue import BatchLimits
from tympan.batching.slot import ModelSlot
from tympan.bootstrap.hearing import hearing
from tympan.bootstrap.registry import LocalRegistry, configured_models, make_fleet, names, with_default
from tympan.bootstrap.shadow import shadowing
from tympan.config import Settings
from tympan.engine import hardware, layouts, models
from tympan.engine.base import EngineSpec
from tympan.engine.environment import engine_environment
from tympan.engine.machine import probe_machine
from tympan.engine.specs import spec_for
from tympan.engine.store import PullProgress
from tympan.errors import ConfigError, ModelError, TympanError
from tympan.observation import Observer, unobserved
from tympan.pipeline import Transcriber
from tympan.pipeline.models import ModelTranscriber
from tympan.pipeline.voices import VoiceDesk
from tympan.quality.shadow import Opinions

_STOP_S = 10.0
_LOG = telemetry.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What runs: the decoder, the engines, and the pipelines over them.

    ``home`` is the id of the settings' model, which is the default unless another one was promoted.
    """

    settings: Settings
    decoder: Decoder
    fleet: Fleet
    registry: LocalRegistry
    home: str
    observer: Observer = unobserved

    @property
    def transcriber(self) -> Transcriber:
        """The pipeline over the default model."""
        return self.registry.transcriber(None)

    @property
    def model(self) -> ModelCard:
        """The default model."""
        return self.registry.pick(None)[1]

    def preload(self) -> None:
        """Begin to load the models that should be there before somebody asks; returns at once."""
        self.registry.preload()


@contextmanager
def running(
    settings: Settings, observer: Observer | None = None, opinions: Opinions | None = None, default: str | None = None,
    desk: VoiceDesk | None = None,
) -> Iterator[Services]:  # fmt: skip
    """Yield services that are ready for work; stop them afterwards. An ``observer`` is told of every transcript.

    With ``opinions``, which count what differs, the shadow model hears a share of the windows again, if there is one.
    ``default`` is the id of the model that was promoted to be the default in place of the settings'. Voices are heard
    at ``desk``, if there is one already.

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
        # 3. The models by name; nothing of them is loaded.
        configured = configured_models(with_model(settings))
        found = with_default(configured, default)
        fleet = make_fleet(settings, found, _batching(settings), _locate)
        started.callback(_stop, "engine", fleet.close)
        # 4. The pipeline over them.
        known = names(settings, [each.card for each in found])
        detector = SpeechDetector()
        home = configured[0].card.id
        sampler = started.enter_context(shadowing(settings, fleet, known, home, opinions))
        voices = desk or started.enter_context(hearing(settings, StepLog("diarization")))

        def pipe(slot: ModelSlot) -> ModelTranscriber:
            return ModelTranscriber(decoder, detector, slot, observer, sampler).hearing(voices)

        registry = LocalRegistry(fleet, found, known, pipe)
        # 5. The default model: its files, verified, and its engine in a process.
        _load_default(fleet, registry, settings.model_fallback)
        _check_libraries(decoder.sandbox.media_libraries, allowed=settings.allow_old_ffmpeg)
        yield Services(settings, decoder, fleet, registry, home, observer or unobserved)


def _batching(settings: Settings) -> BatcherOptions:
    host = HostOptions(environment=engine_environment())
    return BatcherOptions(batch=BatchLimits(max_ms=settings.max_batch_ms), host=host)


def _check_libraries(libraries: str, *, allowed: bool) -> None:
    """Raise ``ConfigError`` when the media library is too old for files from strangers, unless that is ``allowed``."""
    if not is_old(libraries):
        return
    floor = ".".join(map(str, FFMPEG_FLOOR))
    if not allowed:
        raise ConfigError(
            f"The media library is too old for files from strangers: {libraries or 'unknown'}; FFmpeg {floor} is the "
            "oldest.",
            remedy="Install the packages as they are locked, or set ALLOW_OLD_FFMPEG if you trust every file.",
        )
    _LOG.warning("old_media_library", libraries=libraries, floor=floor)


def _load_default(fleet: Fleet, registry: LocalRegistry, fallback: str | None) -> None:
    """Wait for the default model, or for the one that stands in for it. Raises why it cannot be loaded."""
    fleet.default.ask()
    try:
        fleet.default.wait_loaded()
    except TympanError as error:
        if fallback is None:
            raise
        _LOG.error("default_model_cannot_be_loaded", model=fleet.default.name, error=str(error), instead=fallback)
        slot = fleet.slot(registry.pick(fallback)[1].id)
        slot.ask()
        slot.wait_loaded()


def with_model(settings: Settings) -> Settings:
    """Return the settings with the model that suits the machine, where that was left open."""
    if settings.model != hardware.AUTO or settings.engine == "fake":
        return settings
    return settings.model_copy(update={"model": chosen_hardware(settings).model})


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


def _locate(settings: Settings) -> EngineSpec:
    """Find the model and the hardware for it, and say what was chosen; what is not there is fetched."""
    choice = chosen_hardware(settings)
    _LOG.info("hardware", device=choice.device, compute_type=choice.compute_type, reasons=list(choice.reasons))
    found = models.resolve(choice.model, settings.data_dir, _access(settings), StepLog(choice.model))
    _LOG.info("model", name=found.name, revision=found.revision, source=found.source)
    return spec_for(found, choice, settings.engine, settings.device, settings.engine_options)


def chosen_hardware(settings: Settings) -> hardware.Choice:
    """Choose what was left open: model, device, number format, threads."""
    usable = models.usable(settings.data_dir, _access(settings))
    machine = probe_machine()
    return hardware.choose_hardware(
        settings.model, settings.device, _number_format(settings), settings.threads or 0, machine, usable
    )


def _number_format(settings: Settings) -> str:
    """Return the number format that is set, unless the model is one whose file decides."""
    try:
        found = layouts.look(models.path_of(settings.model, settings.data_dir))
    except ModelError:
        # It is not here yet; what is fetched never is in ggml.
        return settings.compute_type
    return hardware.OF_THE_FILE if found.layout is layouts.GGML else settings.compute_type


def _access(settings: Settings) -> models.Access:
    return models.Access(offline=settings.offline, trust_first_use=settings.trust_first_use)


class StepLog:
    """Logs each new step of fetching a model once, so that a first start is not silent for minutes."""

    def __init__(self, model: str) -> None:
        """Log about ``model``."""
        self._model, self._step = model, ""

    def __call__(self, progress: PullProgress) -> None:
        """Take note of ``progress``."""
        if progress.step != self._step:
            self._step = progress.step
            _LOG.info("preparing_model", name=self._model, step=progress.step, total_mb=progress.total_bytes // 10**6)


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
