"""The database's schema, and the move of a whole installation, for the command line."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tympan.bootstrap.jobs import LOCK_FILE, open_audio, open_database
from tympan.bootstrap.pipeline import make_data_dir
from tympan.bootstrap.results import make_sealer
from tympan.config import Settings
from tympan.errors import ConfigError
from tympan.jobs.sealing import Sealer
from tympan.storage import migrate
from tympan.storage.blobs import open_blobs
from tympan.storage.database import Database, sqlite_url
from tympan.storage.transfer import copy_blobs, copy_rows


@dataclass(frozen=True, slots=True)
class Moved:
    """How much was copied."""

    rows: int
    blobs: int
    n_bytes: int


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


def move(settings: Settings, source: Path) -> Moved:
    """Copy the jobs, audio and webhooks of the embedded installation in the folder ``source`` to this one.

    It may be run again; what is there already stays. Raises ``ConfigError`` when nothing is there, or a server is
    running on it.
    """
    make_data_dir(settings.data_dir)
    scratch = settings.data_dir / "moving"
    scratch.mkdir(exist_ok=True, mode=0o700)
    with _stopped(source) as old, open_database(settings) as new:
        for database in (old, new):
            migrate.upgrade(database)
        theirs, ours = Sealer.from_file(source / "secret.key"), make_sealer(settings)
        # Audio first: a row must never be there without it.
        blobs, n_bytes = copy_blobs(open_blobs(None, source / "blobs"), open_audio(settings), scratch)
        rows = copy_rows(old, new, lambda sealed: ours.seal(theirs.unseal(sealed)))
        return Moved(rows, blobs, n_bytes)


@contextmanager
def _stopped(folder: Path) -> Iterator[Database]:
    """Yield the database of an embedded installation that nobody is using, and keep others out meanwhile."""
    path = folder / "tympan.db"
    if not path.is_file():
        raise ConfigError(f"There is no {path}.", remedy="Name the DATA_DIR of the installation to move.")
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"A server is running on {folder}.", remedy="Stop it first.") from error
        database = Database(sqlite_url(path))
        try:
            yield database
        finally:
            database.close()
