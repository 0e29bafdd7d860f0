"""From what was asked for to a stored batch: all of its jobs, or none."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tympan.api.batch_forms import BatchAsk, parse_files, parse_manifest
from tympan.api.bodies import Body
from tympan.api.deps import Services
from tympan.api.job_forms import JobAsk, digest_of, fingerprint
from tympan.api.job_intake import IntakeDesk, check_served, source_of, stored, uses_upload
from tympan.domain import NewJob
from tympan.errors import InvalidRequest, TympanError
from tympan.jobs.batches import Batch, NewBatch, refuse_items
from tympan.jobs.service import IdempotencyKey, new_id


class BatchDesk:
    """Hands one request's batch in; blocks."""

    def __init__(self, services: Services, tenant: str, body: Body) -> None:
        """Work for ``tenant`` on ``body``."""
        self._services, self._tenant, self._body = services, tenant, body
        self._desk = IntakeDesk(services, tenant, body)
        self._batches = services.jobs.batches

    def submit(self, key: str | None) -> tuple[Batch, bool]:
        """Return the stored batch, and whether it is an earlier one with the same key.

        Raises ``InvalidRequest`` that names every item at fault, and what ``BatchService.submit`` raises.
        """
        ask = self._parsed()
        stored_key = stored(key, "POST /v1/batches", self._digest())
        taking = any(uses_upload(item) for item in ask.items)
        # A repeated request finds its uploads used.
        if stored_key and taking and (earlier := self._batches.earlier(self._tenant, stored_key)) is not None:
            return earlier, True
        endpoint = self._desk.endpoint(ask)
        new = NewBatch(new_id("batch"), self._tenant, ask.metadata, endpoint)
        members = self._members(new.id, ask.items)
        self._batches.check(members)
        if taking:
            return self._submit_uploads(new, ask.items, members, stored_key)
        media = {job.id: file.path for job, file in zip(members, self._body.files, strict=False)}
        return self._batches.submit(new, members, media, stored_key)

    def _parsed(self) -> BatchAsk:
        if self._body.document is not None:
            return parse_manifest(self._body.document, lambda ask: check_served(self._services, ask))
        if not self._body.files:
            raise InvalidRequest(
                "There is no file in the form.", param="file", remedy="Send files named 'file', or a manifest in JSON."
            )
        ask = parse_files(self._body.fields, len(self._body.files))
        check_served(self._services, ask.items[0])
        return ask

    def _digest(self) -> str:
        if self._body.document is not None:
            return digest_of(self._body.document)
        return fingerprint(self._body.fields, [file.sha256 for file in self._body.files])

    def _members(self, batch_id: str, items: Sequence[JobAsk]) -> list[NewJob]:
        """Return the batch's jobs; their ids are in the order of the items."""
        made: list[NewJob] = []
        refuse_items(self._make(items, made), len(items))
        ids = sorted(job.id for job in made)
        return [replace(job, id=job_id, batch_id=batch_id) for job, job_id in zip(made, ids, strict=True)]

    def _make(self, items: Sequence[JobAsk], made: list[NewJob]) -> Iterator[tuple[int, TympanError]]:
        for number, item in enumerate(items):
            file = self._body.files[number] if self._body.files else None
            try:
                made.append(self._desk.new_job(item, source_of(item, file), None))
            except TympanError as error:
                yield number, error

    def _submit_uploads(
        self, new: NewBatch, items: Sequence[JobAsk], members: list[NewJob], key: IdempotencyKey | None
    ) -> tuple[Batch, bool]:
        """Hand in a batch that takes resumable uploads; they are given back when it does not come to be."""
        taken: list[tuple[str, str]] = []
        media: dict[str, Path] = {}
        try:
            for place, item in enumerate(items):
                if uses_upload(item):
                    job, file = self._desk.take(item, members[place])
                    taken.append((item.source[1] if item.source else "", job.id))
                    members[place], media[job.id] = job, file.path
            batch, replayed = self._batches.submit(new, members, media, key)
        except TympanError:
            self._desk.give_back(taken)
            raise
        if replayed:
            self._desk.give_back(taken)
        else:
            self._desk.release(upload_id for upload_id, _ in taken)
        return batch, replayed
