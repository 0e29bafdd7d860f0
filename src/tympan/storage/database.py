"""The database: SQLite in the data folder, or PostgreSQL. Short transactions, bounded waits, our own errors.

Work is a function of a connection; it runs in one transaction, and runs again, a few times, when the database says
that it lost a race (deadlock, serialization failure) or that the connection broke before anything was done.
"""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Float, Table, create_engine, event, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tympan import telemetry
from tympan.errors import ConfigError, InsufficientStorage, StorageUnavailable

Result = TypeVar("Result")

BUSY_S = 5.0
"""Longest wait for another process's write lock, a free connection, or PostgreSQL to accept one."""

_LOG = telemetry.get_logger(__name__)
_AFTERWARDS = "tympan_afterwards"
_TRIES = 3
_SCRUB_S = 0.5
_CACHE_KIB = 512
"""What each connection to SQLite may keep of the file; the system keeps it all the same, once for all of them."""

_BACKOFF_S = 0.05
_LOST_RACE = ("40001", "40P01", "55P03")
_DISK_FULL = "53100"
_DAMAGED = ("disk image is malformed", "file is not a database")
_UNKNOWN_TO_IT = ("42P01", "42703")
"""A table or a column that there is not."""
_REPEAT_WITHIN_S = 4.0
"""What took longer to fail is not repeated: whoever waits for it has been told that the database does not answer."""


class Database:
    """One database, shared by all threads of a process."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        """Prepare to connect to ``url``; nothing is opened yet. Raises ``ConfigError`` for a URL of another kind."""
        self._url = _checked(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._engine = (
            _sqlite_engine(self._url, pool_size) if self.is_sqlite else _postgres_engine(self._url, pool_size)
        )
        self._write_engine = self._engine.execution_options(tympan_write=True)
        # SQLite has one writer; waiting here is fair and cheap, waiting in SQLite is neither.
        self._writer = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine, for migrations and tests."""
        return self._engine

    def now(self) -> ColumnElement[float]:
        """Return the database's clock as an expression: Unix seconds, moving within a transaction."""
        if self.is_sqlite:
            return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float(53))
        return literal_column("extract(epoch from clock_timestamp())::double precision", Float(53))

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """Return an insert that knows what to do about conflicts."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Return what ``work`` returns, from one snapshot. Raises ``StorageUnavailable``."""
        return self._attempt(work, self._read_once)

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Return what ``work`` returns once it is committed. Raises ``StorageUnavailable``, ``InsufficientStorage``."""
        return self._attempt(work, self._write_once)

    def afterwards(self, connection: Connection, call: Callable[[], object]) -> None:
        """Make ``call`` once the transaction of ``connection`` is committed; never when it is not."""
        connection.info.setdefault(_AFTERWARDS, []).append(call)

    def patiently(self, connection: Connection) -> None:
        """Let this transaction take as long as it needs: a migration of a large table does."""
        if not self.is_sqlite:
            connection.connection.driver_connection.answer_s = None  # type: ignore[union-attr]
            connection.exec_driver_sql("set local statement_timeout = 0")
            connection.exec_driver_sql("set local lock_timeout = 0")

    def check(self) -> None:
        """Raise ``StorageUnavailable`` unless the database answers."""
        self.read(lambda connection: connection.scalar(select(1)))

    def scrub(self) -> bool:
        """Empty SQLite's log of changes, which holds what has been erased from the tables; return whether it is empty.

        A reader of the old state keeps it for a while: try again later. PostgreSQL looks after its own files.
        """
        return self._attempt(_truncate_log, self._scrub_once) if self.is_sqlite else True

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _read_once(self, work: Callable[[Connection], Result]) -> Result:
        with self._engine.connect() as connection:
            return work(connection)

    def _write_once(self, work: Callable[[Connection], Result]) -> Result:
        result, calls = self._alone(work) if self.is_sqlite else _committed(self._engine, work)
        for call in calls:
            call()
        return result

    def _alone(self, work: Callable[[Connection], Result]) -> tuple[Result, list[Callable[[], object]]]:
        if not self._writer.acquire(timeout=BUSY_S):
            raise StorageUnavailable("The database is busy.", remedy="Try again.", retry_after_s=1.0)
        try:
            return _committed(self._write_engine, work)
        finally:
            self._writer.release()

    def _scrub_once(self, work: Callable[[Connection], Result]) -> Result:
        with self._engine.execution_options(tympan_bare=True).connect() as connection:
            return work(connection)

    def _attempt(
        self, work: Callable[[Connection], Result], once: Callable[[Callable[[Connection], Result]], Result]
    ) -> Result:
        started, failures = time.monotonic(), 0
        while True:
            try:
                return once(work)
            except (SQLAlchemyError, OSError) as error:
                failures += 1
                late = time.monotonic() - started > _REPEAT_WITHIN_S
                if failures == _TRIES or late or not _may_repeat(error):
                    raise _translated(error) from error
            time.sleep(random.uniform(0, _BACKOFF_S * 2**failures))  # noqa: S311 (no secret)


def _committed(engine: Engine, work: Callable[[Connection], Result]) -> tuple[Result, list[Callable[[], object]]]:
    """Do ``work`` in one transaction; return its result, and what is to be called now that it is committed."""
    with engine.begin() as connection:
        connection.info.pop(_AFTERWARDS, None)  # What a transaction that failed has left.
        result = work(connection)
        calls: list[Callable[[], object]] = connection.info.pop(_AFTERWARDS, [])
    return result, calls


def sqlite_url(path: Path) -> str:
    """Return the URL of the SQLite database in the file ``path``."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
    except (SQLAlchemyError, ValueError) as error:
        raise ConfigError("DATABASE_URL is not a database URL.", remedy="Use postgresql://user@host/name.") from error
    if name == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if name != "sqlite":
        raise ConfigError(
            f"DATABASE_URL names {name!r}, which is not supported.",
            remedy="Use postgresql:// or leave it out for SQLite.",
        )
    return parsed


