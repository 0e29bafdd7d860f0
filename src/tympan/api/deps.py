"""What the routes need from the rest of the program, as plain values and small protocols."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from starlette.requests import Request

from tympan.access.administration import Administration
from tympan.access.limits import LimitDesk
from tympan.access.usage import UsageMeter
from tympan.api.access.entrance import Doors
from tympan.api.doors.admission import House
from tympan.api.doors.forecast import LengthGuess
from tympan.api.doors.live_bounds import LiveBounds
from tympan.api.doors.live_places import LivePlaces
from tympan.api.doors.retries import Retries
from tympan.api.model_names import ModelCard
from tympan.api.registry import FixedRegistry, ModelRegistry, Transcriber
from tympan.api.runner import Runner
from tympan.api.watches import Spells, Watches
from tympan.capacity.desk import PlanDesk
from tympan.errors import Unavailable, UnsupportedOption
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.service import JobService
from tympan.jobs.waveforms import Waveforms
from tympan.pipeline import RequestContext
from tympan.quality.board import Board

__all__ = [
    "Backend",
    "Desks",
    "Limits",
    "ModelCard",
    "Services",
    "Transcriber",
    "Uploads",
    "Voices",
    "Webhooks",
    "make_services",
    "services_of",
]


_IDLE_SHARE = 8
"""So large a part of the threads may be taken by work that stands still."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all of them together, may take.

    ``disk_reserve_bytes`` and ``max_wait_s`` are explained at ``House``, ``reattach_s`` at ``Retries``. Where work is
    done elsewhere, a process ``shares_calls`` with others: whoever comes again is known to each.
    """

    max_upload_bytes: int = 100_000_000
    max_audio_s: float = 14_400.0
    request_timeout_s: float = 300.0
    upload_idle_s: float = 10.0
    max_requests: int = 128
    max_concurrent: int = 64
    disk_reserve_bytes: int | None = None
    max_wait_s: float = 120.0
    reattach_s: float = 0.0
    shares_calls: bool = False
    live: LiveBounds = field(default_factory=LiveBounds)


@dataclass(slots=True)
class Backend:
    """The models, which arrive some time after the server has begun to answer."""

    _registry: ModelRegistry | None = None

    def arrive(self, transcriber: Transcriber, card: ModelCard) -> None:
        """Publish the pipeline over the only model; called once, from any thread."""
        self.arrive_all(FixedRegistry([(transcriber, card)]))

    def arrive_all(self, registry: ModelRegistry) -> None:
        """Publish the models; called once, from any thread."""
        self._registry = registry

    @property
    def registry(self) -> ModelRegistry | None:
        """The models, once they have arrived."""
        return self._registry

    @property
    def loading(self) -> bool:
        """Whether the models have not arrived yet, or the engine is starting for the first time."""
        return self._registry is None or not (self._registry.ready or self._registry.settled)

    @property
    def ready(self) -> bool:
        """Whether a model takes work now."""
        return self._registry is not None and self._registry.ready

    @property
    def transcriber(self) -> Transcriber | None:
        """The pipeline over the default model, once it has arrived."""
        return self._registry.pick(None)[0] if self._registry is not None else None

    @property
    def card(self) -> ModelCard | None:
        """The default model, once it is known."""
        return self._registry.pick(None)[1] if self._registry is not None else None

    @property
    def pace(self) -> float:
        """Seconds of the engines' work per second of audio, 0 while that is not known."""
        return self._registry.stats().compute_s_per_audio_s if self._registry is not None else 0.0

    def require(self) -> ModelRegistry:
        """Return the models. Raises ``Unavailable`` while none of them takes work."""
        registry = self._registry
        if registry is None or not registry.ready:
            state = "is being loaded" if self.loading else "is being restarted"
            raise Unavailable(f"The model {state}.", remedy="Try again in a few seconds.", retry_after_s=2.0)
        return registry


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


class Voices(Protocol):
    """Who hears samples of voices; blocks."""

    def heard(self, samples: Mapping[str, Path], context: RequestContext) -> dict[str, str]:
        """Return the voices in files by the names of the files. Raises ``TympanError``."""


@dataclass(frozen=True, slots=True)
class Desks:
    """Whom to ask about jobs, resumable uploads and webhooks; what is ``None`` is refused by name.

    ``doors`` say who gets to ask, ``limits`` lets work in, ``meter`` counts it, ``results`` keeps what was made,
    ``watches`` know how that stands which all of them need, ``waveforms`` show what audio looks like, ``voices`` hears
    samples of speakers who are known.
    ``administration``, ``quality`` and ``plans`` are for the operator.
    """

    jobs: JobService
    uploads: Uploads | None = None
    webhooks: Webhooks | None = None
    limits: LimitDesk = field(default_factory=LimitDesk)
    meter: UsageMeter = field(default_factory=UsageMeter)
    doors: Doors = field(default_factory=Doors)
    results: ResultCache = field(default_factory=ResultCache)
    watches: Watches = field(default_factory=Watches)
    waveforms: Waveforms | None = None
    voices: Voices | None = None
    administration: Administration | None = None
    quality: Board | None = None
    plans: PlanDesk | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the routes use, made once and given to ``create_app``."""

    staging: Path
    limits: Limits
    backend: Backend
    house: House
    runner: Runner
    retries: Retries
    desks: Desks
    live: LivePlaces
    version: str = "0"
    spells: Spells = field(default_factory=Spells)

    def weight_of(self, tenant: str) -> float:
        """Return a tenant's weight among others; never waits."""
        return self.desks.limits.of(tenant).weight

    @property
    def jobs(self) -> JobService:
        """What may be asked about jobs."""
        return self.desks.jobs

    @property
    def results(self) -> ResultCache:
        """What is kept for calls that are equal to earlier ones."""
        return self.desks.results

    @property
    def uploads(self) -> Uploads | None:
        """What may be asked about resumable uploads."""
        return self.desks.uploads

    @property
    def webhooks(self) -> Webhooks | None:
        """What may be asked about webhooks."""
        return self.desks.webhooks

    def require_voices(self) -> Voices:
        """Return who hears samples of voices. Raises ``UnsupportedOption`` where nobody does."""
        if self.desks.voices is None:
            raise UnsupportedOption(
                "Samples of voices are not heard here.",
                param="known_speaker_references",
                remedy="Leave them out: voices are told apart without.",
            )
        return self.desks.voices


def make_services(staging: Path, limits: Limits, backend: Backend, version: str, desks: Desks) -> Services:
    """Return the services of one server; ``close`` the runner when the server has stopped."""
    house = House(
        limits.max_requests,
        staging,
        limits.disk_reserve_bytes,
        max_wait_s=min(limits.max_wait_s, limits.request_timeout_s),
        engine_pace=lambda: backend.pace,
        guess=LengthGuess(limits.max_audio_s),
    )
    runner = Runner(limits.max_concurrent)
    retries = Retries(limits.reattach_s, max(1, limits.max_concurrent // _IDLE_SHARE), runner.look_again)
    live = LivePlaces(limits.live.max_sessions)
    return Services(staging, limits, backend, house, runner, retries, desks, live, version)


def services_of(request: Request) -> Services:
    """Return the services of the application that a request came to."""
    services: Services = request.app.state.services
    return services
