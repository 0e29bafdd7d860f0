"""A PostgreSQL of our own for as long as it is measured, and what it costs: processor time, log bytes, memory."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

BINARIES = Path("/usr/lib/postgresql/15/bin")
_USER = "postgres"
_START_LIMIT_S = 30.0
_SETTINGS = {"shared_buffers": "512MB", "max_connections": "300", "synchronous_commit": "on", "max_wal_size": "4GB"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: the postmaster's process id and how to connect."""

    pid: int
    port: int
    folder: Path

    @property
    def conninfo(self) -> str:
        """Return what psycopg connects with."""
        return f"host={self.folder} port={self.port} user={_USER} dbname=postgres"

    @property
    def url(self) -> str:
        """Return the same as an SQLAlchemy URL."""
        return f"postgresql+psycopg://{_USER}@/postgres?host={self.folder}&port={self.port}"

    def processes(self) -> list[int]:
        """Return the process ids of the postmaster and all its children."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=True
        )
        return [self.pid, *(int(word) for word in found.stdout.split())]

    def cpu_s(self) -> float:
        """Return the processor seconds used so far by the processes that run now."""
        return sum(_cpu_s(pid) for pid in self.processes())

    def pss_bytes(self) -> int:
        """Return the memory of all processes, shared pages counted in proportion."""
        return sum(_pss_bytes(pid) for pid in self.processes())

    def log_bytes(self) -> int:
        """Return how much write-ahead log has been written so far."""
        with psycopg.connect(self.conninfo) as connection:
            row = connection.execute("select pg_current_wal_lsn() - '0/0'").fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def private_server() -> Iterator[Server]:
    """Run a PostgreSQL with a fresh data folder; it is stopped and its files are removed at the end.

    Raises ``FileNotFoundError`` without the server's programs and ``TimeoutError`` if it does not answer in 30 s.
    """
    folder = Path(tempfile.mkdtemp(prefix="tympan-scale-"))
    user = _USER if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    try:
        data = folder / "data"
        command: list[str | Path] = [BINARIES / "initdb", "-D", data, "-U", _USER, "-A", "trust"]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with _running(folder, user) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(folder: Path, user: str | None) -> Iterator[Server]:
    port = _free_port()
    options = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    command: list[str | Path] = [BINARIES / "postgres", "-D", folder / "data", "-k", folder, "-p", str(port), "-h", ""]
    with subprocess.Popen([*command, *options], user=user, cwd=folder, stderr=subprocess.DEVNULL) as process:
        server = Server(process.pid, port, folder)
        try:
            _wait(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_START_LIMIT_S)


def _wait(server: Server) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        try:
            psycopg.connect(server.conninfo).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"PostgreSQL on port {server.port} does not answer.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # An autovacuum worker may end at any time.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_bytes(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0
