"""What contract tests share: a database of either kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tympan.storage import migrate
from tympan.storage.database import Database, sqlite_url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return a migrated database: the test runs on SQLite and on PostgreSQL."""
    url = sqlite_url(tmp_path / "t.db") if request.param == "sqlite" else request.getfixturevalue("postgres").url
    opened = Database(url)
    migrate.upgrade(opened)
    yield opened
    opened.close()
