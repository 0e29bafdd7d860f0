"""Results: what there is to say about a transcript, and the transcript itself in parts, so that none is held whole.

A part has some hundred segments and about as much of the text. A result never changes; it can only go, all at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from sqlalchemy import Column, ColumnElement, Connection, insert, select

from tympan.domain import Segment, Transcript
from tympan.errors import NotFound
from tympan.storage import codec
from tympan.storage.database import Database
from tympan.storage.tables import jobs, result_parts, results

_PART = 250
"""Segments and words in a part, about: some 50 kB of JSON."""

_ROWS = 50
"""Parts in one statement, for whose answer there is a limit."""


class StoredResult:
    """A transcript in the database, read part by part and as often as one likes.

    ``head`` is the transcript without its text and its segments.
    """

    def __init__(self, database: Database, job_id: str, head: Transcript, n_parts: int) -> None:
        """Read the parts of the result of ``job_id`` when they are asked for."""
        self.head = head
        self._db, self._job_id, self._n_parts = database, job_id, n_parts

    def texts(self) -> Iterator[str]:
        """Yield the text in pieces. Raises ``NotFound`` when it is removed meanwhile, ``StorageUnavailable``."""
        return map(codec.TEXT.validate_json, self._parts(result_parts.c.text))

    def groups(self) -> Iterator[tuple[Segment, ...]]:
        """Yield the segments, some hundred at a time. Raises as ``texts``."""
        return map(codec.SEGMENTS.validate_json, self._parts(result_parts.c.segments))

    def whole(self) -> Transcript:
        """Return the transcript in one. Raises as ``texts``."""
        return replace(self.head, text="".join(self.texts()), segments=tuple(chain.from_iterable(self.groups())))

    def _parts(self, column: Column[str]) -> Iterator[str]:
        """Yield one column of each part, in transactions of their own: a slow reader keeps nothing open."""
        for part in range(self._n_parts):
            query = select(column).where(result_parts.c.job_id == self._job_id, result_parts.c.part == part)
            found = self._db.read(partial(Connection.scalar, statement=query))
            if found is None:
                raise _gone()
            yield found


@dataclass(frozen=True, slots=True)
class PackedResult:
    """A transcript as it is stored, in JSON: its head, and the text and the segments of each part."""

    head: str
    parts: tuple[tuple[str, str], ...]


def pack(transcript: Transcript) -> PackedResult:
    """Return a transcript as it is stored."""
    groups = list(_groups(transcript.segments)) or [()]
    size = -(-len(transcript.text) // len(groups))
    texts = (transcript.text[place * size : (place + 1) * size] for place in range(len(groups)))
    parts = tuple((codec.dump(text), codec.dump(group)) for text, group in zip(texts, groups, strict=True))
    return PackedResult(codec.dump(replace(transcript, text="", segments=())), parts)


def store_result(tx: Connection, database: Database, job_id: str, fence: int, packed: PackedResult) -> None:
    """Write the result of a job, which has none yet, in the caller's transaction."""
    head = {"job_id": job_id, "fence": fence, "head": packed.head, "n_parts": len(packed.parts)}
    tx.execute(insert(results).values(**head, created_at=database.now()))
    rows = [{"job_id": job_id, "part": part, "text": text, "segments": segments}
            for part, (text, segments) in enumerate(packed.parts)]  # fmt: skip
    for start in range(0, len(rows), _ROWS):
        tx.execute(insert(result_parts), rows[start : start + _ROWS])


def find_result(database: Database, *wanted: ColumnElement[bool]) -> StoredResult:
    """Return the result of a job that fulfils these conditions on ``jobs``. Raises ``NotFound``."""
    query = (
        select(results.c.job_id, results.c.head, results.c.n_parts)
        .join(jobs, jobs.c.id == results.c.job_id)
        .where(*wanted)
        .limit(1)
    )
    row = database.read(lambda tx: tx.execute(query).first())
    if row is None:
        raise _gone()
    return StoredResult(database, row.job_id, codec.TRANSCRIPT.validate_json(row.head), row.n_parts)


def _gone() -> NotFound:
    return NotFound("The transcript is no longer kept.", remedy="Hand the job in again.")


def _groups(segments: Iterable[Segment]) -> Iterator[tuple[Segment, ...]]:
    group: list[Segment] = []
    size = 0
    for segment in segments:
        group.append(segment)
        size += 1 + len(segment.words)
        if size >= _PART:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)
