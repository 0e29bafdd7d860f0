"""The schema and its history: which migrations there are, which a database has, and how to bring it up to date.

Only who migrates loads Alembic: it takes a fifth of a second, and every process asks at its start whether it has to.
"""

import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table, text

from tympan.errors import ConfigError
from tympan.storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER = Path(__file__).parent / "migrations"
_VERSION = table("alembic_version", column("version_num"))
_LOCK_ID = 7_481_953_027
"""Any number: PostgreSQL's advisory lock that lets one process migrate at a time."""

logging.getLogger("alembic").setLevel(logging.WARNING)  # Its everyday lines say nothing that an operator needs.


@cache
def revisions() -> tuple[str, ...]:
    """Return the names of all revisions, oldest first: the first parts of the files' names."""
    return tuple(sorted(path.name.split("_")[0] for path in (_FOLDER / "versions").glob("[0-9]*_*.py")))


def head() -> str:
    """Return the revision that this version of the program needs."""
    return revisions()[-1]


def current(database: Database) -> str | None:
    """Return the revision that the database has; ``None`` for an empty one."""

    def look(connection: Connection) -> str | None:
        if not inspect(connection).has_table(_VERSION.name):
            return None
        return connection.scalar(select(_VERSION.c.version_num))

    return database.read(look)


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to ``revision``; several processes may try at once. Each migration is one transaction.

    Raises ``ConfigError`` when the database is newer than this program, ``StorageUnavailable``.
    """

    def run(connection: Connection) -> None:
        from alembic import command  # noqa: PLC0415  (slow to load)

        database.patiently(connection)
        if not database.is_sqlite:
            connection.execute(text("select pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    found = current(database)
    if found is not None and found not in revisions():
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
    if found is None or (found in revisions() and found != head()):
        raise ConfigError(
            f"The database's schema is {found or 'missing'}; this version needs {head()}.",
            remedy="Run `tympan migrate`.",
        )


def _config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415  (as above)

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
