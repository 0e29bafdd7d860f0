"""The schema and its history: which migrations there are, which a database has, and how to bring it up to date."""

import logging
from contextlib import suppress
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from tympan.errors import ConfigError
from tympan.storage.database import Database

_FOLDER = Path(__file__).parent / "migrations"
_LOCK_ID = 7_481_953_027
"""Any number: PostgreSQL's advisory lock that lets one process migrate at a time."""

logging.getLogger("alembic").setLevel(logging.WARNING)  # Its everyday lines say nothing that an operator needs.


def head() -> str:
    """Return the revision that this version of the program needs."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    return newest or ""


def current(database: Database) -> str | None:
    """Return the revision that the database has; ``None`` for an empty one."""
    return database.read(lambda connection: MigrationContext.configure(connection).get_current_revision())


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to ``revision``; several processes may try at once. Each migration is one transaction.

    Raises ``ConfigError`` when the database is newer than this program, ``StorageUnavailable``.
    """

    def run(connection: Connection) -> None:
        database.patiently(connection)
        if not database.is_sqlite:
            connection.execute(text("select pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    found = current(database)
    if found is not None and not _is_known(found):
        raise ConfigError(
            f"The database has the schema {found!r}, which this version does not know.",
            remedy="Start the version that made it, or a newer one.",
        )
    if found != head() or revision != "head":
        database.write(run)


def check(database: Database) -> None:
    """Raise ``ConfigError`` unless the schema is at least the one this program needs.

    A newer one is fine: a migration keeps the version before it working.
    """
    found = current(database)
    if found is None or (_is_known(found) and found != head()):
        raise ConfigError(
            f"The database's schema is {found or 'missing'}; this version needs {head()}.",
            remedy="Run `tympan migrate`.",
        )


def _is_known(revision: str) -> bool:
    with suppress(Exception):  # Alembic raises its own kinds for names that it has not heard of.
        return ScriptDirectory.from_config(_config()).get_revision(revision) is not None
    return False


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
