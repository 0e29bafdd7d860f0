"""Long results, put into a database without anybody transcribing for hours."""

from dataclasses import replace

from sqlalchemy import Connection, delete

from tests.api.support import make_transcript
from tympan.domain import Options, Segment, Transcript
from tympan.storage.database import Database
from tympan.storage.results import pack, store_result
from tympan.storage.tables import results


def large(n_segments: int) -> Transcript:
    """Return a transcript whose ``verbose_json`` has about 200 bytes for each segment."""
    segments = tuple(
        Segment(n, n, n + 0.9, f" Sentence {n}.", (1, 2, 3), 0.0, -0.25, 1.5, 0.01) for n in range(n_segments)
    )
    return replace(make_transcript(Options()), segments=segments, text="".join(one.text for one in segments).strip())


def plant(database: Database, job_id: str, transcript: Transcript) -> None:
    """Let a job that has succeeded have succeeded with ``transcript``."""
    packed = pack(transcript)

    def work(tx: Connection) -> None:
        tx.execute(delete(results).where(results.c.job_id == job_id))
        store_result(tx, database, job_id, 1, packed)

    database.write(work)
