"""How a job ends: its state, its event, its batch's count and its usage change in the caller's transaction, once.

Rows are locked in one order everywhere, steps before jobs before batches before usage, so that two endings cannot
deadlock.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, RowMapping, case, delete, insert, select, update

from tympan.domain import Fault, JobState, Lane, Transcript
from tympan.errors import CorruptMedia, DeadlinePassed, MediaCrash, MediaTimeout, Quarantined, TooLong, UnsupportedMedia
from tympan.storage.database import Database
from tympan.storage.ids import MEASURING_TENANT, new_id
from tympan.storage.tables import batches, deliveries, events, jobs, steps, tenants
from tympan.storage.usage import UsageRow, Used, add_usage, day_of

_DAY_S = 86_400.0
_HOUR_DAYS = 1 / 24
_FAILURES = (JobState.FAILED.value, JobState.EXPIRED.value)
_NO_MODEL = "unknown"
_BAD_FILES = frozenset(bad.code for bad in (CorruptMedia, MediaCrash, MediaTimeout, TooLong, UnsupportedMedia))
"""What a file can turn out to be after a part of it has been transcribed, and read."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended: whose, how, how large its file was, and for how many seconds of audio it counts.

    Those are the seconds that were transcribed, however it ended; none where the failure was ours.
    """

    tenant: str
    lane: Lane
    n_bytes: int | None
    audio_s: float
    state: JobState


class Endings:
    """Ends jobs. Text is kept for ``text_days``, audio for ``audio_days``, unless the tenant has days of its own."""

    def __init__(self, database: Database, *, audio_days: float, text_days: float) -> None:
        """Work on ``database``."""
        self._db = database
        self._audio_days, self._text_days = audio_days, text_days
        self.on_ended: Callable[[Ended], object] = lambda _ended: None
        """Told of each job that ends here, once that is committed."""

    def end(
        self,
        connection: Connection,
        job_id: str,
        state: JobState,
        fault: Fault | None = None,
        transcript: Transcript | None = None,
    ) -> bool:
        """Return whether the job ended now; ``False`` when it had ended before or is not there.

        ``transcript`` tells which model it was and how long it worked, for the tenant's usage.
        """
        connection.execute(delete(steps).where(steps.c.job_id == job_id))
        values: dict[str, Any] = {
            "state": state.value,
            "finished_at": self._db.now(),
            "event_seq": jobs.c.event_seq + 1,
            **self._retention(connection, job_id),
        }
        if fault is not None:
            values |= {"error_code": fault.code, "error_message": fault.message, "error_remedy": fault.remedy}
        alive = jobs.c.state.in_((JobState.QUEUED.value, JobState.RUNNING.value))
        ending = update(jobs).where(jobs.c.id == job_id, alive).values(values).returning(*jobs.c)
        ended = connection.execute(ending).mappings().first()
        if ended is None:
            return False
        self._announce(connection, ended)
        if ended["batch_id"] is not None:
            self._count_down(connection, ended["batch_id"])
        self._count_usage(connection, ended, transcript)
        ours = state is JobState.FAILED and ended["error_code"] not in _BAD_FILES
        audio_s = 0.0 if ours else float(ended["audio_s_done"])
        told = Ended(ended["tenant"], Lane(ended["lane"]), ended["source_bytes"], audio_s, state)
        self._db.afterwards(connection, partial(self.on_ended, told))
        return True

    def expire(self, connection: Connection, job_id: str) -> bool:
        """End a job whose deadline has passed; as ``end``."""
        fault = Fault(DeadlinePassed.code, DeadlinePassed().message, "Hand it in again with a later deadline.")
        return self.end(connection, job_id, JobState.EXPIRED, fault)

    def quarantine(self, connection: Connection, job_id: str, crashes: int) -> bool:
        """End a job that no process survives; as ``end``."""
        message = f"{crashes} processes that worked on this job have died."
        fault = Fault(Quarantined.code, message, "Check the audio; if it plays well elsewhere, report it.")
        return self.end(connection, job_id, JobState.FAILED, fault)

    def _retention(self, connection: Connection, job_id: str) -> dict[str, Any]:
        """Return when the job's audio and text go, counted from now.

        A synchronous call fetches its result at once; what it leaves when it dies goes within the hour.
        """
        query = (
            select(jobs.c.lane, tenants.c.audio_days, tenants.c.text_days)
            .select_from(jobs.outerjoin(tenants, tenants.c.id == jobs.c.tenant))
            .where(jobs.c.id == job_id)
        )
        row = connection.execute(query).first()
        lane, audio_days, text_days = row or (int(Lane.BATCH), None, None)
        audio_days = self._audio_days if audio_days is None else audio_days
        text_days = self._text_days if text_days is None else text_days
        if lane != int(Lane.BATCH):
            audio_days, text_days = min(audio_days, _HOUR_DAYS), min(text_days, _HOUR_DAYS)
        now = self._db.now()
        return {"audio_until": now + _DAY_S * audio_days, "text_until": now + _DAY_S * text_days}

    def _announce(self, connection: Connection, job: RowMapping) -> None:
        """Write the event, and its delivery when somebody asked for one."""
        if job["webhook_endpoint"] is None:
            return
        error = {"code": job["error_code"], "message": job["error_message"]} if job["error_code"] else None
        data = {"id": job["id"], "state": job["state"], "metadata": json.loads(job["metadata"]), "error": error}
        self.write_event(connection, f"job.{job['state']}", job, data)

    def write_event(self, connection: Connection, kind: str, subject: RowMapping, data: dict[str, Any]) -> None:
        """Write one event about ``subject``, a row of ``jobs`` or ``batches``, and queue it for its endpoint."""
        now = self._db.now()
        event_id = new_id("evt")
        connection.execute(
            insert(events).values(
                id=event_id,
                tenant=subject["tenant"],
                subject_id=subject["id"],
                type=kind,
                seq=subject.get("event_seq", 1),
                created_at=now,
                body=json.dumps(data),
            )
        )
        connection.execute(
            insert(deliveries).values(
                event_id=event_id,
                endpoint_id=subject["webhook_endpoint"],
                tenant=subject["tenant"],
                state="pending",
                due_at=now,
                created_at=now,
            )
        )

    def _count_usage(self, connection: Connection, job: RowMapping, transcript: Transcript | None) -> None:
        """Count a job for its tenant; a synchronous call is counted by the process that answers it.

        What is measured with golden sets is nobody's usage.
        """
        if job["lane"] != int(Lane.BATCH) or job["tenant"] == MEASURING_TENANT:
            return
        used = Used(
            requests=1,
            failures=int(job["state"] in _FAILURES),
            audio_s=job["audio_s_done"],
            processing_s=transcript.processing_s if transcript and not transcript.is_cached else 0.0,
        )
        model = (transcript.model if transcript else job["model"]) or _NO_MODEL
        add_usage(self._db, connection, UsageRow(job["tenant"], day_of(job["finished_at"]), "job", model, used))

    def _count_down(self, connection: Connection, batch_id: str) -> None:
        pending = batches.c.pending - 1
        row = (
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id)
                .values(pending=pending, finished_at=case((pending <= 0, self._db.now()), else_=None))
                .returning(*batches.c)
            )
            .mappings()
            .first()
        )
        if row is not None and row["pending"] == 0 and row["webhook_endpoint"] is not None:
            data = {"id": row["id"], "state": "finished", "metadata": json.loads(row["metadata"]), "error": None}
            self.write_event(connection, "batch.finished", row, data)
