"""The schema is what the migrations make of it, on SQLite and PostgreSQL, whatever interrupts them."""

import math
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from tympan.domain import Accounting, Segment, Task, Transcript, Word
from tympan.errors import ConfigError, StorageUnavailable
from tympan.storage import codec, migrate
from tympan.storage.database import Database, sqlite_url
from tympan.storage.endings import Endings
from tympan.storage.quality_tables import metadata
from tympan.storage.results import find_result
from tympan.storage.tables import jobs, results
from tympan.storage.upkeep import Upkeep

pytestmark = pytest.mark.usefixtures("real_migrations")

_DIE_IN_THE_MIDDLE = """
import os, signal, sys
from alembic import op
from tympan.storage import codec, migrate
from tympan.storage.database import Database

what = sys.argv[3] if len(sys.argv) > 3 else "create_table"
made, create = [], getattr(op, what)

def create_and_die(*arguments, **keywords):
    create(*arguments, **keywords)
    made.append(arguments[0])
    if len(made) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

setattr(op, what, create_and_die)
migrate.upgrade(Database(sys.argv[1]))
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "t.db")
    found: str = request.getfixturevalue("postgres").url
    return found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """Return an empty database."""
    opened = Database(url)
    yield opened
    opened.close()


def _tables(database: Database) -> set[str]:
    return database.read(lambda tx: set(inspect(tx).get_table_names()))


def _program(url: str, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "TYMPAN_DATABASE_URL": url, "TYMPAN_MODE": "cluster", "TYMPAN_SECRET_KEY": "k" * 32}
    environment |= {"TYMPAN_BROKER_URL": "amqp://nobody@127.0.0.1:1/", "TYMPAN_STORAGE_URL": "s3://none"}
    command = [str(Path(sys.executable).with_name("tympan")), "migrate", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_migrations_make_the_schema_that_the_code_knows(database: Database) -> None:
    """Nothing is missing, nothing is left over, every column has its type."""
    migrate.upgrade(database)

    def differences(tx: Connection) -> object:
        return compare_metadata(MigrationContext.configure(tx, opts={"compare_type": True}), metadata)

    assert database.read(differences) == []
    assert migrate.current(database) == migrate.head()


def test_the_revisions_are_those_that_the_migrations_tell_of() -> None:
    """They are read off the names of the files; the files say themselves what follows what."""
    script = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert migrate.revisions() == tuple(step.revision for step in script.walk_revisions())[::-1]


def test_a_second_run_changes_nothing(database: Database) -> None:
    """An up-to-date schema is left alone, with what is in it."""
    migrate.upgrade(database)
    database.write(lambda tx: tx.execute(text("insert into tenants (id) values ('a')")))
    migrate.upgrade(database)
    migrate.check(database)
    assert database.read(lambda tx: tx.scalar(text("select count(*) from tenants"))) == 1


def test_an_empty_database_is_told_from_a_migrated_one(database: Database) -> None:
    """Without a schema a process of a cluster says which command makes it."""
    with pytest.raises(ConfigError, match="missing") as caught:
        migrate.check(database)
    assert "tympan migrate" in str(caught.value.remedy)


def test_O7_a_question_to_a_database_without_tables_can_be_asked_again_later(database: Database) -> None:
    """It is answered like one that is away: who is told to wait asks again, and the operator's log names the remedy."""
    upkeep = Upkeep(database, Endings(database, audio_days=1.0, text_days=1.0))
    with pytest.raises(StorageUnavailable, match="not set up"):
        upkeep.has_workers()
    migrate.upgrade(database)
    assert upkeep.has_workers() is False


def test_O5_a_newer_schema_is_served_but_not_migrated(database: Database) -> None:
    """A revision that this version has not heard of is fine: a migration keeps the version before it working."""
    migrate.upgrade(database)
    database.write(lambda tx: tx.execute(text("update alembic_version set version_num = '9999'")))
    migrate.check(database)
    with pytest.raises(ConfigError, match="9999"):
        migrate.upgrade(database)


