"""The diary of ``tests.faults.evidence`` on PostgreSQL: the database writes down what is committed, whoever did it."""

from sqlalchemy import Connection, text

from tests.faults.evidence import _TRIGGERS
from tympan.storage.database import Database

_TABLE = """create table diary (
    id bigserial primary key, at double precision not null, what text not null, job_id text not null,
    step_id bigint, kind text, idx integer, fence integer, was text, became text)"""
_COLUMNS = "at, what, job_id, step_id, kind, idx, fence, was, became"
_NOW = "extract(epoch from clock_timestamp())"
_WORK = ("jobs", "steps", "results", "events", "bells", "idempotency", "batches", "uploads", "diary")


def keep_diary(database: Database) -> None:
    """Begin the diary in a migrated database."""

    def work(tx: Connection) -> None:
        tx.execute(text(_TABLE))
        for name, (when, values) in _TRIGGERS.items():
            event, _, condition = when.partition(" when ")
            insert = f"insert into diary ({_COLUMNS}) values ({_NOW}, {values})"  # noqa: S608 (our own words)
            body = f"begin {insert}; return null; end"
            tx.execute(text(f"create function diary_{name}() returns trigger language plpgsql as $body$ {body} $body$"))
            only = f"when ({condition})" if condition else ""
            tx.execute(text(f"create trigger diary_{name} {event} for each row {only} execute function diary_{name}()"))

    database.write(work)


def forget_everything(database: Database) -> None:
    """Empty the tables of work, so that a test starts afresh."""
    database.write(lambda tx: tx.execute(text(f"truncate {', '.join(_WORK)} cascade")))
