"""What the routes need from the rest of the program, as plain values and small protocols."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starlette.requests import Request

from tympan.api.admission import House
from tympan.api.lineup import FixedLineup, Lineup, ModelCard, Transcriber
from tympan.api.runner import Runner
from tympan.errors import Unavailable
from tympan.jobs.service import JobService

__all__ = [
    "Backend",
    "Desks",
    "Limits",
    "ModelCard",
    "Services",
    "Transcriber",
    "Uploads",
    "Webhooks",
    "make_services",
    "services_of",
]


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
    """The models, which arrive some time after the server has begun to answer."""

    _lineup: Lineup | None = None

    def arrive(self, transcriber: Transcriber, card: ModelCard) -> None:
        """Publish the pipeline over the only model; called once, from any thread."""
        self.arrive_all(FixedLineup([(transcriber, card)]))

    def arrive_all(self, lineup: Lineup) -> None:
        """Publish the models; called once, from any thread."""
        self._lineup = lineup

    @property
    def lineup(self) -> Lineup | None:
        """The models, once they have arrived."""
        return self._lineup

    @property
    def loading(self) -> bool:
        """Whether the models have not arrived yet, or the engine is starting for the first time."""
        return self._lineup is None or not (self._lineup.ready or self._lineup.settled)

    @property
    def ready(self) -> bool:
        """Whether a model takes work now."""
        return self._lineup is not None and self._lineup.ready

    @property
    def transcriber(self) -> Transcriber | None:
        """The pipeline over the default model, once it has arrived."""
        return self._lineup.pick(None)[0] if self._lineup is not None else None

    @property
    def card(self) -> ModelCard | None:
        """The default model, once it is known."""
        return self._lineup.pick(None)[1] if self._lineup is not None else None

    def require(self) -> Lineup:
        """Return the models. Raises ``Unavailable`` while none of them takes work."""
        lineup = self._lineup
        if lineup is None or not lineup.ready:
            state = "is being loaded" if self.loading else "is being restarted"
            raise Unavailable(f"The model {state}.", remedy="Try again in a few seconds.", retry_after_s=2.0)
        return lineup


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