def _sqlite_engine(url: URL, pool_size: int) -> Engine:
    arguments: dict[str, Any] = {"timeout": BUSY_S, "check_same_thread": False, "isolation_level": None}
    if url.database:
        _make_private(Path(url.database))
    engine = create_engine(url, connect_args=arguments, pool_size=pool_size, max_overflow=0, pool_timeout=BUSY_S)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """Make the file, if it is not there, for its owner alone; SQLite gives its other files the same rights."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(
            f"The database {path} cannot be opened: {error.strerror}.", remedy="Check DATA_DIR."
        ) from error


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    """Every commit is on disk when it returns (FULL); erased text is overwritten (secure_delete)."""
    _use_log(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")


def _use_log(connection: sqlite3.Connection) -> None:
    """Have changes logged ahead (WAL). Who asks that of a new file is refused at once while another writes to it."""
    give_up = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(random.uniform(0, _BACKOFF_S))  # noqa: S311 (no secret)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("tympan_bare", False):
        # A write that begins as a read can fail with "locked" at once, whatever the timeout.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("tympan_write", False) else "BEGIN")


def _truncate_log(connection: Connection) -> bool:
    # Writers wait meanwhile; a reader who keeps the old state is not worth more than a moment of theirs.
    connection.exec_driver_sql(f"PRAGMA busy_timeout={int(_SCRUB_S * 1000)}")
    try:
        return bool(connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0] == 0)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")


def _postgres_engine(url: URL, pool_size: int) -> Engine:
    from tympan.storage import postgres  # noqa: PLC0415  (the driver is installed for clusters only)

    # Connections are not tried before use: the work is repeated when one turns out to be dead, which needs no
    # second wait for a database that does not answer.
    arguments = postgres.connect_arguments()
    engine = create_engine(url, connect_args=arguments, pool_size=pool_size, max_overflow=0, pool_timeout=BUSY_S)
    event.listen(engine, "do_connect", postgres.connect)
    return engine


def _may_repeat(error: Exception) -> bool:
    """Return whether the same work can succeed now: it lost a race, or the connection had gone before it began."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        return state in _LOST_RACE or (error.connection_invalidated and not isinstance(error, InterfaceError))
    return isinstance(error, DisconnectionError)


def _translated(error: Exception) -> Exception:
    """Return our error for the database's; what is a mistake of ours stays what it is."""
    original = getattr(error, "orig", error)
    text, state = str(original), getattr(original, "sqlstate", None)
    if "disk is full" in text or "No space left" in text or state == _DISK_FULL:
        return InsufficientStorage("The database's disk is full.", remedy="The operator has to free disk space.")
    if any(words in text for words in _DAMAGED):
        _LOG.error("database_is_damaged", remedy="Stop the server and restore a backup.")
        return StorageUnavailable(
            "The database is damaged.", remedy="The operator has to restore it from a backup.", retry_after_s=60.0
        )
    if state in _UNKNOWN_TO_IT or "no such table" in text or "no such column" in text:
        _LOG.error("schema_is_missing_or_old", remedy="Run `tympan migrate`.")
        return StorageUnavailable("The database is not set up.", remedy="Try again later.", retry_after_s=10.0)
    if isinstance(error, PoolTimeout | OperationalError | DisconnectionError | InterfaceError | OSError):
        _LOG.warning("database_unavailable", error_type=type(error).__name__)
        return StorageUnavailable("The database does not answer.", remedy="Try again.", retry_after_s=2.0)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return StorageUnavailable("The connection to the database was lost.", remedy="Try again.", retry_after_s=2.0)
    return error
