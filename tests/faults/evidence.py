"""What a run leaves behind: the rows and files at its end, and a diary that the database itself kept meanwhile.

The diary is a table filled by triggers, so nothing that was committed escapes it, whichever process wrote it, and
nothing that was rolled back is in it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, text

from tympan.storage.blobs import BlobStore
from tympan.storage.database import Database

_TABLE = """create table if not exists diary (
    id integer primary key autoincrement, at real not null, what text not null, job_id text not null,
    step_id integer, kind text, idx integer, fence integer, was text, became text)"""

_ENTRY = "insert into diary (at, what, job_id, step_id, kind, idx, fence, was, became)"
_NOW = "(julianday('now') - 2440587.5) * 86400.0"
_STEP = "new.job_id, new.id, new.kind, new.idx, new.fence"

_TRIGGERS = {
    "job": ("after insert on jobs", f"'job', new.id, null, null, null, null, null, {'new.state'}"),
    "state": ("after update of state on jobs", "'state', new.id, null, null, null, null, old.state, new.state"),
    "erased": ("after delete on jobs", "'erased', old.id, null, null, null, null, old.state, null"),
    "claim": ("after update of fence on steps", f"'claim', {_STEP}, new.lease_owner, old.state"),
    "done": ("after update of state on steps when new.state = 'done'", f"'done', {_STEP}, old.state, new.state"),
    "lapse": (
        "after update of crashes on steps when new.crashes > old.crashes",
        f"'lapse', {_STEP}, old.lease_owner, new.state",
    ),
    "result": ("after insert on results", "'result', new.job_id, null, null, null, new.fence, null, null"),
    "rewrite": ("after update on results", "'result', new.job_id, null, null, null, new.fence, null, null"),
    "event": ("after insert on events", "'event', new.subject_id, null, null, null, null, null, new.type"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the diary; ``was`` and ``became`` are states, of a claim its owner and the step's state before."""

    at: float
    what: str
    job_id: str
    step_id: int | None = None
    kind: str | None = None
    idx: int | None = None
    fence: int | None = None
    was: str | None = None
    became: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """What the checker needs of a job's row; ``intent`` is the client's own name for what it wanted."""

    id: str
    state: str
    intent: str | None = None
    endpoint: str | None = None
    error_code: str | None = None
    stored: bool = True
    has_audio: bool = True


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step that is still there."""

    job_id: str
    kind: str
    idx: int
    state: str


@dataclass(frozen=True, slots=True)
class Remains:
    """What the processes hold once everything has settled, beside what they held when they were fresh."""

    children: int = 0
    zombies: int = 0
    fds: int = 0
    fresh_fds: int = 0
    threads: int = 0
    fresh_threads: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is judged beside what clients were told."""

    jobs: tuple[JobRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    results: dict[str, str] = field(default_factory=dict)
    """Text by job."""
    events: tuple[tuple[str, str], ...] = ()
    """Subject and type."""
    deliveries: tuple[tuple[str, str], ...] = ()
    """Subject and event type of what is queued for an endpoint."""
    received: tuple[tuple[str, str, str], ...] | None = None
    """Webhook id, subject and type of each message that a receiver got; ``None`` without a receiver."""
    diary: tuple[Entry, ...] = ()
    blobs: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    """Files in transit that nobody will come for."""
    remains: Remains | None = None

    def entries(self, what: str, kind: str | None = None) -> list[Entry]:
        """Return the diary's entries of one sort, of steps of one ``kind`` where it is given."""
        return [entry for entry in self.diary if entry.what == what and kind in (None, entry.kind)]


def keep_diary(database: Database) -> None:
    """Let the database (SQLite) write down what happens to its jobs from now on; harmless when it does already."""

    def work(tx: Connection) -> None:
        tx.execute(text(_TABLE))
        for name, (when, values) in _TRIGGERS.items():
            body = f"{_ENTRY} values ({_NOW}, {values});"
            tx.execute(text(f"create trigger if not exists diary_{name} {when} begin {body} end"))

    database.write(work)


def gather(database: Database, blobs: BlobStore, leftovers: Iterable[str] = ()) -> Evidence:
    """Return what is there now."""
    found = database.read(_rows)
    return replace(found, blobs=tuple(blob.key for blob in blobs.list("")), leftovers=tuple(leftovers))


def _rows(tx: Connection) -> Evidence:
    jobs = tx.execute(text("select * from jobs order by id")).mappings()
    steps = tx.execute(text("select job_id, kind, idx, state from steps order by id"))
    results: dict[str, str] = {}
    for row in tx.execute(
        text("select job_id, text from results join result_parts using (job_id) order by job_id, part")
    ):
        results[row.job_id] = results.get(row.job_id, "") + json.loads(row.text)
    events = tx.execute(text("select subject_id, type from events"))
    queued = tx.execute(
        text("select e.subject_id, e.type from deliveries d join events e on e.id = d.event_id order by d.id")
    )
    columns = "at, what, job_id, step_id, kind, idx, fence, was, became"
    diary = tx.execute(text(f"select {columns} from diary order by id"))  # noqa: S608 (our own names)
    return Evidence(
        jobs=tuple(
            JobRow(
                row["id"],
                row["state"],
                json.loads(row["metadata"]).get("intent"),
                row["webhook_endpoint"],
                row["error_code"],
                row["source_kind"] == "stored",
                row["finished_at"] is None or row["audio_until"] is not None,
            )
            for row in jobs
        ),
        steps=tuple(StepRow(*row) for row in steps),
        results=results,
        events=tuple((row.subject_id, row.type) for row in events),
        deliveries=tuple((row.subject_id, row.type) for row in queued),
        diary=tuple(Entry(*row) for row in diary),
    )
