"""The schema that most tests begin with is to the letter the one that the migrations make."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.postgres import Database as Postgres
from tympan.storage import migrate
from tympan.storage.database import Database, sqlite_url


def _made(url: str) -> None:
    database = Database(url)
    migrate.upgrade(database)
    database.close()


def _three_ways(make: Callable[[], list[str]], request: pytest.FixtureRequest) -> None:
    """Compare what ``make`` finds after two replays, the first of which may have been recorded, and in earnest."""
    make()
    replayed = make()
    request.getfixturevalue("real_migrations")
    real = make()
    assert len(real) > 50
    assert replayed == real


def test_on_sqlite(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every table and index is made by the same words."""

    def make() -> list[str]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        _made(sqlite_url(path))
        connection = sqlite3.connect(path)
        lines = list(connection.iterdump())
        connection.close()
        return lines

    _three_ways(make, request)


def test_on_postgres(postgres: Postgres, request: pytest.FixtureRequest) -> None:
    """A dump says the same of both."""

    def make() -> list[str]:
        postgres.execute("drop schema public cascade")
        postgres.execute("create schema public")
        _made(postgres.url)
        return [line for line in postgres.dump().splitlines() if not line.startswith("\\")]  # Those hold a random word.

    _three_ways(make, request)
