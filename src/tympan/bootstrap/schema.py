"""The database's schema, for the command line."""

from tympan.bootstrap.jobs import open_database
from tympan.bootstrap.pipeline import make_data_dir
from tympan.config import Settings
from tympan.storage import migrate


def check(settings: Settings) -> tuple[str | None, str]:
    """Return the revision that the database has, and the one that this version needs."""
    make_data_dir(settings.data_dir)
    with open_database(settings) as database:
        return migrate.current(database), migrate.head()


def upgrade(settings: Settings) -> tuple[str | None, str]:
    """Bring the schema up to date; return the revision before and after."""
    make_data_dir(settings.data_dir)
    with open_database(settings) as database:
        before = migrate.current(database)
        migrate.upgrade(database)
        return before, migrate.current(database) or ""