@pytest.mark.parametrize("tables", [1, 7, 13, 16])
def test_C8_a_migration_that_is_killed_leaves_nothing(url: str, database: Database, tables: int) -> None:
    """It is one transaction: killed after any table, the database is as before, and the next run completes."""
    command = [sys.executable, "-c", _DIE_IN_THE_MIDDLE, url, str(tables)]
    killed = subprocess.run(command, check=False, timeout=60, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    assert _tables(database) <= {"alembic_version"}
    assert migrate.current(database) is None
    migrate.upgrade(database)
    assert set(metadata.tables) <= _tables(database)


def test_C8_two_processes_that_migrate_at_once_both_succeed(url: str, database: Database) -> None:
    """One makes the schema, the other waits and finds it made."""
    with ThreadPoolExecutor(3) as threads:
        databases = [Database(url) for _ in range(3)]
        list(threads.map(migrate.upgrade, databases))
    for each in databases:
        each.close()
    assert migrate.current(database) == migrate.head()


def test_C8_a_new_file_that_another_process_writes_to_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses its log to a second process at once, whatever the timeout."""
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    ending = threading.Timer(0.3, lambda: other.execute("rollback"))
    ending.start()
    opened = Database(sqlite_url(tmp_path / "t.db"))
    opened.check()
    ending.join()
    other.close()
    opened.close()


def test_results_from_before_they_were_in_parts_are_carried_over(database: Database) -> None:
    """What the first schema held whole is read in parts afterwards, unchanged, and is still erased with its job."""
    long, empty = _transcript(n_segments=700), _transcript(n_segments=0)
    migrate.upgrade(database, "0001")
    for job_id, transcript in (("long", long), ("empty", empty)):
        _insert(database, "jobs", id=job_id, state="succeeded")
        _insert(database, "results", job_id=job_id, fence=3, transcript=codec.dump(transcript), created_at=12.5)
    migrate.upgrade(database)
    assert find_result(database, jobs.c.id == "long").whole() == long
    assert find_result(database, jobs.c.id == "empty").whole() == empty
    kept = database.read(lambda tx: tx.execute(select(results.c.fence, results.c.created_at)).all())
    assert kept == [(3, 12.5), (3, 12.5)]
    assert "old_results" not in _tables(database)
    database.write(lambda tx: tx.execute(text("delete from jobs")))
    assert database.read(lambda tx: tx.scalar(text("select count(*) from result_parts"))) == 0


def test_C8_results_survive_a_migration_that_is_killed(url: str, database: Database) -> None:
    """Killed between the old place and the new one, every result is in the old one, and the next run moves it."""
    kept = _transcript(n_segments=3)
    migrate.upgrade(database, "0001")
    _insert(database, "jobs", id="a", state="succeeded")
    _insert(database, "results", job_id="a", fence=1, transcript=codec.dump(kept), created_at=1.0)
    killed = subprocess.run([sys.executable, "-c", _DIE_IN_THE_MIDDLE, url, "2"], check=False, timeout=60)
    assert killed.returncode == -9
    assert migrate.current(database) == "0001"
    assert database.read(lambda tx: tx.scalar(text("select count(*) from results"))) == 1
    migrate.upgrade(database)
    assert find_result(database, jobs.c.id == "a").whole() == kept


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_C8_a_job_under_way_survives_a_migration_that_is_killed(url: str, database: Database, columns: int) -> None:
    """Killed after any column, there is none of them; the next run adds all, and nobody knows the job's model yet."""
    migrate.upgrade(database, "0002")
    _insert(database, "jobs", id="a", state="running", sections_done=3)
    _insert(database, "workers", id="w")
    command = [sys.executable, "-c", _DIE_IN_THE_MIDDLE, url, str(columns), "add_column"]
    killed = subprocess.run(command, check=False, timeout=60, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    assert migrate.current(database) == "0002"
    columns_now = database.read(lambda tx: {column["name"] for column in inspect(tx).get_columns("jobs")})
    assert not {"weights", "restarts"} & columns_now
    migrate.upgrade(database)
    kept = database.read(lambda tx: tx.execute(text("select sections_done, weights, restarts from jobs")).all())
    assert kept == [(3, None, 0)]
    assert database.read(lambda tx: tx.scalar(text("select weights from workers"))) == ""


def _transcript(n_segments: int) -> Transcript:
    words = (Word("\0ü\u2028", 0.0, 0.5, 0.9),)
    segments = tuple(
        Segment(id=n, start_s=n, end_s=n + 1.0, text=f" {n}", tokens=(n,), avg_logprob=-math.inf, words=words)
        for n in range(n_segments)
    )
    spoken = "".join(segment.text for segment in segments)
    accounting = Accounting(audio_s=9.0, speech_s=8.0, dropped_s=1.0, covered_s=7.0)
    return Transcript(spoken, segments, Task.TRANSCRIBE, "en", 0.9, (("en", 0.9),), accounting, "fake")


def _insert(database: Database, table: str, **values: object) -> None:
    """Insert a row; the columns without a default that it does not name hold nothing much."""

    def insert_row(tx: Connection) -> None:
        needed = [
            column for column in inspect(tx).get_columns(table) if not column["nullable"] and not column["default"]
        ]
        filler = {column["name"]: column["type"].python_type() for column in needed}
        row = filler | values
        tx.execute(sa.insert(sa.table(table, *map(sa.column, row))).values(row))

    database.write(insert_row)


def test_the_command_checks_migrates_and_checks_again(request: pytest.FixtureRequest) -> None:
    """`tympan migrate --check` fails before and succeeds after `tympan migrate`, run by two processes at once."""
    url: str = request.getfixturevalue("postgres").url
    before = _program(url, "--check")
    assert "missing" in before.communicate(timeout=60)[0]
    assert before.returncode == 1
    both = [_program(url), _program(url)]
    says = [each.communicate(timeout=60)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], says
    after = _program(url, "--check")
    assert "up to date" in after.communicate(timeout=60)[0]
    assert after.returncode == 0
