"""Transcripts as people have corrected them: one version a job beside the original, each save with its revision.

A version is written and read whole; how large one may be is for the caller to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, select, update

from tympan.errors import Conflict, NotFound
from tympan.storage.codec import dump
from tympan.storage.database import Database
from tympan.storage.prospects import no_such_job
from tympan.storage.tables import edits, jobs


@dataclass(frozen=True, slots=True)
class EditedSegment:
    """A stretch of text, times in seconds; ``speaker`` is a label, not a name."""

    id: int
    start_s: float
    end_s: float
    text: str
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class EditText:
    """What somebody made of a transcript: names of speakers by label, and segments in order."""

    speakers: Mapping[str, str]
    segments: tuple[EditedSegment, ...]


@dataclass(frozen=True, slots=True)
class Edit(EditText):
    """A stored version; ``edited_at`` is in Unix seconds by the database's clock."""

    revision: int
    edited_at: float


_SPEAKERS = TypeAdapter(dict[str, str])
_SEGMENTS = TypeAdapter(tuple[EditedSegment, ...])


class EditStore:
    """The edited versions of jobs' transcripts. Every query begins with whose job it is."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def find(self, tenant: str, job_id: str) -> Edit:
        """Return the edited version. Raises ``NotFound``, for a job that is not the tenant's as where there is none."""

        def work(tx: Connection) -> Row[Any] | None:
            _require(tx, tenant, job_id)
            return tx.execute(select(edits).where(edits.c.job_id == job_id)).first()

        row = self._db.read(work)
        if row is None or row.segments is None:
            raise _none()
        return Edit(
            _SPEAKERS.validate_json(row.speakers), _SEGMENTS.validate_json(row.segments), row.revision, row.edited_at
        )

    def save(self, tenant: str, job_id: str, text: EditText, expected: int | None) -> Edit:
        """Store a version in the place of revision ``expected``, ``None`` for where there is none; return it.

        Raises ``NotFound`` for a job that is not the tenant's, ``Conflict`` when another revision is there.
        """
        values = {"speakers": dump(text.speakers), "segments": dump(text.segments)}

        def work(tx: Connection) -> Row[Any]:
            _require(tx, tenant, job_id, keep=True)
            saved = self._write(tx, job_id, values, expected)
            if saved is None:
                raise _conflict(tx, job_id)
            return saved

        row = self._db.write(work)
        return Edit(text.speakers, text.segments, row.revision, row.edited_at)

    def drop(self, tenant: str, job_id: str, expected: int | None) -> None:
        """Erase the version, if it is of revision ``expected`` where one is given.

        Raises ``NotFound`` for a job that is not the tenant's and where there is no version, ``Conflict`` for another.
        """
        there = [edits.c.job_id == job_id, edits.c.segments.is_not(None)]
        mine = there if expected is None else [*there, edits.c.revision == expected]
        gone = update(edits).where(*mine).values(**self._moved_on(), speakers=None, segments=None)

        def work(tx: Connection) -> None:
            _require(tx, tenant, job_id)
            if tx.execute(gone).rowcount:
                return
            raise _conflict(tx, job_id) if tx.scalar(select(edits.c.revision).where(*there)) else _none()

        self._db.write(work)

    def _write(self, tx: Connection, job_id: str, values: Mapping[str, str], expected: int | None) -> Row[Any] | None:
        """Return the row that was written, ``None`` when another revision than ``expected`` is there."""
        told = (edits.c.revision, edits.c.edited_at)
        mine = edits.c.job_id == job_id
        if expected is not None:
            here = (mine, edits.c.segments.is_not(None), edits.c.revision == expected)
            return tx.execute(update(edits).where(*here).values(**self._moved_on(), **values).returning(*told)).first()
        first = self._db.insert(edits).values(job_id=job_id, revision=1, edited_at=self._db.now(), **values)
        made = tx.execute(first.on_conflict_do_nothing().returning(*told)).first()
        again = update(edits).where(mine, edits.c.segments.is_(None)).values(**self._moved_on(), **values)
        return made or tx.execute(again.returning(*told)).first()

    def _moved_on(self) -> dict[str, Any]:
        return {"revision": edits.c.revision + 1, "edited_at": self._db.now()}


def _require(tx: Connection, tenant: str, job_id: str, *, keep: bool = False) -> None:
    """Raise ``NotFound`` unless the job is the tenant's; with ``keep`` it stays until the transaction ends."""
    query = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.tenant == tenant)
    if tx.scalar(query.with_for_update(read=True, key_share=True) if keep else query) is None:
        raise no_such_job()


def _conflict(tx: Connection, job_id: str) -> Conflict:
    there = select(edits.c.revision).where(edits.c.job_id == job_id, edits.c.segments.is_not(None))
    revision = tx.scalar(there)
    cause = "The edited version has been erased." if revision is None else f"Revision {revision} was saved meanwhile."
    return Conflict(cause, remedy="Read the edited version again, and save your changes to that.")


def _none() -> NotFound:
    return NotFound("There is no edited version of this transcript.", remedy="PUT one, or read the original.")
