"""The command line's way to the engine: settings with the flags on top, and one file through the pipeline.

The imports are inside the functions so that ``tympan --help`` and usage errors answer at once.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

from tympan.cli.console import say
from tympan.cli.display import pull_bar, waiting
from tympan.domain import SAMPLE_RATE_HZ, Lane, Options, Progress, Transcript
from tympan.engine.base import EngineInfo

if TYPE_CHECKING:
    from tympan.bootstrap import Services
    from tympan.config import Settings


class FileTranscriber(Protocol):
    """Something that turns a file into a transcript; may be called from several threads at once."""

    @property
    def info(self) -> EngineInfo | None:
        """What runs, once it is known."""
        ...

    def transcribe(
        self, path: Path, options: Options, cancel: Event, on_progress: Callable[[Progress], None]
    ) -> Transcript:
        """Return the transcript of one file; raises ``TympanError``, and ``Cancelled`` soon after ``cancel``."""
        ...

    def measure(self, path: Path, cancel: Event) -> float:
        """Return the length of one file in seconds, by decoding it; raises as ``transcribe`` does."""
        ...

    def hear(self, samples: Mapping[str, Path]) -> Mapping[str, str]:
        """Return the voices in files by their names here; raises ``TympanError``."""
        ...


class PipelineTranscriber:
    """A ``FileTranscriber`` on running services; its files are in the batch lane and share batches."""

    def __init__(self, services: "Services") -> None:
        """Use ``services``, which must outlive this object."""
        self._transcriber = services.transcriber
        self._decoder = services.decoder
        self._max_audio_s = services.settings.max_audio_s

    @property
    def info(self) -> EngineInfo | None:
        """What runs."""
        return self._transcriber.info

    def transcribe(
        self, path: Path, options: Options, cancel: Event, on_progress: Callable[[Progress], None]
    ) -> Transcript:
        """Return the transcript of one file."""
        from tympan.pipeline import RequestContext  # noqa: PLC0415

        context = RequestContext(
            request_id=uuid.uuid4().hex, lane=Lane.BATCH, max_audio_s=self._max_audio_s, cancel=cancel
        )
        return self._transcriber.transcribe(path, options, context, on_progress)

    def measure(self, path: Path, cancel: Event) -> float:
        """Return the length of one file in seconds."""
        blocks = self._decoder.stream(path, max_audio_s=self._max_audio_s, cancelled=cancel.is_set)
        return sum(len(block) for block in blocks) / SAMPLE_RATE_HZ

    def hear(self, samples: Mapping[str, Path]) -> Mapping[str, str]:
        """Return the voices in files."""
        from tympan.pipeline import RequestContext  # noqa: PLC0415
        from tympan.pipeline.introductions import Introductions  # noqa: PLC0415

        desk = self._transcriber.voices
        return Introductions(self._decoder, desk).heard(samples, RequestContext("known")) if desk else {}


def load_settings(overrides: Mapping[str, object]) -> "Settings":
    """Return the settings with the flags' values on top, and log to stderr from now on; raises ``ConfigError``."""
    from tympan.config import load  # noqa: PLC0415

    settings = load(overrides)
    quieten_log(settings)
    return settings


@contextmanager
def open_transcriber(settings: "Settings", *, quiet: bool = False) -> Iterator[FileTranscriber]:
    """Yield a transcriber that is ready for work; see ``open_services``."""
    with open_services(settings, quiet=quiet) as services:
        yield PipelineTranscriber(services)


@contextmanager
def open_services(settings: "Settings", *, quiet: bool = False) -> Iterator["Services"]:
    """Yield services that are ready for work; unless ``quiet``, say what takes time and what was chosen.

    Raises ``TympanError`` when model or engine cannot be used.
    """
    quieten_log(settings)
    fetch_model(settings, quiet=quiet)
    from tympan.bootstrap import running  # noqa: PLC0415

    with ExitStack() as stack:
        with waiting("Loading the model...", quiet=quiet):
            services = stack.enter_context(running(settings))
        yield services


def fetch_model(settings: "Settings", *, quiet: bool) -> None:
    """Have the model's files in place, with a bar if they must come from afar; what follows finds them there.

    Raises ``ModelError`` or ``InsufficientStorage``.
    """
    from tympan.bootstrap import chosen_hardware  # noqa: PLC0415
    from tympan.engine import models  # noqa: PLC0415

    if settings.engine == "fake":
        return
    choice = chosen_hardware(settings)
    if settings.model == "auto" and not quiet:
        say(choice.reasons[0])
    access = models.Access(offline=settings.offline, trust_first_use=settings.trust_first_use)
    with pull_bar(choice.model, quiet=quiet) as report:
        models.resolve(choice.model, settings.data_dir, access, report)


def quieten_log(settings: "Settings") -> None:
    """Log to stderr, but not the everyday lines of a server: they would stand between bars and transcripts."""
    from tympan import telemetry  # noqa: PLC0415

    level = "warning" if settings.log_level == "info" else settings.log_level
    telemetry.configure_logging(level, settings.log_format)
