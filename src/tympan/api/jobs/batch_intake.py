"""From what was asked for to a stored batch: all of its jobs, or none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tympan.api.deps import Services
from tympan.api.fields.batches import BatchAsk, parse_files, parse_manifest
from tympan.api.fields.jobs import JobAsk, digest_of, fingerprint
from tympan.api.intake.bodies import Body
from tympan.api.jobs.intake import IntakeDesk, check_served, source_of, stored
from tympan.api.jobs.upload_claims import UploadClaims, once
from tympan.domain import NewJob
from tympan.errors import InvalidRequest
from tympan.jobs.batches import Batch, NewBatch
from tympan.jobs.service import IdempotencyKey, new_id


class BatchDesk:
    """Hands one request's batch in; blocks."""

    def __init__(self, services: Services, tenant: str, body: Body) -> None:
        """Work for ``tenant`` on ``body``."""
        self._services, self._tenant, self._body = services, tenant, body
        self._desk = IntakeDesk(services, tenant, body)
        self._batches = services.jobs.batches
        self.n_bytes: tuple[int | None, ...] = ()
        """The sizes of the files of jobs that were handed in."""

    def submit(self, key: str | None) -> tuple[Batch, bool]:
        """Return the stored batch, and whether it is an earlier one with the same key.

        Raises ``InvalidRequest`` that names every item at fault, and what ``BatchService.submit`` raises.
        """
        ask = self._parsed()
        stored_key = stored(key, "POST /v1/batches", self._digest())
        if any(item.upload_id is not None for item in ask.items):
            return once(lambda: self._earlier(stored_key), lambda: self._submit(ask, stored_key))
        return self._submit(ask, stored_key)

    def _submit(self, ask: BatchAsk, key: IdempotencyKey | None) -> tuple[Batch, bool]:
        batch_id = new_id("batch")
        members = self._members(batch_id, ask.items)
        self._batches.check(members)
        new = NewBatch(batch_id, self._tenant, ask.metadata, self._desk.endpoint(ask))
        files = {job.id: file.path for job, file in zip(members, self._body.files, strict=False)}
        claims = UploadClaims(self._services, self._tenant, self._body.folder)
        return claims.submit(
            ask.items, members, lambda jobs, copies: self._hand_in(new, jobs, files | copies, key), _upload_field
        )

    def _hand_in(
        self, new: NewBatch, jobs: Sequence[NewJob], files: Mapping[str, Path], key: IdempotencyKey | None
    ) -> tuple[Batch, bool]:
        batch, replayed = self._batches.submit(new, jobs, files, key)
        self.n_bytes = () if replayed else tuple(job.source.n_bytes for job in jobs)
        return batch, replayed

    def _earlier(self, key: IdempotencyKey | None) -> Batch | None:
        return None if key is None else self._batches.earlier(self._tenant, key)

    def _parsed(self) -> BatchAsk:
        if self._body.document is not None:
            return parse_manifest(self._body.document, self._check)
        if not self._body.files:
            raise InvalidRequest(
                "There is no file in the form.", param="file", remedy="Send files named 'file', or a manifest in JSON."
            )
        ask = parse_files(self._body.fields, len(self._body.files))
        self._check(ask.items[0])
        return ask

    def _check(self, ask: JobAsk) -> None:
        check_served(self._services, ask)
        self._desk.deadline_s(ask)

    def _digest(self) -> str:
        if self._body.document is not None:
            return digest_of(self._body.document)
        return fingerprint(self._body.fields, [file.sha256 for file in self._body.files])

    def _members(self, batch_id: str, items: Sequence[JobAsk]) -> list[NewJob]:
        """Return the batch's jobs; their ids are in the order of the items."""
        files = self._body.files or (None,) * len(items)
        made = [self._desk.new_job(item, source_of(item, file), None) for item, file in zip(items, files, strict=True)]
        ids = sorted(job.id for job in made)
        return [replace(job, id=job_id, batch_id=batch_id) for job, job_id in zip(made, ids, strict=True)]


def _upload_field(place: int) -> str:
    return f"items[{place}].upload_id"
