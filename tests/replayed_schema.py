"""Empty databases get the newest schema by the statements that migrating the first one took, without Alembic's second.

Hundreds of tests begin with an empty database. All else of ``migrate.upgrade`` stays as it is: its look at the
revision, its lock, its transaction. Tests of the migrations themselves ask for ``real_migrations``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, inspect

_real = command.upgrade
_taken: dict[str, list[str]] = {}
"""Statements by the database's dialect."""


def _upgrade(config: Config, revision: str, **_: Any) -> None:
    """Bring a schema up to ``revision``, in place of Alembic's function of that name."""
    connection: Connection = config.attributes["connection"]
    dialect = connection.dialect.name
    if revision != "head" or inspect(connection).get_table_names():
        _real(config, revision)
    elif dialect in _taken:
        _replay(connection, _taken[dialect])
    else:
        _taken[dialect] = _recorded(connection, lambda: _real(config, revision))


def _recorded(connection: Connection, migrate: Callable[[], None]) -> list[str]:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            assert not parameters, f"cannot be done again without {parameters}: {statement}"
            statements.append(statement)

    event.listen(connection, "before_cursor_execute", note)
    try:
        migrate()
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return statements


def _replay(connection: Connection, statements: list[str]) -> None:
    cursor = connection.connection.cursor()
    # PostgreSQL takes them all in one message.
    for statement in statements if connection.dialect.name == "sqlite" else ["; ".join(statements)]:
        cursor.execute(statement)
    cursor.close()


@pytest.fixture(scope="session", autouse=True)
def _replayed_schema() -> Iterator[None]:
    """Have databases of tests made quickly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "upgrade", _upgrade)
        yield


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Alembic migrate."""
    monkeypatch.setattr(command, "upgrade", _real)
