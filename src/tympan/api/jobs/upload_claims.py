"""Resumable uploads on their way into jobs: claimed, copied for the job, and removed or given back afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tympan import telemetry
from tympan.api.deps import Services, Uploads
from tympan.api.errors import blaming
from tympan.api.fields.jobs import JobAsk
from tympan.domain import NewJob, Source, SourceKind
from tympan.errors import TympanError, UnsupportedOption

Stored = TypeVar("Stored")

_LOG = telemetry.get_logger(__name__)


def once(earlier: Callable[[], Stored | None], work: Callable[[], tuple[Stored, bool]]) -> tuple[Stored, bool]:
    """Return what an equal request has stored and True, or what ``work`` returns.

    A repeated request finds its uploads used or locked, so it asks before and after. Raises what both raise.
    """
    if (found := earlier()) is not None:
        return found, True
    try:
        return work()
    except TympanError:
        if (found := earlier()) is not None:
            return found, True
        raise


class UploadClaims:
    """The uploads that one request takes; blocks."""

    def __init__(self, services: Services, tenant: str, folder: Path) -> None:
        """Copy the bytes of the uploads of ``tenant`` into ``folder``."""
        self._uploads, self._tenant, self._folder = services.uploads, tenant, folder

    def submit(
        self,
        asks: Sequence[JobAsk],
        members: Sequence[NewJob],
        hand_in: Callable[[list[NewJob], dict[str, Path]], tuple[Stored, bool]],
        field: Callable[[int], str] = lambda _: "upload_id",
    ) -> tuple[Stored, bool]:
        """Return what ``hand_in`` returns for the jobs, now with the facts of their uploads, and the copies by job id.

        ``field`` names the field that the upload of a job is in. Raises what ``Uploads.take`` and ``hand_in`` raise;
        then, and when an earlier request is found, the uploads are given back.
        """
        jobs, copies, taken = list(members), dict[str, Path](), list[tuple[str, str]]()
        try:
            for place, ask in enumerate(asks):
                if ask.upload_id is not None:
                    with blaming(field(place)):
                        jobs[place], copies[jobs[place].id] = self._take(ask.upload_id, jobs[place])
                    taken.append((ask.upload_id, jobs[place].id))
            stored, replayed = hand_in(jobs, copies)
        except TympanError:
            self._give_back(taken)
            raise
        if replayed:
            self._give_back(taken)
        else:
            self._release(taken)
        return stored, replayed

    def _take(self, upload_id: str, new: NewJob) -> tuple[NewJob, Path]:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        target = self._folder / new.id
        n_bytes, sha256 = self._required.take(self._tenant, upload_id, new.id, target)
        return replace(new, source=Source(SourceKind.STORED, "", n_bytes, sha256)), target

    def _give_back(self, taken: Sequence[tuple[str, str]]) -> None:
        for upload_id, job_id in taken:
            try:
                self._required.give_back(upload_id, job_id)
            except TympanError as error:  # The claim runs out by itself.
                _LOG.warning("upload_not_given_back", upload=upload_id, code=error.code)

    def _release(self, taken: Sequence[tuple[str, str]]) -> None:
        for upload_id, _ in taken:
            try:
                self._required.release(upload_id)
            except TympanError as error:  # The sweep removes it.
                _LOG.warning("upload_not_released", upload=upload_id, code=error.code)

    @property
    def _required(self) -> Uploads:
        if self._uploads is None:
            raise UnsupportedOption("Resumable uploads are not set up here.", remedy="Leave upload_id out.")
        return self._uploads
