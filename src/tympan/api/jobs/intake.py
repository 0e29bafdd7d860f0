"""From what was asked for to a stored job: webhook, deadline and audio are settled, then it is handed in."""

from functools import cached_property
from typing import Protocol

from starlette.requests import Request

from tympan.api.access.callers import tenant_of
from tympan.api.deps import Services, services_of
from tympan.api.errors import blaming
from tympan.api.fields.jobs import JobAsk, fingerprint
from tympan.api.intake.bodies import Body
from tympan.api.intake.metering import charge_jobs
from tympan.api.intake.uploads import UploadedFile
from tympan.api.jobs.upload_claims import UploadClaims, once
from tympan.api.picking import candidate_for, check
from tympan.domain import Job, NewJob, Source, SourceKind
from tympan.errors import UnsupportedOption
from tympan.jobs.service import IdempotencyKey, new_id

_KINDS = {"audio_url": SourceKind.URL, "audio_object": SourceKind.OBJECT}


async def hand_in(request: Request, body: Body, ask: JobAsk, key: str | None) -> tuple[Job, bool]:
    """Return the stored job for ``ask`` and the file of ``body``, and whether an earlier request had made it.

    Raises what ``JobService.submit`` raises, ``ModelNotFound``, ``UnsupportedLanguage`` and ``UnsupportedOption``, and
    what webhooks and resumable uploads raise.
    """
    services = services_of(request)
    check_served(services, ask)
    desk = IntakeDesk(services, tenant_of(request), body)
    stored_key = stored(key, "POST /v1/jobs", fingerprint(body.all_fields, [file.sha256 for file in body.files]))
    if body.files or ask.upload_id is not None:
        limit_s = services.limits.request_timeout_s
        job, replayed = await services.runner.chore(lambda: desk.submit(ask, stored_key), limit_s)
    else:
        job, replayed = await services.runner.query(lambda: desk.submit(ask, stored_key))
    charge_jobs(request, () if replayed else (job.source.n_bytes,))
    return job, replayed


class Notified(Protocol):
    """What can have a webhook."""

    @property
    def webhook_url(self) -> str | None:
        """The address to tell."""

    @property
    def webhook_endpoint(self) -> str | None:
        """The endpoint to tell."""


class IntakeDesk:
    """Hands one request's jobs in; blocks."""

    def __init__(self, services: Services, tenant: str, body: Body) -> None:
        """Work for ``tenant`` on ``body``."""
        self._services, self._tenant, self._body = services, tenant, body
        self._jobs = services.jobs

    def submit(self, ask: JobAsk, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Return the stored job, and whether it is an earlier one with the same key."""
        if ask.upload_id is not None:
            return once(lambda: self._earlier(key), lambda: self._submit_upload(ask, key))
        file = self._body.files[0] if self._body.files else None
        source = source_of(ask, file)
        self._jobs.check(source)  # Before an endpoint is made for what is refused.
        new = self.new_job(ask, source, self.endpoint(ask))
        return self._jobs.submit(new, file.path if file else None, key)

    def new_job(self, ask: JobAsk, source: Source, endpoint: str | None) -> NewJob:
        """Return what is asked for as a new job. Raises ``InvalidRequest`` for a deadline that is not ahead."""
        job_id = new_id("job")
        return NewJob(
            id=job_id,
            source=source,
            options=ask.options.with_voices(self._body.voices),
            output=ask.output,
            tenant=self._tenant,
            priority=ask.priority,
            deadline=self.deadline_s(ask),
            model=self._model(ask, source.sha256 or source.location or job_id),
            metadata=ask.metadata,
            webhook_endpoint=endpoint,
        )

    def _model(self, ask: JobAsk, key: str) -> str | None:
        """Return the id of the model for a job; ``None`` is the default of whoever works on it."""
        registry = self._services.backend.registry
        if registry is None:
            return ask.model
        named = registry.pick(ask.model)[1].id if ask.model else None
        return candidate_for(registry, ask.model, key, ask.options) or named

    def deadline_s(self, ask: JobAsk) -> float | None:
        """Return the deadline in Unix seconds. Raises ``InvalidRequest`` for one that is not ahead."""
        return ask.deadline.at(self._now_s) if ask.deadline else None

    @cached_property
    def _now_s(self) -> float:
        return self._jobs.now_s()

    def endpoint(self, ask: Notified) -> str | None:
        """Return the id of the webhook endpoint that is asked for. Raises what looking it up raises."""
        if ask.webhook_url is None and ask.webhook_endpoint is None:
            return None
        webhooks, param = self._services.webhooks, "webhook_url" if ask.webhook_url else "webhook_endpoint"
        if webhooks is None:
            raise UnsupportedOption("Webhooks are not set up here.", param=param, remedy=f"Leave {param} out.")
        with blaming(param):
            if ask.webhook_url is not None:
                return webhooks.ensure_endpoint(self._tenant, ask.webhook_url)
            webhooks.require_endpoint(self._tenant, ask.webhook_endpoint or "")
        return ask.webhook_endpoint

    def _submit_upload(self, ask: JobAsk, key: IdempotencyKey | None) -> tuple[Job, bool]:
        new = self.new_job(ask, source_of(ask, None), self.endpoint(ask))
        claims = UploadClaims(self._services, self._tenant, self._body.folder)
        return claims.submit([ask], [new], lambda jobs, copies: self._jobs.submit(jobs[0], copies[new.id], key))

    def _earlier(self, key: IdempotencyKey | None) -> Job | None:
        return None if key is None else self._jobs.earlier(self._tenant, key)


def check_served(services: Services, ask: JobAsk) -> None:
    """Refuse what the model cannot do, as far as it is known yet.

    Raises ``ModelNotFound``, ``UnsupportedLanguage`` or ``UnsupportedOption``.
    """
    registry = services.backend.registry
    check(registry.pick(ask.model)[0].info if registry else None, ask.options)


def source_of(ask: JobAsk, file: UploadedFile | None) -> Source:
    """Return where the audio is that ``ask`` names, or else the one in ``file``."""
    if file is not None:
        return Source(SourceKind.STORED, "", file.n_bytes, file.sha256 or None)
    if ask.source is None or ask.upload_id is not None:
        return Source(SourceKind.STORED)
    name, value = ask.source
    return Source(_KINDS[name], value)


def stored(key: str | None, route: str, digest: str) -> IdempotencyKey | None:
    """Return a caller's key with its route and what was asked for, ``None`` where there is none."""
    return None if key is None else IdempotencyKey(route, key, digest)
