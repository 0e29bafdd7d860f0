"""PostgreSQL with a private folder and port; every test gets a database of its own."""

import os
import pwd
import signal
from collections.abc import Iterable

import psycopg

from tests.servers.process import Command, Keeper, Server, own
from tests.servers.provision import Installation

_USER = "tympan"
# Small, but a server that is killed has to have what it confirmed.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
}


class PostgresServer(Server):
    """A database server at ``127.0.0.1:port``; everybody on this machine may connect."""

    name = "postgres"
    end_signal = signal.SIGINT  # Does not wait for clients to go.

    def __init__(self, keeper: Keeper, installation: Installation, *, fsync: bool = True) -> None:
        """Use the programs of ``installation``; as root they run as another user.

        Without ``fsync`` only a machine that loses its power takes along what was confirmed.
        """
        super().__init__(keeper)
        self._settings = _SETTINGS | dict.fromkeys(("fsync", "full_page_writes"), "on" if fsync else "off")
        self._bin, self._env = installation.program.parent, dict(installation.env)
        self._user = _unprivileged() if os.geteuid() == 0 else None
        own(self.folder, self._user)
        self._data = self.folder / "data"

    def commands(self) -> Iterable[Command]:
        """Start the server; the first time its data are created."""
        if not (self._data / "PG_VERSION").exists():
            self.run(
                self._command("initdb", "-D", str(self._data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C")
            )
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        yield self._command("postgres", "-D", str(self._data), "-p", str(self.port), *settings)

    def ready(self) -> bool:
        """Return whether it answers a query; after a crash it recovers first."""
        try:
            self.execute("SELECT 1", connect_timeout_s=2)
        except psycopg.Error:
            return False
        return True

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """Return the address of a database; ``port`` leads through a proxy."""
        return f"postgresql://{_USER}@127.0.0.1:{port or self.port}/{database}"

    def execute(
        self, statement: str, database: str = "postgres", connect_timeout_s: int = 10
    ) -> list[tuple[object, ...]]:
        """Run one statement outside a transaction and return its rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=connect_timeout_s) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def dump(self, database: str) -> str:
        """Return what ``pg_dump`` writes: every table with its rows, as text."""
        return self.run(self._command("pg_dump", "--dbname", self.url(database), "--inserts"))

    def wipe(self) -> None:
        """Drop the databases of all tests, whoever is connected."""
        for (name,) in self.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'"):
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _command(self, program: str, *arguments: str) -> Command:
        return Command((str(self._bin / program), *arguments), self._env, self._user)


def _unprivileged() -> str:
    """Return a user that PostgreSQL accepts; its package brings one."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


class Database:
    """An empty database of one test."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        """Create the database ``name``."""
        self.server, self.name = server, name
        server.execute(f'CREATE DATABASE "{name}"')

    @property
    def url(self) -> str:
        """Its address, ``postgresql://...``."""
        return self.server.url(self.name)

    def url_at(self, port: int) -> str:
        """Return its address through a proxy at ``port``."""
        return self.server.url(self.name, port)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement outside a transaction and return its rows, if it has any."""
        return self.server.execute(statement, self.name)

    def dump(self) -> str:
        """Return what ``pg_dump`` writes: every table with its rows, as text."""
        return self.server.dump(self.name)

    def disconnect_all(self) -> int:
        """Break every connection to this database, as a fail-over would; return how many."""
        rows = self.server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'"  # noqa: S608
        )
        return len(rows)

    def drop(self) -> None:
        """Delete the database, whoever is connected."""
        self.server.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
