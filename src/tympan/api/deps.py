"""What the routes need from the rest of the program, as plain values and small protocols."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from starlette.requests import Request

from tympan.api.admission import House
from tympan.api.runner import Runner
from tympan.domain import Abilities, Options, Progress, Transcript
from tympan.errors import Unavailable
from tympan.jobs.service import JobService
from tympan.pipeline import RequestContext
from tympan.telemetry import QueueStats

DEFAULT_MODEL_ALIAS = "whisper-1"
"""OpenAI's model name; here it means the model that is loaded."""


class EngineFacts(Protocol):
    """What an engine runs and on what."""

    @property
    def engine(self) -> str:
        """Name of the runtime."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def device(self) -> str:
        """Where it runs."""

    @property
    def compute_type(self) -> str:
        """Number format of the weights."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model knows."""

    @property
    def multilingual(self) -> bool:
        """Whether that is more than one, or not known."""

    @property
    def can(self) -> Abilities:
        """What the model can be asked for."""


class Transcriber(Protocol):
    """The pipeline as the routes see it; ``transcribe`` blocks and is called in a thread of its own."""

    @property
    def info(self) -> EngineFacts | None:
        """What the engine is, once it has started."""

    @property
    def ready(self) -> bool:
        """Whether the engine takes work now."""

    def stats(self) -> QueueStats:
        """Return the waiting windows by lane."""

    def transcribe(
        self,
        source: Path,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Return the transcript of a media file. Raises ``TympanError``."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The model that is served: its id, the other names it answers to, and when it came (Unix seconds)."""

    id: str
    aliases: tuple[str, ...] = ()
    created: int = 0
    owner: str = "tympan"

    def answers_to(self, name: str) -> bool:
        """Return whether a request for ``name`` means this model."""
        return name in (self.id, DEFAULT_MODEL_ALIAS, *self.aliases)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all of them together, may take; ``disk_reserve_bytes`` is explained at ``House``."""

    max_upload_bytes: int = 100_000_000
    max_audio_s: float = 14_400.0
    request_timeout_s: float = 300.0
    upload_idle_s: float = 10.0
    max_requests: int = 128
    max_concurrent: int = 64
    disk_reserve_bytes: int | None = None


@dataclass(slots=True)
class Backend:
    """The pipeline and its model, which arrive some time after the server has begun to answer."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _transcriber: Transcriber | None = None
    _card: ModelCard | None = None

    def arrive(self, transcriber: Transcriber, card: ModelCard) -> None:
        """Publish the pipeline; called once, from any thread."""
        with self._lock:
            self._transcriber, self._card = transcriber, card

    @property
    def loading(self) -> bool:
        """Whether the pipeline has not arrived yet, or its engine is starting for the first time."""
        return self._transcriber is None or (not self._transcriber.ready and self._transcriber.info is None)

    @property
    def ready(self) -> bool:
        """Whether the engine takes work now."""
        return self._transcriber is not None and self._transcriber.ready

    @property
    def transcriber(self) -> Transcriber | None:
        """The pipeline, once it has arrived."""
        return self._transcriber

    @property
    def card(self) -> ModelCard | None:
        """The model, once it is known."""
        return self._card

    def require(self) -> tuple[Transcriber, ModelCard]:
        """Return the pipeline and its model. Raises ``Unavailable`` while there is none that takes work."""
        with self._lock:
            transcriber, card = self._transcriber, self._card
        if transcriber is None or card is None or not transcriber.ready:
            state = "is being loaded" if self.loading else "is being restarted"
            raise Unavailable(f"The model {state}.", remedy="Try again in a few seconds.", retry_after_s=2.0)
        return transcriber, card


class Uploads(Protocol):
    """Resumable uploads as jobs see them; every call blocks."""

    def take(self, tenant: str, upload_id: str, job_id: str, target: Path) -> tuple[int, str]:
        """Write a finished upload to ``target`` for one job; return its bytes and SHA-256. Raises ``TympanError``."""

    def release(self, upload_id: str) -> None:
        """Remove an upload whose job has its own copy."""

    def give_back(self, upload_id: str, job_id: str) -> None:
        """Let another job take the upload: this one will not be."""


class Webhooks(Protocol):
    """Webhook endpoints as jobs see them; every call blocks."""

    def ensure_endpoint(self, tenant: str, url: str) -> str:
        """Return the id of the endpoint at ``url``, which is made when there is none. Raises ``TympanError``."""

    def require_endpoint(self, tenant: str, endpoint_id: str) -> object:
        """Raise ``NotFound`` when there is no such endpoint, ``Conflict`` when it is disabled."""


@dataclass(frozen=True, slots=True)
class Desks:
    """Whom to ask about jobs, resumable uploads and webhooks; what is ``None`` is refused by name."""

    jobs: JobService
    uploads: Uploads | None = None
    webhooks: Webhooks | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the routes use, made once and given to ``create_app``."""

    staging: Path
    limits: Limits
    backend: Backend
    house: House
    runner: Runner
    desks: Desks
    version: str = "0"

    @property
    def jobs(self) -> JobService:
        """What may be asked about jobs."""
        return self.desks.jobs

    @property
    def uploads(self) -> Uploads | None:
        """What may be asked about resumable uploads."""
        return self.desks.uploads

    @property
    def webhooks(self) -> Webhooks | None:
        """What may be asked about webhooks."""
        return self.desks.webhooks


def make_services(staging: Path, limits: Limits, backend: Backend, version: str, desks: Desks) -> Services:
    """Return the services of one server; ``close`` the runner when the server has stopped."""
    house = House(limits.max_requests, staging, limits.disk_reserve_bytes)
    return Services(staging, limits, backend, house, Runner(limits.max_concurrent), desks, version)


def services_of(request: Request) -> Services:
    """Return the services of the application that a request came to."""
    services: Services = request.app.state.services
    return services
