"""From what was asked for to a stored job: webhook, deadline and audio are settled, then it is handed in."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Protocol

from starlette.requests import Request

from tympan import telemetry
from tympan.api.bodies import Body
from tympan.api.deps import Services, Uploads, services_of
from tympan.api.job_forms import JobAsk, fingerprint
from tympan.api.schemas import require_language
from tympan.api.transcriptions import require_model
from tympan.api.uploads import UploadedFile
from tympan.domain import Job, NewJob, Source, SourceKind
from tympan.errors import TympanError, UnsupportedOption
from tympan.jobs.service import IdempotencyKey, new_id

TENANT = "default"
"""Who owns everything while callers are not told apart."""

_LOG = telemetry.get_logger(__name__)
_KINDS = {"audio_url": SourceKind.URL, "audio_object": SourceKind.OBJECT}


async def hand_in(request: Request, body: Body, ask: JobAsk, key: str | None) -> tuple[Job, bool]:
    """Return the stored job for ``ask`` and the file of ``body``, and whether an earlier request had made it.

    Raises what ``JobService.submit`` raises, ``ModelNotFound``, ``UnsupportedLanguage`` and ``UnsupportedOption``, and
    what webhooks and resumable uploads raise.
    """
    services = services_of(request)
    check_served(services, ask)
    desk = IntakeDesk(services, TENANT, body)
    stored_key = stored(key, "POST /v1/jobs", fingerprint(body.all_fields, [file.sha256 for file in body.files]))
    if body.files or uses_upload(ask):
        return await services.runner.chore(lambda: desk.submit(ask, stored_key), services.limits.request_timeout_s)
    return await services.runner.query(lambda: desk.submit(ask, stored_key))


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
        if uses_upload(ask):
            return self._submit_upload(ask, key)
        file = self._body.files[0] if self._body.files else None
        new = self.new_job(ask, source_of(ask, file), self.endpoint(ask))
        return self._jobs.submit(new, file.path if file else None, key)

    def new_job(self, ask: JobAsk, source: Source, endpoint: str | None) -> NewJob:
        """Return what is asked for as a new job. Raises ``InvalidRequest`` for a deadline that is not ahead."""
        card = self._services.backend.card
        return NewJob(
            id=new_id("job"),
            source=source,
            options=ask.options,
            output=ask.output,
            tenant=self._tenant,
            priority=ask.priority,
            deadline=ask.deadline.at(self._now_s) if ask.deadline else None,
            model=card.id if card and ask.model else ask.model,
            metadata=ask.metadata,
            webhook_endpoint=endpoint,
        )

    @cached_property
    def _now_s(self) -> float:
        return self._jobs.now_s()

    def endpoint(self, ask: Notified) -> str | None:
        """Return the id of the webhook endpoint that is asked for. Raises what looking it up raises."""
        if ask.webhook_url is None and ask.webhook_endpoint is None:
            return None
        webhooks = self._services.webhooks
        if webhooks is None:
            raise _not_here("webhook_url" if ask.webhook_url else "webhook_endpoint", "Webhooks")
        if ask.webhook_url is not None:
            return webhooks.ensure_endpoint(self._tenant, ask.webhook_url)
        webhooks.require_endpoint(self._tenant, ask.webhook_endpoint or "")
        return ask.webhook_endpoint

    def uploads(self) -> Uploads:
        """Return the resumable uploads. Raises ``UnsupportedOption`` when there are none here."""
        if self._services.uploads is None:
            raise _not_here("upload_id", "Resumable uploads")
        return self._services.uploads

    def take(self, ask: JobAsk, new: NewJob) -> tuple[NewJob, UploadedFile]:
        """Return the job with the facts of the upload it names, whose bytes lie in the request's folder."""
        self._body.folder.mkdir(mode=0o700, exist_ok=True)
        target = self._body.folder / new.id
        n_bytes, sha256 = self.uploads().take(self._tenant, ask.source[1] if ask.source else "", new.id, target)
        return replace(new, source=Source(SourceKind.STORED, "", n_bytes, sha256)), UploadedFile(target, n_bytes)

    def give_back(self, taken: Iterable[tuple[str, str]]) -> None:
        """Let other jobs take these uploads, given as pairs of upload and job."""
        for upload_id, job_id in taken:
            self.uploads().give_back(upload_id, job_id)

    def release(self, upload_ids: Iterable[str]) -> None:
        """Remove uploads whose jobs are stored; one that cannot be removed now is swept up later."""
        for upload_id in upload_ids:
            try:
                self.uploads().release(upload_id)
            except TympanError as error:
                _LOG.warning("upload_not_released", upload=upload_id, code=error.code)

    def _submit_upload(self, ask: JobAsk, key: IdempotencyKey | None) -> tuple[Job, bool]:
        """Hand in a job for a resumable upload. A repeated request finds the upload used, and its job by the key."""
        if (earlier := self._earlier(key)) is not None:
            return earlier, True
        upload_id = ask.source[1] if ask.source else ""
        new = self.new_job(ask, Source(SourceKind.STORED), self.endpoint(ask))
        try:
            new, file = self.take(ask, new)
        except TympanError:
            if (earlier := self._earlier(key)) is not None:
                return earlier, True
            raise
        try:
            job, replayed = self._jobs.submit(new, file.path, key)
        except TympanError:
            self.give_back([(upload_id, new.id)])
            raise
        if replayed:
            self.give_back([(upload_id, new.id)])
        else:
            self.release([upload_id])
        return job, replayed

    def _earlier(self, key: IdempotencyKey | None) -> Job | None:
        return None if key is None else self._jobs.earlier(self._tenant, key)


def check_served(services: Services, ask: JobAsk) -> None:
    """Raise ``ModelNotFound`` or ``UnsupportedLanguage`` for what the model cannot do, as far as it is known yet."""
    backend = services.backend
    if backend.card is not None:
        require_model(ask.model, backend.card)
    info = backend.transcriber.info if backend.transcriber else None
    require_language(ask.options.language, info.languages if info else ())


def source_of(ask: JobAsk, file: UploadedFile | None) -> Source:
    """Return where the audio is that ``ask`` names, or else the one in ``file``."""
    if file is not None:
        return Source(SourceKind.STORED, "", file.n_bytes, file.sha256 or None)
    name, value = ask.source or ("upload_id", "")
    return Source(_KINDS[name], value) if name in _KINDS else Source(SourceKind.STORED)


def uses_upload(ask: JobAsk) -> bool:
    """Return whether a resumable upload is asked for."""
    return ask.source is not None and ask.source[0] == "upload_id"


def stored(key: str | None, route: str, digest: str) -> IdempotencyKey | None:
    """Return a caller's key with its route and what was asked for, ``None`` where there is none."""
    return None if key is None else IdempotencyKey(route, key, digest)


def _not_here(param: str, what: str) -> UnsupportedOption:
    return UnsupportedOption(f"{what} are not set up here.", param=param, remedy=f"Leave {param} out.")
